//! What is measured, each step in a process of its own.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use backup_benches::{numbers, peak};
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::log::Position;
use backup_core::pipeline::{BackupOptions, backup, restore};
use backup_core::repository::{InitOptions, Repository, SnapshotReader};
use backup_core::source::{
    BackupReader, BackupRequest, Content, Digest, Item, LogReader, Probe, RestoreReport,
    RestoreRequest, Selection, Source, SourceCapabilities, SourceIdentity, SourceResult,
};
use backup_sources::mongodb::{ExportRequest, MongoOptions, MongoSource, SnapshotReads, export};
use backup_storage::LocalSink;
use bson::{Document, doc};
use futures::StreamExt as _;
use mongodb::Client;

use crate::Result;

/// Bytes that are compressed at a time.
const CHUNK: usize = 1 << 20;
/// Operations that are folded.
const OPERATIONS: i32 = 200_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read, and throw away.
    Read,
    /// The same documents through zstd alone, at level 3: what `mongodump | zstd` spends besides
    /// reading.
    Zstd3,
    /// The same at level 1, which is ours.
    Zstd1,
    /// Into an encrypted repository.
    Backup,
    /// From there into another server.
    Restore,
    /// An oplog of many operations, folded into an export.
    Fold,
}

pub(crate) const STEPS: [Step; 6] =
    [Step::Read, Step::Zstd3, Step::Zstd1, Step::Backup, Step::Restore, Step::Fold];

impl Step {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Zstd3 => "zstd3",
            Self::Zstd1 => "zstd1",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Fold => "fold",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Read => "read, no hash, 4 cursors",
            Self::Zstd3 => "zstd -3 alone, in memory",
            Self::Zstd1 => "zstd -1 alone, in memory",
            Self::Backup => "first backup, encrypted",
            Self::Restore => "restore",
            Self::Fold => "apply 200 000 oplog operations",
        }
    }

    /// CPU seconds per GB, or operations per second.
    fn limit(self) -> f64 {
        match self {
            Self::Read => 1.0,
            // There is no bar: they say what the others have to be held against.
            Self::Zstd3 | Self::Zstd1 => f64::INFINITY,
            Self::Backup => 4.5,
            Self::Restore => 2.5,
            Self::Fold => 20_000.0,
        }
    }

    /// Megabytes of memory that are allowed where the source alone decides.
    fn memory(self) -> f64 {
        if self == Self::Read { 250.0 } else { f64::INFINITY }
    }

    pub(crate) fn is_kept(self, cost: &Cost) -> bool {
        let is_fast = if self == Self::Fold {
            cost.rate() >= self.limit()
        } else {
            cost.cpu / cost.gb <= self.limit()
        };
        is_fast && cost.peak <= self.memory()
    }

    pub(crate) fn row(self, cost: &Cost) -> String {
        let (title, peak, limit) = (self.title(), cost.peak, self.limit());
        if self == Self::Fold {
            return format!(
                "{title:<34}{:>20.0} per second{peak:>12.0}  at least {limit}",
                cost.rate()
            );
        }
        format!(
            "{title:<34}{:>10.2}{:>10.2}{peak:>12.0}{limit:>10.1}",
            cost.cpu / cost.gb,
            cost.wall / cost.gb
        )
    }
}

/// What a step has taken.
#[derive(Debug)]
pub(crate) struct Cost {
    /// User and system time, seconds.
    pub(crate) cpu: f64,
    wall: f64,
    /// Largest resident set, megabytes.
    pub(crate) peak: f64,
    /// GB of documents.
    pub(crate) gb: f64,
}

impl Cost {
    /// Operations per second.
    fn rate(&self) -> f64 {
        f64::from(OPERATIONS) / self.wall
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.cpu, self.wall, self.peak, self.gb)
    }
}

impl FromStr for Cost {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self> {
        let [cpu, wall, peak, gb] = numbers(text, "a step")?;
        Ok(Self { cpu, wall, peak, gb })
    }
}

/// User and system time of this process so far, in seconds.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}

/// The clock of a step.
struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    fn stop(&self, bytes: u64) -> Result<Cost> {
        #[expect(clippy::cast_precision_loss, reason = "bytes of a bench")]
        let gb = bytes as f64 / 1e9;
        Ok(Cost { cpu: cpu() - self.1, wall: self.0.elapsed().as_secs_f64(), peak: peak()?, gb })
    }
}

/// Runs a step: its word, the servers' addresses and a scratch directory.
pub(crate) async fn run(args: &[String]) -> Result<Cost> {
    let [word, origin, target, scratch] = args else {
        return Err("a step requires four arguments".into());
    };
    let scratch = Path::new(scratch);
    match word.as_str() {
        "read" => read(origin).await,
        "zstd3" => compressed(origin, 3).await,
        "zstd1" => compressed(origin, 1).await,
        "backup" => Ok(backed_up(&source(origin).await?, scratch).await?.0),
        "restore" => restored(origin, target, scratch).await,
        "fold" => Box::pin(folded(target, scratch)).await,
        other => Err(format!("unknown step {other}").into()),
    }
}

/// Documents that are in memory already, compressed in pieces of about the size of a chunk.
async fn compressed(origin: &str, level: i32) -> Result<Cost> {
    let options =
        MongoOptions { snapshot_reads: SnapshotReads::Never, ..MongoOptions::new(origin) };
    let source = MongoSource::connect(options).await?;
    let mut reader =
        source.open_backup(&Context::silent(), &BackupRequest::full(Selection::all())).await?;
    let mut documents = Vec::new();
    while let Some(item) = reader.next().await? {
        let Item::Entry(entry) = item else { continue };
        let Content::Stream(mut content) = entry.content else { continue };
        while let Some(piece) = content.next().await {
            documents.extend_from_slice(&piece?);
        }
    }
    reader.finish().await?;
    let clock = Clock::start();
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    let mut small = Vec::with_capacity(zstd::zstd_safe::compress_bound(CHUNK));
    for chunk in documents.chunks(CHUNK) {
        small.clear();
        compressor.compress_to_buffer(chunk, &mut small)?;
    }
    clock.stop(documents.len() as u64)
}

pub(crate) async fn source(uri: &str) -> Result<MongoSource> {
    Ok(MongoSource::connect(MongoOptions::new(uri)).await?)
}

/// Collections one by one: at one moment, every document would be hashed for the snapshot's own
/// record.
async fn read(origin: &str) -> Result<Cost> {
    let options =
        MongoOptions { snapshot_reads: SnapshotReads::Never, ..MongoOptions::new(origin) };
    let source = MongoSource::connect(options).await?;
    let clock = Clock::start();
    let request = BackupRequest::full(Selection::all());
    let mut reader = source.open_backup(&Context::silent(), &request).await?;
    let mut contents = Vec::new();
    while let Some(item) = reader.next().await? {
        if let Item::Entry(entry) = item
            && let Content::Stream(content) = entry.content
        {
            contents.push(content);
        }
    }
    let count =
        async |mut content: futures::stream::BoxStream<'static, SourceResult<bytes::Bytes>>| {
            let mut bytes = 0;
            while let Some(piece) = content.next().await {
                bytes += piece?.len() as u64;
            }
            SourceResult::Ok(bytes)
        };
    let mut reading = futures::stream::iter(contents.into_iter().map(count)).buffered(2);
    let mut bytes = 0;
    while let Some(read) = reading.next().await {
        bytes += read?;
    }
    reader.finish().await?;
    clock.stop(bytes)
}

pub(crate) async fn backed_up(
    source: &dyn Source,
    scratch: &Path,
) -> Result<(Cost, SnapshotReader)> {
    let cx = Context::silent();
    let sink = Arc::new(LocalSink::create(scratch.join("repo"))?);
    let repository =
        Repository::init(sink, &Passphrase::generate(), &InitOptions::default(), &cx).await?;
    let clock = Clock::start();
    let options = BackupOptions { estimate: false, ..BackupOptions::default() };
    let report = backup(&repository, source, &options, &cx).await?;
    let list = repository.snapshots(&cx).await?;
    let info = list
        .snapshots
        .iter()
        .find(|info| Some(info.id) == report.snapshot)
        .ok_or("the repository has no such snapshot")?;
    let snapshot = repository.load_index(&cx).await?.snapshot(info);
    let bytes = snapshot.manifest().await?.map_or(0, |manifest| manifest.totals.bytes);
    Ok((clock.stop(bytes)?, snapshot))
}

async fn restored(origin: &str, target: &str, scratch: &Path) -> Result<Cost> {
    let (_, snapshot) = backed_up(&source(origin).await?, scratch).await?;
    let target = source(target).await?;
    let clock = Clock::start();
    let report =
        restore(&snapshot, &target, &RestoreRequest::default(), &Context::silent()).await?;
    clock.stop(report.total_bytes)
}

/// Everything that happens after its beginning has the oplog settle.
#[derive(Debug)]
struct Busy {
    inner: MongoSource,
    uri: String,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Source for Busy {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn identity(&self) -> SourceIdentity {
        self.inner.identity()
    }

    fn capabilities(&self) -> SourceCapabilities {
        self.inner.capabilities()
    }

    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        self.inner.probe(cx).await
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        let reader = self.inner.open_backup(cx, request).await?;
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            let kind = backup_core::source::SourceErrorKind::Io;
            backup_core::source::SourceError::new(kind, "cannot write the operations to apply")
                .with_source(error)
        };
        operations(&self.uri).await.map_err(failed)?;
        Ok(reader)
    }

    async fn open_log(
        &self,
        cx: &Context,
        from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        self.inner.open_log(cx, from).await
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        self.inner.restore(cx, request, snapshot).await
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        self.inner.digest(cx, selection).await
    }
}

/// Two thirds insertions, one third updates.
async fn operations(uri: &str) -> Result<()> {
    let db = Client::with_uri_str(uri).await?.database("bench");
    for n in 0..OPERATIONS / 3000 {
        let ids = n * 2000..(n + 1) * 2000;
        let documents: Vec<Document> = ids
            .clone()
            .map(|id| doc! { "_id": id, "n": 0, "text": "x".repeat(200), "list": [1, 2, 3] })
            .collect();
        db.run_command(doc! { "insert": "folded", "documents": documents }).await?;
        let change =
            |id: i32| doc! { "q": { "_id": id }, "u": { "$set": { "n": id, "list.1": 7 } } };
        let updates: Vec<Document> = ids.step_by(2).map(change).collect();
        db.run_command(doc! { "update": "folded", "updates": updates }).await?;
    }
    Ok(())
}

async fn folded(server: &str, scratch: &Path) -> Result<Cost> {
    db_with_one_document(server).await?;
    let options =
        MongoOptions { snapshot_reads: SnapshotReads::Never, ..MongoOptions::new(server) };
    let busy = Busy { inner: MongoSource::connect(options).await?, uri: server.to_owned() };
    let (_, snapshot) = backed_up(&busy, scratch).await?;
    let clock = Clock::start();
    let report =
        export(&Context::silent(), &snapshot, &ExportRequest::default(), &scratch.join("export"))
            .await?;
    clock.stop(report.bytes)
}

/// The collection is there when the backup begins.
async fn db_with_one_document(uri: &str) -> Result<()> {
    let db = Client::with_uri_str(uri).await?.database("bench");
    db.run_command(doc! { "insert": "folded", "documents": [{ "_id": -1 }] }).await?;
    Ok(())
}
