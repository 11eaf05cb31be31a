//! Channels, and what waits for them.

use backup_control::notify::{Kind, Message, Outbox, Severity};

use crate::common::Env;

const CONFIG: &str = r#"
[notify.team]
kind = "slack"
secret_env = "SLACK_URL"

[notify.ops]
kind = "smtp"
host = "mail.example.com"
from = "Backup <backup@example.com>"
to = ["ops@example.com", "dev@example.com"]
severity = "info"

[notify.hook]
kind = "webhook"
url = "https://example.com/a/secret/path?token=hush"
headers = { X-Token = "hush" }
severity = "critical"
jobs = ["shop-*"]

[notify.shell]
kind = "command"
command = "test -e up || { echo it is down; exit 1; }"
"#;

fn configured() -> Env {
    let env = Env::new();
    env.write("backup.toml", CONFIG);
    env
}

fn message(number: u32) -> Message {
    Message {
        id: format!("m{number}"),
        incident: "shop".into(),
        kind: Kind::Firing,
        severity: Severity::High,
        title: "The backup of shop failed".into(),
        place: "job shop".into(),
        cause: "no reason".into(),
        next: "look at it".into(),
        job: Some("shop".into()),
        time: "2026-11-23T08:00:00Z".parse().unwrap(),
        details: [].into(),
        html: None,
    }
}

fn put(env: &Env, channel: &str, number: u32) {
    let outbox = Outbox::open(&env.path("home/.local/state/backup")).unwrap();
    assert!(outbox.put(channel, &message(number)).unwrap().is_new());
}

#[test]
fn channels_are_listed() {
    let env = configured();
    let list = env.run(&["notify", "list"]).ok().snapshot("notify_list");
    let json = env.run(&["notify", "list", "--json"]).ok().snapshot_json("notify_list_json");
    assert!(!format!("{}{}", list.stdout, json.stdout).contains("hush"));
    let shown = env.run(&["config", "show"]).ok();
    assert!(
        !shown.stdout.contains("hush") && shown.stdout.contains("https://example.com/…"),
        "{}",
        shown.stdout
    );
    let none = Env::new();
    none.write("backup.toml", "");
    none.run(&["notify", "list"]).ok().snapshot("notify_list_of_nothing");
    assert_eq!(none.run(&["notify", "test"]).snapshot("notify_test_of_nothing").code, 2);
}

#[test]
fn channels_are_tested() {
    let env = configured();
    let run = env.run(&["notify", "test", "shell", "team"]).snapshot("notify_test_failed");
    assert_eq!(run.code, 1);
    env.run(&["notify", "test", "shell", "--json"]).snapshot_json("notify_test_json");
    env.write("up", "");
    env.run(&["notify", "test", "shell", "--severity", "critical"]).ok().snapshot("notify_test");
    assert_eq!(env.run(&["notify", "test", "shel"]).snapshot("notify_test_unknown").code, 2);
    // It leaves nothing behind.
    env.run(&["notify"]).ok().snapshot("notify_status_of_nothing");
}

#[test]
fn what_waits_is_told_and_sent() {
    let env = configured();
    put(&env, "shell", 1);
    put(&env, "shell", 2);
    env.run(&["notify"]).ok().snapshot("notify_status");
    let run = env.run(&["notify", "send", "--within", "1s"]);
    assert_eq!(run.code, 1, "{}", run.text());
    env.run(&["notify", "status", "--json"]).ok().snapshot_json("notify_status_json");
    env.write("up", "");
    env.run(&["notify", "send"]).ok().snapshot("notify_send");
    env.run(&["notify", "send", "--json"]).ok().snapshot_json("notify_send_json");
}

#[test]
fn what_was_given_up_is_told_until_it_is_forgotten() {
    let env = configured();
    env.write("home/.local/state/backup/outbox/failed/x.json", "no message");
    let run = env.run(&["notify"]).snapshot("notify_status_failed");
    assert_eq!(run.code, 3);
    assert_eq!(env.run(&["notify", "discard"]).snapshot("notify_discard_unconfirmed").code, 5);
    env.run(&["notify", "discard", "--yes"]).ok().snapshot("notify_discard");
    assert_eq!(env.run(&["notify"]).code, 0);
}
