//! Full snapshots of databases that are made of earlier ones and their logs, without the server.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::log::LogReplay;
use backup_core::pipeline::{BackupOptions, BackupReport};
use backup_core::repository::{Repository, SnapshotInfo, SnapshotReader};

use super::flags::LOGICAL;
use super::{mongodb, postgres, restore};
use crate::error::{Error, Result};

/// Whether a snapshot, with what can be applied of `log`, is a full one as it is.
#[must_use]
pub fn is_compact(info: &SnapshotInfo, log: &LogReplay) -> bool {
    (log.plan().log.is_empty() || !applies_log(info)) && info.snapshot.tag("type") == Some("full")
}

/// Whether the log behind a snapshot can be applied without a server.
#[must_use]
pub fn applies_log(info: &SnapshotInfo) -> bool {
    info.snapshot.tag("source") != Some("postgres")
}

/// Stores what `snapshot` comes to with `log`, if that can be applied without a server, as a new
/// full snapshot. `options` say how blobs are stored.
///
/// # Errors
/// [`Error::Invalid`] for a kind of source that cannot do it; those of reading the log and of the
/// repository.
pub async fn compact(
    repository: &Repository,
    snapshot: &SnapshotReader,
    log: Arc<LogReplay>,
    options: &BackupOptions,
    cx: &Context,
) -> Result<BackupReport> {
    let log = (!log.plan().log.is_empty()).then_some(log);
    match snapshot.snapshot().tag("source") {
        Some("mongodb") => mongodb::compact(repository, snapshot, log, options, cx).await,
        None | Some("files") => {
            Err(Error::invalid("snapshots of files are already full, also incremental ones")
                .with_hint("restore the snapshot as it is: no log has to be applied"))
        }
        // What the log changes only a server knows.
        Some("postgres") => postgres::compact(repository, snapshot, options, cx).await,
        Some(LOGICAL) => Err(Error::invalid("logical backups are already full")
            .with_hint("restore the snapshot as it is: there is nothing to compact")),
        Some("redis") => Err(Error::invalid(
            "a log of commands cannot be compacted into a dump without a server",
        )
        .with_hint("create a full snapshot with `backup run`")),
        Some(other) => Err(restore::unknown(other)),
    }
}
