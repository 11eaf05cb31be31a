//! Moments and days as people write them: `yesterday`, `2026-11-21`, `2026-11-21 14:30`,
//! `today 06:00`, `2h ago`, `2026-11-21T14:30:00Z`.

use std::ops::Range;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::age::Age;
use crate::error::{Error, Result};

/// What helps after something that is no moment.
pub const HINT: &str =
    "write `2026-11-21`, `2026-11-21 14:30`, `2026-11-21T14:30:00Z`, `yesterday` or `2h ago`";

/// Seconds since 1970 from which `SECONDS:INCREMENT` is an oplog position, September 2001: no
/// replica set is as old, and smaller numbers are a time of day such as `23:11`.
pub(crate) const MIN_OPLOG_SECONDS: u32 = 1_000_000_000;

/// The hint for a time of day that names no day, such as `23:11`.
pub(crate) fn hint_at_day(text: &str) -> Option<String> {
    let text = text.trim();
    let time = local(&format!("today {text}"), Date::MIN)?;
    let has_digits = text.starts_with(|first: char| first.is_ascii_digit());
    (has_digits && time.date() == Date::MIN)
        .then(|| format!("name the day, too: `today {text}`, `yesterday {text}` or a date"))
}

/// A moment, or a whole day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// One moment.
    Instant(Timestamp),
    /// From the first moment of a day to the first of the next.
    Day(Range<Timestamp>),
}

/// Understands a moment of a log: seconds since 1970, as `date +%s` prints them, from September 2001
/// on, or a moment as [`Moment::parse`] does. Only for texts that cannot be identifiers of snapshots.
///
/// # Errors
/// [`Error::Invalid`] for anything else.
pub(crate) fn of_log(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Moment> {
    match epoch(text.trim()) {
        Some(instant) => Ok(Moment::Instant(instant)),
        None => Moment::parse(text, now, zone),
    }
}

/// Seconds since 1970, with up to nine decimals.
fn epoch(text: &str) -> Option<Timestamp> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(seconds) || !is_number(decimals) || decimals.len() > 9 {
        return None;
    }
    let seconds =
        seconds.parse().ok().filter(|seconds| *seconds >= i64::from(MIN_OPLOG_SECONDS))?;
    Timestamp::new(seconds, format!("{decimals:0<9}").parse().ok()?).ok()
}

impl Moment {
    /// Understands a moment or a day. Whatever names no zone of its own is meant in `zone`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Self> {
        let clean = text.trim();
        let invalid = || {
            let hint = hint_at_day(clean).unwrap_or_else(|| HINT.to_owned());
            Error::invalid(format!("{text:?} is neither a moment nor a day")).with_hint(hint)
        };
        if let Some(age) = clean.strip_suffix("ago") {
            return Ok(Self::Instant(Age::parse(age)?.before(now, zone)?));
        }
        if clean == "now" {
            return Ok(Self::Instant(now));
        }
        // With a zone of its own; without one it is an error.
        if let Ok(instant) = clean.parse::<Timestamp>() {
            return Ok(Self::Instant(instant));
        }
        let today = now.to_zoned(zone.clone()).date();
        if let Some(date) = day(clean, today) {
            return Self::of_day(date, zone).ok_or_else(invalid);
        }
        let local = local(clean, today).ok_or_else(invalid)?;
        // In the hour that does not exist the later, in the one that comes twice the earlier.
        let instant = zone.to_ambiguous_timestamp(local).compatible().map_err(|_| invalid())?;
        Ok(Self::Instant(instant))
    }

    fn of_day(date: Date, zone: &TimeZone) -> Option<Self> {
        let start = |date: Date| date.to_zoned(zone.clone()).ok().map(|start| start.timestamp());
        Some(Self::Day(start(date)?..start(date.tomorrow().ok()?)?))
    }

    /// Its last moment.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        match self {
            Self::Instant(instant) => *instant,
            Self::Day(day) => day.end.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(day.end),
        }
    }

    /// The day it is, or lies in.
    ///
    /// # Errors
    /// [`Error::Invalid`] at the end of the calendar.
    pub fn day(&self, zone: &TimeZone) -> Result<Range<Timestamp>> {
        match self {
            Self::Day(day) => Ok(day.clone()),
            Self::Instant(instant) => {
                match Self::of_day(instant.to_zoned(zone.clone()).date(), zone) {
                    Some(Self::Day(day)) => Ok(day),
                    _ => Err(Error::invalid(format!(
                        "{instant} is beyond the range of the calendar"
                    ))
                    .with_hint(HINT)),
                }
            }
        }
    }
}

/// `today`, `yesterday`, `tomorrow`, or a date.
fn day(text: &str, today: Date) -> Option<Date> {
    match text {
        "today" => Some(today),
        "yesterday" => today.checked_sub(1.day()).ok(),
        "tomorrow" => today.checked_add(1.day()).ok(),
        // jiff reads the date of anything longer too.
        _ if text.len() == "2026-11-21".len() => text.parse().ok(),
        _ => None,
    }
}

/// A day and a time of it, without a zone.
fn local(text: &str, today: Date) -> Option<DateTime> {
    let (date, time) = text.split_once(' ').or_else(|| text.split_once('T'))?;
    let time = time.trim();
    // jiff takes an hour alone, and anything with a zone, for a time.
    let is_time =
        time.contains(':') && time.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '.'));
    if !is_time {
        return None;
    }
    Some(day(date, today)?.to_datetime(time.parse::<Time>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Moment> {
        // Noon in Berlin on the day the clocks went forward.
        let now: Timestamp = "2026-03-29T10:00:00Z".parse().unwrap();
        Moment::parse(text, now, &TimeZone::get("Europe/Berlin").unwrap())
    }

    #[test]
    fn moments() {
        for (text, instant) in [
            ("now", "2026-03-29T10:00:00Z"),
            ("2h ago", "2026-03-29T08:00:00Z"),
            ("2 hours ago", "2026-03-29T08:00:00Z"),
            ("3 days ago", "2026-03-26T11:00:00Z"),
            ("2026-03-20T14:30:00Z", "2026-03-20T14:30:00Z"),
            ("2026-03-20 14:30:00+02:00", "2026-03-20T12:30:00Z"),
            ("2026-03-20 14:30", "2026-03-20T13:30:00Z"),
            ("2026-03-20T14:30:15.5", "2026-03-20T13:30:15.5Z"),
            ("yesterday 06:00", "2026-03-28T05:00:00Z"),
            ("today 06:00", "2026-03-29T04:00:00Z"),
            // It does not exist.
            ("2026-03-29 02:30", "2026-03-29T01:30:00Z"),
        ] {
            assert_eq!(parse(text).unwrap(), Moment::Instant(instant.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn moments_of_logs_may_be_seconds_since_1970() {
        let parse = |text: &str| {
            let now: Timestamp = "2026-03-29T10:00:00Z".parse().unwrap();
            of_log(text, now, &TimeZone::UTC)
        };
        for (text, instant) in [
            ("1774778400", "2026-03-29T10:00:00Z"),
            (" 1774778400.25 ", "2026-03-29T10:00:00.25Z"),
            ("1774778400.000000001", "2026-03-29T10:00:00.000000001Z"),
            ("1h ago", "2026-03-29T09:00:00Z"),
        ] {
            assert_eq!(parse(text).unwrap(), Moment::Instant(instant.parse().unwrap()), "{text}");
        }
        // Small numbers, milliseconds, and anything else.
        for text in ["999999999", "1774778400000", "1774778400.", "-1774778400", "1774778400:1"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Moment::parse("1774778400", Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_err());
    }

    #[test]
    fn time_without_day_gets_a_hint_that_parses() {
        for text in ["23:11", "06:00:30", " 14:30 "] {
            let error = parse(text).unwrap_err();
            let hint = error.hint().unwrap();
            let moment = format!("today {}", text.trim());
            assert!(hint.contains(&format!("`{moment}`")), "{hint}");
            assert!(parse(&moment).is_ok());
        }
        for text in ["25:00", "14", "1640995200:1", "a 14:30"] {
            assert_eq!(parse(text).unwrap_err().hint(), Some(HINT), "{text}");
        }
    }

    #[test]
    fn days() {
        for (text, start, end) in [
            ("today", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("yesterday", "2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z"),
            ("tomorrow", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"),
            (" 2026-03-20 ", "2026-03-19T23:00:00Z", "2026-03-20T23:00:00Z"),
        ] {
            let day = start.parse().unwrap()..end.parse().unwrap();
            assert_eq!(parse(text).unwrap(), Moment::Day(day), "{text}");
        }
        assert_eq!(parse("yesterday").unwrap().end().to_string(), "2026-03-28T22:59:59.999999999Z");
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let of_instant = parse("yesterday 06:00").unwrap().day(&zone).unwrap();
        assert_eq!(parse("yesterday").unwrap().day(&zone).unwrap(), of_instant);
    }

    #[test]
    fn what_is_neither_is_said_so() {
        for text in [
            "",
            "soon",
            "14:30",
            "ago",
            "2026-13-01",
            "2026-03-20 25:00",
            "yesterday 6",
            "2026-03-20Z",
            "6m ago",
        ] {
            assert!(parse(text).is_err_and(|error| error.hint().is_some()), "{text}");
        }
    }
}
