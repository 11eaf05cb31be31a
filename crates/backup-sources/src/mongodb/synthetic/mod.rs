//! A full snapshot made of an earlier one and its oplog, inside the repository: no server is asked.
//!
//! What long chains of incremental backups, or a long captured log, come to is folded once, so that
//! restores need not do it and the old pieces may go. It is read as a source like any other, and so
//! stored, verified and published as any other snapshot is. Memory and disk: as for every fold; the
//! documents that operations touch wait in a file without a name.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`synthetic_full()`]; a snapshot as a source |
//! | `spool.rs` | settled documents on disk, by collection |
//! | `reader.rs` | the backup reader: what is untouched from the dump, and what is settled behind it |

mod reader;
mod spool;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::format::Manifest;
use backup_core::log::{self, LogReplay};
use backup_core::pipeline::{BackupOptions, BackupReport, backup};
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::source::{
    BackupKind, BackupReader, BackupRequest, Checkpoint, Digest, LogReader, LogStart, Probe,
    RestoreReport, RestoreRequest, Selection, Source, SourceCapabilities, SourceError,
    SourceErrorKind, SourceIdentity, SourceResult,
};
use jiff::SignedDuration;

use super::dump::Dump;
use super::error::malformed;
use super::namespace::Filter;
use super::position::Position;
use super::server::unless_cancelled;
use reader::Reader;
pub(super) use spool::Spool;

/// Stores what `snapshot`, with `log` applied if there is one, comes to as a new full snapshot of
/// the same job. `options` say how blobs are stored, and who does it.
///
/// # Errors
/// [`SourceErrorKind::Invalid`] if there is nothing to fold; [`SourceErrorKind::Unavailable`] if a
/// transaction is under way at that moment; those of the fold and of the repository. Then no
/// snapshot is published.
pub async fn synthetic_full(
    repository: &Repository,
    snapshot: &SnapshotReader,
    log: Option<Arc<LogReplay>>,
    options: &BackupOptions,
    cx: &Context,
) -> backup_core::error::Result<BackupReport> {
    let manifest = snapshot.manifest().await?.ok_or_else(|| malformed("snapshot: no manifest"))?;
    let selection = Selection::new(manifest.include.clone(), manifest.exclude.clone());
    let options = BackupOptions {
        job: manifest.job.clone(),
        kind: Some(BackupKind::Full),
        tier: manifest.tier.clone(),
        selection: selection
            .map_err(|error| malformed("selection in the snapshot").with_source(error))?,
        configuration: manifest.configuration.clone(),
        ..options.clone()
    };
    let source = Folding { snapshot: snapshot.clone(), log, manifest: Box::new(manifest) };
    backup(repository, &source, &options, cx).await
}

/// A snapshot as a source.
#[derive(Debug)]
struct Folding {
    snapshot: SnapshotReader,
    log: Option<Arc<LogReplay>>,
    manifest: Box<Manifest>,
}

impl fmt::Display for Folding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot {}", self.snapshot.id().short())
    }
}

fn unsupported() -> SourceError {
    SourceError::new(
        SourceErrorKind::Unsupported,
        "a snapshot that is being compacted does not support this operation",
    )
}

#[async_trait]
impl Source for Folding {
    fn kind(&self) -> &'static str {
        "mongodb"
    }

    /// That of the server: so that later backups build on what is made here.
    fn identity(&self) -> SourceIdentity {
        self.manifest.source.clone()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: false, log_capture: false }
    }

    async fn probe(&self, _cx: &Context) -> SourceResult<Probe> {
        Ok(Probe::default())
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        // The snapshot holds the objects that were selected when it was made.
        request.selection.record().note_all();
        let dump =
            unless_cancelled(cx, Dump::open(cx, &self.snapshot)).await?.with_log(self.log.clone());
        if !dump.needs_entries() {
            return Err(SourceError::new(
                SourceErrorKind::Invalid,
                "this snapshot has no oplog to apply",
            )
            .with_hint("use the snapshot as it is: it is already a full one"));
        }
        let mut folded = unless_cancelled(cx, dump.fold(cx, None, &Filter::everything())).await?;
        if folded.unfinished {
            return Err(SourceError::new(
                SourceErrorKind::Unavailable,
                "a transaction is open at the moment of the new snapshot",
            )
            .with_hint(
                "choose an earlier or a later snapshot: a full snapshot cannot hold an open \
                 transaction",
            ));
        }
        let spool = unless_cancelled(cx, Spool::fill(cx, &dump, &mut folded)).await?;
        let checkpoint = self.checkpoint()?;
        Ok(Box::new(Reader::new(cx, dump, folded, spool, checkpoint)))
    }

    async fn open_log(
        &self,
        _cx: &Context,
        _from: Option<&log::Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        Err(unsupported())
    }

    async fn restore(
        &self,
        _: &Context,
        _: &RestoreRequest,
        _: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        Err(unsupported())
    }

    async fn digest(&self, _cx: &Context, _selection: &Selection) -> SourceResult<Digest> {
        Err(unsupported())
    }
}

impl Folding {
    /// The moment that everything is brought to. Listed behind the snapshot of the same moment, so
    /// that later backups build on the new one.
    fn checkpoint(&self) -> SourceResult<Checkpoint> {
        let made = &self.manifest.checkpoint;
        let (branch, at, finished) = match &self.log {
            Some(log) => (
                log.plan().stop.branch.clone(),
                Position::of_offset(log.plan().stop.offset),
                log.plan().time.unwrap_or(made.finished),
            ),
            None => {
                let position = made
                    .position
                    .as_ref()
                    .ok_or_else(|| malformed("snapshot: no oplog position"))?;
                let log = self.snapshot.snapshot().x_log.as_ref();
                let branch = log.map(|log| log.start.at.branch.clone()).unwrap_or_default();
                (branch, position.parse()?, made.finished)
            }
        };
        let log = LogStart::new(at.offset(), log::Position::new(branch, at.offset()));
        let finished = finished.checked_add(SignedDuration::from_millis(1)).unwrap_or(finished);
        Ok(Checkpoint {
            started: made.started,
            finished,
            position: Some(at.to_string()),
            log: Some(log),
        })
    }
}
