//! A configuration that breaks while the daemon runs, and a daemon that is killed.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::answering::ask;
use crate::common::{CONFIG, Daemon, Place};

/// A rule about failures, whose messages go to a file.
const RULES: &str = r#"
[alerts.failed]
condition = "failure"
severity = "high"
repeat = "2s"
[notify.file]
kind = "command"
command = "cat >> told.jsonl; echo >> told.jsonl"
"#;

const FASTER: [&str; 4] = ["--accelerate", "60", "--accelerate-from", "2026-01-01T00:00:00Z"];

/// Kinds and causes of all messages about the configuration.
fn told(place: &Place) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(place.path("told.jsonl")).unwrap_or_default();
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    messages
        .filter(|message| message["title"] == "the configuration of the daemon is broken")
        .map(|message| (word(&message["kind"]), word(&message["cause"])))
        .collect()
}

#[track_caller]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ended(daemon: &Daemon) -> usize {
    let is_it = |line: &&Value| {
        line["task"] == "docs/daily"
            && line["message"].as_str().unwrap().contains("ended successfully")
    };
    daemon.lines().iter().filter(is_it).count()
}

fn is_valid(place: &Place) -> bool {
    let metrics = ask(place, "GET", "/metrics", "").1;
    let line =
        metrics.lines().find(|line| line.starts_with("backupd_configuration_valid")).unwrap();
    line.ends_with(" 1")
}

fn trouble(place: &Place) -> Option<String> {
    let health: Value = serde_json::from_str(&ask(place, "GET", "/api/v1/health", "").1).unwrap();
    health["troubles"]["configuration"].as_str().map(str::to_owned)
}

#[test]
fn tasks_and_alerts_go_on_while_the_configuration_is_broken() {
    let config = format!("{CONFIG}{RULES}");
    let place = Place::new(&config);
    let mut daemon = place.daemon("first.log", &FASTER);
    daemon.wait_for(3, "ended successfully");
    assert!(is_valid(&place) && trouble(&place).is_none());
    let copy = place.path("state/daemon/configuration.json");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);

    place.write("backup.toml", &config.replace("keep = {", "keeep = {"));
    daemon.wait_for(1, "configuration broken since");
    let before = ended(&daemon);
    wait("tasks stop", || ended(&daemon) >= before + 3);
    wait("nobody is told, or only once", || told(&place).len() >= 2);
    let (kind, cause) = told(&place).remove(0);
    assert_eq!(kind, "firing");
    assert!(cause.contains("backup.toml:4: unknown key `keeep`"), "{cause}");
    let since = cause.split(": ").next().unwrap().to_owned();
    assert!(told(&place).iter().all(|(kind, cause)| kind == "firing" && cause.starts_with(&since)));
    let shown = trouble(&place).unwrap();
    assert!(shown.contains(&since) && shown.contains("keeep"), "{shown}");
    wait("the metric", || !is_valid(&place));
    // The same over a restart, and without the file.
    daemon.kill();
    let mut daemon = place.daemon("second.log", &FASTER);
    daemon.wait_for(1, "is ready: 4 tasks");
    daemon.wait_for(1, &format!("configuration {since}"));
    wait("tasks do not start", || ended(&daemon) >= 2);
    std::fs::remove_file(place.path("backup.toml")).unwrap();
    daemon.wait_for(1, "cannot read the configuration");
    let before = ended(&daemon);
    wait("tasks stop", || ended(&daemon) >= before + 2);
    assert!(trouble(&place).unwrap().contains(&since), "{:?}", trouble(&place));

    place.write("backup.toml", &config);
    daemon.wait_for(1, "configuration reloaded: 4 tasks");
    wait("that it is over is not told", || told(&place).last().unwrap().0 == "resolved");
    assert!(trouble(&place).is_none());
    wait("the metric", || is_valid(&place));
    let before = ended(&daemon);
    wait("tasks stop", || ended(&daemon) >= before + 2);
    let kinds: Vec<String> = told(&place).into_iter().map(|(kind, _)| kind).collect();
    let resolved = kinds.iter().filter(|kind| *kind == "resolved").count();
    assert_eq!((resolved, kinds.last().unwrap().as_str()), (1, "resolved"), "{kinds:?}");
    // No task failed. Runs of the killed daemon may still hold their jobs and leases (exit code 11)
    // when the next daemon starts.
    let failed = |line: &&Value| {
        let message = line["message"].as_str().unwrap();
        message.contains("ended with exit code") && !message.contains("exit code 11 ")
    };
    let lines = daemon.lines();
    assert!(!lines.iter().any(|line| failed(&line)), "{lines:#?}");
}

/// A stand-in for `backup`: a follower that ends with its input.
const PROGRAM: &str = r#"#!/bin/sh
case "$*" in
*"logs follow --until-eof"*) echo $$ > follower; echo '{"event":"log","log":"following","from":null}'; exec cat ;;
esac
"#;

#[test]
fn followers_are_in_the_journal_and_end_with_a_daemon_that_is_killed() {
    let config = CONFIG.replace(
        "[jobs.more]",
        "[sources.db]\nkind = \"mongodb\"\nurl = \"mongodb://db\"\n[jobs.db]\nsource = \
         \"db\"\nrepository = \"main\"\nlogs = {}\n[jobs.more]",
    );
    let place = Place::new(&config);
    place.write("program", PROGRAM);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path("program"), executable).unwrap();
    let program = place.path("program").display().to_string();
    let mut daemon = place.daemon_with("log", &[], &[("BACKUP_PROGRAM", &program)]);
    daemon.wait_for(1, "connected: the log is followed from now on");
    let number = std::fs::read_to_string(place.path("follower")).unwrap();
    // A process without a parent that waits for it has ended all the same.
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", number.trim()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    assert!(runs());
    daemon.kill();
    let began = Instant::now();
    while runs() {
        assert!(began.elapsed() < Duration::from_secs(5), "it outlives the daemon");
        std::thread::sleep(Duration::from_millis(20));
    }
}
