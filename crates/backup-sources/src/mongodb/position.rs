//! Moments of a replica set's history.

use std::fmt;
use std::str::FromStr;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::Timestamp;
use jiff::Timestamp as Time;

/// A moment of a replica set's history: the `ts` of its oplog, seconds since 1970 and a counter
/// within the second.
///
/// Written `seconds:increment`; parsing also takes an ISO time, which means everything up to its
/// second, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: u32,
    /// Number within the second, from 1.
    pub increment: u32,
}

impl Position {
    /// Its place in a captured log.
    pub(super) fn offset(self) -> u64 {
        u64::from(self.seconds) << 32 | u64::from(self.increment)
    }

    /// The opposite of [`Self::offset`].
    pub(super) fn of_offset(offset: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Self { seconds: half(offset >> 32), increment: half(offset) }
    }
}

impl From<Timestamp> for Position {
    fn from(ts: Timestamp) -> Self {
        Self { seconds: ts.time, increment: ts.increment }
    }
}

impl From<Position> for Timestamp {
    fn from(at: Position) -> Self {
        Self { time: at.seconds, increment: at.increment }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seconds, self.increment)
    }
}

/// An entry of the oplog: its moment and the term of the primary that wrote it. After a rollback
/// another entry may have the same moment, but never the same term.
///
/// Written `seconds:increment@term`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogPosition {
    /// Its moment.
    pub at: Position,
    /// The term of the election.
    pub term: i64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.at, self.term)
    }
}

impl FromStr for LogPosition {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let read = || {
            let (at, term) = text.split_once('@')?;
            Some(Self { at: at.parse().ok()?, term: term.parse().ok()? })
        };
        read().ok_or_else(|| {
            SourceError::new(SourceErrorKind::Invalid, format!("{text:?} is not an oplog position"))
                .with_hint("write seconds:increment@term")
        })
    }
}

impl FromStr for Position {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some((seconds, increment)) = text.split_once(':')
            && let (Ok(seconds), Ok(increment)) = (seconds.parse(), increment.parse())
        {
            return Ok(Self { seconds, increment });
        }
        let second =
            text.parse::<Time>().ok().and_then(|time| u32::try_from(time.as_second()).ok());
        second.map(|seconds| Self { seconds, increment: u32::MAX }).ok_or_else(|| {
            SourceError::new(
                SourceErrorKind::Invalid,
                format!("{text:?} is not a moment of a replica set"),
            )
            .with_hint(
                "write seconds:increment as in the oplog, or a time such as 2026-01-31T12:00:00Z",
            )
        })
    }
}

/// `until` if it lies between two moments. A time up to when the second one was found to be the
/// newest means that one: nothing was written in between.
pub(super) fn within(
    until: Position,
    (begin, end): (Position, Position),
    finished: i64,
) -> SourceResult<Position> {
    let is_time = until.increment == u32::MAX;
    let (word, hint) = match until {
        until if until < begin => ("earlier", "choose an earlier snapshot"),
        until if until > end && is_time && i64::from(until.seconds) <= finished => return Ok(end),
        until if until > end => ("later", "choose a later snapshot"),
        until => return Ok(until),
    };
    let span =
        if begin == end { format!("{end}") } else { format!("moments from {begin} to {end}") };
    let text = format!("this snapshot can be restored to {span}; {until} is {word}");
    Err(SourceError::new(SourceErrorKind::Invalid, text).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_and_read() {
        let at = Position { seconds: 1_700_000_000, increment: 7 };
        assert_eq!(at.to_string().parse::<Position>().unwrap(), at);
        assert_eq!(Position::of_offset(at.offset()), at);
        let time: Position = "2023-11-14T22:13:20Z".parse().unwrap();
        assert!(time > at && time.seconds == at.seconds);
        let entry = LogPosition { at, term: -1 };
        assert_eq!(entry.to_string(), "1700000000:7@-1");
        assert_eq!(entry.to_string().parse::<LogPosition>().unwrap(), entry);
        assert!("1:2".parse::<LogPosition>().is_err() && "x@1".parse::<LogPosition>().is_err());
        for bad in ["", "1:", "yesterday", "5000000000:1"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }

    #[test]
    fn time_until_the_end_means_the_moment_of_a_backup() {
        let at = |seconds, increment| Position { seconds, increment };
        let span = (at(5, 1), at(9, 1));
        assert_eq!(within(at(7, 3), span, 20).unwrap(), at(7, 3));
        assert_eq!(within(at(9, u32::MAX), span, 20).unwrap(), at(9, 1));
        assert_eq!(within(at(20, u32::MAX), span, 20).unwrap(), at(9, 1));
        for bad in [at(21, u32::MAX), at(9, 2), at(20, 1), at(5, 0)] {
            assert!(within(bad, span, 20).is_err(), "{bad}");
        }
    }
}
