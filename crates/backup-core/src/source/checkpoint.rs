//! What a backup stands for, and pieces of a source's log.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EntryPath;
use crate::log::{Position, Scope, Tick};

/// What a backup stands for: an interval of wall-clock time and, for sources with a log, a position
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// When reading began.
    pub started: Timestamp,
    /// When reading ended: the moment that the snapshot stands for.
    pub finished: Timestamp,
    /// The position in the source's own terms (LSN, oplog timestamp, replication offset), if it has
    /// a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The place in its log, if one can be captured and applied to the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogStart>,
}

/// Where a log goes on from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStart {
    /// From here on the log is needed; before [`Self::at`] if the source went on while it was read,
    /// and the backup does not hold that part itself. On the same branch.
    pub needs: u64,
    /// The state that the backup stands for, and the earliest that can be restored from it.
    pub at: Position,
    /// What the source needs, besides the position, to go on from [`Self::needs`]; only the source
    /// understands it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl LogStart {
    /// A place from which a log goes on by itself.
    #[must_use]
    pub fn new(needs: u64, at: Position) -> Self {
        Self { needs, at, state: None }
    }
}

/// A piece of a source's log in its native form: whole events, on one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSegment {
    /// Branch that it is a piece of.
    pub branch: String,
    /// Where the branch left another one, if this is the first piece of it.
    pub parent: Option<Position>,
    /// Where it begins.
    pub from: u64,
    /// Where it ends: what to acknowledge.
    pub to: u64,
    /// Times of events that end in it, by the clock of the source, in the order of the log.
    pub ticks: Vec<Tick>,
    /// The file that its bytes belong to in snapshots.
    pub path: EntryPath,
    /// Their place in that file: behind all bytes of it that came before.
    pub at: u64,
    /// What its events are about; `None` if that may be anything.
    pub scope: Option<Scope>,
    /// The bytes. None for a heartbeat: nothing happened up to [`Self::to`].
    pub data: Bytes,
}
