//! The report of a made-up year, right to the unit.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::audit::{Class, Record, Status};
use crate::config::{self, Config};
use crate::environment::Environment;
use crate::machine::Machine;
use crate::runs::{Failure, Run, State, What};

const CONFIG: &str = r#"
[repositories.main]
url = "/repo"
passphrase_file = "/key"

[repositories.offsite]
url = "s3://bucket/offsite"
passphrase_env = "OFFSITE"

[sources.data]
kind = "files"
paths = ["/data"]

[jobs.docs]
source = "data"
repository = "main"
rpo = "26h"
rto = "1h"
keep = { daily = 7 }

[jobs.idle]
source = "data"
repository = "offsite"
keep = { daily = 7 }

[report]
currency = "EUR"
prices = { main = 0.5, offsite = 0.02 }
"#;

pub(super) fn config() -> Config {
    config::parse(CONFIG, std::path::Path::new("/backup.toml"), &Environment::default()).unwrap()
}

fn machine() -> Machine {
    Machine { host: "db1".into(), user: "backup".into(), time_zone: TimeZone::UTC }
}

fn start() -> Timestamp {
    "2025-01-01T00:00:00Z".parse().unwrap()
}

/// A backup each day at 2, which takes (day % 10 + 1) minutes; every 50th fails, and one is
/// stopped.
fn backup(day: i64) -> Run {
    let started = start() + SignedDuration::from_hours(24 * day + 2);
    let mut run = Run::new(What::Backup, "docs", "/repo", &machine(), started);
    run.finished = Some(started + SignedDuration::from_mins(day % 10 + 1));
    (run.evidence.bytes, run.evidence.stored_bytes) = (1000 + u64::try_from(day).unwrap(), 100);
    run.state = State::Verified;
    if day % 50 == 49 {
        (run.state, run.evidence.stored_bytes) = (State::Failed, 0);
        let message = format!("no room <b>on</b> day {day} | \"quoted\"");
        run.evidence.failure = Some(Failure { message, hint: None });
    }
    if day == 200 {
        run.state = State::Cancelled;
    }
    run
}

pub(super) fn given(config: &Config) -> Given<'_> {
    let mut runs: Vec<Run> = (0..365).map(backup).collect();
    let mut restore = Run::new(
        What::Restore,
        "docs",
        "/repo",
        &machine(),
        start() + SignedDuration::from_hours(1000),
    );
    (restore.state, restore.finished) =
        (State::Completed, Some(restore.started + SignedDuration::from_mins(30)));
    (restore.evidence.subject, restore.evidence.bytes) = ("/restored".to_owned(), 1041);
    restore.id = serde_json::from_str("\"20250211-160000-abcdef\"").unwrap();
    runs.push(restore);
    let record = |operation: &str, hours: i64| {
        let now = start() + SignedDuration::from_hours(hours);
        Record::new(operation, Class::Operation, Status::Success, &machine(), now)
            .with("repository", "/repo")
    };
    let records = vec![
        record("check", 8000),
        record("copy", 8100).with("to", "s3://bucket/offsite"),
        record("cleanup", 8200),
        record("key rotate", 8300),
    ];
    let known = |place: &str, is_local, used| RepositoryGiven {
        place: place.to_owned(),
        is_local,
        used: Some(used),
        left: Some(5 << 30),
        anchors: Vec::new(),
        recovery: BTreeMap::new(),
    };
    Given {
        config,
        from: start(),
        to: start() + SignedDuration::from_hours(24 * 365),
        zone: TimeZone::UTC,
        host: "db1".to_owned(),
        runs,
        before: BTreeMap::new(),
        records,
        audit_is_whole: Some(true),
        repositories: [
            ("main".to_owned(), known("/repo", true, 3 << 30)),
            ("offsite".to_owned(), known("s3://bucket/offsite", false, 10 << 30)),
        ]
        .into(),
    }
}

#[test]
fn figures_are_right_to_the_unit() {
    let config = config();
    let report = Report::of(&given(&config));
    // Days 49, 99, …, 349 failed; day 200 was stopped.
    let totals = &report.totals;
    assert_eq!(
        (totals.backups, totals.succeeded, totals.failed, totals.cancelled),
        (365, 357, 7, 1)
    );
    assert_eq!(totals.success_rate, Some(357.0 / 364.0));
    assert_eq!(totals.stored_bytes, 358 * 100);
    assert_eq!(totals.cost_per_month, Some(3.0 * 0.5 + 10.0 * 0.02));
    let docs = &report.jobs[0];
    assert_eq!((docs.bytes, docs.growth_bytes), (Some(1364), Some(364)));
    assert_eq!(docs.longest_seconds, Some(600));
    let minutes: i64 =
        (0..365).filter(|day| day % 50 != 49 && *day != 200).map(|day| day % 10 + 1).sum();
    assert_eq!(docs.average_seconds, Some(u64::try_from(minutes * 60 / 357).unwrap()));
    // Day 199 failed, and day 200 was stopped.
    assert_eq!((docs.rpo_seconds, docs.rpo_measured_seconds), (Some(26 * 3600), Some(72 * 3600)));
    assert_eq!((docs.rto_seconds, docs.rto_measured_seconds), (Some(3600), Some(1800)));
    assert_eq!((docs.copies, docs.is_offsite), (3, true));
    let read: u64 =
        (0..365_u64).filter(|day| day % 50 != 49 && *day != 200).map(|day| 1000 + day).sum();
    assert_eq!(docs.ratio, Some(read as f64 / 35_800.0));
    let idle = &report.jobs[1];
    assert_eq!(
        (idle.backups, idle.success_rate, idle.last_success, idle.copies),
        (0, None, None, 2)
    );
    assert_eq!(report.days.len(), 366, "the last day has begun");
    assert_eq!(report.days.iter().map(|day| day.succeeded).sum::<u64>(), 357);
    let unmet: Vec<&str> = report
        .checklist
        .iter()
        .filter(|check| check.met == Met::No)
        .map(|check| check.demand)
        .collect();
    assert_eq!(
        unmet,
        [
            "Every job is backed up",
            "Data loss is within its target (RPO)",
            "Three copies, one of them off-site (3-2-1)",
            "Backups are verified",
            "Failures are reported"
        ]
    );
}

#[test]
fn as_text_and_as_a_page() {
    let config = config();
    let report = Report::of(&given(&config));
    insta::assert_snapshot!("year_md", markdown(&report));
    let page = html(&report);
    insta::assert_snapshot!("year_html", page);
    assert!(
        !page.contains("<b>on</b>") && page.contains("&lt;b&gt;on&lt;/b&gt;"),
        "names are no markup"
    );
    for word in ["http://", "https://", "<script", "url("] {
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(word), "{word}");
    }
    // Every element that is opened is closed.
    for element in
        ["html", "head", "body", "table", "tr", "td", "th", "div", "svg", "style", "h2", "p"]
    {
        let opened = page.matches(&format!("<{element}>")).count()
            + page.matches(&format!("<{element} ")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
}

#[test]
fn of_nothing() {
    let config = Config::default();
    let empty = Given {
        runs: Vec::new(),
        records: Vec::new(),
        repositories: BTreeMap::new(),
        ..given(&config)
    };
    let report = Report::of(&empty);
    assert_eq!((report.totals.success_rate, report.totals.cost_per_month), (None, None));
    assert!(markdown(&report).contains("no backup finished"));
    assert!(html(&report).contains("no backup finished"));
}
