//! Places in the log.

use std::fmt;
use std::str::FromStr;

use backup_core::source::SourceError;

use super::error::invalid;

/// A place in the log of a cluster, in bytes from its beginning. Written `16/B374D848`, as
/// PostgreSQL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl FromStr for Lsn {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let half = |text: &str| {
            let digits =
                (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        let halves = text.split_once('/').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        let (high, low) = halves.ok_or_else(|| {
            invalid(format!("{text:?} is not a WAL position (such as 16/B374D848)"))
        })?;
        Ok(Self(high << 32 | low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_and_read() {
        for lsn in [0, 1, 0x16_b374_d848, u64::MAX] {
            assert_eq!(Lsn(lsn).to_string().parse::<Lsn>().unwrap(), Lsn(lsn));
        }
        assert_eq!(Lsn(0x16_b374_d848).to_string(), "16/B374D848");
        for bad in ["", "1", "/", "1/", "1/+2", "123456789/0", "x/1", "1/2/3"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }
}
