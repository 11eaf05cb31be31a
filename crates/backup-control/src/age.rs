//! Ages as people write them: `90d`, `6mo`, `2y 3w`, `36h`.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::error::{Error, Result};

/// The moment that is `age` before `now`. Days, weeks, months and years are those of the calendar in `zone`.
///
/// # Errors
/// [`Error::Invalid`] for what is no age, is negative, or leads out of the calendar.
pub fn before(age: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    let invalid = || Error::invalid(format!("{age:?} is not an age")).with_hint("write 36h, 90d, 6w, 6mo or 2y");
    let span: Span = age.trim().parse().map_err(|_| invalid())?;
    // jiff reads `m` as minutes, people mean months: an archive of everything older than six minutes is no small mistake.
    let units: Vec<&str> = age.split(|c: char| !c.is_ascii_alphabetic()).filter(|unit| !unit.is_empty()).collect();
    if units.iter().any(|unit| unit.eq_ignore_ascii_case("m")) {
        return Err(Error::invalid(format!("{age:?}: `m` may be minutes or months"))
            .with_hint("write `min` for minutes, `mo` for months"));
    }
    if span.is_negative() {
        return Err(invalid());
    }
    let then = now.to_zoned(zone.clone()).checked_sub(span).map_err(|_| invalid())?;
    Ok(then.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(age: &str) -> Result<String> {
        let now: Timestamp = "2026-03-31T12:00:00Z".parse().unwrap();
        before(age, now, &TimeZone::UTC).map(|then| then.to_string())
    }

    #[test]
    fn ages_follow_the_calendar() {
        for (age, then) in [
            ("36h", "2026-03-30T00:00:00Z"),
            ("90d", "2025-12-31T12:00:00Z"),
            ("1mo", "2026-02-28T12:00:00Z"),
            ("2y 1w", "2024-03-24T12:00:00Z"),
            (" 0s ", "2026-03-31T12:00:00Z"),
        ] {
            assert_eq!(back(age).unwrap(), then, "{age}");
        }
    }

    #[test]
    fn a_day_is_as_long_as_the_calendar_says() {
        // The night of 29 March 2026 is an hour short in Berlin.
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now: Timestamp = "2026-03-29T12:00:00Z".parse().unwrap();
        assert_eq!(before("1d", now, &zone).unwrap().to_string(), "2026-03-28T13:00:00Z");
    }

    #[test]
    fn what_is_no_age_is_said_so() {
        for age in ["", "soon", "-3d", "3", "99999y", "6m", "1y 6M"] {
            assert!(back(age).is_err(), "{age}");
        }
    }
}
