//! Ages as people write them: `90d`, `6mo`, `2y 3w`, `36h`.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::units::Text;

/// What helps after something that is no age.
const HINT: &str = "write 36h, 90d, 6w, 6mo or 2y";

/// A length of time by the calendar, as somebody wrote it.
#[derive(Debug, Clone)]
pub struct Age {
    text: String,
    span: Span,
}

impl Age {
    /// Understands an age.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no age or is negative.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let invalid = || Error::invalid(format!("{text:?} is not an age")).with_hint(HINT);
        let span: Span = text.parse().map_err(|_| invalid())?;
        // jiff reads `m` as minutes, people mean months: an archive of everything older than six
        // minutes is no small mistake.
        let mut units =
            text.split(|c: char| !c.is_ascii_alphabetic()).filter(|unit| !unit.is_empty());
        if units.any(|unit| unit.eq_ignore_ascii_case("m")) {
            return Err(Error::invalid(format!("{text:?}: `m` is ambiguous: minutes or months"))
                .with_hint("write `min` for minutes, `mo` for months"));
        }
        if span.is_negative() {
            return Err(invalid());
        }
        Ok(Self { text: text.to_owned(), span })
    }

    /// The length of time. How long a day, a month or a year is depends on where it begins.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// The moment that is so long before `now`. Days, weeks, months and years are those of the
    /// calendar in `zone`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if that leads out of the calendar.
    pub fn before(&self, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
        let then = now.to_zoned(zone.clone()).checked_sub(self.span);
        then.map(|then| then.timestamp()).map_err(|_| self.too_long())
    }

    /// The moment that is so long after `now`.
    ///
    /// # Errors
    /// As [`Self::before`].
    pub fn after(&self, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
        let then = now.to_zoned(zone.clone()).checked_add(self.span);
        then.map(|then| then.timestamp()).map_err(|_| self.too_long())
    }

    fn too_long(&self) -> Error {
        Error::invalid(format!("{:?} leads beyond the range of the calendar", self.text))
            .with_hint(HINT)
    }
}

impl PartialEq for Age {
    /// What is written the same is the same; a span alone has no order.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Age {}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        })
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text::new("an age such as \"90d\""))
    }
}

/// The moment that is `age` before `now`. Days, weeks, months and years are those of the calendar
/// in `zone`.
///
/// # Errors
/// [`Error::Invalid`] for what is no age, is negative, or leads out of the calendar.
pub fn before(age: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    Age::parse(age)?.before(now, zone)
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
            ("3 days", "2026-03-28T12:00:00Z"),
            (" 0s ", "2026-03-31T12:00:00Z"),
        ] {
            assert_eq!(back(age).unwrap(), then, "{age}");
        }
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let after = Age::parse("1mo").unwrap().after(now, &TimeZone::UTC).unwrap();
        assert_eq!(after.to_string(), "2026-02-28T12:00:00Z");
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
            assert!(back(age).is_err_and(|error| error.hint().is_some()), "{age}");
        }
    }
}
