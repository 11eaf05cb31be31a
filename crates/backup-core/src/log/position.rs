//! Positions in a source's log.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A position in a log: everything before it has happened. Positions of one branch are ordered;
/// those of different branches are not (a timeline of PostgreSQL, a replication id of Redis, a
/// rollback of MongoDB begin a new one).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Name of the branch; the first one may be empty.
    pub branch: String,
    /// Place in the branch: an LSN, an oplog time (`seconds << 32 | increment`), a replication
    /// offset.
    pub offset: u64,
}

impl Position {
    /// A position.
    #[must_use]
    pub fn new(branch: impl Into<String>, offset: u64) -> Self {
        Self { branch: branch.into(), offset }
    }
}

/// A position, and what a source needs besides to go on from there; see
/// [`LogReader::state`](crate::source::LogReader::state).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: Position,
    pub(super) state: Option<String>,
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.branch == other.branch).then(|| self.offset.cmp(&other.offset))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.branch, self.offset)
    }
}

/// The text is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a position (branch@offset)")]
pub struct ParsePositionError(String);

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParsePositionError(text.to_owned());
        let (branch, offset) = text.rsplit_once('@').ok_or_else(invalid)?;
        Ok(Self::new(branch, offset.parse().map_err(|_| invalid())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_text_and_back() {
        for position in
            [Position::new("", 0), Position::new("3", u64::MAX), Position::new("a@b", 7)]
        {
            assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }
        for bad in ["", "7", "a@", "a@-1", "a@x"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }

    #[test]
    fn branches_are_not_compared() {
        assert!(Position::new("a", 1) < Position::new("a", 2));
        assert_eq!(Position::new("a", 1).partial_cmp(&Position::new("b", 2)), None);
    }
}
