//! Numbers with units: rates and spans of time, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes per second, at least one. Written as a number or with a unit: `500K`, `10MiB`, `1.5M`,
/// `20MB`. `K`, `M`, `G` and `KiB`, `MiB`, `GiB` are powers of 1024; `KB`, `MB`, `GB` are powers of
/// 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// A rate in bytes per second; `None` for zero, which would never get on.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Option<Self> {
        (bytes_per_second > 0).then_some(Self(bytes_per_second))
    }

    /// Bytes per second.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A number and its unit, in lower case.
fn split(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate; write bytes per second, for example 10MiB");
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let factor: u64 = match unit.trim_end_matches("/s") {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        Self::new((number * factor as f64) as u64).ok_or_else(wrong)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText(Self::new, "the rate must be above zero"))
    }
}

/// A span of time in whole seconds, at least one and at most seven days (what is meant to be longer
/// is a mistake, and the sum of two times must not overflow). Written as a number of seconds or
/// with a unit: `90s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u64);

impl Seconds {
    /// The longest span, in seconds.
    pub const MAX: u64 = 7 * 24 * 60 * 60;

    /// A span; `None` for zero and for more than [`Self::MAX`].
    #[must_use]
    pub fn new(seconds: u64) -> Option<Self> {
        (1..=Self::MAX).contains(&seconds).then_some(Self(seconds))
    }

    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not a duration up to 7 days; write seconds or, for example, 5m")
        };
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let factor = match &*unit {
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        Self::new((number * factor) as u64).ok_or_else(wrong)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText(
            Self::new,
            "the duration must be above zero and at most 7 days",
        ))
    }
}

/// What makes one of a number, and what is wrong with numbers of which it makes none.
struct NumberOrText<T>(fn(u64) -> Option<T>, &'static str);

impl<T: FromStr<Err = String>> de::Visitor<'_> for NumberOrText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number above zero, or a text with a unit")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.0)(number).ok_or_else(|| E::custom(self.1))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number).ok().and_then(self.0).ok_or_else(|| E::custom(self.1))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_units() {
        for (text, bytes) in [
            ("1000", 1000),
            ("10MiB", 10 << 20),
            ("1.5M", 3 << 19),
            ("2 MB/s", 2_000_000),
            ("4k", 4096),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().get(), bytes, "{text}");
        }
        for text in ["", "0", "x", "10 parsecs", "-1", "1.2.3"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn spans_have_units() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600)] {
            assert_eq!(
                text.parse::<Seconds>().unwrap().duration(),
                Duration::from_secs(seconds),
                "{text}"
            );
        }
        assert_eq!(
            "168h".parse::<Seconds>().unwrap().duration(),
            Duration::from_secs(Seconds::MAX)
        );
        for text in ["0", "168.1h", "99999999999999999999", "18446744073709551615"] {
            let error = text.parse::<Seconds>().unwrap_err();
            assert!(error.contains("7 days"), "{text}: {error}");
        }
    }
}
