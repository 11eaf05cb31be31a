//! A full snapshot made of one that builds on others, inside the repository: no server is asked.
//!
//! What incremental backups come to is put together once, by what a restore puts it together by:
//! each page from the newest backup that has it, visibility maps in line with their tables. It is
//! read as a source like any other, and so stored, verified and published as any other snapshot is.
//! Files are cut where those of full backups are: what did not change since the full one is there
//! already, and is only referred to. The log behind it stays what it is: only a server can apply
//! it.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`synthetic_full()`]; a snapshot as a source |
//! | `reader.rs` | the backup reader: which files there are, in the order of their directories |
//! | `pieces.rs` | [`Pieces`](pieces::Pieces): the content of a file that is put together |

mod pieces;
mod reader;

use std::fmt;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::format::Manifest;
use backup_core::log;
use backup_core::pipeline::{BackupOptions, BackupReport, backup};
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::source::{
    BackupKind, BackupReader, BackupRequest, Checkpoint, Digest, LogReader, LogStart, Probe,
    RestoreReport, RestoreRequest, Selection, Source, SourceCapabilities, SourceError,
    SourceErrorKind, SourceIdentity, SourceResult,
};
use jiff::SignedDuration;

use super::super::cluster::KIND;
use super::super::error::malformed;
use super::super::layout::Layout;
use super::super::lsn::Lsn;
use super::Description;

/// Stores what `snapshot` and those that it builds on come to as a new full snapshot of the same
/// job. `options` say how blobs are stored, and who does it.
///
/// # Errors
/// [`SourceErrorKind::Invalid`] if it builds on no other, or has damaged pages; those of reading it
/// and of the repository. Then no snapshot is published.
pub async fn synthetic_full(
    repository: &Repository,
    snapshot: &SnapshotReader,
    options: &BackupOptions,
    cx: &Context,
) -> backup_core::error::Result<BackupReport> {
    let manifest = snapshot.manifest().await?.ok_or_else(|| malformed("snapshot: no manifest"))?;
    let options = BackupOptions {
        job: manifest.job.clone(),
        kind: Some(BackupKind::Full),
        tier: manifest.tier.clone(),
        selection: Selection::all(),
        configuration: manifest.configuration.clone(),
        ..options.clone()
    };
    let source = Folding { snapshot: snapshot.clone(), manifest: Box::new(manifest) };
    backup(repository, &source, &options, cx).await
}

/// A snapshot as a source.
#[derive(Debug)]
struct Folding {
    snapshot: SnapshotReader,
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
        KIND
    }

    /// That of the cluster: so that later backups build on what is made here.
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
        let (layout, description) = Description::read(&self.snapshot).await?;
        if description.increments == 0 {
            return Err(SourceError::new(
                SourceErrorKind::Invalid,
                "this snapshot has no incremental backups to combine",
            )
            .with_hint("use the snapshot as it is: it is already a full one"));
        }
        // What is made of it would no longer say what is missing.
        if let Some(reason) = crate::parent::incomplete(&self.snapshot) {
            return Err(SourceError::new(SourceErrorKind::Invalid, reason)
                .with_hint("make a full backup instead"));
        }
        self.refuse_damaged(&layout, &description).await?;
        let checkpoint = self.checkpoint(&description)?;
        Ok(reader::open(cx, &self.snapshot, layout, description, checkpoint))
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
    /// What it is made of would no longer say what is wrong with it.
    async fn refuse_damaged(&self, layout: &Layout, description: &Description) -> SourceResult<()> {
        for layer in layout.layers(description.increments) {
            if self.snapshot.find(&layer.damage()).await?.is_some() {
                let text = "the snapshot holds pages that were damaged on the server";
                return Err(SourceError::new(SourceErrorKind::Invalid, text)
                    .with_hint("repair the damaged pages, then make a full backup"));
            }
        }
        Ok(())
    }

    /// The moment of the newest backup in it, whatever log is there as well. Listed behind that, so
    /// that later backups build on the new one.
    fn checkpoint(&self, description: &Description) -> SourceResult<Checkpoint> {
        let end: Lsn = description.end.parse().map_err(|_| malformed("cluster.json"))?;
        let made = &self.manifest.checkpoint;
        let finished =
            self.snapshot.snapshot().x_log.as_ref().map_or(made.finished, |log| log.time);
        let finished = finished.checked_add(SignedDuration::from_millis(1)).unwrap_or(finished);
        let at = log::Position::new(description.timeline.to_string(), end.0);
        Ok(Checkpoint {
            started: made.started,
            finished,
            position: Some(format!("{end} on timeline {}", description.timeline)),
            log: Some(LogStart::new(end.0, at)),
        })
    }
}
