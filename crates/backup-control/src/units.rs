//! Sizes, shares, times and limits as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SpanRelativeTo;
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::age::Age;

/// Units from the largest to the smallest; the first spelling of each factor is the one that is
/// printed.
const UNITS: [(&str, u64); 17] = [
    ("TiB", 1 << 40),
    ("T", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("G", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("M", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("K", 1 << 10),
    ("KB", 1000),
    ("k", 1 << 10),
    ("kB", 1000),
    ("kiB", 1 << 10),
    ("B", 1),
    ("", 1),
];

/// A number of bytes: `10GiB`, `10G` (the same), `10GB` (powers of ten), `1.5 MiB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size; write it like 500M, 10GiB or 4096");
        let trimmed = text.trim();
        let split =
            trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(*factor).map(Self).ok_or_else(wrong);
        }
        let value = number.parse::<f64>().map_err(|_| wrong())? * *factor as f64;
        // Beyond this a fraction of a unit could not be exact.
        if value.is_finite() && value < 9e15 {
            Ok(Self(value.round() as u64))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact =
            |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (unit, factor) = UNITS.iter().find(exact).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// A share from 0 to 1, written as `5%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a percentage; write it like 5% or 100%");
        let percent: f64 = text
            .trim()
            .strip_suffix('%')
            .ok_or_else(wrong)?
            .trim_end()
            .parse()
            .map_err(|_| wrong())?;
        if (0.0..=100.0).contains(&percent) { Ok(Self(percent / 100.0)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

/// A length of time that does not depend on the calendar: `24h`, `90min`, `2d` (48 hours), `1w`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    text: Age,
    length: Duration,
}

impl Time {
    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let age: Age = text.parse()?;
        let wrong = || format!("{text:?} is not a duration; write it like 90min, 24h or 7d");
        let length =
            age.span().to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        Ok(Self { text: age, length: Duration::try_from(length).map_err(|_| wrong())? })
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// How much may lie unused in a repository: `5%` of it, `10GiB`, or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UnusedLimit {
    /// A share of the repository.
    Share(Share),
    /// So many bytes.
    Size(Size),
    /// Whatever it comes to.
    Unlimited,
}

impl FromStr for UnusedLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a limit; write it like 5%, 10GiB or unlimited");
        match text.trim() {
            "unlimited" => Ok(Self::Unlimited),
            share if share.ends_with('%') => {
                share.parse().map(Self::Share).map_err(|_: String| wrong())
            }
            size => size.parse().map(Self::Size).map_err(|_: String| wrong()),
        }
    }
}

impl fmt::Display for UnusedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => share.fmt(f),
            Self::Size(size) => size.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// In a schema: text, or a number.
macro_rules! text_or_number {
    ($name:ident) => {
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": ["string", "integer"] })
            }
        }
    };
}
pub(crate) use text_or_number;

macro_rules! serde_as_text {
    ($name:ident, $expecting:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text::new($expecting))
            }
        }

        text_or_number!($name);
    };
}

serde_as_text!(Size, "a size such as \"10GiB\"");
serde_as_text!(Share, "a percentage such as \"5%\"");
serde_as_text!(Time, "a duration such as \"24h\"");
serde_as_text!(UnusedLimit, "a limit such as \"5%\"");

/// Reads anything that has a textual form from a string, or from a whole number.
pub(crate) struct Text<T> {
    expecting: &'static str,
    kind: std::marker::PhantomData<T>,
}

impl<T> Text<T> {
    pub(crate) fn new(expecting: &'static str) -> Self {
        Self { expecting, kind: std::marker::PhantomData }
    }
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10GiB", 10 << 30),
            ("10G", 10 << 30),
            ("10 GB", 10_000_000_000),
            ("1.5MiB", 3 << 19),
            ("2k", 2048),
        ] {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "G", "-1", "1.2.3M", "10 apples", "99999999T", "1e3"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        assert_eq!(Size(10 << 30).to_string(), "10GiB");
        assert_eq!(Size(1_000_000).to_string(), "1MB");
        assert_eq!(Size(1025).to_string(), "1025B");
        assert_eq!(Size(0).to_string(), "0B");
    }

    #[test]
    fn shares() {
        assert_eq!("5%".parse(), Ok(Share(0.05)));
        assert_eq!("0 %".parse(), Ok(Share(0.0)));
        for bad in ["5", "101%", "-1%", "%", "NaN%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        assert_eq!(Share(0.05).to_string(), "5%");
    }

    #[test]
    fn times_and_limits() {
        for (text, seconds) in [("24h", 86_400), ("2d", 172_800), ("1w 90min", 610_200)] {
            assert_eq!(
                text.parse::<Time>().unwrap().length(),
                Duration::from_secs(seconds),
                "{text}"
            );
        }
        for bad in ["", "5", "1mo", "1y", "5m", "-1h"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
        for (text, limit) in [
            ("5%", UnusedLimit::Share(Share(0.05))),
            ("1GiB", UnusedLimit::Size(Size(1 << 30))),
            ("unlimited", UnusedLimit::Unlimited),
        ] {
            assert_eq!(text.parse(), Ok(limit), "{text}");
            assert_eq!(limit.to_string(), text);
        }
        assert!("much".parse::<UnusedLimit>().is_err());
    }
}
