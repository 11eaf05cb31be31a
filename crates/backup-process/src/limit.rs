//! The time that helper programs and key files may take.

use std::time::Duration;

/// Units and their milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];

/// The environment variable that sets the limit: a duration such as `30s` or `2min`.
pub const LIMIT_VARIABLE: &str = "BACKUP_HELPER_TIMEOUT";

/// The limit without [`LIMIT_VARIABLE`].
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// [`LIMIT_VARIABLE`] has an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("BACKUP_HELPER_TIMEOUT is not a duration above 0; write it like 30s or 2min")]
pub struct BadLimit;

/// The limit that `value`, the value of [`LIMIT_VARIABLE`], sets; without one, the default.
///
/// # Errors
/// [`BadLimit`] if the value is not a duration above 0.
pub fn limit(value: Option<&str>) -> Result<Duration, BadLimit> {
    let Some(value) = value else { return Ok(DEFAULT_LIMIT) };
    let value = value.trim();
    let unit = value.find(|c: char| !c.is_ascii_digit()).ok_or(BadLimit)?;
    let (number, unit) = value.split_at(unit);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    let number: u64 = number.parse().map_err(|_| BadLimit)?;
    let limit = factor.and_then(|factor| number.checked_mul(*factor)).ok_or(BadLimit)?;
    if limit == 0 { Err(BadLimit) } else { Ok(Duration::from_millis(limit)) }
}

/// A limit in words, such as `30 seconds`.
pub(crate) fn in_words(limit: &Duration) -> String {
    let unit = if limit.as_millis() == 1000 { "second" } else { "seconds" };
    format!("{} {unit}", limit.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_in_words_has_a_unit() {
        assert_eq!(in_words(&Duration::from_secs(1)), "1 second");
        assert_eq!(in_words(&Duration::from_millis(1500)), "1.5 seconds");
        assert_eq!(in_words(&DEFAULT_LIMIT), "30 seconds");
    }

    #[test]
    fn limit_is_a_duration_above_zero() {
        assert_eq!(limit(None), Ok(Duration::from_secs(30)));
        for (value, seconds) in [("5s", 5), (" 2min ", 120), ("1h", 3600), ("2000ms", 2)] {
            assert_eq!(limit(Some(value)), Ok(Duration::from_secs(seconds)), "{value}");
        }
        for value in ["", "30", "0s", "-5s", "soon", "2m", "99999999999999999h"] {
            assert_eq!(limit(Some(value)), Err(BadLimit), "{value}");
        }
    }
}
