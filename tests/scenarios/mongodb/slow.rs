//! A source that is read slowly, and that waits before the oplog's end is chosen.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupKind, BackupReader, BackupRequest, Checkpoint, Content, Digest, Facts, Item, LogReader,
    Probe, RestoreReport, RestoreRequest, Selection, Source, SourceCapabilities, SourceError,
    SourceIdentity, SourceResult,
};
use backup_sources::mongodb::MongoSource;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Slow {
    inner: MongoSource,
    pause: Duration,
    /// Pauses of each content.
    most: usize,
    gate: Arc<Gate>,
}

/// Contents of collections that are not read to their end, and who waits for it.
#[derive(Debug, Default)]
struct Gate {
    open: AtomicUsize,
    complete: Notify,
    go_on: Notify,
}

impl Slow {
    /// `pause`: how long a reader waits before each piece of data but the first.
    pub(super) fn new(inner: MongoSource, pause: Duration) -> Self {
        Self { inner, pause, most: usize::MAX, gate: Arc::default() }
    }

    /// Pauses before the first pieces of each content only.
    pub(super) fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Returns when all collections have been read.
    pub(super) async fn all_read(&self) {
        self.gate.complete.notified().await;
    }

    /// Lets the oplog be read.
    pub(super) fn go_on(&self) {
        self.gate.go_on.notify_one();
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

struct Reader {
    inner: Box<dyn BackupReader>,
    pause: Duration,
    most: usize,
    gate: Arc<Gate>,
}

#[async_trait]
impl BackupReader for Reader {
    fn stalled(&self) -> BoxFuture<'static, SourceError> {
        self.inner.stalled()
    }

    fn facts(&self) -> Facts {
        self.inner.facts()
    }

    async fn next(&mut self) -> SourceResult<Option<Item>> {
        let Some(Item::Entry(mut entry)) = self.inner.next().await? else { return Ok(None) };
        let name = entry.path.name().to_vec();
        let gate = Arc::clone(&self.gate);
        if let Content::Stream(content) = entry.content {
            entry.content = Content::Stream(match &name[..] {
                b"oplog.bson" => {
                    let waited = futures::stream::once(async move {
                        while gate.open.load(Ordering::SeqCst) > 0 {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        gate.complete.notify_one();
                        gate.go_on.notified().await;
                        content
                    });
                    waited.flatten().boxed()
                }
                name if name.ends_with(b".bson") && name != b"catalog.bson" => {
                    gate.open.fetch_add(1, Ordering::SeqCst);
                    let (pause, most) = (self.pause, self.most);
                    let slowed = content.enumerate().then(move |(number, piece)| async move {
                        if number < most {
                            tokio::time::sleep(pause).await;
                        }
                        piece
                    });
                    let ended = futures::stream::once(async move {
                        gate.open.fetch_sub(1, Ordering::SeqCst);
                        Ok(bytes::Bytes::new())
                    });
                    slowed.chain(ended).boxed()
                }
                _ => content,
            });
        }
        Ok(Some(Item::Entry(entry)))
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) {
        self.inner.abort().await;
    }
}

#[async_trait]
impl Source for Slow {
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
        assert_eq!(request.kind, BackupKind::Full);
        let inner = self.inner.open_backup(cx, request).await?;
        Ok(Box::new(Reader {
            inner,
            pause: self.pause,
            most: self.most,
            gate: Arc::clone(&self.gate),
        }))
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
