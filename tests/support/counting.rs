//! A source that watches how the contents of the source inside it are read.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, BlockingContent, Checkpoint, Content, ContentEnd, ContentReader,
    Digest, Item, LogReader, Probe, RestoreReport, RestoreRequest, Selection, Source,
    SourceCapabilities, SourceError, SourceIdentity, SourceResult,
};
use futures::future::BoxFuture;

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Counting<S> {
    inner: S,
    seen: Arc<Seen>,
}

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    /// How long every read takes.
    delay: Duration,
    opened: AtomicU64,
    /// `finish` or `abort` was called.
    concluded: AtomicBool,
    /// Reads after that.
    late: AtomicU64,
}

impl<S: Source> Counting<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self::slow(inner, Duration::ZERO)
    }

    /// One of whose contents every read takes so long.
    pub(crate) fn slow(inner: S, delay: Duration) -> Self {
        let seen = Seen { delay, ..Seen::default() };
        Self { inner, seen: Arc::new(seen) }
    }

    /// How many blocking contents were opened so far, and how many reads ended after their backup
    /// was concluded.
    pub(crate) fn opened_and_late(&self) -> (u64, u64) {
        (self.seen.opened.load(Ordering::SeqCst), self.seen.late.load(Ordering::SeqCst))
    }
}

impl<S: Source> fmt::Display for Counting<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
impl<S: Source> Source for Counting<S> {
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
        let inner = self.inner.open_backup(cx, request).await?;
        let seen = Arc::clone(&self.seen);
        Ok(Box::new(CountingReader { inner, seen }))
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

struct CountingReader {
    inner: Box<dyn BackupReader>,
    seen: Arc<Seen>,
}

#[async_trait]
impl BackupReader for CountingReader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        let mut item = self.inner.next().await?;
        if let Some(Item::Entry(entry)) = &mut item
            && matches!(entry.content, Content::Blocking(_))
            && let Content::Blocking(inner) = std::mem::replace(&mut entry.content, Content::Empty)
        {
            let seen = Arc::clone(&self.seen);
            entry.content = Content::Blocking(Box::new(Closed { inner, seen }));
        }
        Ok(item)
    }

    fn stalled(&self) -> BoxFuture<'static, SourceError> {
        self.inner.stalled()
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        self.seen.concluded.store(true, Ordering::SeqCst);
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) {
        self.seen.concluded.store(true, Ordering::SeqCst);
        self.inner.abort().await;
    }
}

struct Closed {
    inner: Box<dyn BlockingContent>,
    seen: Arc<Seen>,
}

impl BlockingContent for Closed {
    fn open(self: Box<Self>) -> SourceResult<Box<dyn ContentReader>> {
        self.seen.opened.fetch_add(1, Ordering::SeqCst);
        let inner = self.inner.open()?;
        Ok(Box::new(Open { inner, seen: self.seen }))
    }
}

struct Open {
    inner: Box<dyn ContentReader>,
    seen: Arc<Seen>,
}

impl Read for Open {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(self.seen.delay);
        if self.seen.concluded.load(Ordering::SeqCst) {
            self.seen.late.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.read(buffer)
    }
}

impl ContentReader for Open {
    fn finish(self: Box<Self>) -> SourceResult<ContentEnd> {
        self.inner.finish()
    }
}
