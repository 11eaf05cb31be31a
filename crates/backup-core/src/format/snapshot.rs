//! Snapshot objects.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::loose::null_as_default;
use super::sealed::open_measured;
use crate::crypto::MasterKey;
use crate::error::Result;
use crate::id::{BlobId, SnapshotId};
use crate::limits;
use crate::log::{Position, Tick};
use crate::source::LogStart;

/// A completed backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The moment it stands for.
    pub time: Timestamp,
    /// The snapshot it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// Its root directory.
    pub tree: BlobId,
    /// The paths that were backed up.
    #[serde(default, deserialize_with = "null_as_default")]
    pub paths: Vec<String>,
    /// Host of the source.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub hostname: String,
    /// User who ran the backup.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub username: String,
    /// User id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Exclude patterns.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// Tags; ours are `job=…`, `source=…`, `type=…`, `tier=…`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The snapshot this one was derived from, where a tool rewrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<SnapshotId>,
    /// Program that wrote it.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub program_version: String,
    /// What the backup found and stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SnapshotSummary>,
    /// How many entries are missing or incomplete; ours only, absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_warnings: Option<u64>,
    /// What it holds of a log, and where a log goes on from it; ours only, absent if its source has
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_log: Option<SnapshotLog>,
    /// The part of its job that it holds; ours only, absent if it holds the whole job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_part: Option<SnapshotPart>,
    /// The newest snapshot of the same source when this one was made, if that is not the parent: the
    /// order of snapshots whose clocks were wrong. Ours only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_previous: Option<SnapshotId>,
    /// The latest known time when this snapshot was made by a clock that contradicted it. Ours only,
    /// absent if the clock was not in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_clock_seen: Option<Timestamp>,
    /// What other tools, or newer versions, say of it: carried along by copies.
    #[serde(flatten)]
    pub others: serde_json::Map<String, serde_json::Value>,
}

/// The selection of a snapshot that holds less than its job selects.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SnapshotPart {
    /// Include patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Exclude patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

/// A snapshot's place in the log of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLog {
    /// Name of the stream.
    pub stream: String,
    /// Where the log goes on from what was backed up.
    pub start: LogStart,
    /// When that was.
    pub time: Timestamp,
    /// The pieces of the log that the snapshot holds besides, in the order in which they were
    /// rolled up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extents: Vec<LogExtent>,
}

/// A piece of a log in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogExtent {
    /// Branch that it is a piece of.
    pub branch: String,
    /// Where the branch left another one, if it began in this piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Position>,
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// Its first moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Tick>,
    /// Its last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Tick>,
    /// Size of its bytes.
    pub bytes: u64,
    /// File in `/.backup/log` that says where the bytes are, and what happened when.
    pub detail: String,
    /// Why what comes before is missing, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// What the source needs, besides the position, to go on behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// What a backup found and stored, in restic's terms.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotSummary {
    /// When it began.
    pub backup_start: Timestamp,
    /// When it ended.
    pub backup_end: Timestamp,
    /// Files that the parent does not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files as in the parent.
    pub files_unmodified: u64,
    /// Directories that the parent does not have.
    pub dirs_new: u64,
    /// Directories that differ from the parent's.
    pub dirs_changed: u64,
    /// Directories as in the parent.
    pub dirs_unmodified: u64,
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Bytes of new blobs before compression.
    pub data_added: u64,
    /// Bytes of new blobs as stored.
    pub data_added_packed: u64,
    /// Files looked at.
    pub total_files_processed: u64,
    /// Their size, bytes.
    pub total_bytes_processed: u64,
}

impl Snapshot {
    /// The latest known time, if the snapshot was made by a clock that was earlier: its own time is
    /// certainly wrong.
    #[must_use]
    pub fn clock_was_behind(&self) -> Option<Timestamp> {
        self.x_clock_seen.filter(|seen| self.time < *seen)
    }

    /// Opens and reads a snapshot object.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if it is none, was changed, or is
    /// larger than [`limits`] permit;
    /// [`ErrorKind::UnsupportedVersion`](crate::error::ErrorKind::UnsupportedVersion) if a newer
    /// format wrote it.
    pub fn open(key: &MasterKey, sealed: &[u8]) -> Result<Self> {
        Self::open_up_to(key, sealed, limits::MAX_SNAPSHOT).map(|(snapshot, _)| snapshot)
    }

    /// Opens a snapshot object of at most `limit` bytes before compression; returns its length too.
    ///
    /// # Errors
    /// The errors of [`Self::open`].
    pub(crate) fn open_up_to(
        key: &MasterKey,
        sealed: &[u8],
        limit: usize,
    ) -> Result<(Self, usize)> {
        open_measured(key, sealed, limit)
    }

    /// True if it holds only a part of its job: it never stands for the job.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.x_part.is_some()
    }

    /// The value of the tag `name=…`.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(name)?.strip_prefix('='))
    }
}
