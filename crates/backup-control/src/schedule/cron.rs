//! Cron expressions, and their times.
//!
//! Which times of the calendar an expression means is said by `croner`. Which moments these are
//! where clocks are changed is said here:
//!
//! - An expression whose hours are not all hours names times of the day. One that does not exist,
//!   because clocks go forward over it, is at the first moment after the gap; one that exists twice
//!   is at its first moment. So it comes once every day it is meant for.
//! - An expression of every hour (`*/5 * * * *`, `30 * * * *`) goes by what clocks show: nothing in
//!   a gap, everything twice where clocks repeat an hour. So about the same time lies between two
//!   of its moments.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::{DateTime, date};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::Text;
use crate::words;

/// An expression of every hour is looked for in so many stretches between changes of clocks; two a
/// year are usual.
const MAX_STRETCHES: usize = 1000;
/// So many times of the calendar may all be moments that have been, where clocks repeat them: a day
/// has no more minutes.
const MAX_REPEATED: usize = 2 * 24 * 60;

/// The hint for an expression with a mistake.
const LIKE: &str = "write minute, hour, day, month and weekday like `30 2 * * 1-5`, or @daily";
/// Most expressions of which the parsed form is kept: parsing one takes 20 µs, and many jobs share
/// few.
const MAX_KNOWN: usize = 1000;

/// Parsed expressions by their texts.
static KNOWN: Mutex<BTreeMap<String, Cron>> = Mutex::new(BTreeMap::new());

/// A cron expression: minute, hour, day, month, weekday; or `@daily` and the like. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron(Arc<Parsed>);

#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    text: String,
    pattern: croner::Cron,
    every_hour: bool,
}

impl Cron {
    /// The first of its moments after `after`; none if the calendar has no more.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.0.every_hour { self.next_shown(after, zone) } else { self.next_named(after, zone) }
    }

    /// The last of its moments after `after` and not after `until`.
    #[must_use]
    pub fn last(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        const HOUR: i64 = 3600;
        // The first of these that holds one holds few, whatever the expression.
        let lengths = [HOUR, 24 * HOUR, 32 * 24 * HOUR, 366 * 24 * HOUR];
        let begins = lengths
            .into_iter()
            .filter_map(|seconds| until.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok());
        for begin in begins.map(|begin| begin.max(after)).chain([after]) {
            let mut found = self.next(begin, zone).filter(|first| *first <= until);
            while let Some(later) =
                found.and_then(|last| self.next(last, zone)).filter(|later| *later <= until)
            {
                found = Some(later);
            }
            if found.is_some() || begin == after {
                return found;
            }
        }
        None
    }

    /// The next moment at which clocks show one of its times.
    fn next_shown(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (mut from, mut with_it) = (after, false);
        for _ in 0..MAX_STRETCHES {
            let offset = zone.to_offset(from);
            let found = offset.to_timestamp(self.find(offset.to_datetime(from), with_it)?).ok()?;
            match zone.following(from).next().map(|change| change.timestamp()) {
                Some(change) if found >= change => (from, with_it) = (change, true),
                _ => return Some(found),
            }
        }
        None
    }

    /// The next moment of a time of the day.
    fn next_named(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut time = zone.to_datetime(after);
        for _ in 0..MAX_REPEATED {
            time = self.find(time, false)?;
            let moment = moment(time, zone)?;
            if moment > after {
                return Some(moment);
            }
        }
        None
    }

    fn find(&self, time: DateTime, with_it: bool) -> Option<DateTime> {
        self.0.pattern.find_next_occurrence(&time, with_it).ok()
    }

    /// Parses an expression whose fields one space separates.
    fn parse(text: &str) -> Result<Self, String> {
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = parser.parse(text).map_err(|error| {
            let why = error.to_string().to_lowercase();
            let why = why.split_once(": ").map_or(why.as_str(), |(_, why)| why);
            format!("{text:?} is not a cron expression ({}); {LIKE}", why.trim_end_matches('.'))
        })?;
        let every_hour = pattern.pattern.hours.values().len() == 24;
        let cron = Self(Arc::new(Parsed { text: text.to_owned(), pattern, every_hour }));
        // Within 28 years every date falls on every weekday.
        match cron.find(date(2000, 1, 1).at(0, 0, 0, 0), true) {
            Some(first) if first.year() < 2030 => Ok(cron),
            _ => Err(format!("{text:?} never occurs: no month has such a day")),
        }
    }
}

/// The moment of a time of the day: the first if there are two, that after the gap if there is
/// none.
fn moment(time: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(time).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(time).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            let before_it = after.to_timestamp(time).ok()?;
            zone.following(before_it).next().map(|change| change.timestamp())
        }
    }
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let fields = text.split(' ').count();
        if !text.starts_with('@') && fields != 5 {
            let has = if text.is_empty() { 0 } else { fields };
            let has = words::count(has as u64, "field", "fields");
            return Err(format!("{text:?} has {has}, a cron expression has five; {LIKE}"));
        }
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cron) = known().get(&text) {
            return Ok(cron.clone());
        }
        let cron = Self::parse(&text)?;
        let mut known = known();
        if known.len() < MAX_KNOWN {
            known.insert(text, cron.clone());
        }
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text::new("a cron expression such as \"30 2 * * *\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (cron, zone) = (cron.parse::<Cron>().unwrap(), TimeZone::get(zone).unwrap());
        let first: Timestamp = after.parse().unwrap();
        let next = |last: &Timestamp| cron.next(*last, &zone);
        let found = std::iter::successors(next(&first), next).take(count);
        found
            .map(|time| time.to_zoned(zone.clone()).strftime("%m-%d %H:%M %:z").to_string())
            .collect()
    }

    #[test]
    fn a_time_that_does_not_exist_comes_after_the_gap() {
        let berlin = times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(berlin, ["03-28 02:30 +01:00", "03-29 03:00 +02:00", "03-30 02:30 +02:00"]);
        // Several of them are one, and so is the one that is at that moment anyway.
        let several = times("*/15 2-3 * * *", "Europe/Berlin", "2026-03-29T00:59:00Z", 2);
        assert_eq!(several, ["03-29 03:00 +02:00", "03-29 03:15 +02:00"]);
        // The gap of Nuuk begins before midnight: the first moment after it is on the day after.
        let nuuk = times("30 23 * * 6", "America/Nuuk", "2026-03-28T12:00:00Z", 2);
        assert_eq!(nuuk, ["03-29 00:00 -01:00", "04-04 23:30 -01:00"]);
        // Half an hour, and two hours.
        let howe = times("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", 1);
        assert_eq!(howe, ["10-04 02:30 +11:00"]);
        let troll = times("30 1 * * *", "Antarctica/Troll", "2026-03-28T12:00:00Z", 1);
        assert_eq!(troll, ["03-29 03:00 +02:00"]);
        // Samoa had no 30th of December in 2011.
        let apia = times("30 2 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", 2);
        assert_eq!(apia, ["12-31 00:00 +14:00", "12-30 02:30 +14:00"]);
    }

    #[test]
    fn a_time_that_exists_twice_comes_once() {
        let berlin = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(berlin, ["10-25 02:30 +02:00", "10-26 02:30 +01:00"]);
        // Also if somebody asks between the two.
        let between = times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1);
        assert_eq!(between, ["10-26 02:30 +01:00"]);
        let new_york = times("0,30 1 * * *", "America/New_York", "2026-11-01T04:00:00Z", 3);
        assert_eq!(new_york, ["11-01 01:00 -04:00", "11-01 01:30 -04:00", "11-02 01:00 -05:00"]);
    }

    #[test]
    fn every_hour_goes_by_the_clock() {
        let spring = times("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3);
        assert_eq!(spring, ["03-29 01:30 +01:00", "03-29 03:30 +02:00", "03-29 04:30 +02:00"]);
        let autumn = times("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3);
        assert_eq!(autumn, ["10-25 02:30 +02:00", "10-25 02:30 +01:00", "10-25 03:30 +01:00"]);
        let minutes = times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:31:00Z", 3);
        assert_eq!(minutes, ["10-25 02:00 +01:00", "10-25 02:30 +01:00", "10-25 03:00 +01:00"]);
    }

    #[test]
    fn calendar() {
        let utc = |cron: &str, count| times(cron, "UTC", "2026-11-20T12:00:00Z", count);
        assert_eq!(utc("@daily", 2), ["11-21 00:00 +00:00", "11-22 00:00 +00:00"]);
        assert_eq!(utc("0 2 * * 0", 2), ["11-22 02:00 +00:00", "11-29 02:00 +00:00"]);
        assert_eq!(utc("0 2 * * 7", 1), ["11-22 02:00 +00:00"]);
        assert_eq!(utc("0 4 L * *", 2), ["11-30 04:00 +00:00", "12-31 04:00 +00:00"]);
        assert_eq!(utc("0 4 29 FEB *", 1), ["02-29 04:00 +00:00"]);
        // As cron has it: a day of the month or a day of the week.
        assert_eq!(utc("0 0 25 * MON", 2), ["11-23 00:00 +00:00", "11-25 00:00 +00:00"]);
    }

    #[test]
    fn mistakes() {
        for (text, word) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("0 0 2 * * *", "6 fields"),
            ("0 25 * * *", "not a cron expression"),
            ("x 2 * * *", "not a cron expression"),
            ("*/0 2 * * *", "not a cron expression"),
            ("@sometimes", "not a cron expression"),
            ("@reboot", "not a cron expression"),
            ("0 2 30 2 *", "never occurs"),
        ] {
            let error = text.parse::<Cron>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert_eq!(" 0  2 * * mon-fri ".parse::<Cron>().unwrap().to_string(), "0 2 * * mon-fri");
    }

    #[test]
    fn the_last_of_many_is_found_at_once() {
        let (cron, zone) = ("* * * * *".parse::<Cron>().unwrap(), TimeZone::UTC);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let last = |cron: &Cron, after, until| cron.last(at(after), at(until), &zone);
        let now = "2026-11-20T12:00:30Z";
        assert_eq!(last(&cron, "2016-01-01T00:00:00Z", now), Some(at("2026-11-20T12:00:00Z")));
        assert_eq!(last(&cron, "2026-11-20T12:00:00Z", now), None);
        let leap: Cron = "0 0 29 2 *".parse().unwrap();
        assert_eq!(last(&leap, "2016-01-01T00:00:00Z", now), Some(at("2024-02-29T00:00:00Z")));
        assert_eq!(last(&leap, "2025-01-01T00:00:00Z", now), None);
    }
}
