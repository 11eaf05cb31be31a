//! Times beside those that a look at every minute finds.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::Cron;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What an expression means, in sets of numbers; days of the week from Sunday.
#[derive(Debug, Clone)]
struct Fields {
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    days: Option<BTreeSet<i8>>,
    weekdays: Option<BTreeSet<i8>>,
}

impl Fields {
    fn text(&self) -> String {
        let list = |numbers: &BTreeSet<i8>| {
            numbers.iter().map(i8::to_string).collect::<Vec<_>>().join(",")
        };
        let any = |numbers: &Option<BTreeSet<i8>>| numbers.as_ref().map_or("*".to_owned(), list);
        format!(
            "{} {} {} * {}",
            list(&self.minutes),
            list(&self.hours),
            any(&self.days),
            any(&self.weekdays)
        )
    }

    fn mean(&self, time: DateTime) -> bool {
        let day = self.days.as_ref().map(|days| days.contains(&time.day()));
        let weekday = self
            .weekdays
            .as_ref()
            .map(|days| days.contains(&time.weekday().to_sunday_zero_offset()));
        let is_day = match (day, weekday) {
            (Some(day), Some(weekday)) => day || weekday,
            (day, weekday) => day.unwrap_or(true) && weekday.unwrap_or(true),
        };
        is_day && self.hours.contains(&time.hour()) && self.minutes.contains(&time.minute())
    }

    /// All moments of some time, found by looking at every minute of it.
    fn moments(&self, from: Timestamp, to: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
        let every_hour = self.hours.len() == 24;
        let minutes = std::iter::successors(Some(from + MINUTE), |last| Some(*last + MINUTE));
        let is_moment = |moment: &Timestamp| {
            let (now, before) = (zone.to_datetime(*moment), zone.to_datetime(*moment - MINUTE));
            let repeats = match zone.to_ambiguous_timestamp(now).offset() {
                AmbiguousOffset::Fold { before, .. } => {
                    before.to_timestamp(now).unwrap() != *moment
                }
                _ => false,
            };
            let skipped = std::iter::successors(before.checked_add(MINUTE).ok(), |last| {
                last.checked_add(MINUTE).ok()
            });
            let in_gap =
                skipped.take_while(|skipped| *skipped < now).any(|skipped| self.mean(skipped));
            if every_hour { self.mean(now) } else { self.mean(now) && !repeats || in_gap }
        };
        minutes.take_while(|moment| *moment <= to).filter(is_moment).collect()
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let hours = prop_oneof![
        3 => prop::collection::btree_set(0..24_i8, 1..5),
        1 => Just((0..24).collect()),
        1 => prop::collection::btree_set(0..4_i8, 1..4),
    ];
    let days = prop::option::of(prop::collection::btree_set(1..29_i8, 1..20));
    let weekdays = prop::option::of(prop::collection::btree_set(0..7_i8, 1..6));
    let minutes = prop::collection::btree_set(0..60_i8, 1..6);
    (minutes, hours, days, weekdays).prop_map(|(minutes, hours, days, weekdays)| Fields {
        minutes,
        hours,
        days,
        weekdays,
    })
}

/// Zones, and a day on which their clocks are changed.
const CHANGES: [(&str, &str); 9] = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Nuuk", "2026-03-29"),
    ("America/Nuuk", "2026-10-25"),
    ("Asia/Kolkata", "2026-06-01"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn times_are_those_that_every_minute_says(fields in fields(), at in 0..CHANGES.len(), before in 0..72_i64) {
        let (zone, day) = CHANGES[at];
        let zone = TimeZone::get(zone).unwrap();
        let from: Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
        let from = from - SignedDuration::from_hours(before);
        let to = from + SignedDuration::from_hours(5 * 24);
        let cron: Cron = fields.text().parse().unwrap();
        let next = |last: &Timestamp| cron.next(*last, &zone);
        let found: Vec<_> = std::iter::successors(next(&from), next).take_while(|moment| *moment <= to).collect();
        let expected = fields.moments(from, to, &zone);
        prop_assert_eq!(&found, &expected, "{}", fields.text());
        prop_assert_eq!(cron.last(from, to, &zone), expected.last().copied());
    }
}
