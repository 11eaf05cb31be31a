//! What must be found, and what must not.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use backup_core::maintenance::Anchor;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::machine::Machine;

fn machine() -> Machine {
    Machine { host: "host".into(), user: "me".into(), zone: crate::zone::Zone::UTC }
}

fn start() -> Timestamp {
    "2026-03-01T12:00:00.123Z".parse().unwrap()
}

fn record(number: i64) -> Record {
    let class = Class::ALL[usize::try_from(number).unwrap() % 3];
    let now = start() + SignedDuration::from_hours(24 * number);
    let operation = ["backup", "restore", "key add"][usize::try_from(number).unwrap() % 3];
    Record::new(operation, class, Status::Success, &machine(), now)
        .with("job", format!("job-{number}"))
}

fn filled(dir: &Path, records: i64) -> (Audit, Head) {
    let audit = Audit::in_state(dir);
    let mut head = None;
    for number in 0..records {
        head = Some(audit.append(record(number), &machine()).unwrap().head);
    }
    (audit, head.unwrap())
}

fn anchor(audit: &Audit, head: &Head) -> Anchor {
    let Head { chain, sequence, hash } = head.clone();
    let (host, place) = ("host".to_owned(), audit.path().display().to_string());
    Anchor { chain, sequence, hash, time: start(), host, place }
}

fn lines(audit: &Audit) -> Vec<String> {
    std::fs::read_to_string(audit.path()).unwrap().lines().map(str::to_owned).collect()
}

fn write(audit: &Audit, lines: &[String]) {
    std::fs::write(audit.path(), lines.iter().map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
}

fn against(anchors: &[Anchor]) -> Against<'_> {
    Against { anchors, host: "host", keep: None }
}

fn whats(audit: &Audit, anchors: &[Anchor]) -> Vec<String> {
    audit
        .verify(against(anchors))
        .unwrap()
        .findings
        .into_iter()
        .map(|finding| finding.what)
        .collect()
}

#[test]
fn what_is_recorded_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, head) = filled(&dir.path().join("state"), 9);
    let verdict = audit.verify(against(&[anchor(&audit, &head)])).unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
    assert_eq!((verdict.lines, verdict.anchored, verdict.head), (10, Some(10), Some(head.hash)));
    let found = |filter: Filter| audit.read(&filter).unwrap().records.len();
    assert_eq!(found(Filter::default()), 10);
    assert_eq!(found(Filter { operation: Some("key".into()), ..Filter::default() }), 3);
    assert_eq!(found(Filter { operation: Some("ke".into()), ..Filter::default() }), 0);
    assert_eq!(found(Filter { user: Some("you".into()), ..Filter::default() }), 0);
    assert_eq!(
        found(Filter {
            since: Some(start() + SignedDuration::from_hours(48)),
            ..Filter::default()
        }),
        7
    );
    assert_eq!(found(Filter { limit: Some(4), ..Filter::default() }), 4);
    let json: serde_json::Value = serde_json::from_str(&lines(&audit)[1]).unwrap();
    for (field, value) in
        [("operation", "backup"), ("user", "me"), ("status", "success"), ("class", "operation")]
    {
        assert_eq!(json[field], value);
    }
    assert_eq!(json["timestamp"], "2026-03-01T12:00:00.123Z");
    assert_eq!(json["details"]["job"], "job-0");
    let mode = std::fs::metadata(audit.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn every_change_of_every_line_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, head) = filled(dir.path(), 6);
    let (whole, anchors) = (lines(&audit), [anchor(&audit, &head)]);
    for at in 0..whole.len() {
        let mut removed = whole.clone();
        removed.remove(at);
        write(&audit, &removed);
        assert!(!whats(&audit, &anchors).is_empty(), "line {at} removed");
        for (from, to) in [
            ("\"me\"", "\"us\""),
            ("success", "failure"),
            ("2026", "2025"),
            ("\"host\":", "\"host\" :"),
            ("{\"sequence\"", "{\"note\":1,\"sequence\""),
        ] {
            let mut edited = whole.clone();
            edited[at] = edited[at].replacen(from, to, 1);
            assert_ne!(edited[at], whole[at]);
            write(&audit, &edited);
            assert!(!whats(&audit, &[]).is_empty(), "line {at} edited: {to}");
        }
        let mut doubled = whole.clone();
        doubled.insert(at, whole[at].clone());
        write(&audit, &doubled);
        assert!(!whats(&audit, &[]).is_empty(), "line {at} doubled");
        if at > 0 {
            let mut swapped = whole.clone();
            swapped.swap(at - 1, at);
            write(&audit, &swapped);
            assert!(!whats(&audit, &[]).is_empty(), "lines before {at} swapped");
        }
    }
}

#[test]
fn what_is_cut_off_or_written_anew_is_found_by_anchors() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, head) = filled(dir.path(), 6);
    let (whole, anchors) = (lines(&audit), [anchor(&audit, &head)]);
    write(&audit, &whole[..4]);
    assert_eq!(whats(&audit, &[]), Vec::<String>::new(), "a shorter chain is a chain");
    let found = whats(&audit, &anchors);
    assert!(found[0].contains("records 5 to 7 existed"), "{found:?}");
    // Somebody goes on from there, as if nothing had been.
    for number in 10..13 {
        audit.append(record(number), &machine()).unwrap();
    }
    let found = whats(&audit, &anchors);
    assert!(found[0].contains("record 7 or an earlier one was changed after"), "{found:?}");
    // The whole file is gone, and another begun.
    std::fs::remove_file(audit.path()).unwrap();
    assert!(whats(&audit, &anchors)[0].contains("is missing"));
    audit.append(record(1), &machine()).unwrap();
    assert!(whats(&audit, &anchors)[0].contains("had 7 records"));
    // Anchors of other hosts and other files say nothing about this one.
    let other = Anchor { host: "other".into(), ..anchors[0].clone() };
    assert!(whats(&audit, &[other]).is_empty());
}

#[test]
fn what_is_removed_when_its_time_is_over_breaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, head) = filled(dir.path(), 30);
    let anchors = [anchor(&audit, &head)];
    let now = start() + SignedDuration::from_hours(24 * 31);
    let days = |days: i64| start() + SignedDuration::from_hours(24 * days);
    let cut_offs = BTreeMap::from([(Class::Operation, days(20)), (Class::Access, days(10))]);
    let retained = audit.retain(&cut_offs, &machine(), now).unwrap();
    assert_eq!(retained.expired, 7 + 3);
    assert_eq!(
        audit.retain(&cut_offs, &machine(), now).unwrap(),
        Retained::default(),
        "once is enough"
    );
    assert_eq!(whats(&audit, &anchors), Vec::<String>::new());
    // A policy that allows that, one that keeps some of it, and one that keeps more.
    let under = |keep: &BTreeMap<Class, Timestamp>| {
        let verdict = audit.verify(Against { keep: Some(keep), ..against(&anchors) }).unwrap();
        verdict.findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>()
    };
    assert_eq!(under(&cut_offs), Vec::<String>::new());
    let shorter = under(&BTreeMap::from([(Class::Operation, days(20)), (Class::Access, days(9))]));
    assert!(shorter.len() == 1 && shorter[0].contains("access records"), "{shorter:?}");
    assert_eq!(under(&BTreeMap::new()).len(), 2);
    let found = audit.read(&Filter::default()).unwrap();
    assert_eq!((found.records.len(), found.expired), (32 - 10, 10));
    let text = std::fs::read_to_string(audit.path()).unwrap();
    assert!(
        !text.contains("\"job-0\"") && text.contains("\"job-2\"") && text.contains("\"job-21\"")
    );
    // What is said to be over and is not is found.
    let mut whole = lines(&audit);
    let at = whole.iter().position(|line| line.contains("job-21")).unwrap();
    let line = super::line::Line::parse(whole[at].as_bytes()).unwrap();
    whole[at] = serde_json::to_string(&line.expire()).unwrap();
    write(&audit, &whole);
    assert!(whats(&audit, &anchors)[0].contains("removed before its retention ended"));
}

/// Ninety days, twelve months and seven years, from a configuration.
#[test]
fn audit_classes_expire_separately() {
    let text = "[audit.keep]\noperation = \"90d\"\naccess = \"12mo\"\ncompliance = \"7y\"\n";
    let env = crate::environment::Environment::default();
    let config = crate::config::parse(text, Path::new("/backup.toml"), &env).unwrap();
    let now: Timestamp = "2026-11-26T12:00:00Z".parse().unwrap();
    let cut_offs = config.audit.keep.unwrap().cut_offs(now, &jiff::tz::TimeZone::UTC).unwrap();
    // The day before the end of each retention, and the day after.
    let times = [
        ("2019-11-25T12:00:00Z", "compliance", false),
        ("2019-11-27T12:00:00Z", "compliance", true),
        ("2025-11-25T12:00:00Z", "access", false),
        ("2025-11-27T12:00:00Z", "access", true),
        ("2025-11-27T12:00:00Z", "compliance", true),
        ("2026-08-27T12:00:00Z", "operation", false),
        ("2026-08-29T12:00:00Z", "operation", true),
        ("2026-08-27T12:00:00Z", "access", true),
    ];
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::in_state(dir.path());
    for (number, (time, class, _)) in times.iter().enumerate() {
        let class = Class::ALL.into_iter().find(|known| known.as_str() == *class).unwrap();
        let record = Record::new("test", class, Status::Success, &machine(), time.parse().unwrap());
        audit.append(record.with("number", number.to_string()), &machine()).unwrap();
    }
    assert_eq!(audit.retain(&cut_offs, &machine(), now).unwrap().expired, 3);
    let found = audit.read(&Filter::default()).unwrap();
    let kept: Vec<String> =
        found.records.iter().filter_map(|record| record.details.get("number").cloned()).collect();
    let expected = times.iter().enumerate().filter(|(_, (_, _, stays))| *stays);
    assert_eq!(kept, expected.map(|(number, _)| number.to_string()).collect::<Vec<_>>());
    assert!(whats(&audit, &[]).is_empty(), "the chain holds");
}

/// Days of commands; true if the old record is still there after them.
#[test]
fn audit_log_survives_a_jump_of_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::in_state(dir.path());
    let time = |text: &str| format!("{text}T12:00:00Z").parse::<Timestamp>().unwrap();
    let old = Record::new("old", Class::Access, Status::Success, &machine(), time("2026-10-01"));
    audit.append(old, &machine()).unwrap();
    for (day, is_kept) in [
        ("2026-11-01", true),
        // Eight years ahead, for two days; then right again.
        ("2034-11-02", true),
        ("2034-11-03", true),
        ("2026-11-04", true),
        ("2034-11-05", true),
        // The machine was off for eight years: after 32 days it is certain.
        ("2034-11-20", true),
        ("2034-12-08", false),
    ] {
        let year_before = time(day) - SignedDuration::from_hours(365 * 24);
        let cut_offs = [(Class::Access, year_before)].into();
        audit.retain_daily(&cut_offs, &machine(), time(day)).unwrap();
        let found = audit.read(&Filter::default()).unwrap();
        let is_there = found.records.iter().any(|record| record.operation == "old");
        assert_eq!(is_there, is_kept, "{day}");
    }
}

#[test]
fn writers_keep_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let audit = Audit::in_state(dir.path());
            scope.spawn(move || {
                for number in 0..25 {
                    audit.append(record(writer * 25 + number), &machine()).unwrap();
                }
            });
        }
    });
    let verdict = Audit::in_state(dir.path()).verify(against(&[])).unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
    assert_eq!(verdict.lines, 201);
}

#[test]
fn what_a_dying_writer_leaves_and_what_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _) = filled(dir.path(), 3);
    let whole = std::fs::read(audit.path()).unwrap();
    // A piece of a line is no record.
    std::fs::write(audit.path(), [&whole[..], &whole[..40]].concat()).unwrap();
    assert!(audit.append(record(4), &machine()).unwrap().put_aside.is_none());
    assert_eq!(whats(&audit, &[]), Vec::<String>::new());
    // Behind what is no line nothing can be written: it is put aside, and that is said.
    std::fs::write(audit.path(), [&whole[..], b"nonsense\n"].concat()).unwrap();
    assert!(!whats(&audit, &[]).is_empty());
    let appended = audit.append(record(5), &machine()).unwrap();
    let aside = appended.put_aside.unwrap();
    assert!(std::fs::read(&aside).unwrap().ends_with(b"nonsense\n"));
    let records = audit.read(&Filter::default()).unwrap().records;
    assert_eq!(records[0].details["after"], aside.display().to_string());
    // What lies aside is looked at too, and what is wrong with it stays wrong.
    let found = whats(&audit, &[]);
    assert!(
        found.len() == 1 && found[0].contains("damaged-") && found[0].contains("not a line"),
        "{found:?}"
    );
}

#[test]
fn a_record_that_allows_too_much_allows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, head) = filled(dir.path(), 12);
    let anchors = [anchor(&audit, &head)];
    let now = start() + SignedDuration::from_hours(24 * 13);
    let forged = Record::new("audit retain", Class::Compliance, Status::Success, &machine(), now);
    let forged = Class::ALL
        .into_iter()
        .fold(forged, |record, class| record.with(class.as_str(), "2100-01-01T00:00:00Z"));
    audit.append(forged, &machine()).unwrap();
    let mut whole = lines(&audit);
    let line = super::line::Line::parse(whole[5].as_bytes()).unwrap();
    whole[5] = serde_json::to_string(&line.expire()).unwrap();
    write(&audit, &whole);
    let found = whats(&audit, &anchors);
    assert!(
        found.iter().any(|what| what.contains("removed before its retention ended")),
        "{found:?}"
    );
    // Nor does one that comes before it.
    let other = tempfile::tempdir().unwrap();
    let (audit, _) = filled(other.path(), 3);
    let early = Record::new("audit retain", Class::Compliance, Status::Success, &machine(), now);
    audit
        .append(
            early.with("operation", (start() + SignedDuration::from_hours(24 * 9)).to_string()),
            &machine(),
        )
        .unwrap();
    audit.append(record(3), &machine()).unwrap();
    let mut whole = lines(&audit);
    let last = super::line::Line::parse(whole.last().unwrap().as_bytes()).unwrap();
    *whole.last_mut().unwrap() = serde_json::to_string(&last.expire()).unwrap();
    write(&audit, &whole);
    assert!(whats(&audit, &[])[0].contains("removed before its retention ended"));
}

#[test]
fn details_are_bounded() {
    let mut long = record(1).with("error", "ä".repeat(5000)).with("none", "");
    for number in 0..100 {
        long = long.with(&format!("more-{number}"), "x");
    }
    assert!(long.details["error"].len() < 4200 && long.details["error"].ends_with("ä…"));
    assert_eq!(long.details.len(), 24);
}
