//! Messages name the job or repository, the value and the limit.

use super::*;

fn observed(condition: &str, facts: &Facts) -> Observation {
    observe("r", &of(condition), facts, now()).unwrap().remove(0)
}

fn names(condition: &str, facts: &Facts, object: &str, figures: &[&str]) {
    let observed = observed(condition, facts);
    assert!(observed.holds, "{condition}");
    assert!(observed.title.contains(object), "{condition}: {}", observed.title);
    for figure in figures {
        assert!(observed.cause.contains(figure), "{condition}, {figure}: {}", observed.cause);
    }
}

#[test]
fn causes_of_jobs_name_value_and_limit() {
    names("failure", &facts(vec![failed(1)]), "shop", &["no route to db1"]);
    let mut unexplained = failed(1);
    unexplained.evidence.failure = None;
    let id = unexplained.id.to_string();
    names("failure", &facts(vec![unexplained]), "shop", &[&id]);
    let old = facts(vec![run_at(30)]);
    names("stale > 24h", &old, "shop", &["1 d 6 h ago", "limit is 24h"]);
    names("rpo > 1h", &old, "shop", &["last 1 d 6 h", "limit is 1 h"]);
    let mut logged = facts(vec![run_at(1)]);
    let recovery_point = Some(now() - SignedDuration::from_mins(7));
    logged.jobs.get_mut("shop").unwrap().log = Some(LogFacts { recovery_point, gap: Some(now()) });
    names("log_lag > 5min", &logged, "shop", &["7 min ago", "limit is 5min"]);
    names("log_gap", &logged, "shop", &["2026-03-01T12:00:00Z"]);
    let slow = after(5, 600, run(1, 30, State::Verified));
    let figures = ["30 min", "average of 5", "10 min", "limit is 20 min"];
    names("duration > 2x", &slow, "shop", &figures);
    let mut sized = facts(vec![run_at(1)]);
    let sizes = SizeFacts {
        run: "r1".into(),
        bytes: 100,
        usual: 1000,
        backups: 5,
        snapshot: Some("abcdef0123456789".into()),
        since: Some(now()),
    };
    sized.jobs.get_mut("shop").unwrap().sizes.insert("r".into(), sizes);
    let figures = ["100 B", "90% less", "1000 B", "5 usual backups", "limit is 50%"];
    names("size_anomaly > 50%", &sized, "shop", &figures);
    assert!(observed("size_anomaly > 50%", &sized).next.contains("backup diff abcdef01 latest"));
    let idle = with_slot(slot(SlotState::Kept, Some(20)));
    names("slot_unhealthy", &idle, "shop", &["slot crm", "20 min", "limit is 15 min"]);
    names(
        "slot_unhealthy > 9GiB",
        &with_slot(slot(SlotState::Kept, None)),
        "shop",
        &["10.0 GiB", "limit is 9.0 GiB"],
    );
}

fn run_at(hours: i64) -> Run {
    run(hours, 1, State::Verified)
}

#[test]
fn causes_of_repositories_and_the_daemon_name_value_and_limit() {
    let storage = StorageFacts {
        used: 90,
        whole: 100,
        left: 10,
        lasts: Some(Duration::from_secs(3 * 86_400)),
    };
    let full = of_repository(RepositoryFacts { storage: Some(storage), ..Default::default() });
    names(
        "storage_used > 80%",
        &full,
        "90% of repository main",
        &["10 B of 100 B", "limit is 80%"],
    );
    names(
        "storage_free < 20%",
        &full,
        "10% of repository main",
        &["10 B of 100 B", "limit is 20%"],
    );
    names("storage_full < 14d", &full, "repository main will be full in 3 d", &["limit is 14d"]);
    let failed = |operation: &str, to: Option<&str>| {
        Some(Done {
            time: now(),
            is_success: false,
            operation: operation.into(),
            to: to.map(str::to_owned),
            error: "no route".into(),
        })
    };
    let known = RepositoryFacts {
        verified: failed("check", None),
        copied: failed("copy", Some("s3://b/r")),
        last_copy: Some(now() - SignedDuration::from_hours(25)),
        last_success: Some(now()),
        ..Default::default()
    };
    let known = of_repository(known);
    names("verify_failed", &known, "main", &["check at 2026-03-01", "no route"]);
    names("copy_failed", &known, "main", &["copy to s3://b/r at", "no route"]);
    names("copy_lag > 24h", &known, "main", &["1 d 1 h", "limit is 24h"]);
    let at = now() - SignedDuration::from_mins(6);
    let alive = Alive { pid: 7, at, version: "1".into() };
    let silent = Facts { daemon: Some(Some(alive)), ..Facts::default() };
    names("daemon_silent", &silent, "daemon", &["6 min old", "limit is 5 min", "process 7"]);
}

#[test]
fn message_of_a_job_names_repository_and_host() {
    let dir = tempfile::tempdir().unwrap();
    let message = told(dir.path(), &of("failure"), true, 0).remove(0);
    assert_eq!(message.place, "job shop, repository /repo, host host");
}
