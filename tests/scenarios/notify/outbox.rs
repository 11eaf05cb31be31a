//! Endpoints that are away, processes that die.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;

use super::{LONG, Place, message};
use crate::support::receiver::{Receiver, Reply};

fn place(receiver: &Receiver) -> Place {
    let url = receiver.url();
    Place::new(
        format!("[notify.hook]\nkind = \"webhook\"\nallow_http = true\nurl = \"{url}\"\n"),
        &[],
    )
}

/// How often each message has come.
fn counts(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for got in receiver.received() {
        *counts.entry(got.header("x-backup-id").to_owned()).or_default() += 1;
    }
    counts
}

fn sends(place: &Place) -> Child {
    place.cli().command(&[], &["notify", "send", "--within", "30s"]).spawn().unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_endpoint_that_is_away_loses_nothing() {
    let receiver = Receiver::start(|_| Reply::Close);
    let place = place(&receiver);
    (0..5).for_each(|number| place.put("hook", &message(number)));
    let sent = place.cli().run(&["notify", "send", "--within", "1s", "--json"]);
    let said: Value = serde_json::from_str(&sent.text()).unwrap();
    assert_eq!((sent.code, &said["waiting"]["hook"]["messages"]), (1, &5.into()), "{sent}");
    let status = place.cli().run(&["notify"]).succeeded();
    assert!(
        status.text().contains("hook") && status.text().contains("the service cannot be reached"),
        "{status}"
    );

    receiver.answer(|_| Reply::status(503));
    let sent = place.cli().run(&["notify", "send", "--within", "1s"]);
    assert!(sent.code == 1 && sent.text().contains("503"), "{sent}");
    let before = receiver.received().len();

    receiver.answer(|_| Reply::status(200));
    let sent = place.cli().run(&["notify", "send"]).succeeded();
    assert!(sent.text().contains("Sent: 5 messages"), "{sent}");
    assert_eq!(receiver.received().len() - before, 5, "each once");
    assert_eq!(counts(&receiver).len(), 5);
    place.cli().run(&["notify", "send"]).succeeded();
    assert_eq!(receiver.received().len() - before, 5);
}

#[test]
fn what_is_refused_for_good_is_told() {
    let receiver = Receiver::start(|_| Reply::Status(400, "", "no such hook".into()));
    let place = place(&receiver);
    place.put("hook", &message(1));
    let sent = place.cli().run(&["notify", "send"]);
    assert!(
        sent.code == 1
            && sent.stderr.contains("abandoned: hook: [critical] The backup of shop failed"),
        "{sent}"
    );
    let status = place.cli().run(&["notify", "status"]);
    assert!(
        status.code == 3
            && status.text().contains("the service answers 400 Bad Request: no such hook"),
        "{status}"
    );
    receiver.answer(|_| Reply::status(200));
    place.cli().run(&["notify", "send"]).succeeded();
    assert_eq!(receiver.received().len(), 1, "it is not tried again by itself");
    place.cli().run(&["notify", "send", "--failed"]).succeeded();
    assert_eq!(receiver.received().len(), 2);
    assert_eq!(place.cli().run(&["notify"]).code, 0);
}

#[test]
fn a_process_that_dies_between_sending_and_recording_sends_one_duplicate() {
    // It has the message, and the sender never learns that.
    let receiver = Receiver::start(|_| Reply::Silence);
    let place = place(&receiver);
    place.put("hook", &message(1));
    let sender = sends(&place);
    receiver.wait_for(1);
    kill(sender);
    receiver.answer(|_| Reply::status(200));
    place.cli().run(&["notify", "send"]).succeeded();
    place.cli().run(&["notify", "send"]).succeeded();
    assert_eq!(counts(&receiver).values().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn processes_that_die_at_any_moment_lose_nothing_and_repeat_little() {
    const MESSAGES: usize = 30;
    const KILLS: usize = 8;
    let receiver = Receiver::start(|_| Reply::Slow(Duration::from_millis(15), 200));
    let place = place(&receiver);
    (0..MESSAGES as u32).for_each(|number| place.put("hook", &message(number)));
    for _ in 0..KILLS {
        let sender = sends(&place);
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(5..150)));
        kill(sender);
    }
    place.cli().run(&["notify", "send"]).succeeded();
    let counts = counts(&receiver);
    assert_eq!(counts.len(), MESSAGES, "{counts:?}");
    let came: usize = counts.values().sum();
    assert!(came <= MESSAGES + KILLS, "each death repeats one at most: {counts:?}");
}

#[tokio::test]
async fn several_processes_send_each_message_once() {
    let receiver = Receiver::start(|_| Reply::Slow(Duration::from_millis(5), 200));
    let place = place(&receiver);
    (0..20).for_each(|number| place.put("hook", &message(number)));
    let senders = [sends(&place), sends(&place), sends(&place)];
    for mut sender in senders {
        assert!(sender.wait().unwrap().success());
    }
    assert!(place.deliver(LONG).await.sent.is_empty());
    let counts = counts(&receiver);
    assert!(counts.len() == 20 && counts.values().all(|count| *count == 1), "{counts:?}");
}
