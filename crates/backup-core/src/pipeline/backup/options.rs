//! Options of a backup, and its report.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::format::ManifestTotals;
use crate::id::SnapshotId;
use crate::repository::{ClockDoubt, WriteSettings, WriteStats};
use crate::source::{BackupKind, Selection};

/// How to back up.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Name of the job; snapshots of one job and source build on each other.
    pub job: String,
    /// Type; `None` is incremental if there is an earlier snapshot, else full.
    pub kind: Option<BackupKind>,
    /// Tier, for retention.
    pub tier: String,
    /// Host name that the snapshot records in place of the source's.
    pub host: Option<String>,
    /// More tags.
    pub tags: Vec<String>,
    /// Which objects of the source.
    pub selection: Selection,
    /// True if the selection is less than the job's: the snapshot is then recorded as a part,
    /// stands only for its own moment, and is neither the base of another snapshot nor `latest`.
    pub is_part: bool,
    /// True for a dump of the past: the snapshot follows no other one, and its own time counts
    /// although the store receives it later, as far as the credentials may vouch for it.
    pub is_import: bool,
    /// How blobs are stored.
    pub write: WriteSettings,
    /// Time zone of this machine: restic writes times with its offset, and trees only deduplicate
    /// with restic's if ours do as well.
    pub time_zone: TimeZone,
    /// Who runs the backup.
    pub username: String,
    /// Which program, with its version.
    pub program: String,
    /// The job's configuration without secrets, kept in the manifest.
    pub configuration: serde_json::Value,
    /// Bytes of files and streams that a snapshot may hold: with more, the backup fails and there
    /// is no snapshot.
    pub max_bytes: Option<u64>,
    /// Read, chunk and compress everything, but store nothing.
    pub dry_run: bool,
    /// Ask the source for its size meanwhile, so that progress has totals.
    pub estimate: bool,
    /// Use the listing of an earlier backup of this process, if it is younger than this and the store
    /// still has the same snapshots.
    pub reuse_listing: Duration,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            job: "manual".to_owned(),
            kind: None,
            tier: "manual".to_owned(),
            host: None,
            tags: Vec::new(),
            selection: Selection::all(),
            is_part: false,
            is_import: false,
            write: WriteSettings::default(),
            time_zone: TimeZone::UTC,
            username: String::new(),
            program: concat!("backup ", env!("CARGO_PKG_VERSION")).to_owned(),
            configuration: serde_json::Value::Null,
            max_bytes: None,
            dry_run: false,
            estimate: false,
            reuse_listing: Duration::ZERO,
        }
    }
}

/// Entries by what became of them since the parent snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EntryCounts {
    /// Not in the parent.
    pub new: u64,
    /// Different from the parent.
    pub changed: u64,
    /// As in the parent.
    pub unmodified: u64,
}

/// What a backup did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupReport {
    /// The new snapshot; `None` after a dry run.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: BackupKind,
    /// Files and streams.
    pub files: EntryCounts,
    /// Directories.
    pub dirs: EntryCounts,
    /// What the snapshot holds.
    pub totals: ManifestTotals,
    /// What was stored for it.
    pub stored: WriteStats,
    /// Entries that are missing or incomplete.
    pub warnings: u64,
    /// Packs of the repository that were missing or truncated. The data that this snapshot needs of
    /// them was stored again; earlier snapshots may be damaged.
    #[serde(default)]
    pub lost_packs: u64,
    /// The contradiction between the clock and the latest time that is known of the repository: the
    /// snapshot's date may be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_doubt: Option<ClockDoubt>,
    /// Seconds by which the store's clock is ahead of that of this machine, when the snapshot was
    /// stored. None where the store has no clock of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_seconds: Option<i64>,
    /// Seconds by which the clock of the server that was backed up was ahead of that of this
    /// machine, when the source connected. None for sources without a server, and where the server
    /// does not report its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_clock_offset_seconds: Option<i64>,
    /// When reading began.
    pub started: Timestamp,
    /// When the snapshot was published.
    pub finished: Timestamp,
}
