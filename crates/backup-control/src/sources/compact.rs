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
            Err(Error::invalid("snapshots of files are full ones, whatever their type")
                .with_hint("nothing has to be applied when they are restored"))
        }
        // What the log changes only a server knows.
        Some("postgres") => postgres::compact(repository, snapshot, options, cx).await,
        Some(LOGICAL) => Err(Error::invalid("logical backups are full ones")
            .with_hint("nothing has to be done to them")),
        Some("redis") => Err(Error::invalid("commands are not made into a dump without a server")
            .with_hint("`backup run` makes a full snapshot")),
        Some(other) => Err(restore::unknown(other)),
    }
}
