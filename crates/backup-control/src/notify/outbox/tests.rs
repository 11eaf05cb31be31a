//! Tests of the outbox, with channels that are shell commands: what they do is seen in files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backup_core::clock::Clock;
use backup_core::context::Context;
use backup_core::event::Events;
use jiff::Timestamp;

use super::*;
use crate::environment::Environment;
use crate::notify::message::tests::message;
use crate::notify::{Channels, Message, Severity};

/// Shorter than any pause.
const SHORT: Duration = Duration::from_secs(3);

/// A clock that a test sets.
#[derive(Debug)]
struct Set(Mutex<Timestamp>);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct Place {
    dir: tempfile::TempDir,
    outbox: Outbox,
    clock: Arc<Set>,
    cx: Context,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        let clock = Arc::new(Set(Mutex::new(message().time)));
        let cx = Context { clock: Arc::clone(&clock) as _, ..Context::new(Events::silent()) };
        Self { dir, outbox, clock, cx }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn later(&self, time: Duration) {
        *self.clock.0.lock().unwrap() += time;
    }

    /// Channels of these names and commands, in which `DIR` is a directory of this test.
    fn channels(&self, commands: &[(&str, &str)]) -> Channels {
        let dir = self.dir.path().display().to_string();
        let channel = |(name, line): &(&str, &str)| {
            format!(
                "[notify.{name}]\nkind = \"command\"\ncommand = '''{}'''\n",
                line.replace("DIR", &dir)
            )
        };
        let text: String = commands.iter().map(channel).collect();
        let env: Environment = [("PATH", "/usr/bin:/bin")].into_iter().collect();
        Channels::new(&toml::from_str(&text).unwrap(), &env).unwrap()
    }

    async fn deliver(&self, channels: &Channels) -> Delivered {
        self.outbox.deliver(channels, &self.cx, SHORT).await
    }

    /// The lines that a channel has written.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn numbered(number: usize) -> Message {
    let time = message().time + Duration::from_secs(number as u64);
    let incident = format!("i{number}");
    Message {
        id: format!("m{number}"),
        incident,
        title: format!("Number {number}"),
        time,
        ..message()
    }
}

const WRITES: (&str, &str) = ("good", "echo $BACKUP_NOTIFY_ID >> DIR/good");

#[tokio::test]
async fn every_message_goes_out_once_and_in_order() {
    let place = Place::new();
    let channels = place.channels(&[WRITES]);
    for number in [2, 0, 1] {
        assert!(place.outbox.put("good", &numbered(number)).unwrap().is_new());
        assert!(!place.outbox.put("good", &numbered(number)).unwrap().is_new(), "it waits");
    }
    let delivered = place.deliver(&channels).await;
    assert!(delivered.is_complete() && delivered.sent.len() == 3, "{delivered:?}");
    assert_eq!(delivered.sent[0].subject, "[critical] Number 0");
    assert!(!place.outbox.put("good", &numbered(1)).unwrap().is_new(), "it was sent");
    assert_eq!(place.deliver(&channels).await, Delivered::default());
    assert_eq!(place.lines("good"), ["m0", "m1", "m2"]);
    // It is remembered for a while, and not for ever.
    place.later(Duration::from_secs(31 * 86_400));
    place.deliver(&channels).await;
    assert!(place.outbox.put("good", &numbered(1)).unwrap().is_new());
}

#[tokio::test]
async fn what_is_away_for_a_while_gets_everything_later() {
    let place = Place::new();
    let bad = (
        "bad",
        "test -e DIR/up && echo $BACKUP_NOTIFY_ID >> DIR/bad || { echo it is down >&2; exit 1; }",
    );
    let channels = place.channels(&[WRITES, bad]);
    for number in 0..3 {
        place.outbox.put("good", &numbered(number)).unwrap();
        place.outbox.put("bad", &numbered(number)).unwrap();
    }
    let delivered = place.deliver(&channels).await;
    assert_eq!(
        (delivered.sent.len(), delivered.waiting.len()),
        (3, 1),
        "one keeps nothing from the other: {delivered:?}"
    );
    let waiting = &delivered.waiting["bad"];
    assert_eq!(waiting.messages, 3);
    assert_eq!(waiting.error.as_deref(), Some("the command failed (exit status: 1): it is down"));
    assert_eq!(
        place.outbox.waiting().unwrap().iter().map(|entry| entry.tries).sum::<u32>(),
        1,
        "the others are spared"
    );
    std::fs::write(place.path("up"), "").unwrap();
    // The one that failed is not due yet; the others are, and go first.
    assert_eq!(place.deliver(&channels).await.sent.len(), 2);
    assert_eq!(place.lines("bad"), ["m1", "m2"]);
    place.outbox.hurry().unwrap();
    assert!(place.deliver(&channels).await.is_complete());
    assert_eq!(place.lines("bad"), ["m1", "m2", "m0"]);
}

#[tokio::test]
async fn after_seven_days_it_is_given_up_and_can_be_brought_back() {
    let place = Place::new();
    let channels = place.channels(&[]);
    place.outbox.put("gone", &message()).unwrap();
    let delivered = place.deliver(&channels).await;
    let why = delivered.waiting["gone"].error.clone().unwrap();
    assert_eq!(why, "the configuration has no channel `gone`");
    place.later(Duration::from_secs(7 * 86_400));
    assert_eq!(place.deliver(&channels).await.given_up, []);
    place.later(Duration::from_secs(7200));
    let delivered = place.deliver(&channels).await;
    assert_eq!(delivered.given_up[0].why, format!("not sent within 7 days: {why}"));
    assert!(
        place.outbox.waiting().unwrap().is_empty()
            && !place.outbox.put("gone", &message()).unwrap().is_new()
    );
    let (failed, _) = place.outbox.failed().unwrap();
    assert_eq!(failed[0].error.as_deref(), Some(delivered.given_up[0].why.as_str()));

    assert_eq!(place.outbox.renew_failed().unwrap(), 1);
    let channels = place.channels(&[("gone", "true")]);
    assert_eq!(place.deliver(&channels).await.sent.len(), 1);
    assert_eq!(place.outbox.failed().unwrap().0, []);
}

#[tokio::test]
async fn what_a_dead_process_left_is_finished() {
    let place = Place::new();
    let channels = place.channels(&[WRITES]);
    // It died after it recorded, before it removed.
    place.outbox.put("good", &numbered(0)).unwrap();
    let entry = place.outbox.waiting().unwrap().remove(0);
    assert!(place.deliver(&channels).await.is_complete());
    place.outbox.files.write(&entry).unwrap();
    assert_eq!(place.deliver(&channels).await, Delivered::default());
    assert_eq!(place.lines("good"), ["m0"]);
    // It died while it wrote; and something else is in the place of a message.
    std::fs::write(place.path("outbox/x.0.part"), "{").unwrap();
    std::fs::write(place.path("outbox/damaged.json"), "{").unwrap();
    place.later(Duration::from_secs(100 * 86_400 * 365));
    assert_eq!(place.deliver(&channels).await, Delivered::default());
    assert!(!place.path("outbox/x.0.part").exists());
    assert_eq!(place.outbox.failed().unwrap().1, [place.path("outbox/failed/damaged.json")]);
    assert_eq!(place.outbox.discard_failed().unwrap(), 1);
    assert!(!place.path("outbox/failed/damaged.json").exists());
}

#[tokio::test]
async fn two_who_deliver_send_nothing_twice() {
    let place = Place::new();
    let channels = place.channels(&[("good", "sleep 0.05; echo $BACKUP_NOTIFY_ID >> DIR/good")]);
    for number in 0..10 {
        place.outbox.put("good", &numbered(number)).unwrap();
    }
    let other = Outbox::open(place.dir.path()).unwrap();
    let long = Duration::from_secs(20);
    let (one, two) = tokio::join!(
        place.outbox.deliver(&channels, &place.cx, long),
        other.deliver(&channels, &place.cx, long)
    );
    assert!(
        one.is_complete() && two.is_complete() && one.sent.len() + two.sent.len() == 10,
        "{one:?} {two:?}"
    );
    assert_eq!(place.lines("good").len(), 10);
}

#[tokio::test]
async fn nobody_hears_the_end_before_the_beginning() {
    let place = Place::new();
    let of = |number: usize, id: &str, incident: &str| Message {
        id: id.to_owned(),
        incident: incident.to_owned(),
        time: numbered(number).time,
        ..message()
    };
    let away = place.channels(&[("good", "exit 75")]);
    place.outbox.put("good", &of(0, "begins", "one")).unwrap();
    assert_eq!(place.deliver(&away).await.sent, []);
    // It was tried, and waits; what came later was not.
    place.outbox.put("good", &of(1, "ends", "one")).unwrap();
    place.outbox.put("good", &of(2, "other", "two")).unwrap();
    let back = place.channels(&[WRITES]);
    place.deliver(&back).await;
    assert_eq!(place.lines("good"), ["other"]);
    place.later(Duration::from_secs(3600));
    assert!(place.deliver(&back).await.is_complete());
    assert_eq!(place.lines("good"), ["other", "begins", "ends"]);
}

#[test]
fn what_matters_least_makes_room() {
    let place = Place::new();
    let with = |number, severity| Message { severity, ..numbered(number) };
    for number in 0..MAX_WAITING {
        let severity = if number == 7 { Severity::Info } else { Severity::High };
        place.outbox.put("mail", &with(number, severity)).unwrap();
    }
    place.outbox.put("other", &numbered(0)).unwrap();
    assert_eq!(place.outbox.failed().unwrap().0, []);
    for (number, severity) in
        [(1000, Severity::Warning), (1001, Severity::Critical), (1002, Severity::Info)]
    {
        let Put::Waits { given_up } = place.outbox.put("mail", &with(number, severity)).unwrap()
        else {
            panic!("new")
        };
        assert_eq!(given_up.len(), 1);
    }
    let failed: Vec<String> =
        place.outbox.failed().unwrap().0.into_iter().map(|entry| entry.message.id).collect();
    assert_eq!(failed, ["m7", "m1000", "m1002"], "the least severe, which may be the new one");
    assert_eq!(place.outbox.waiting().unwrap().len(), MAX_WAITING + 1);
    let large = Message { html: Some("x".repeat(MAX_MESSAGE)), ..numbered(2000) };
    assert!(place.outbox.put("mail", &large).is_err());
}

#[tokio::test]
async fn deliver_leaves_messages_of_a_newer_program_in_place() {
    let place = Place::new();
    let file = place.path("outbox/0000.json");
    let newer = r#"{"version":2,"channel":["mail"]}"#;
    std::fs::write(&file, newer).unwrap();
    std::fs::write(place.path("outbox/0001.json"), "{").unwrap();
    let delivered = place.outbox.deliver(&place.channels(&[]), &place.cx, SHORT).await;
    let [trouble] = &delivered.trouble[..] else { panic!("{:?}", delivered.trouble) };
    assert!(trouble.contains("written by format 2, this program reads up to 1"), "{trouble}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
    // Damage is put aside as before.
    assert!(place.path("outbox/failed/0001.json").exists());
}

#[test]
fn nobody_else_can_read_it() {
    let place = Place::new();
    place.outbox.put("mail", &message()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = place.path("outbox");
    assert_eq!(mode(&dir), 0o700);
    for found in std::fs::read_dir(&dir).unwrap() {
        let path = found.unwrap().path();
        assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}
