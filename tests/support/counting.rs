//! A source that counts how many contents of the source inside it are opened.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, BlockingContent, Checkpoint, Content, ContentReader, Digest, Item, LogReader,
    Probe, RestoreReport, RestoreRequest, Selection, Source, SourceCapabilities, SourceIdentity, SourceResult,
};

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Counting<S> {
    inner: S,
    opened: Arc<AtomicU64>,
}

impl<S: Source> Counting<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            opened: Arc::default(),
        }
    }

    /// Contents opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
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

    async fn open_backup(&self, cx: &Context, request: &BackupRequest) -> SourceResult<Box<dyn BackupReader>> {
        let inner = self.inner.open_backup(cx, request).await?;
        let opened = Arc::clone(&self.opened);
        Ok(Box::new(CountingReader { inner, opened }))
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

struct CountingReader {
    inner: Box<dyn BackupReader>,
    opened: Arc<AtomicU64>,
}

#[async_trait]
impl BackupReader for CountingReader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        let mut item = self.inner.next().await?;
        if let Some(Item::Entry(entry)) = &mut item
            && let Content::Blocking(inner) = std::mem::replace(&mut entry.content, Content::Empty)
        {
            let opened = Arc::clone(&self.opened);
            entry.content = Content::Blocking(Box::new(Counted { inner, opened }));
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

struct Counted {
    inner: Box<dyn BlockingContent>,
    opened: Arc<AtomicU64>,
}

impl BlockingContent for Counted {
    fn open(self: Box<Self>) -> SourceResult<Box<dyn ContentReader>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.inner.open()
    }
}
