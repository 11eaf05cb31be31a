//! Each rule, from its beginning to its end.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | conditions, notifications, silences |
//! | `sizes.rs` | `size_anomaly` over many backups |
//! | `state.rs` | moved and copied configurations, earlier forms of the state |
//! | `texts.rs` | objects and figures in messages |
//! | `work.rs` | queries per evaluation |

mod sizes;
mod state;
mod texts;
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use backup_core::clock::Clock;
use backup_core::repository::Present;
use backup_core::testing::FakeClock;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::alive::Alive;
use crate::audit::{Class, Record, Status};
use crate::catalog;
use crate::config::AlertConfig;
use crate::machine::Machine;
use crate::notify::{Kind, Message};
use crate::runs::{Failure, Run, State, What};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn rule_of(text: &str) -> AlertConfig {
    toml::from_str(text).unwrap()
}

fn of(condition: &str) -> AlertConfig {
    rule_of(&format!("condition = \"{condition}\"\nseverity = \"warning\""))
}

/// The configuration `file` with the job `shop` and the repository `main`, which is another one for
/// each file but `c`.
fn scope(file: &str) -> Scope {
    let address = if file == "c" { "/repo".to_owned() } else { format!("/{file}") };
    Scope {
        file: file.to_owned(),
        repositories: [("main".to_owned(), address)].into(),
        jobs: [("shop".to_owned(), "main".to_owned())].into(),
    }
}

fn open(dir: &Path, file: &str) -> Ledger {
    Ledger::open(dir, scope(file), now()).unwrap()
}

/// A backup that began so many hours ago and took so many minutes.
fn run(hours: i64, minutes: i64, state: State) -> Run {
    let machine = Machine { host: "host".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
    let started = now() - SignedDuration::from_hours(hours);
    let mut run = Run::new(What::Backup, "shop", "/repo", &machine, started);
    (run.state, run.finished) = (state, Some(started + SignedDuration::from_mins(minutes)));
    run.evidence.bytes = 1000;
    run.evidence.kind = Some("full".to_owned());
    run
}

fn failed(hours: i64) -> Run {
    let mut run = run(hours, 1, State::Failed);
    run.evidence.failure =
        Some(Failure { message: "no route to db1".into(), hint: Some("start it".into()) });
    run
}

fn facts(runs: Vec<Run>) -> Facts {
    let last_success = runs.iter().find(|run| run.state.is_success()).map(|run| run.started);
    let first_run = runs.last().map(|run| run.started);
    let job = JobFacts {
        repository: "main".into(),
        address: "/repo".into(),
        is_looked_at: true,
        runs,
        last_success,
        first_run,
        ..JobFacts::default()
    };
    Facts { jobs: [("shop".to_owned(), job)].into(), ..Facts::default() }
}

fn of_repository(known: RepositoryFacts) -> Facts {
    Facts { repositories: [("main".to_owned(), known)].into(), ..Facts::default() }
}

/// Whether a rule holds; nothing if that is not known.
fn holds(condition: &str, facts: &Facts) -> Option<bool> {
    observe("r", &of(condition), facts, now()).unwrap().first().map(|observed| observed.holds)
}

#[test]
fn failures_and_missing_backups() {
    let (good, bad) = (run(1, 1, State::Verified), failed(2));
    assert_eq!(holds("failure", &facts(vec![])), None);
    assert_eq!(holds("failure", &facts(vec![failed(1), good.clone()])), Some(true));
    assert_eq!(holds("failure", &facts(vec![good, bad])), Some(false));
    // Whoever stops a backup knows it.
    assert_eq!(holds("failure", &facts(vec![run(0, 1, State::Cancelled), failed(3)])), Some(true));
    let observed = observe("r", &of("failure"), &facts(vec![failed(1)]), now()).unwrap().remove(0);
    assert_eq!(observed.cause, "no route to db1");
    assert!(
        observed.next.starts_with("start it; then run `backup retry 2026"),
        "{}",
        observed.next
    );
    assert_eq!(holds("stale > 24h", &facts(vec![run(25, 1, State::Verified)])), Some(true));
    assert_eq!(
        holds("stale > 24h", &facts(vec![failed(1), run(23, 1, State::Verified)])),
        Some(false)
    );
    assert_eq!(
        holds("stale > 24h", &facts(vec![failed(1), failed(30)])),
        Some(true),
        "there never was one"
    );
    assert_eq!(holds("stale > 24h", &facts(vec![])), None);
}

/// The last backup, after so many others that took so many seconds each.
fn after(others: i64, seconds: i64, last: Run) -> Facts {
    let usual = |hours: i64| {
        let mut run = run(hours, 0, State::Verified);
        run.finished = Some(run.started + SignedDuration::from_secs(seconds));
        run
    };
    facts([vec![last], (2..2 + others).map(usual).collect()].concat())
}

#[test]
fn duration_is_compared_with_five_earlier_backups_at_least() {
    let slow = |others| after(others, 600, run(1, 21, State::Verified));
    assert_eq!(holds("duration > 2x", &slow(5)), Some(true));
    assert_eq!(holds("duration > 2x", &slow(4)), None);
    assert_eq!(holds("duration > 2x", &after(5, 600, run(1, 19, State::Verified))), Some(false));
    let mut running = run(1, 0, State::Running);
    running.finished = None;
    assert_eq!(holds("duration > 2x", &after(5, 600, running.clone())), Some(true), "an hour");
    running.started = now() - SignedDuration::from_mins(5);
    assert_eq!(holds("duration > 2x", &after(5, 600, running)), None, "it may still be fast");
}

#[test]
fn duration_counts_earlier_backups_of_the_same_type() {
    let mut known = after(25, 10, run(1, 21, State::Verified));
    let job = known.jobs.get_mut("shop").unwrap();
    job.runs[1..].iter_mut().for_each(|run| run.evidence.kind = Some("incremental".into()));
    assert_eq!(holds("duration > 2x", &known), None);
    let job = known.jobs.get_mut("shop").unwrap();
    job.older_successes = (100..105).map(|hours| run(hours, 10, State::Verified)).collect();
    assert_eq!(holds("duration > 2x", &known), Some(true));
}

/// Two seconds become fifty: 25 times as long, and not worth a call at night.
#[test]
fn duration_has_a_floor() {
    let took = |seconds: i64| {
        let mut last = run(1, 0, State::Verified);
        last.finished = Some(last.started + SignedDuration::from_secs(seconds));
        after(5, 2, last)
    };
    assert_eq!(holds("duration > 2x", &took(50)), Some(false));
    assert_eq!(holds("duration > 2x", &took(60)), Some(false));
    assert_eq!(holds("duration > 2x", &took(61)), Some(true));
    let with_floor = |floor: &str| {
        let rule = format!("condition = \"duration > 2x\"\nseverity = \"info\"\nfloor = {floor:?}");
        observe("r", &rule_of(&rule), &took(50), now()).unwrap()[0].holds
    };
    assert!(with_floor("30s") && with_floor("49s") && !with_floor("50s") && !with_floor("1h"));
}

#[test]
fn logs_and_what_could_be_lost() {
    let logged = |point: i64, gap: bool| {
        let mut facts = facts(vec![run(5, 1, State::Verified)]);
        let job = facts.jobs.get_mut("shop").unwrap();
        job.rpo = Some(Duration::from_secs(900));
        let recovery_point = Some(now() - SignedDuration::from_mins(point));
        job.log = Some(LogFacts { recovery_point, gap: gap.then_some(now()) });
        facts
    };
    assert_eq!(holds("log_gap", &logged(1, true)), Some(true));
    assert_eq!(holds("log_gap", &logged(1, false)), Some(false));
    assert_eq!(holds("log_lag > 5min", &logged(6, false)), Some(true));
    assert_eq!(holds("log_lag > 5min", &logged(4, false)), Some(false));
    assert_eq!(holds("rpo", &logged(16, false)), Some(true), "the job says 15 minutes");
    assert_eq!(holds("rpo", &logged(14, false)), Some(false));
    assert_eq!(holds("rpo > 1h", &logged(16, false)), Some(false));
    let unlogged = facts(vec![run(5, 1, State::Verified)]);
    assert_eq!(holds("rpo > 4h", &unlogged), Some(true), "the last backup counts");
    let mut unseen = unlogged;
    unseen.jobs.get_mut("shop").unwrap().is_looked_at = false;
    assert_eq!(holds("rpo > 4h", &unseen), None, "there may be more in its repository");
    assert_eq!(holds("stale > 4h", &unseen), None);
    assert_eq!(
        (holds("rpo > 6h", &unseen), holds("stale > 6h", &unseen)),
        (Some(false), Some(false))
    );
    let unlogged = facts(vec![run(5, 1, State::Verified)]);
    for unknown in ["rpo", "log_gap", "log_lag > 1min"] {
        assert_eq!(holds(unknown, &unlogged), None, "{unknown}");
    }
}

#[test]
fn cleanup_that_was_stopped_for_one_job_alarms_for_that_job() {
    let machine =
        Machine { host: "h".to_owned(), user: "u".to_owned(), zone: crate::zone::Zone::UTC };
    let record = |status, details: &[(&str, &str)]| {
        let mut record = Record::new("cleanup", Class::Compliance, status, &machine, now());
        for (name, value) in details {
            record.details.insert((*name).to_owned(), (*value).to_owned());
        }
        record
    };
    let success = record(Status::Success, &[("jobs", "shop docs")]);
    let stopped =
        record(Status::Failure, &[("jobs", "shop docs"), ("stopped", "shop"), ("error", "many")]);
    let of = |records: &[Record], job: &str| {
        super::facts::last_cleanup(records, job).map(|done| (done.is_success, done.error))
    };
    let records = [success.clone(), stopped.clone()];
    assert_eq!(of(&records, "shop"), Some((false, "many".to_owned())));
    assert!(of(&records, "docs").unwrap().0);
    assert!(of(&[stopped, success], "shop").unwrap().0);
    assert_eq!(of(&records, "other"), None);
    let failed = record(Status::Failure, &[("jobs", "shop docs"), ("error", "no route")]);
    assert!(!of(&[failed], "docs").unwrap().0);
}

#[test]
fn room_verification_and_copies() {
    let room = |left: u64, lasts: Option<u64>| {
        let lasts = lasts.map(|days| Duration::from_secs(days * 86400));
        let storage = StorageFacts { used: 100 - left, whole: 100, left, lasts };
        of_repository(RepositoryFacts { storage: Some(storage), ..RepositoryFacts::default() })
    };
    assert_eq!(holds("storage_free < 20%", &room(19, None)), Some(true));
    assert_eq!(holds("storage_free < 20%", &room(20, None)), Some(false));
    assert_eq!(holds("storage_used > 80%", &room(19, None)), Some(true));
    assert_eq!(holds("storage_full < 14d", &room(50, Some(13))), Some(true));
    assert_eq!(holds("storage_full < 14d", &room(50, Some(15))), Some(false));
    assert_eq!(holds("storage_full < 14d", &room(50, None)), Some(false));
    let done = |is_success| {
        let (operation, error) = ("check".into(), String::new());
        Some(Done { time: now(), is_success, operation, to: None, error })
    };
    let known = |verified, copied| {
        of_repository(RepositoryFacts { verified, copied, ..RepositoryFacts::default() })
    };
    assert_eq!(holds("verify_failed", &known(done(false), None)), Some(true));
    assert_eq!(holds("verify_failed", &known(done(true), None)), Some(false));
    assert_eq!(holds("copy_failed", &known(None, done(false))), Some(true));
    assert_eq!(holds("copy_failed", &known(done(false), None)), None);
    let cleaned = |cleaned| {
        let mut facts = facts(vec![run(5, 1, State::Verified)]);
        facts.jobs.get_mut("shop").unwrap().cleaned = cleaned;
        facts
    };
    assert_eq!(holds("cleanup_failed", &cleaned(done(false))), Some(true));
    assert_eq!(holds("cleanup_failed", &cleaned(done(true))), Some(false));
    assert_eq!(holds("cleanup_failed", &cleaned(None)), None);
    let clock = |clock| of_repository(RepositoryFacts { clock, ..RepositoryFacts::default() });
    let hours = SignedDuration::from_hours;
    for (present, expected) in [
        (Present::of(now(), Some(now() - hours(24))), false),
        (Present::of(now(), Some(now() - hours(24 * 40))), true),
        (Present::of(now(), Some(now() + hours(25))), true),
        (Present::of_store(now(), now() - SignedDuration::from_mins(4)), false),
        (Present::of_store(now(), now() - SignedDuration::from_mins(6)), true),
        (Present::of_store(now(), now() + hours(6)), true),
    ] {
        assert_eq!(holds("clock", &clock(Some(present))), Some(expected), "{present:?}");
    }
    assert_eq!(holds("clock", &clock(None)), None);
    let copied = |hours: i64| {
        let (last_copy, last_success) =
            (Some(now() - SignedDuration::from_hours(hours)), Some(now()));
        of_repository(RepositoryFacts { last_copy, last_success, ..RepositoryFacts::default() })
    };
    assert_eq!(holds("copy_lag > 24h", &copied(25)), Some(true));
    assert_eq!(holds("copy_lag > 24h", &copied(23)), Some(false));
    for unknown in ["storage_free < 20%", "verify_failed", "copy_failed", "copy_lag > 1h"] {
        assert_eq!(holds(unknown, &of_repository(RepositoryFacts::default())), None, "{unknown}");
    }
}

fn with_slot(slot: SlotFacts) -> Facts {
    let mut facts = facts(vec![]);
    facts.jobs.get_mut("shop").unwrap().slot = Some(slot);
    facts
}

fn slot(state: SlotState, unread_minutes: Option<i64>) -> SlotFacts {
    let unread_since = unread_minutes.map(|minutes| now() - SignedDuration::from_mins(minutes));
    let is_read = unread_since.is_none();
    SlotFacts { name: "crm".into(), state, is_read, unread_since, retained_bytes: 10 << 30 }
}

#[test]
fn slots_of_postgres() {
    let holds = |condition, state, unread| holds(condition, &with_slot(slot(state, unread)));
    let read = None;
    assert_eq!(holds("slot_unhealthy", SlotState::Kept, read), Some(false));
    assert_eq!(holds("slot_unhealthy", SlotState::InDanger, read), Some(true));
    assert_eq!(holds("slot_unhealthy", SlotState::Lost, read), Some(true));
    assert_eq!(
        holds("slot_unhealthy", SlotState::Missing, read),
        Some(false),
        "nothing is kept for it"
    );
    assert_eq!(holds("slot_unhealthy", SlotState::Kept, Some(15)), Some(false));
    assert_eq!(holds("slot_unhealthy", SlotState::Kept, Some(16)), Some(true));
    assert_eq!(holds("slot_unhealthy > 1h", SlotState::Kept, Some(60)), Some(false));
    assert_eq!(holds("slot_unhealthy > 1h", SlotState::Kept, Some(61)), Some(true));
    assert_eq!(holds("slot_unhealthy > 1h", SlotState::Lost, Some(1)), Some(true));
    assert_eq!(holds("slot_unhealthy > 10GiB", SlotState::Kept, read), Some(false));
    assert_eq!(holds("slot_unhealthy > 9GiB", SlotState::Kept, read), Some(true));
    assert_eq!(holds("slot_unhealthy > 10GiB", SlotState::Kept, Some(16)), Some(true));
    assert_eq!(super::tests::holds("slot_unhealthy", &facts(vec![])), None, "nobody has asked");
    let lost = with_slot(slot(SlotState::Lost, read));
    let observed = observe("r", &of("slot_unhealthy"), &lost, now()).unwrap().remove(0);
    assert!(
        observed.next.starts_with("run SELECT pg_drop_replication_slot('crm'), then"),
        "{}",
        observed.next
    );
}

#[test]
fn since_when_nobody_reads_is_remembered_for_servers_that_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let look = |minutes: i64, is_read: bool| {
        let mut facts =
            with_slot(SlotFacts { is_read, unread_since: None, ..slot(SlotState::Kept, None) });
        let (mut ledger, now) = (open(dir.path(), "c"), now() + SignedDuration::from_mins(minutes));
        ledger.remember(&mut facts, &BTreeMap::new(), now);
        ledger.save().unwrap();
        observe("r", &of("slot_unhealthy"), &facts, now).unwrap()[0].holds
    };
    assert!(!look(0, false) && !look(15, false) && look(16, false));
    assert!(!look(17, true) && !look(18, false) && !look(33, false) && look(34, false));
    // What the server says itself counts.
    let mut facts = with_slot(slot(SlotState::Kept, Some(5)));
    open(dir.path(), "c").remember(
        &mut facts,
        &BTreeMap::new(),
        now() + SignedDuration::from_mins(60),
    );
    assert_eq!(facts.jobs["shop"].slot, Some(slot(SlotState::Kept, Some(5))));
}

#[test]
fn a_daemon_that_is_silent() {
    let last = |minutes: i64| {
        let at = now() - SignedDuration::from_mins(minutes);
        Facts { daemon: Some(Some(Alive { pid: 7, at, version: "1".into() })), ..Facts::default() }
    };
    assert_eq!(holds("daemon_silent", &last(5)), Some(false));
    assert_eq!(holds("daemon_silent", &last(6)), Some(true));
    assert_eq!(holds("daemon_silent > 10min", &last(10)), Some(false));
    assert_eq!(holds("daemon_silent > 10min", &last(11)), Some(true));
    assert_eq!(
        holds("daemon_silent", &Facts { daemon: Some(None), ..Facts::default() }),
        Some(false),
        "it ended"
    );
    assert_eq!(holds("daemon_silent", &Facts::default()), None);
    let dir = tempfile::tempdir().unwrap();
    let tell = |facts: &Facts| {
        let (rule, mut ledger) = (of("daemon_silent"), open(dir.path(), "c"));
        let observed = observe("r", &rule, facts, now()).unwrap();
        let messages = ledger.observe("silent", &rule, &observed, "host", |_| true, now());
        ledger.save().unwrap();
        messages
    };
    let begun = tell(&last(6)).remove(0);
    assert_eq!(
        (begun.kind, begun.place.as_str(), &begun.job),
        (Kind::Firing, "daemon, host host", &None)
    );
    assert_eq!(tell(&last(0)).remove(0).kind, Kind::Resolved);
}

#[test]
fn patterns_say_which() {
    let only = rule_of("condition = \"failure\"\nseverity = \"high\"\nonly = [\"crm-*\"]");
    assert!(observe("r", &only, &facts(vec![failed(1)]), now()).unwrap().is_empty());
    let only = rule_of("condition = \"failure\"\nseverity = \"high\"\nonly = [\"sh*\"]");
    assert_eq!(observe("r", &only, &facts(vec![failed(1)]), now()).unwrap().len(), 1);
}

/// What is told at so many minutes, while the rule holds or does not.
fn told(dir: &std::path::Path, rule: &AlertConfig, holds: bool, minutes: i64) -> Vec<Message> {
    let now = now() + SignedDuration::from_mins(minutes);
    let mut ledger = open(dir, "c");
    let runs = if holds { vec![failed(1)] } else { vec![run(1, 1, State::Verified)] };
    let observed = observe("r", rule, &facts(runs), now).unwrap();
    let messages = ledger.observe("backup_failure", rule, &observed, "host", |_| true, now);
    ledger.save().unwrap();
    messages
}

#[test]
fn is_told_once_again_and_when_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let rule = rule_of(
        "condition = \"failure\"\nseverity = \"critical\"\nfor = \"10min\"\nrepeat = \"1h\"",
    );
    let tell = |holds, minutes| told(dir.path(), &rule, holds, minutes);
    assert!(tell(true, 0).is_empty() && tell(true, 9).is_empty(), "not yet");
    assert_eq!(open(dir.path(), "c").alerts().next().unwrap().phase, Phase::Pending);
    let first = tell(true, 10).remove(0);
    assert_eq!(
        (first.kind, first.place.as_str(), first.job.as_deref()),
        (Kind::Firing, "job shop, repository /repo, host host", Some("shop"))
    );
    assert!(tell(true, 11).is_empty() && tell(true, 69).is_empty(), "once is enough");
    let again = tell(true, 70).remove(0);
    assert_ne!(again.id, first.id);
    assert_eq!(again.incident, first.incident);
    let over = tell(false, 80).remove(0);
    assert_eq!(
        (over.kind, &over.incident, over.title.as_str()),
        (Kind::Resolved, &first.incident, "the backup of shop failed")
    );
    assert_eq!(over.cause, "resolved after 1 h 20 min");
    assert!(tell(false, 81).is_empty());
    assert!(tell(true, 90).is_empty(), "it begins anew");
    assert_ne!(tell(true, 100).remove(0).id, first.id);
    // What was never told is not told to be over.
    assert_eq!(tell(false, 101).len(), 1);
    assert!(tell(true, 102).is_empty() && tell(false, 103).is_empty());
}

#[test]
fn a_crash_before_it_is_noted_tells_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let rule = of("failure");
    let look = |minutes: i64| {
        let mut ledger = open(dir.path(), "c");
        let (before, now) = (ledger.memory(), now() + SignedDuration::from_mins(minutes));
        let observed = observe("r", &rule, &facts(vec![failed(1)]), now).unwrap();
        let messages = ledger.observe("r", &rule, &observed, "host", |_| true, now);
        ledger.save_begun(&before).unwrap();
        (ledger, messages)
    };
    let first = look(0).1.remove(0);
    let (ledger, mut second) = look(5);
    assert_eq!(first.id, second.remove(0).id, "so the outbox knows it");
    ledger.save().unwrap();
    assert!(look(6).1.is_empty());
}

#[test]
fn what_nobody_hears_is_told_when_somebody_does() {
    let dir = tempfile::tempdir().unwrap();
    let rule = of("failure");
    let look = |is_heard: bool| {
        let mut ledger = open(dir.path(), "c");
        let observed = observe("r", &rule, &facts(vec![failed(1)]), now()).unwrap();
        let messages = ledger.observe("r", &rule, &observed, "host", |_| is_heard, now());
        ledger.save().unwrap();
        messages.len()
    };
    assert_eq!((look(false), look(true), look(true)), (1, 1, 0));
}

#[test]
fn what_is_watched_no_longer_is_over_and_other_configurations_stay() {
    let dir = tempfile::tempdir().unwrap();
    told(dir.path(), &of("failure"), true, 0);
    let mut other = open(dir.path(), "other");
    assert!(other.retain(|_| false, "host", now()).is_empty() && other.alerts().len() == 1);
    drop(other);
    let mut ledger = open(dir.path(), "c");
    let (_, over) = ledger.retain(|_| false, "host", now()).remove(0);
    assert_eq!(
        (over.kind, over.cause.as_str()),
        (Kind::Resolved, "no rule of the configuration applies any more")
    );
    assert_eq!(ledger.alerts().len(), 0);
}

#[test]
fn silences_end() {
    let dir = tempfile::tempdir().unwrap();
    let rule = of("failure");
    let silence = Silence::new(
        "s1".into(),
        "backup_failure".into(),
        Some("shop".into()),
        (now(), now() + SignedDuration::from_mins(30)),
        ("me".into(), "db1 moves".into()),
    );
    let mut ledger = open(dir.path(), "c");
    ledger.silence(silence.clone());
    let is_silenced = |rule: &str, subject: &str, repository: &str| {
        ledger.is_silenced(rule, subject, Some(repository), now())
    };
    assert!(is_silenced("backup_failure", "shop", "/repo"));
    assert!(
        !is_silenced("backup_failure", "crm", "/repo")
            && !is_silenced("other", "shop", "/repo")
            && !is_silenced("backup_failure", "shop", "/elsewhere")
    );
    ledger.save().unwrap();
    assert!(told(dir.path(), &rule, true, 0).is_empty());
    assert_eq!(
        open(dir.path(), "c").alerts().next().unwrap().phase,
        Phase::Firing,
        "it is known all the same"
    );
    assert_eq!(told(dir.path(), &rule, true, 31).len(), 1, "what still lasts is told afterwards");
    let mut other = open(dir.path(), "other");
    assert!(
        other.silences(now()).is_empty() && other.unsilence("s1").is_none(),
        "of another configuration"
    );
    drop(other);
    let mut ledger = open(dir.path(), "c");
    let ended = ledger.unsilence("s1").unwrap();
    assert_eq!((ended.reason, ended.repositories), (silence.reason, vec!["/repo".to_owned()]));
    assert_eq!(ledger.unsilence("s1"), None);
}

#[test]
fn one_that_cannot_be_read_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("alerts.json"), "{").unwrap();
    let ledger = open(dir.path(), "c");
    let aside = ledger.put_aside().unwrap().to_owned();
    ledger.save().unwrap();
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "{");
    assert!(open(dir.path(), "c").put_aside().is_none());
}

/// What was never backed up is told too, as soon as it is known that nobody else did.
#[test]
fn what_was_never_tried_is_late_as_well() {
    for condition in ["stale > 1h", "rpo > 1h"] {
        let seen = |looked_at: bool, out_of_reach: bool, hours: Option<i64>| {
            let mut known = facts(Vec::new());
            let job = known.jobs.get_mut("shop").unwrap();
            job.watched_since = hours.map(|hours| now() - SignedDuration::from_hours(hours));
            (job.is_looked_at, job.is_out_of_reach) = (looked_at, out_of_reach);
            (job.last_success, job.first_run) = (None, None);
            observe("r", &of(condition), &known, now()).unwrap().first().map(|seen| seen.holds)
        };
        assert_eq!(seen(true, false, None), None, "it has only begun");
        assert_eq!(seen(true, false, Some(0)), Some(false));
        assert_eq!(seen(true, false, Some(2)), Some(true));
        assert_eq!(seen(false, true, Some(2)), Some(true), "nobody can tell otherwise");
        assert_eq!(seen(false, false, Some(2)), None, "nobody has looked");
    }
}

#[tokio::test]
async fn events_are_told_once_and_not_those_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FakeClock::at(now());
    let opened = catalog::open(&catalog::Home::Directory(dir.path().to_path_buf()), clock.now())
        .await
        .unwrap();
    let mut restore = run(2, 1, State::Completed);
    restore.what = What::Restore;
    opened.catalog.add(&restore).await.unwrap();
    let filter = catalog::RunFilter { restores: true, ..catalog::RunFilter::default() };
    let found = opened.catalog.runs(&filter).await.unwrap().runs;
    let facts = Facts { restores: found, ..facts(vec![run(1, 5, State::Verified)]) };
    let tell = |condition: &str, since: i64| {
        let since = now() - SignedDuration::from_hours(since);
        tell("r", &of(condition), &facts, |_| since, "host").unwrap()
    };
    assert_eq!(tell("restore_started", 1).len(), 0);
    let started = tell("restore_started", 3).remove(0);
    assert_eq!((started.title.as_str(), started.kind), ("me restores shop", Kind::Notice));
    assert_eq!(tell("restore_finished", 1).len(), 0);
    let finished = tell("restore_finished", 2).remove(0);
    assert_eq!(finished.title, "the restore of shop by me finished");
    assert_eq!(tell("restore_failed", 3).len(), 0, "it did not fail");
    assert_eq!(tell("success", 0).len(), 0);
    assert_eq!(tell("success", 1).remove(0).title, "the backup of shop succeeded");
    let mut ledger = open(dir.path(), "c");
    let before = now() - SignedDuration::from_mins(10);
    assert_eq!(ledger.events_since("r", "/repo", now()), before, "the first evaluation");
    let later = now() + SignedDuration::from_hours(1);
    ledger.note_events([&"r".to_owned()].into_iter(), now());
    assert_eq!(ledger.events_since("r", "/repo", later), before);
    ledger.note_events([&"r".to_owned()].into_iter(), later);
    let overlapping = later - SignedDuration::from_mins(10);
    assert_eq!(ledger.events_since("r", "/repo", later), overlapping);
    assert_eq!(ledger.events_since("r", "/outside", later), overlapping);
}

#[test]
fn restores_that_fail_notify_with_their_cause() {
    let restore = |state: State| {
        let mut run = failed(1);
        (run.what, run.state) = (What::Restore, state);
        run.evidence.subject = "/target".into();
        Facts { restores: vec![run], ..Facts::default() }
    };
    let tell = |condition: &str, state: State| {
        let since = now() - SignedDuration::from_hours(2);
        tell("r", &of(condition), &restore(state), |_| since, "host").unwrap()
    };
    let message = tell("restore_failed", State::Failed).remove(0);
    assert_eq!(message.title, "the restore of shop by me failed");
    for words in ["to /target", "no route to db1"] {
        assert!(message.cause.contains(words), "{words}: {}", message.cause);
    }
    assert!(message.next.starts_with("start it; run `backup logs run "), "{}", message.next);
    assert!(tell("restore_finished", State::Failed).is_empty());
    for condition in ["restore_failed", "restore_finished"] {
        assert!(tell(condition, State::Cancelled).is_empty(), "a person stopped it");
        assert!(tell(condition, State::Running).is_empty());
    }
}
