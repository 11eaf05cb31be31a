//! Full snapshots of databases that are made of earlier ones and their logs, without the server.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::log::LogReplay;
use backup_core::pipeline::{BackupOptions, BackupReport};
use backup_core::repository::{Repository, SnapshotInfo, SnapshotReader};

use super::{mongodb, restore};
use crate::error::{Error, Result};

/// Whether a snapshot, with `log` applied, is a full one as it is.
#[must_use]
pub fn is_compact(info: &SnapshotInfo, log: &LogReplay) -> bool {
    log.plan().log.is_empty() && info.snapshot.tag("type") == Some("full")
}

/// Stores what `snapshot` comes to with `log` as a new full snapshot. `options` say how blobs are stored.
///
/// # Errors
/// [`Error::Invalid`] for a kind of source that cannot do it; those of reading the log and of the repository.
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
        None | Some("files") => Err(Error::invalid("snapshots of files are full ones, whatever their type")
            .with_hint("nothing has to be applied when they are restored")),
        Some("postgres") => {
            Err(Error::invalid("a data directory is not made of an earlier one and its log without a server")
                .with_hint("`backup run` makes a full snapshot; what did not change is not stored again"))
        }
        Some("redis") => Err(Error::invalid("commands are not made into a dump without a server")
            .with_hint("`backup run` makes a full snapshot")),
        Some(other) => Err(restore::unknown(other)),
    }
}
