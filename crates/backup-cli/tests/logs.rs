//! logs, timeline and restore --at: what is shown of a log, and what is refused.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{InitOptions, Repository};
use backup_core::testing::{ScriptedLog, capture_all};
use backup_storage::LocalSink;
use jiff::Timestamp;

use crate::common::{Env, docs_config};

const CONFIG: &str = docs_config!("");

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A repository with a backup, the log of two more events, a gap, and the log behind it.
async fn logged(env: &mut Env) {
    env.write("key", "secret");
    env.set("BACKUP_REPO", "repo");
    env.set("BACKUP_PASSWORD_FILE", "key");
    let (cx, sink) = (Context::silent(), Arc::new(LocalSink::create(env.path("repo")).unwrap()));
    let passphrase = Passphrase::new("secret");
    let repository =
        Repository::init(sink, &passphrase, &InitOptions::default(), &cx).await.unwrap();
    let source = ScriptedLog::new();
    source.push(time("2026-03-01T10:00:00Z"), "one");
    let options = BackupOptions { job: "shop".to_owned(), ..BackupOptions::default() };
    backup(&repository, &source, &options, &cx).await.unwrap();
    source.push(time("2026-03-01T11:00:00Z"), "two");
    source.push(time("2026-03-01T12:00:00Z"), "three");
    capture_all(&repository, &source, || ()).await;
    source.push(time("2026-03-01T13:00:00Z"), "four");
    source.forget_before(4);
    // Followed from what happens next.
    capture_all(&repository, &source, || _ = source.push(time("2026-03-01T14:00:00Z"), "more"))
        .await;
}

#[tokio::test]
async fn what_a_log_has_is_shown() {
    let mut env = Env::new();
    logged(&mut env).await;
    let status = env.run(&["logs", "status", "shop"]).ok();
    for word in ["shop", "2026-03-01 14:00:00 UTC", "slices"] {
        assert!(status.stdout.contains(word), "{word}: {}", status.text());
    }
    assert!(!status.stdout.contains("me@here"), "the capture was stopped: {}", status.text());
    assert!(
        status.stderr.contains("the log of job shop is missing from 2026-03-01 12:00:00 UTC (@3)"),
        "{}",
        status.text()
    );
    let json = env.run(&["logs", "status", "shop", "--json"]).ok().json();
    let log = &json["logs"][0];
    assert!(
        log["position"]["offset"].as_u64() > Some(4) && log["waiting_slices"].as_u64() > Some(1),
        "{json}"
    );
    assert_eq!(
        (&log["time"], &log["gaps"][0]["from"]),
        (&"2026-03-01T14:00:00Z".into(), &3.into()),
        "{json}"
    );
    assert!(log["lag_seconds"].as_u64() > Some(0), "{json}");
    assert_eq!((&log["capturing"], &log["holder"]), (&false.into(), &"me@here".into()), "{json}");

    let timeline = env.run(&["timeline", "shop"]).ok();
    for word in ["@1 to @3", "Gaps:", "from 2026-03-01 12:00:00 UTC (@3)", "full", "Latest moment"]
    {
        assert!(timeline.stdout.contains(word), "{word}: {}", timeline.text());
    }
    let json = env.run(&["timeline", "shop", "--json"]).ok().json();
    assert_eq!(
        (&json["ranges"][0]["from"], &json["ranges"][0]["to"]),
        (&1.into(), &3.into()),
        "{json}"
    );
    assert_eq!(json["latest"]["position"]["offset"], 3, "{json}");
}

#[tokio::test]
async fn moments_that_cannot_be_restored_are_refused_with_the_nearest() {
    let mut env = Env::new();
    logged(&mut env).await;
    let restore = |at: &str| env.run(&["restore", "--at", at, "--target", "out", "--dry-run"]);
    env.run(&["restore", "--at", "@4", "--target", "out"]).snapshot("restore_at_gap");
    assert_eq!(restore("2026-03-01 13:30").code, 1);
    let events = env.run(&["restore", "--at", "@4", "--target", "out", "--json"]).events();
    let refused = events.iter().find(|event| event["event"] == "refused").unwrap();
    assert_eq!(refused["before"][0]["offset"], 3, "{refused}");
    assert_eq!(restore("soon").snapshot("restore_at_no_moment").code, 2);
    // What can be planned is for a kind of source that only tests know.
    for at in ["latest", "@2"] {
        let run = restore(at);
        assert!(
            run.code == 2 && run.stderr.contains("cannot restore snapshots of"),
            "{at}: {}",
            run.text()
        );
    }
    assert!(!env.path("out").exists());
}

#[test]
fn jobs_without_a_log() {
    let env = Env::configured(CONFIG);
    env.run(&["run", "-q", "docs"]).ok();
    assert_eq!(env.run(&["logs", "follow", "docs"]).snapshot("logs_follow_without_log").code, 2);
    assert_eq!(env.run(&["logs", "roll-up", "docs"]).snapshot("logs_roll_up_without_log").code, 2);
    assert_eq!(env.run(&["logs", "status", "docs"]).code, 2);
    env.run(&["logs", "status"]).ok().snapshot("logs_status_of_nothing");
    assert_eq!(env.run(&["logs", "status", "--json"]).ok().json()["logs"], serde_json::json!([]));
    assert_eq!(env.run(&["timeline", "docs"]).code, 2);
    assert_eq!(env.run(&["timeline", "dosc"]).snapshot("timeline_of_no_job").code, 2);
    assert_eq!(env.run(&["logs", "follow", "dosc"]).snapshot("logs_follow_unknown_job").code, 2);
    let restore = ["restore", "latest", "--target", "out", "--at"];
    assert_eq!(
        env.run(&[&restore[..], &["latest"]].concat()).snapshot("restore_at_without_log").code,
        2
    );
    assert_eq!(
        env.run(&["restore", "--target", "out", "--at", "latest"])
            .snapshot("restore_at_nothing")
            .code,
        2
    );
    assert!(!env.path("out").exists());
    env.write("backup.toml", &format!("{CONFIG}logs = {{ flush_after = \"2s\" }}\n"));
    assert_eq!(env.run(&["config", "check"]).snapshot("config_logs_of_files").code, 2);
}
