//! Databases, schemas and tables out of a data directory, as they were at a moment: a scratch
//! server is made of the snapshot, what is asked for is read from it as a logical backup into a
//! repository that is as short-lived as the server, and written to the target from there as any
//! logical backup is.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use backup_core::compress::Compression;
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::event::{Event, Events, Reporter};
use backup_core::log::Position;
use backup_core::pipeline::{self, BackupOptions};
use backup_core::repository::{InitOptions, Repository, SnapshotReader, WriteSettings};
use backup_core::source::{
    BackupKind, BackupReader, BackupRequest, Digest, LogReader, Probe, RestoreReport,
    RestoreRequest, Selection, Source, SourceCapabilities, SourceError, SourceErrorKind,
    SourceIdentity, SourceResult,
};
use backup_sources::postgres::{LogicalOptions, LogicalSource, Scratch, ScratchOptions};
use backup_storage::LocalSink;
use tokio::sync::Mutex;

/// Where the repository is, in the directory of the scratch server.
const REPOSITORY: &str = "repository";

/// A server that parts of data directories are written to.
#[derive(Debug)]
pub(super) struct Parts {
    target: Arc<LogicalSource>,
    options: ScratchOptions,
    /// What was read when it was shown what would be done: it is not read again to do it.
    read: Mutex<Option<Read>>,
}

/// What was read of a scratch server.
#[derive(Debug)]
struct Read {
    snapshot: SnapshotReader,
    /// What of it.
    selection: Selection,
    warnings: u64,
    /// The repository lies in its directory. The server itself has ended.
    scratch: Scratch,
}

impl Parts {
    /// What is read is written to `target`, which takes logical backups.
    pub(super) fn new(target: Arc<LogicalSource>, options: ScratchOptions) -> Self {
        Self { target, options, read: Mutex::default() }
    }

    async fn read(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<Read> {
        // Before the whole cluster is written.
        let version = Scratch::require_programs(&self.options, snapshot).await?;
        self.target.require_ready(cx, version, &request.selection).await?;
        let log = request.log.clone();
        let mut scratch = Scratch::start(cx, &self.options, snapshot, log, request.verify).await?;
        let (snapshot, warnings) = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => return Err(SourceError::cancelled()),
            stored = store(cx, &scratch, request) => stored?,
        };
        // What it was made of takes much more space than what was read of it.
        scratch.end_server().await?;
        let warnings = warnings + scratch.warnings();
        Ok(Read { snapshot, selection: request.selection.clone(), warnings, scratch })
    }
}

/// Reads from a scratch server what is asked for; returns the snapshot of it, and how many warnings
/// there were.
async fn store(
    cx: &Context,
    scratch: &Scratch,
    request: &RestoreRequest,
) -> SourceResult<(SnapshotReader, u64)> {
    let cx = Context { events: Events::to(Arc::new(Words(cx.events.clone()))), ..cx.clone() };
    let mut options = LogicalOptions::new(scratch.connection().clone());
    options.programs = scratch.dump_programs();
    // They are compared with what was written.
    options.digests = request.verify;
    options.is_copy = true;
    let source = LogicalSource::connect(options).await?;
    let sink = LocalSink::create(scratch.directory().join(REPOSITORY)).map_err(|error| {
        SourceError::new(SourceErrorKind::Target, "cannot store the data of the scratch server")
            .with_source(error)
    })?;
    let repository =
        Repository::init(Arc::new(sink), &Passphrase::generate(), &InitOptions::default(), &cx)
            .await?;
    let options = BackupOptions {
        job: "scratch".to_owned(),
        kind: Some(BackupKind::Full),
        selection: request.selection.clone(),
        write: WriteSettings { compression: Compression::Fast, ..WriteSettings::default() },
        ..BackupOptions::default()
    };
    let report = pipeline::backup(&repository, &source, &options, &cx).await?;
    let none = || {
        SourceError::new(SourceErrorKind::Repository, "the data of the scratch server is missing")
    };
    let id = report.snapshot.ok_or_else(none)?;
    let snapshots = repository.snapshots(&cx).await?;
    let info = snapshots.resolve(&id.to_hex())?;
    Ok((repository.load_index(&cx).await?.snapshot(info), report.warnings))
}

fn same(one: &Selection, other: &Selection) -> bool {
    (one.include(), one.exclude()) == (other.include(), other.exclude())
}

/// Of a backup within a restore, only what is said in words is told.
struct Words(Events);

impl Reporter for Words {
    fn report(&self, event: &Event) {
        if matches!(event, Event::Warning(_) | Event::Note { .. }) {
            self.0.emit(event);
        }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

fn unsupported() -> SourceError {
    SourceError::new(SourceErrorKind::Unsupported, "the target of a partial restore cannot be read")
}

#[async_trait]
impl Source for Parts {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn identity(&self) -> SourceIdentity {
        self.target.identity()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: false, log_capture: false }
    }

    async fn probe(&self, _cx: &Context) -> SourceResult<Probe> {
        Err(unsupported())
    }

    async fn open_backup(
        &self,
        _cx: &Context,
        _request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        Err(unsupported())
    }

    async fn open_log(
        &self,
        _cx: &Context,
        _from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        Err(unsupported())
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        let mut known = self.read.lock().await;
        let read = match known.take() {
            Some(read) if same(&read.selection, &request.selection) => read,
            _ => Box::pin(self.read(cx, request, snapshot)).await?,
        };
        let of_logical = RestoreRequest { log: None, target: None, ..request.clone() };
        let report = self.target.restore(cx, &of_logical, &read.snapshot).await?;
        let warnings = report.warnings + read.warnings;
        if request.dry_run {
            // It may be done next.
            *known = Some(read);
        } else {
            read.scratch.close().await?;
        }
        Ok(RestoreReport { warnings, ..report })
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        self.target.digest(cx, selection).await
    }
}
