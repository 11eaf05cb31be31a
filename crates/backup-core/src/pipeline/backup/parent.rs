//! The earlier snapshot that a backup compares with.

use jiff::{SignedDuration, Timestamp};

use super::options::BackupOptions;
use crate::context::Context;
use crate::format::Node;
use crate::id::{BlobId, SnapshotId};
use crate::repository::SnapshotInfo;
use crate::source::{BackupKind, Metadata, SourceIdentity};

/// The kernel stamps files with a clock that moves in steps of up to 10 ms.
const CLOCK_STEP: SignedDuration = SignedDuration::from_millis(10);
/// Some file systems (ext3, FAT, ext4 with small inodes) keep whole seconds, or even seconds, only.
const COARSE_STEP: SignedDuration = SignedDuration::from_secs(2);

/// What the pipeline needs to know of the parent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parent {
    pub(super) id: SnapshotId,
    pub(super) tree: BlobId,
    /// When its backup began to read.
    started: Timestamp,
}

impl Parent {
    /// The type that the snapshot will have, and the parent for it.
    pub(super) fn choose(
        snapshots: &[SnapshotInfo],
        source: &SourceIdentity,
        options: &BackupOptions,
        cx: &Context,
    ) -> (BackupKind, Option<Self>) {
        let wanted = options.kind.unwrap_or(BackupKind::Incremental);
        let newest =
            |fits: fn(Option<&str>) -> bool| newest(snapshots, source, options, fits).map(Self::of);
        let parent = match wanted {
            BackupKind::Full => return (BackupKind::Full, None),
            BackupKind::Incremental | BackupKind::Log => newest(|_| true),
            BackupKind::Differential => newest(|kind| kind == Some("full")),
        };
        if parent.is_none() {
            if options.kind.is_some() {
                cx.events
                    .note("There is no earlier snapshot to build on: this backup is a full one.");
            }
            return (BackupKind::Full, None);
        }
        (wanted, parent)
    }

    fn of(info: &SnapshotInfo) -> Self {
        let started = info
            .snapshot
            .summary
            .as_ref()
            .map_or(info.snapshot.time, |summary| summary.backup_start);
        Self { id: info.id, tree: info.snapshot.tree, started }
    }

    /// Whether a file is what `earlier` describes, so that its content need not be read. A file
    /// that was changed while the parent was being made, or within one step of the file system's
    /// clock before, may have changed again without a trace.
    pub(super) fn is_unchanged(&self, earlier: &Node, now: &Metadata) -> bool {
        let then = &earlier.metadata;
        let coarse = now.ctime.subsec_nanosecond() == 0 && now.mtime.subsec_nanosecond() == 0;
        let step = if coarse { COARSE_STEP } else { CLOCK_STEP };
        earlier.is_file()
            && now.inode != 0
            && then.inode == now.inode
            && then.size == now.size
            && then.mtime == now.mtime
            && then.ctime == now.ctime
            && now.ctime.duration_until(self.started) > step
    }
}

/// The snapshot before a new one in the order of the source. Captured logs are none: later ones
/// replace them.
pub(super) fn previous<'list>(
    snapshots: &'list [SnapshotInfo],
    source: &SourceIdentity,
    options: &BackupOptions,
) -> Option<&'list SnapshotInfo> {
    newest(snapshots, source, options, |kind| kind != Some("log"))
}

/// The newest snapshot of the same source whose type fits.
fn newest<'list>(
    snapshots: &'list [SnapshotInfo],
    source: &SourceIdentity,
    options: &BackupOptions,
    fits: fn(Option<&str>) -> bool,
) -> Option<&'list SnapshotInfo> {
    let is_meant = |info: &&SnapshotInfo| {
        fits(info.snapshot.tag("type")) && same_origin(info, source, options)
    };
    snapshots.iter().rev().find(is_meant)
}

/// Whether a snapshot is of the same source: of the same job, or made by restic of the same paths
/// on the same host.
fn same_origin(info: &SnapshotInfo, source: &SourceIdentity, options: &BackupOptions) -> bool {
    let snapshot = &info.snapshot;
    // A part lacks objects that a backup of the whole job would take for new ones.
    !snapshot.is_part()
        && snapshot.hostname == source.host
        && snapshot.paths == source.paths
        && snapshot.tag("job").is_none_or(|job| job == options.job)
        && snapshot.tag("source").is_none_or(|kind| kind == source.kind)
}
