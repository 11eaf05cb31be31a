//! Backups that take their time: everything is read, then they wait, while everything else goes on.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use backup_core::clock::Clock;
use backup_core::context::Context;
use backup_core::error::{ErrorKind, Result};
use backup_core::id::SnapshotId;
use backup_core::pipeline::backup;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Checkpoint, Digest, Item, LogReader, Probe, RestoreReport, RestoreRequest, Selection,
    Source, SourceCapabilities, SourceIdentity, SourceResult,
};
use backup_core::testing::ScriptedSource;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::world::{Content, GRACE, World};

/// A source whose end comes when it is let go.
#[derive(Debug, Clone)]
struct Held {
    inner: ScriptedSource,
    go: Arc<Notify>,
    waits: Arc<Notify>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held {}", self.inner)
    }
}

struct HeldReader {
    inner: Box<dyn BackupReader>,
    source: Held,
}

#[async_trait]
impl BackupReader for HeldReader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        let item = self.inner.next().await?;
        if item.is_none() {
            self.source.waits.notify_one();
            self.source.go.notified().await;
        }
        Ok(item)
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) {
        self.inner.abort().await;
    }
}

#[async_trait]
impl Source for Held {
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

    async fn open_backup(&self, cx: &Context, request: &BackupRequest) -> SourceResult<Box<dyn BackupReader>> {
        let inner = self.inner.open_backup(cx, request).await?;
        Ok(Box::new(HeldReader { inner, source: self.clone() }))
    }

    async fn open_log(&self, cx: &Context, from: &Checkpoint) -> SourceResult<Box<dyn LogReader>> {
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

/// A backup that has read everything and waits.
pub(super) struct Writer {
    task: JoinHandle<Result<SnapshotId>>,
    go: Arc<Notify>,
    content: Content,
    since: Timestamp,
}

impl World {
    pub(super) async fn start_writer(&mut self) {
        let job = self.rng.random_range(0..self.jobs.len());
        let content = self.change(job);
        let source = Held { inner: Self::source(job, &content), go: Arc::default(), waits: Arc::default() };
        let (go, waits) = (Arc::clone(&source.go), Arc::clone(&source.waits));
        let (repository, cx) = (self.repo.repository.clone(), self.cx());
        let task = tokio::spawn(async move {
            backup(&repository, &source, &Self::options(job), &cx).await.map(|report| report.snapshot.unwrap())
        });
        waits.notified().await;
        self.writers.push(Writer { task, go, content, since: self.clock.now() });
        self.count("slow backup begun");
    }

    pub(super) async fn finish_writer(&mut self) {
        if self.writers.is_empty() {
            return;
        }
        let writer = self.writers.swap_remove(self.rng.random_range(0..self.writers.len()));
        writer.go.notify_one();
        let took = writer.since.duration_until(self.clock.now());
        match writer.task.await.unwrap() {
            Ok(id) => {
                self.live.insert(id, writer.content);
                self.count("slow backup done");
            }
            // Only who was silent for longer than sessions are respected may find that its packs are gone.
            Err(error) if error.kind() == ErrorKind::Busy && took > GRACE + SignedDuration::from_hours(2) => {
                self.count("slow backup came too late");
            }
            Err(error) => panic!("{}: a backup of {took:#} failed: {}", self.at, error.chain()),
        }
    }

    pub(super) async fn finish_writers(&mut self) {
        while !self.writers.is_empty() {
            self.finish_writer().await;
        }
    }
}
