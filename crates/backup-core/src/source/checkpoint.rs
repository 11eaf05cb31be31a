//! Positions in a source's log, and pieces of that log.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a backup stands for: an interval of wall-clock time and, for sources with a log, a position in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// When reading began.
    pub started: Timestamp,
    /// When reading ended: the moment that the snapshot stands for.
    pub finished: Timestamp,
    /// The position in the source's own terms (LSN, oplog timestamp, replication offset), if it has a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
}

/// A piece of a source's log in its native form.
#[derive(Debug, Clone)]
pub struct LogSegment {
    /// Position of its first byte.
    pub from: Checkpoint,
    /// Position after its last byte: what to acknowledge.
    pub to: Checkpoint,
    /// The bytes.
    pub data: Bytes,
}
