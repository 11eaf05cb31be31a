//! What alerts see of the slot that a server keeps its log for.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::logs::{newest, write};
use super::place::{Place, with_role};
use super::program::text_of;
use super::{digest, source};
use crate::support::postgres::{Postgres, Version};
use crate::support::running::Running;

const RULES: &str = r#"
[notify.file]
kind = "command"
severity = "info"
command = "cat >> ROOM/told.jsonl; echo >> ROOM/told.jsonl"

[alerts.unread]
condition = "slot_unhealthy > 2s"
severity = "warning"

[alerts.large]
condition = "slot_unhealthy > 16MiB"
severity = "warning"

[alerts.lost]
condition = "slot_unhealthy"
severity = "critical"
"#;

/// What was told, as rule and kind.
fn told(place: &Place) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(place.path("told.jsonl")).unwrap_or_default();
    let messages = text.lines().filter(|line| !line.is_empty());
    let messages = messages.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    messages.map(|message| (word(&message["details"]["rule"]), word(&message["kind"]))).collect()
}

/// Looks until what is told last is this, and nothing else since the last time.
#[track_caller]
fn looked(place: &Place, seen: &mut usize, rule: &str, kind: &str) {
    let started = Instant::now();
    loop {
        place.done(&["alerts", "check"]);
        let new = told(place).split_off(*seen);
        if !new.is_empty() {
            assert_eq!(new, [(rule.to_owned(), kind.to_owned())]);
            *seen += 1;
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(240), "{rule} is not {kind}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

async fn set(server: &Postgres, setting: &str) {
    server.run(&format!("ALTER SYSTEM SET {setting}")).await;
    server.run("SELECT pg_reload_conf()").await;
}

/// Waits until a follower reads from a slot: the base backup alone makes "latest" restorable.
async fn connected(server: &Postgres) {
    let started = Instant::now();
    let active = "SELECT count(*)::text FROM pg_replication_slots WHERE active";
    while server.value(active).await == "0" {
        assert!(started.elapsed() < Duration::from_secs(60), "no follower connects");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A follower reports an outage and its end, and ends with its input.
pub(super) async fn an_outage_is_reported_within_seconds(version: Version) {
    let mut server = with_role(version, &[], &[]).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let place = Place::new(&server, "");
    place.done(&["run", "crm"]);
    let file = place.path("followed");
    let mut command = place.command(&["logs", "follow", "crm", "--until-eof", "--no-progress"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.stderr(File::create(&file).unwrap()).spawn().unwrap();
    let input = child.stdin.take();
    let mut capturing = Running::of(child);
    let shown_often = |times: usize, words: &str, within: u64| {
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(&file).unwrap();
            if text.matches(words).count() >= times {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(within), "{words}: {text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let shown = |words: &str, within: u64| shown_often(1, words, within);
    write(&server, 0, 3).await;
    shown("Stored up to", 60);
    // Its connection lasts, without an answer.
    server.pause(true);
    shown("no answer for 5 seconds", 6);
    server.pause(false);
    shown("Connected again", 10);
    server.kill();
    shown_often(2, "the server is unreachable", 5);
    server.start_again(version).await;
    shown_often(2, "Connected again", 60);
    assert!(!capturing.has_ended());
    drop(input);
    let started = Instant::now();
    while !capturing.has_ended() {
        assert!(started.elapsed() < Duration::from_secs(15), "its input is closed");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Not read, keeping too much, lost; and well again, each time.
pub(super) async fn what_is_wrong_with_a_slot_is_told(version: Version) {
    let server =
        with_role(version, &["--wal-segsize", "1"], &["min_wal_size=2MB", "max_wal_size=4MB"])
            .await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let place = Place::new(&server, "slot = \"crm\"\nfast_checkpoint = true");
    let file = place.path("backup.toml");
    let config = std::fs::read_to_string(&file).unwrap() + &RULES.replace("ROOM", &place.path(""));
    std::fs::write(&file, config).unwrap();
    let mut seen = 0;
    place.done(&["alerts", "check"]);
    assert!(told(&place).is_empty(), "there is no slot yet");
    place.done(&["run", "crm"]);
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    write(&server, 0, 3).await;
    place.reached("latest");
    connected(&server).await;
    place.done(&["alerts", "check"]);
    assert!(told(&place).is_empty(), "it is read");
    capturing.stop();
    looked(&place, &mut seen, "unread", "firing");
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    looked(&place, &mut seen, "unread", "resolved");
    // Whoever reads, but does not get on: the server keeps more and more.
    capturing.signal(rustix::process::Signal::STOP);
    write(&server, 10, 150).await;
    looked(&place, &mut seen, "large", "firing");
    capturing.signal(rustix::process::Signal::CONT);
    looked(&place, &mut seen, "large", "resolved");
    capturing.stop();
    looked(&place, &mut seen, "unread", "firing");
    set(&server, "max_slot_wal_keep_size = '2MB'").await;
    for round in 1..5 {
        write(&server, 1000 + 10 * round, 1010 + 10 * round).await;
        write(&server, 2000 + 10 * round, 2010 + 10 * round).await;
        server.run("CHECKPOINT").await;
    }
    let lost = |seen: &mut usize, kind: &str| {
        let started = Instant::now();
        // The other rules hold for a slot that has lost what it keeps, too.
        let is_told = |(rule, known): &(String, String)| rule == "lost" && known == kind;
        while !told(&place)[*seen..].iter().any(is_told) {
            assert!(started.elapsed() < Duration::from_secs(240), "that it is lost is not {kind}");
            place.done(&["alerts", "check"]);
            std::thread::sleep(Duration::from_millis(200));
        }
        *seen = told(&place).len();
    };
    lost(&mut seen, "firing");
    let shown = place.done(&["alerts"]);
    assert!(shown.contains("has removed WAL"), "{shown}");
    set(&server, "max_slot_wal_keep_size = '-1'").await;
    // Makes a new slot, and a full backup.
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    lost(&mut seen, "resolved");
    capturing.stop();
}

/// A server gives up the slot of a capture that paused, and still has its log: the capture
/// continues without a gap and without another full backup.
pub(super) async fn slots_given_up_for_idling_cost_no_log(version: Version) {
    let server = with_role(version, &[], &["idle_replication_slot_timeout=1s"]).await;
    // The log stays although the slot does not keep it.
    set(&server, "wal_keep_size = '1GB'").await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let place = Place::new(&server, "");
    place.done(&["run", "crm"]);
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    write(&server, 0, 3).await;
    place.reached(&text_of(&newest(&server).await));
    capturing.stop();
    let lost = "SELECT count(*)::text FROM pg_replication_slots WHERE invalidation_reason = \
                'idle_timeout'";
    let started = Instant::now();
    while server.value(lost).await == "0" {
        assert!(started.elapsed() < Duration::from_secs(60), "the slot is not given up");
        tokio::time::sleep(Duration::from_millis(500)).await;
        write(&server, 3, 4).await;
        server.run("CHECKPOINT").await;
    }
    let expected = digest(&source(&server).await).await;
    let last = text_of(&newest(&server).await);
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    place.reached(&last);
    capturing.stop();
    assert_eq!(server.value(lost).await, "0");
    // The first backup and all of the log.
    let snapshots = place.done(&["list", "--json"]);
    assert_eq!(snapshots.matches("\"type\":\"full\"").count(), 1, "{snapshots}");
    let target = place.path("restored");
    place.done(&["restore", "--job", "crm", "--at", &last, "--target", &target]);
    let copy = Postgres::recovered(version, Path::new(&target), &[]).await;
    assert_eq!(digest(&source(&copy).await).await, expected);
}
