//! The report of a made-up year, right to the unit.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::audit::{Class, Record, Status};
use crate::config::{self, Config};
use crate::disk::Medium;
use crate::environment::Environment;
use crate::machine::Machine;
use crate::notify::Channels;
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

pub(super) fn channels(config: &Config) -> Channels {
    Channels::new(config, &Environment::default()).unwrap()
}

fn machine() -> Machine {
    Machine { host: "db1".into(), user: "backup".into(), zone: crate::zone::Zone::UTC }
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
    run.evidence.snapshot = Some(id(day));
    if day % 50 == 49 {
        (run.state, run.evidence.stored_bytes) = (State::Failed, 0);
        run.evidence.snapshot = None;
        let message = format!("no room <b>on</b> day {day} | \"quoted\"");
        run.evidence.failure = Some(Failure { message, hint: None });
    }
    if day == 200 {
        run.state = State::Cancelled;
    }
    run
}

/// The name of the snapshot of a day.
fn id(day: i64) -> String {
    format!("{:08x}{}", 0xa000_0000 + day, "0".repeat(56))
}

fn snapshot(job: &str, day: i64) -> SnapshotGiven {
    let time = start() + SignedDuration::from_hours(24 * day + 2);
    SnapshotGiven { id: id(day), origin: id(day), job: job.to_owned(), time }
}

fn disk(name: &str) -> Medium {
    let file_system = name.bytes().map(u64::from).sum();
    Medium::Disks { file_system, disks: [name.to_owned()].into() }
}

fn restored(job: &str, hour: i64, of: i64) -> Run {
    let started = start() + SignedDuration::from_hours(hour);
    let mut run = Run::new(What::Restore, job, "/repo", &machine(), started);
    (run.state, run.finished) = (State::Completed, Some(started + SignedDuration::from_mins(30)));
    (run.evidence.subject, run.evidence.bytes) = ("/restored".to_owned(), 1041);
    (run.evidence.snapshot, run.evidence.is_whole) = (Some(id(of)), Some(true));
    run.id = serde_json::from_str("\"20250211-160000-abcdef\"").unwrap();
    run
}

fn record(operation: &str, hours: i64) -> Record {
    let now = start() + SignedDuration::from_hours(hours);
    Record::new(operation, Class::Operation, Status::Success, &machine(), now)
        .with("repository", "/repo")
}

pub(super) fn given<'a>(config: &'a Config, channels: &'a Channels) -> Given<'a> {
    let mut runs: Vec<Run> = (0..365).map(backup).collect();
    runs.push(restored("docs", 1000, 41));
    let records = vec![
        record("check", 8740).with("data", "all"),
        record("copy", 8745).with("to", "s3://bucket/offsite"),
        record("cleanup", 8750).with("jobs", "docs"),
        record("key rotate", 8755),
    ];
    // A week is kept, and all of it is copied: under names of its own.
    let kept: Vec<SnapshotGiven> = (358..365).map(|day| snapshot("docs", day)).collect();
    let copied = kept
        .iter()
        .map(|snapshot| SnapshotGiven { id: snapshot.id.replace("a0", "c0"), ..snapshot.clone() });
    let main = RepositoryGiven {
        place: "/repo".to_owned(),
        id: Some("1".repeat(64)),
        medium: disk("sdb"),
        key: KeyGiven::File("/key".into(), disk("sda")),
        snapshots: Some(kept.clone()),
        used: Some(3 << 30),
        left: Some(5 << 30),
        ..RepositoryGiven::default()
    };
    let offsite = RepositoryGiven {
        place: "s3://bucket/offsite".to_owned(),
        id: Some("2".repeat(64)),
        medium: Medium::Store,
        key: KeyGiven::Variable("OFFSITE".to_owned()),
        snapshots: Some(copied.collect()),
        used: Some(10 << 30),
        ..main.clone()
    };
    Given {
        config,
        channels,
        from: start(),
        to: start() + SignedDuration::from_hours(24 * 365),
        zone: TimeZone::UTC,
        host: "db1".to_owned(),
        runs,
        before: BTreeMap::new(),
        records,
        audit: AuditGiven { is_whole: Some(true), since: Some(start()), confirmed: Some(4) },
        repositories: [("main".to_owned(), main), ("offsite".to_owned(), offsite)].into(),
    }
}

/// The verdict on a job or repository for a demand, and the evidence.
fn found(given: &Given<'_>, demand: &str, subject: &str) -> (Met, String) {
    let report = Report::of(given);
    let check = report.checklist.iter().find(|check| check.demand.contains(demand)).unwrap();
    let of_it = check.subjects.iter().find(|known| known.subject == subject);
    let of_it = of_it.unwrap_or_else(|| panic!("{subject} is not in {check:?}"));
    assert!(of_it.met <= check.met, "a demand is met as the worst of its subjects: {check:?}");
    (of_it.met, of_it.evidence.clone())
}

#[test]
fn figures_are_right_to_the_unit() {
    let config = config();
    let report = Report::of(&given(&config, &channels(&config)));
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
    // Day 199 failed, and day 200 was stopped; the backup of day 201 took two minutes.
    let worst = 72 * 3600 + 120;
    assert_eq!((docs.rpo_seconds, docs.rpo_measured_seconds), (Some(26 * 3600), Some(worst)));
    assert_eq!((docs.rto_seconds, docs.rto_measured_seconds), (Some(3600), Some(1800)));
    assert_eq!((docs.copies, docs.is_offsite), (Some(3), true));
    let read: u64 =
        (0..365_u64).filter(|day| day % 50 != 49 && *day != 200).map(|day| 1000 + day).sum();
    assert_eq!(docs.ratio, Some(read as f64 / 35_800.0));
    let idle = &report.jobs[1];
    assert_eq!(
        (idle.backups, idle.success_rate, idle.last_success, idle.copies),
        (0, None, None, Some(1))
    );
    assert_eq!(report.days.len(), 366, "the last day has begun");
    assert_eq!(report.days.iter().map(|day| day.succeeded).sum::<u64>(), 357);
    let of = |met| -> Vec<&str> {
        let checks = report.checklist.iter().filter(|check| check.met == met);
        checks.map(|check| check.demand).collect()
    };
    assert_eq!(
        of(Met::Yes),
        ["Restores are within their target (RTO)", "Backups are encrypted", "Access is logged"]
    );
    assert_eq!(of(Met::NotKnown), ["Keys are kept apart"]);
    assert_eq!(of(Met::ByHand).len(), 3);
    assert_eq!(of(Met::No).len(), 8, "the job `idle` has no backup");
}

#[test]
fn copies_are_counted_for_each_snapshot() {
    let config = config();
    let channels = channels(&config);
    let mut given = given(&config, &channels);
    let (met, evidence) = found(&given, "3-2-1", "docs");
    assert!(met == Met::Yes && evidence.contains("each in main, offsite"), "{evidence}");
    // One of them was not copied.
    let offsite = given.repositories.get_mut("offsite").unwrap();
    offsite.snapshots.as_mut().unwrap().retain(|snapshot| snapshot.origin != id(360));
    let (met, evidence) = found(&given, "3-2-1", "docs");
    assert!(met == Met::No && evidence.ends_with(&id(360)[..8]), "{evidence}");
    assert_eq!(Report::of(&given).jobs[0].copies, Some(2));
    // The repository with the copy is away.
    given.repositories.get_mut("offsite").unwrap().snapshots = None;
    assert_eq!(found(&given, "3-2-1", "docs").0, Met::NotKnown);
}

#[test]
fn repositories_on_one_disk_are_one_copy() {
    let config = config();
    let channels = channels(&config);
    let mut given = given(&config, &channels);
    for (medium, copies) in [(disk("sdc"), 3), (disk("sdb"), 2), (Medium::Unknown, 2)] {
        given.repositories.get_mut("offsite").unwrap().medium = medium;
        let docs = &Report::of(&given).jobs[0];
        assert_eq!((docs.copies, docs.is_offsite), (Some(copies), false));
    }
}

#[test]
fn restores_count_for_their_own_job() {
    let config = config();
    let channels = channels(&config);
    let mut given = given(&config, &channels);
    let (met, evidence) = found(&given, "Restores are tested", "docs");
    assert!(met == Met::Yes && evidence.contains(&id(41)[..8]), "{evidence}");
    assert_eq!(found(&given, "Restores are tested", "idle").0, Met::No);
    // One that lacks entries is no test.
    let restore = given.runs.last_mut().unwrap();
    restore.evidence.warnings = 1;
    assert_eq!(found(&given, "Restores are tested", "docs").0, Met::No);
    // The duration of a part is not that of the whole.
    let restore = given.runs.last_mut().unwrap();
    (restore.evidence.warnings, restore.evidence.is_whole) = (0, Some(false));
    assert_eq!(found(&given, "Restores are tested", "docs").0, Met::Yes);
    assert_eq!(found(&given, "(RTO)", "docs").0, Met::NotKnown);
    given.runs.last_mut().unwrap().evidence.is_whole = None;
    assert_eq!(found(&given, "(RTO)", "docs").0, Met::NotKnown, "older runs do not tell");
}

#[test]
fn data_loss_is_the_worst_of_the_period() {
    let config = config();
    let channels = channels(&config);
    let mut given = given(&config, &channels);
    let day = |day: i64| start() + SignedDuration::from_hours(24 * day);
    given.runs.clear();
    // A captured log that is complete but for two days in the middle of the year.
    let main = given.repositories.get_mut("main").unwrap();
    let spans = vec![(day(-3), day(100)), (day(102), given.to)];
    main.restorable.insert("docs".to_owned(), spans);
    given.before.insert("docs".to_owned(), day(-4));
    let lost = |given: &Given<'_>| {
        let docs = Report::of(given).jobs.remove(0);
        (docs.rpo_measured_seconds, docs.rpo_known_since)
    };
    assert_eq!(lost(&given), (Some(2 * 86_400), None));
    assert_eq!(found(&given, "(RPO)", "docs").0, Met::No);
    // A backup in the gap that took an hour.
    let mut run = Run::new(What::Backup, "docs", "/repo", &machine(), day(101));
    (run.state, run.finished) = (State::Verified, Some(day(101) + SignedDuration::from_hours(1)));
    given.runs.push(run);
    assert_eq!(lost(&given), (Some(25 * 3600), None));
    assert_eq!(found(&given, "(RPO)", "docs").0, Met::Yes);
    // Nothing is known of the time before the first backup.
    given.before.clear();
    let spans = vec![(day(10), given.to)];
    given.repositories.get_mut("main").unwrap().restorable.insert("docs".to_owned(), spans);
    assert_eq!(lost(&given), (Some(0), Some(day(10))));
    assert_eq!(found(&given, "(RPO)", "docs").0, Met::NotKnown);
    // Nothing can be restored.
    given.runs.clear();
    given.repositories.get_mut("main").unwrap().restorable.clear();
    assert_eq!(lost(&given), (None, None));
    assert_eq!(found(&given, "(RPO)", "docs").0, Met::No);
}

#[test]
fn keys_on_the_disk_of_the_repository_are_not_apart() {
    let config = config();
    let channels = channels(&config);
    let mut given = given(&config, &channels);
    let keys = |given: &Given<'_>| found(given, "Keys are kept apart", "main").0;
    assert_eq!(keys(&given), Met::Yes);
    for (medium, met) in [(disk("sdb"), Met::No), (Medium::Unknown, Met::NotKnown)] {
        given.repositories.get_mut("main").unwrap().key = KeyGiven::File("/key".into(), medium);
        assert_eq!(keys(&given), met);
    }
    given.repositories.get_mut("main").unwrap().key = KeyGiven::Unnamed;
    assert_eq!(keys(&given), Met::No);
    given.repositories.get_mut("main").unwrap().id = None;
    assert_eq!(found(&given, "encrypted", "main").0, Met::NotKnown);
}

#[test]
fn verifications_count_for_the_snapshots_read() {
    let config = config();
    let channels = channels(&config);
    let mut given = given(&config, &channels);
    let verified = |given: &Given<'_>| found(given, "Backups are verified", "docs");
    assert_eq!(verified(&given).0, Met::Yes);
    let only = |record: Record| vec![record];
    // It reads no data, a part of it, data of another job, or another repository.
    let verify = |ids: String| record("verify", 8740).with("snapshots", ids);
    for records in [
        record("check", 8740),
        record("check", 8740).with("data", "1/12"),
        verify("deadbeef".to_owned()),
        verify(id(360)[..8].to_owned()).with("repository", "/elsewhere"),
        // Nothing of the job was there yet.
        record("check", 10).with("data", "all"),
    ]
    .map(only)
    {
        given.records = records;
        assert_eq!(verified(&given).0, Met::No, "{:?}", given.records);
    }
    given.records = only(verify(format!("deadbeef {}", &id(360)[..8])));
    let (met, evidence) = verified(&given);
    assert!(met == Met::Yes && evidence.contains(&id(360)[..8]), "{evidence}");
}

#[test]
fn cleanups_and_rules_count_for_their_own_jobs() {
    const RULES: &str = r#"
[notify.mail]
kind = "command"
command = "true"
[alerts.idle]
condition = "failure"
severity = "high"
only = ["id*"]
"#;
    let config = config::parse(
        &format!("{CONFIG}{RULES}"),
        std::path::Path::new("/backup.toml"),
        &Environment::default(),
    )
    .unwrap();
    let channels = channels(&config);
    let mut given = given(&config, &channels);
    let (met, evidence) = found(&given, "Failures are reported", "idle");
    assert!(met == Met::Yes && evidence == "rule idle through mail", "{evidence}");
    assert_eq!(found(&given, "Failures are reported", "docs").0, Met::No);
    let enforced = |given: &Given<'_>, job: &str| found(given, "Retention", job).0;
    assert_eq!((enforced(&given, "docs"), enforced(&given, "idle")), (Met::Yes, Met::No));
    // As records were before they named jobs.
    given.records = vec![record("cleanup", 8750)];
    assert_eq!(enforced(&given, "docs"), Met::NotKnown);
    // It does not count that an earlier one succeeded.
    let failed = Record { status: Status::Failure, ..record("cleanup", 8755) };
    given.records =
        vec![record("cleanup", 8750).with("jobs", "docs"), failed.with("jobs", "idle docs")];
    assert_eq!(enforced(&given, "docs"), Met::No);
}

#[test]
fn audit_log_has_to_cover_the_period_and_be_confirmed() {
    let config = config();
    let channels = channels(&config);
    let mut given = given(&config, &channels);
    let mut logged = |audit: AuditGiven| {
        given.audit = audit;
        let report = Report::of(&given);
        report.checklist.iter().find(|check| check.demand == "Access is logged").unwrap().met
    };
    let sound = AuditGiven { is_whole: Some(true), since: Some(start()), confirmed: Some(4) };
    let later = Some(start() + SignedDuration::from_hours(1));
    assert_eq!(logged(sound.clone()), Met::Yes);
    assert_eq!(logged(AuditGiven { since: later, ..sound }), Met::NotKnown);
    assert_eq!(logged(AuditGiven { confirmed: None, ..sound }), Met::NotKnown);
    assert_eq!(logged(AuditGiven { is_whole: None, ..sound }), Met::NotKnown);
    assert_eq!(logged(AuditGiven { is_whole: Some(false), ..sound }), Met::No);
}

#[test]
fn as_text_and_as_a_page() {
    let config = config();
    let report = Report::of(&given(&config, &channels(&config)));
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
    let channels = channels(&config);
    let empty = Given {
        runs: Vec::new(),
        records: Vec::new(),
        repositories: BTreeMap::new(),
        ..given(&config, &channels)
    };
    let report = Report::of(&empty);
    assert_eq!((report.totals.success_rate, report.totals.cost_per_month), (None, None));
    assert!(markdown(&report).contains("no backup finished"));
    assert!(html(&report).contains("no backup finished"));
}
