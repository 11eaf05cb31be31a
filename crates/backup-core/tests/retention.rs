//! Retention, case by case, and what holds for every policy.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests: what must not happen fails them")]

use std::collections::BTreeSet;

use backup_core::id::SnapshotId;
use backup_core::repository::EffectiveTime;
use backup_core::retention::{
    AnomalyKind, Candidate, Decision, Hold, Keep, Policy, Reason, Rule, anomalies, decide,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use proptest::prelude::*;

fn id(name: &str) -> SnapshotId {
    SnapshotId::digest(name.as_bytes())
}

/// `2026-03-01` is midnight, `2026-03-01T12` is noon, in UTC.
fn moment(text: &str) -> Timestamp {
    let (date, time) = text.split_once('T').unwrap_or((text, "00"));
    // `12`, `12:30` and `12:30:05` are all allowed.
    let rest = &":00:00"[time.len() - 2..];
    format!("{date}T{time}{rest}Z").parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A snapshot:
/// `name time [group=… received=… stored=… unstored end=… adopted size=… tier=… type=… tag=…
/// hold=until|ever needs=name index=… verified]`.
fn candidate(text: &str) -> (String, Candidate) {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap().to_owned();
    let time = moment(words.next().unwrap());
    let (mut stored, mut end) = (Some(time + SignedDuration::from_mins(5)), None);
    let mut is_adopted = false;
    let mut made = Candidate {
        id: id(&name),
        time: EffectiveTime::decide(time, None, None, false),
        index: 0,
        received: Some(time + SignedDuration::from_mins(5)),
        size: None,
        group: "g".to_owned(),
        tier: None,
        kind: Some("full".to_owned()),
        tags: Vec::new(),
        verified: false,
        hold: None,
        needs: Vec::new(),
    };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "group" => made.group = value.to_owned(),
            "received" => made.received = Some(moment(value)),
            "stored" => stored = Some(moment(value)),
            "unstored" => stored = None,
            "end" => end = Some(moment(value)),
            "adopted" => is_adopted = true,
            "size" => made.size = Some(value.parse().unwrap()),
            "tier" => made.tier = Some(value.to_owned()),
            "type" => made.kind = Some(value.to_owned()),
            "tag" => made.tags.push(value.to_owned()),
            "index" => made.index = value.parse().unwrap(),
            "verified" => made.verified = true,
            "hold" => {
                let until = (value != "ever").then(|| moment(value));
                made.hold = Some(Hold { until, reason: "audit".to_owned(), since: time });
            }
            "needs" => made.needs.push(id(value)),
            other => panic!("{other}"),
        }
    }
    made.time = EffectiveTime::decide(time, end, stored, is_adopted);
    (name, made)
}

/// Names of the snapshots that are kept, in the order in which they are given, separated by `;`.
fn kept(zone: &str, policy: &str, snapshots: &str) -> String {
    let zone = TimeZone::get(zone).unwrap();
    let policy: Policy =
        serde_json::from_str(policy).unwrap_or_else(|error| panic!("{policy}: {error}"));
    policy.check().unwrap_or_else(|error| panic!("{policy:?}: {error}"));
    let texts = snapshots.split(';').map(str::trim).filter(|text| !text.is_empty());
    let (names, all): (Vec<String>, Vec<Candidate>) = texts.map(candidate).unzip();
    let decisions = decide(&all, &policy, moment(NOW), &zone);
    let kept = names.iter().zip(&decisions).filter(|(_, decision)| decision.keep());
    kept.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
}

const NOW: &str = "2026-03-31T12";

/// Policy, snapshots, what stays.
type Case = (&'static str, &'static str, &'static str);

const COUNTS: &[Case] = &[
    (r#"{"last":1}"#, "", ""),
    (r#"{"last":1}"#, "a 2026-03-01", "a"),
    (r#"{"last":2}"#, "a 2026-03-01; b 2026-03-02; c 2026-03-03", "b c"),
    // The order in which they are listed means nothing.
    (r#"{"last":2}"#, "c 2026-03-03; a 2026-03-01; b 2026-03-02", "c b"),
    (r#"{"last":9}"#, "a 2026-03-01; b 2026-03-02", "a b"),
    (r#"{"last":"all"}"#, "a 2020-03-01; b 2026-03-02", "a b"),
    // The newest of a period stands for it.
    (r#"{"daily":2}"#, "a 2026-03-01T01; b 2026-03-01T23; c 2026-03-02T01", "b c"),
    // Days without a snapshot do not count.
    (r#"{"daily":2}"#, "a 2026-01-01T01; b 2026-02-01T23; c 2026-03-02T01", "b c"),
    (r#"{"hourly":2}"#, "a 2026-03-01T01:01; b 2026-03-01T01:59; c 2026-03-01T02", "b c"),
    (r#"{"hourly":1}"#, "a 2026-03-01T01:59:59; b 2026-03-01T02", "b"),
    (
        r#"{"weekly":2}"#,
        "a 2026-03-15T12; b 2026-03-16T12; c 2026-03-22T23:59:59; d 2026-03-23",
        "c d",
    ),
    (r#"{"monthly":2}"#, "a 2026-01-31T23:59:59; b 2026-02-01; c 2026-02-28; d 2026-03-01", "c d"),
    (r#"{"yearly":2}"#, "a 2024-12-31; b 2025-01-01; c 2025-12-31T23:59:59; d 2026-01-01", "c d"),
    (r#"{"yearly":"all"}"#, "a 2019-05-01; b 2019-06-01; c 2025-12-31T23:59:59", "b c"),
    // Rules add up; one snapshot may stand for several periods.
    (r#"{"daily":1,"monthly":2}"#, "a 2026-02-27; b 2026-03-29; c 2026-03-30", "a c"),
    (
        r#"{"daily":2,"weekly":1,"monthly":1,"yearly":1}"#,
        "a 2025-12-31; b 2026-03-30; c 2026-03-31",
        "b c",
    ),
    (r#"{"last":1,"yearly":3}"#, "a 2024-06-01; b 2025-06-01; c 2026-03-01; d 2026-03-02", "a b d"),
];

const CALENDAR: &[Case] = &[
    // ISO weeks: 29 December 2025 to 4 January 2026 is week 1 of 2026.
    (
        r#"{"weekly":"all"}"#,
        "a 2025-12-28T12; b 2025-12-29T12; c 2026-01-04T12; d 2026-01-05T12",
        "a c d",
    ),
    // 2020 has a week 53, and it reaches into 2021.
    (r#"{"weekly":"all"}"#, "a 2020-12-31T12; b 2021-01-03T12; c 2021-01-04T12", "b c"),
    // Week 1 of two years is not the same week.
    (r#"{"weekly":"all"}"#, "a 2025-01-01T12; b 2026-01-01T12", "a b"),
    // Leap days.
    (r#"{"daily":"all"}"#, "a 2024-02-28T12; b 2024-02-29T12; c 2024-03-01T12", "a b c"),
    (r#"{"monthly":"all"}"#, "a 2024-02-28T12; b 2024-02-29T12; c 2024-03-01T12", "b c"),
    // The same day, and the same month, of other years.
    (r#"{"daily":"all"}"#, "a 2025-03-01T12; b 2026-03-01T12", "a b"),
    (r#"{"monthly":"all"}"#, "a 2025-03-01T12; b 2026-03-01T12", "a b"),
    // Before 1970.
    (r#"{"hourly":"all"}"#, "a 1969-12-31T23:10; b 1969-12-31T23:59; c 1970-01-01", "b c"),
    // A month back from 31 March is 28 February.
    (r#"{"within":"1mo"}"#, "a 2026-02-28T11:59; b 2026-02-28T12:01; c 2026-03-30", "b c"),
    (r#"{"within":"1y"}"#, "a 2025-03-31T11:59; b 2025-03-31T12:01; c 2026-03-30", "b c"),
    (r#"{"within":"36h"}"#, "a 2026-03-29T23:59; b 2026-03-30T00:01", "b"),
    (r#"{"within":"2w 1d"}"#, "a 2026-03-16T11; b 2026-03-16T13", "b"),
];

const MARKED: &[Case] = &[
    (
        r#"{"last":1,"tags":["keep"]}"#,
        "a 2026-03-01 tag=keep; b 2026-03-02 tag=other; c 2026-03-03",
        "a c",
    ),
    (
        r#"{"tiers":{"daily":{"last":1},"weekly":{"last":1}}}"#,
        "a 2026-03-01 tier=weekly; b 2026-03-02 tier=daily; c 2026-03-03 tier=daily",
        "a c",
    ),
    (
        r#"{"tiers":{"daily":{"within":"2d"}},"last":1}"#,
        "a 2026-03-29 tier=daily; b 2026-03-30 tier=daily; c 2026-03-31 tier=weekly",
        "b c",
    ),
    (
        r#"{"types":{"full":{"last":2}}}"#,
        "a 2026-03-01; b 2026-03-02; c 2026-03-03 type=incremental; d 2026-03-04 type=incremental",
        "a b d",
    ),
    (
        r#"{"types":{"log":{"within":"1d"}},"last":1}"#,
        "a 2026-03-30 type=log; b 2026-03-31 type=log; c 2026-03-31T01",
        "b c",
    ),
    // Holds, until the very moment at which they end.
    (r#"{"last":1}"#, "a 2020-01-01 hold=ever; b 2026-03-02", "a b"),
    (r#"{"last":1}"#, "a 2020-01-01 hold=2026-03-31T12:00:01; b 2026-03-02", "a b"),
    (r#"{"last":1}"#, "a 2020-01-01 hold=2026-03-31T12; b 2026-03-02", "b"),
    // Nobody drops what is too young, nor what was dated back to look older.
    (r#"{"last":1,"compliance":"7y"}"#, "a 2019-03-01; b 2019-04-01; c 2026-03-02", "b c"),
    (r#"{"last":1,"compliance":"7y"}"#, "a 2010-03-01 received=2026-01-01; c 2026-03-02", "a c"),
    // The last one is never dropped, nor the last that was verified.
    (r#"{"within":"1d"}"#, "a 2020-01-01; b 2020-01-02", "b"),
    (r#"{"within":"1d","min_copies":2}"#, "a 2020-01-01; b 2020-01-02; c 2020-01-03", "b c"),
    (r#"{"last":1}"#, "a 2026-03-01 verified; b 2026-03-02 verified; c 2026-03-03", "b c"),
    (r#"{"last":1}"#, "a 2026-03-01; b 2026-03-02; c 2026-03-03 verified", "c"),
];

const GROUPS: &[Case] = &[
    (r#"{"last":1}"#, "a 2026-03-01 group=x; b 2026-03-02 group=y; c 2026-03-03 group=y", "a c"),
    (r#"{"daily":1}"#, "a 2026-03-01 group=x; b 2026-03-01T01 group=y", "a b"),
    (r#"{"within":"1d"}"#, "a 2019-03-01 group=x; b 2026-03-31 group=y", "a b"),
];

const DEPENDENCIES: &[Case] = &[
    (r#"{"last":1}"#, "a 2026-03-01; b 2026-03-02; c 2026-03-03 needs=a", "a c"),
    // A chain, and a need of a snapshot of another group.
    (r#"{"last":1}"#, "a 2026-03-01; b 2026-03-02 needs=a; c 2026-03-03 needs=b", "a b c"),
    (r#"{"last":1}"#, "a 2026-03-01 group=x; b 2026-03-02 group=x; c 2026-03-03 needs=a", "a b c"),
    // A need of what is gone, and of each other, changes nothing.
    (r#"{"last":1}"#, "a 2026-03-01 needs=gone; b 2026-03-02 needs=gone", "b"),
    (r#"{"last":1}"#, "a 2026-03-01 needs=b; b 2026-03-02 needs=a", "a b"),
    // What nobody needs any more goes, whatever it needs itself.
    (r#"{"last":1}"#, "a 2026-03-01; b 2026-03-02 needs=a; c 2026-03-03", "c"),
    // A hold pulls along what it needs.
    (r#"{"last":1}"#, "a 2026-03-01; b 2026-03-02 needs=a hold=ever; c 2026-03-03", "a b c"),
];

const POINT_IN_TIME: &[Case] = &[
    // The window of 7 days begins on 24 March at noon: its base is b, whose logs up to the window
    // stay.
    (
        r#"{"point_in_time":"7d"}"#,
        "a 2026-03-10; l1 2026-03-11 type=log; b 2026-03-20; l2 2026-03-21 type=log; c 2026-03-27; \
         l3 2026-03-28 type=log",
        "b l2 c l3",
    ),
    // Nothing is old enough to begin the window.
    (r#"{"point_in_time":"7d"}"#, "l0 2026-03-23 type=log; a 2026-03-25; b 2026-03-26", "a b"),
    // Before it, sparse points keep the logs that they need themselves.
    (
        r#"{"point_in_time":"2d","monthly":2}"#,
        "a 2026-02-27; l1 2026-02-28 type=log needs=a; b 2026-03-01; l2 2026-03-02 type=log \
         needs=b; c 2026-03-29; l3 2026-03-30 type=log needs=c",
        "a l1 c l3",
    ),
    // Of what lies before the base nothing is needed.
    (
        r#"{"point_in_time":"1d"}"#,
        "a 2026-03-28; b 2026-03-29 type=incremental; c 2026-03-31 type=log",
        "b c",
    ),
];

const CLOCKS: &[Case] = &[
    // Dated in the future: it replaces nothing, and a person has to look.
    (r#"{"last":1}"#, "a 2026-03-30; f 2099-01-01 stored=2026-03-31", "a f"),
    (r#"{"daily":1}"#, "a 2026-03-30; f 2099-01-01 unstored", "a f"),
    (r#"{"daily":1}"#, "a 2026-03-30; f 2099-01-01 adopted", "a f"),
    // In the past by now, but dated after the store received it.
    (r#"{"last":1}"#, "a 2026-03-20; f 2026-03-25 stored=2026-03-10", "a f"),
    // Half an hour is within the difference of clocks.
    (r#"{"last":1}"#, "a 2026-03-30; f 2026-03-31T12:30 stored=2026-03-31T12", "f"),
    // Dated back: it stays, and replaces nothing in any period; a forged receipt changes nothing.
    (
        r#"{"daily":1,"yearly":2}"#,
        "a 2025-11-30; x 2025-12-31 stored=2026-03-30 received=2025-12-31; c 2026-03-30",
        "a x c",
    ),
    (r#"{"daily":1,"yearly":2}"#, "x 2025-12-31 stored=2026-03-30; c 2026-03-30", "x c"),
    (
        r#"{"daily":2}"#,
        "a 2026-03-15; b 2026-03-22; x 2026-03-18 stored=2026-03-30; y 2026-03-25 \
         stored=2026-03-30",
        "a b x y",
    ),
    (r#"{"last":1}"#, "a 2026-03-15; x 2026-03-20 stored=2026-03-30", "a x"),
    (r#"{"types":{"full":{"last":1}}}"#, "a 2026-03-15; x 2026-03-20 stored=2026-03-30", "a x"),
    (r#"{"last":1}"#, "a 2026-03-15 verified; x 2026-03-20 verified stored=2026-03-30", "a x"),
    (r#"{"within":"30d"}"#, "a 2026-01-15; b 2026-01-16; x 2026-03-20 stored=2026-03-30", "b x"),
    // Dated back to just before the window: it does not begin it.
    (
        r#"{"point_in_time":"7d"}"#,
        "a 2026-03-10; l1 2026-03-11 type=log; x 2026-03-24 stored=2026-03-30; l2 2026-03-28 \
         type=log",
        "a l1 x l2",
    ),
    // The store received all of them today, after a move: nothing is removed.
    (
        r#"{"daily":2,"monthly":2}"#,
        "a 2026-01-31 stored=2026-03-31; b 2026-02-01 stored=2026-03-31; c 2026-02-28 \
         stored=2026-03-31; d 2026-03-01 stored=2026-03-31",
        "a b c d",
    ),
    // Adopted, they follow the calendar again.
    (
        r#"{"daily":2,"monthly":2}"#,
        "a 2026-01-31 stored=2026-03-31 adopted; b 2026-02-01 stored=2026-03-31 adopted; \
         c 2026-02-28 stored=2026-03-31 adopted; d 2026-03-01 stored=2026-03-31 adopted",
        "c d",
    ),
    // A run of five days counts for its end, whatever start it claims.
    (
        r#"{"daily":2}"#,
        "a 2026-03-15; x 2026-03-20 end=2026-03-25 stored=2026-03-25; c 2026-03-24",
        "x c",
    ),
    (
        r#"{"daily":"all","last":1}"#,
        "a 2026-03-14T12; x 2026-03-14T13 end=2026-03-25 stored=2026-03-25; c 2026-03-24",
        "a x c",
    ),
    // Its log begins at its own time.
    (
        r#"{"point_in_time":"5d"}"#,
        "a 2026-03-10; l0 2026-03-19 type=log; x 2026-03-20 end=2026-03-25 stored=2026-03-25; \
         l1 2026-03-21 type=log; l2 2026-03-30 type=log",
        "x l1 l2",
    ),
];

#[test]
fn cases() {
    let all = [COUNTS, CALENDAR, MARKED, GROUPS, DEPENDENCIES, POINT_IN_TIME, CLOCKS].concat();
    assert!(all.len() >= 60, "{}", all.len());
    for (policy, snapshots, expected) in all {
        assert_eq!(kept("UTC", policy, snapshots), expected, "{policy}\n{snapshots}");
    }
}

/// Zone, policy, snapshots, what stays.
const ZONES: &[(&str, &str, &str, &str)] = &[
    // The day begins at midnight of the zone.
    ("UTC", r#"{"daily":"all"}"#, "a 2026-03-01T15; b 2026-03-01T23:30", "b"),
    ("Europe/Berlin", r#"{"daily":"all"}"#, "a 2026-03-01T15; b 2026-03-01T23:30", "a b"),
    ("Asia/Tokyo", r#"{"daily":"all"}"#, "a 2026-03-01T14:59; b 2026-03-01T15", "a b"),
    ("America/New_York", r#"{"yearly":"all"}"#, "a 2026-01-01T04:59; b 2026-01-01T05", "a b"),
    // The hour that comes twice is two hours; the one that is left out is none.
    ("Europe/Berlin", r#"{"hourly":"all"}"#, "a 2025-10-26T00:30; b 2025-10-26T01:30", "a b"),
    ("Europe/Berlin", r#"{"hourly":"all"}"#, "a 2026-03-29T00:59; b 2026-03-29T01", "a b"),
    // A day of 25 and one of 23 hours are each one day.
    (
        "Europe/Berlin",
        r#"{"daily":"all"}"#,
        "a 2025-10-25T22; b 2025-10-26T22:59; c 2025-10-26T23",
        "b c",
    ),
    (
        "Europe/Berlin",
        r#"{"daily":"all"}"#,
        "a 2026-03-28T23; b 2026-03-29T21:59; c 2026-03-29T22",
        "b c",
    ),
    // Hours of zones that are half an hour off.
    (
        "Asia/Kolkata",
        r#"{"hourly":"all"}"#,
        "a 2026-03-01T00:29; b 2026-03-01T00:30; c 2026-03-01T01:29",
        "a c",
    ),
];

#[test]
fn zones() {
    for (zone, policy, snapshots, expected) in ZONES {
        assert_eq!(kept(zone, policy, snapshots), *expected, "{zone} {policy}\n{snapshots}");
    }
}

#[test]
fn of_two_at_the_same_moment_one_stays_and_always_the_same() {
    let one = kept("UTC", r#"{"last":1}"#, "a 2026-03-01; b 2026-03-01");
    assert_eq!(one.len(), 1);
    assert_eq!(kept("UTC", r#"{"last":1}"#, "b 2026-03-01; a 2026-03-01"), one);
}

/// A snapshot that is dated ahead gets the time of the one that was made after it.
#[test]
fn of_two_at_the_same_moment_the_later_in_the_list_is_newer() {
    for (a, b) in [(0, 1), (1, 0)] {
        let both = format!("a 2026-03-01 index={a}; b 2026-03-01 index={b}");
        let newer = if a > b { "a" } else { "b" };
        assert_eq!(kept("UTC", r#"{"last":1}"#, &both), newer);
        assert_eq!(kept("UTC", r#"{"daily":1}"#, &both), newer);
    }
}

#[test]
fn every_decision_has_its_reasons() {
    let policy: Policy = serde_json::from_str(r#"{"last":1,"daily":1,"tags":["keep"]}"#).unwrap();
    let texts = ["a 2026-03-01 tag=keep hold=ever", "b 2026-03-02", "c 2026-03-03 needs=a"];
    let all: Vec<Candidate> = texts.iter().map(|text| candidate(text).1).collect();
    let decisions = decide(&all, &policy, moment(NOW), &TimeZone::UTC);
    let has = |decision: &Decision, wanted: &Reason| decision.reasons.contains(wanted);
    assert!(has(&decisions[0], &Reason::Tag { tag: "keep".to_owned() }));
    assert!(has(&decisions[0], &Reason::Hold { reason: "audit".to_owned() }));
    assert!(has(&decisions[0], &Reason::NeededBy { id: id("c") }));
    assert!(!decisions[1].keep());
    assert!(has(&decisions[2], &Reason::Last) && has(&decisions[2], &Reason::MinCopies));
}

#[test]
fn policies_that_nobody_can_have_meant_are_refused() {
    for text in [
        "{}",
        r#"{"min_copies":0,"last":1}"#,
        r#"{"within":"-1d"}"#,
        r#"{"within":"0d"}"#,
        r#"{"compliance":"7y"}"#,
    ] {
        let policy: Policy = serde_json::from_str(text).unwrap();
        assert!(policy.check().is_err(), "{text}");
    }
    for text in [r#"{"last":"many"}"#, r#"{"last":-1}"#, r#"{"dayly":1}"#, r#"{"within":"soon"}"#] {
        assert!(serde_json::from_str::<Policy>(text).is_err(), "{text}");
    }
}

/// The anomalies of snapshots, as `kind:snapshots:before`.
fn found(snapshots: &str) -> Vec<String> {
    let texts = snapshots.split(';').map(str::trim).filter(|text| !text.is_empty());
    let (names, all): (Vec<String>, Vec<Candidate>) = texts.map(candidate).unzip();
    let name = |wanted: &SnapshotId| names.iter().find(|name| id(name) == *wanted).unwrap().clone();
    let describe = |anomaly: backup_core::retention::Anomaly| {
        let kind = match &anomaly.kind {
            AnomalyKind::ManySnapshots { day, count, usual } => format!("{day} {count}/{usual}"),
            AnomalyKind::SmallSize { bytes, usual } => format!("{bytes}/{usual}"),
            other => panic!("{other:?}"),
        };
        let unusual: Vec<String> = anomaly.snapshots.iter().map(name).collect();
        format!(
            "{kind}: {} after {}",
            unusual.join(" "),
            anomaly.before.as_ref().map_or("-".to_owned(), name)
        )
    };
    anomalies(&all, moment(NOW), &TimeZone::UTC).into_iter().map(describe).collect()
}

#[test]
fn anomalies_of_days_with_many_snapshots() {
    let days = "a 2026-03-24; b 2026-03-25; c 2026-03-26; ";
    let of = |hours: &[u32], more: &str| {
        let one = |hour: &u32| format!("x{hour} 2026-03-27T{hour:02} {more}");
        days.to_owned() + &hours.iter().map(one).collect::<Vec<_>>().join(";")
    };
    assert_eq!(found(&of(&[1, 2, 3, 4], "")), Vec::<String>::new(), "twice the usual, plus two");
    let five = found(&of(&[1, 2, 3, 4, 5], ""));
    assert_eq!(five, ["2026-03-27 5/1: x1 x2 x3 x4 x5 after c"]);
    // Spread over the days that a writer may claim, they are still received on one day.
    let spread = "x1 2026-03-25T20 stored=2026-03-27; x2 2026-03-26T20 stored=2026-03-27; \
                  x3 2026-03-26T21 stored=2026-03-27; x4 2026-03-27T01; x5 2026-03-27T02";
    assert_eq!(found(&(days.to_owned() + spread)), ["2026-03-27 5/1: x1 x2 x3 x4 x5 after c"]);
    assert_eq!(found(&of(&[1, 2, 3, 4, 5], "adopted")), Vec::<String>::new());
    assert_eq!(found(&of(&[1, 2, 3, 4, 5], "type=log")), Vec::<String>::new());
    // Disputed ones replace nothing, and need no alarm.
    assert_eq!(found(&of(&[1, 2, 3, 4, 5], "stored=2026-03-31")), Vec::<String>::new());
    // Two days do not show what is usual.
    let young = "a 2026-03-25; b 2026-03-26; x1 2026-03-27T01; x2 2026-03-27T02; x3 2026-03-27T03; \
                 x4 2026-03-27T04; x5 2026-03-27T05";
    assert_eq!(found(young), Vec::<String>::new());
    // An adopted day makes its number usual.
    let hourly: Vec<String> = (0..24).map(|hour| format!("y{hour} 2026-03-28T{hour:02}")).collect();
    let adopted: Vec<String> =
        (0..24).map(|hour| format!("x{hour} 2026-03-27T{hour:02} adopted")).collect();
    let all = format!("{days}{};{}", adopted.join(";"), hourly.join(";"));
    assert_eq!(found(&all), Vec::<String>::new());
}

#[test]
fn anomalies_of_sizes_that_collapse() {
    let usual = "a 2026-03-24 size=5000000; b 2026-03-25 size=6000000; ";
    let with = |more: &str| found(&(usual.to_owned() + more));
    assert_eq!(with("x 2026-03-26 size=599999"), ["599999/6000000: x after b"]);
    assert_eq!(with("x 2026-03-26 size=600000"), Vec::<String>::new());
    assert_eq!(with("x 2026-03-26"), ["0/6000000: x after b"], "a size that is not stated");
    assert_eq!(
        with("x 2026-03-26 size=9; y 2026-03-27 size=8; c 2026-03-28 size=5000000"),
        ["8/6000000: x y after b"]
    );
    assert_eq!(with("x 2026-03-26 size=9 type=incremental"), Vec::<String>::new());
    assert_eq!(with("x 2026-03-26 size=9 group=other"), Vec::<String>::new());
    assert_eq!(
        with("x 2026-03-26 size=9 adopted; y 2026-03-27 size=8"),
        Vec::<String>::new(),
        "an adopted size is the usual one"
    );
    assert_eq!(found("a 2026-03-24 size=1000; x 2026-03-25 size=1"), Vec::<String>::new());
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![Just(Keep::None), (1_u32..5).prop_map(Keep::Count), Just(Keep::All)]
}

fn span() -> impl Strategy<Value = Option<Span>> {
    proptest::option::of((1_i64..2000).prop_map(|hours| Span::new().hours(hours)))
}

prop_compose! {
    fn policy()(
        counts in proptest::array::uniform6(keep()),
        within in span(),
        point_in_time in span(),
        compliance in span(),
        full in keep(),
        min_copies in 0_u32..4,
    ) -> Policy {
        let [last, hourly, daily, weekly, monthly, yearly] = counts;
        let types = [("full".to_owned(), Rule { last: full, within: None })].into();
        Policy {
            last, hourly, daily, weekly, monthly, yearly, within, point_in_time, compliance, min_copies, types,
            ..Policy::default()
        }
    }
}

prop_compose! {
    fn snapshots()(
        drawn in proptest::collection::vec(
            (0_i64..260_000, 0_usize..3, 0_usize..4, any::<bool>(), -200_i64..200), 0..40,
        ),
    ) -> Vec<Candidate> {
        let start = moment("2025-12-01");
        let mut all: Vec<Candidate> = Vec::new();
        for (at, (minutes, group, kind, held, skew)) in drawn.into_iter().enumerate() {
            let time = start + SignedDuration::from_mins(minutes);
            let kind = ["full", "incremental", "differential", "log"][kind];
            let group = format!("g{group}");
            // What is not full needs something that was made before.
            let needs = all.iter().rev().find(|c| c.group == group && kind != "full").map(|c| c.id);
            all.push(Candidate {
                id: id(&at.to_string()),
                time: EffectiveTime::decide(
                    time,
                    None,
                    Some(time + SignedDuration::from_hours(if skew < -190 { -60 } else { skew.max(0) / 2 })),
                    skew % 5 == 0,
                ),
                index: at,
                received: None,
                size: None,
                group,
                tier: None,
                kind: Some(kind.to_owned()),
                tags: Vec::new(),
                verified: skew % 7 == 0,
                hold: (held && skew > 150).then(|| Hold { until: None, reason: String::new(), since: time }),
                needs: needs.into_iter().collect(),
            });
        }
        all
    }
}

fn names(decisions: &[Decision]) -> BTreeSet<SnapshotId> {
    decisions.iter().filter(|decision| decision.keep()).map(|decision| decision.id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_the_policy(policy in policy(), all in snapshots(), turn in any::<prop::sample::Index>()) {
        let now = moment("2026-06-01");
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let kept = names(&decide(&all, &policy, now, &zone));

        // Nothing that is kept is without what it needs; nothing held is dropped; no group is
        // emptied.
        for candidate in all.iter().filter(|candidate| kept.contains(&candidate.id)) {
            prop_assert!(candidate.needs.iter().all(|needed| kept.contains(needed)));
        }
        prop_assert!(all.iter().all(|c| c.hold.is_none() || kept.contains(&c.id)));
        for candidate in &all {
            prop_assert!(all.iter().any(|other| other.group == candidate.group && kept.contains(&other.id)));
        }

        // The order in which they are listed means nothing.
        let mut turned = all.clone();
        if !turned.is_empty() {
            turned.rotate_left(turn.index(all.len()));
            turned.reverse();
        }
        prop_assert_eq!(&names(&decide(&turned, &policy, now, &zone)), &kept);

        // A disputed snapshot stays, and no other one leaves because of it.
        prop_assert!(all.iter().all(|c| !c.time.is_disputed() || kept.contains(&c.id)));
        let trusted: Vec<Candidate> = all.iter().filter(|c| !c.time.is_disputed()).cloned().collect();
        let without = names(&decide(&trusted, &policy, now, &zone));
        prop_assert!(without.is_subset(&kept));

        // Other groups have no say.
        let own: Vec<Candidate> = all.iter().filter(|c| c.group == "g0").cloned().collect();
        let alone = names(&decide(&own, &policy, now, &zone));
        let among: BTreeSet<_> = kept.iter().filter(|id| own.iter().any(|c| c.id == **id)).copied().collect();
        prop_assert_eq!(alone, among);

        // Applying the decision and deciding again drops nothing of what a rule of its own keeps.
        let rest: Vec<Candidate> = all.iter().filter(|c| kept.contains(&c.id)).cloned().collect();
        prop_assert_eq!(&names(&decide(&rest, &policy, now, &zone)), &kept);
    }
}
