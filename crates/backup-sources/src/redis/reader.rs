//! A backup that is read by a task of its own, and where that puts what it reads.

use std::collections::BTreeMap;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::source::{
    BackupKind, BackupReader, Checkpoint, Chunking, Content, Entry, EntryPath, Facts, Item,
    LogStart, Metadata, NOT_POINT_IN_TIME, ObjectDigest, ServerClock, SourceError, SourceErrorKind,
    SourceResult,
};
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::task::AbortOnDropHandle;

/// Pieces of at most 128 KiB that wait on each way.
pub(super) const WAITING: usize = 64;

/// What is said of snapshots that were read key by key.
pub(super) const NO_MOMENT: &str = "This snapshot is not point-in-time: keys were read one after \
                                    the other, each in its state at that time, while clients may \
                                    have written.";

/// What the backup has found, when all has been read.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) started: Timestamp,
    pub(super) time: Timestamp,
    /// `None` if it is of no moment of one history.
    pub(super) position: Option<Position>,
    /// Where the log goes on; `None` if that is from `position`.
    pub(super) log: Option<LogStart>,
    pub(super) kind: Option<BackupKind>,
    pub(super) server_version: Option<String>,
    pub(super) objects: BTreeMap<String, ObjectDigest>,
    /// Whether these are all.
    pub(super) counted: bool,
    /// What whoever restores it should know.
    pub(super) remarks: Vec<String>,
    /// Whether it stands for no moment, because keys were read one by one.
    pub(super) scanned: bool,
    /// More tags of the snapshot.
    pub(super) tags: Vec<String>,
}

/// A backup that is read by a task of its own.
pub(super) struct Reader {
    items: Receiver<SourceResult<Item>>,
    done: tokio::sync::watch::Receiver<Option<Done>>,
    task: AbortOnDropHandle<()>,
    /// Seconds by which the clock of the server is ahead.
    clock_ahead_seconds: Option<i64>,
}

/// Where the task puts what it reads.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    items: Sender<SourceResult<Item>>,
}

impl Feed {
    pub(super) async fn item(&self, item: Item) -> SourceResult<()> {
        self.items.send(Ok(item)).await.map_err(|_| SourceError::cancelled())
    }

    /// An entry whose content comes by what is returned.
    pub(super) async fn begin(
        &self,
        path: EntryPath,
        time: Timestamp,
    ) -> SourceResult<Sender<SourceResult<Bytes>>> {
        let (sender, receiver) = channel(WAITING);
        let content = futures::stream::unfold(
            receiver,
            async |mut receiver: Receiver<SourceResult<Bytes>>| {
                receiver.recv().await.map(|bytes| (bytes, receiver))
            },
        );
        let content = Content::Stream(content.boxed());
        let (metadata, chunking) = (Metadata::stream(time), Chunking::default());
        self.item(Item::Entry(Entry { path, metadata, content, chunking })).await?;
        Ok(sender)
    }

    pub(super) async fn whole(
        &self,
        path: EntryPath,
        time: Timestamp,
        data: Vec<u8>,
    ) -> SourceResult<()> {
        let sender = self.begin(path, time).await?;
        // Nobody has to read it.
        _ = sender.send(Ok(data.into())).await;
        Ok(())
    }
}

/// Begins a backup of a server with this clock, whose items `work` makes.
pub(super) fn reader<W>(
    cx: &Context,
    clock: Option<ServerClock>,
    work: impl FnOnce(Feed) -> W + Send + 'static,
) -> Box<dyn BackupReader>
where
    W: Future<Output = SourceResult<Done>> + Send + 'static,
{
    let (sender, items) = channel(16);
    let (found, done) = tokio::sync::watch::channel(None);
    let cancel = cx.cancel.clone();
    let task = tokio::spawn(async move {
        let result = tokio::select! {
            () = cancel.cancelled() => Err(SourceError::cancelled()),
            result = work(Feed { items: sender.clone() }) => result,
        };
        match result {
            Ok(done) => _ = found.send(Some(done)),
            // Nobody may listen any more.
            Err(error) => _ = sender.send(Err(error)).await,
        }
    });
    let clock_ahead_seconds = clock.map(|clock| clock.ahead_seconds(cx));
    Box::new(Reader { items, done, task: AbortOnDropHandle::new(task), clock_ahead_seconds })
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        self.items.recv().await.transpose()
    }

    fn facts(&self) -> Facts {
        let done = self.done.borrow().clone();
        done.map_or_else(Facts::default, |done| Facts {
            kind: done.kind,
            server_version: done.server_version,
            objects: done.objects,
            counted: done.counted,
            remarks: done
                .scanned
                .then(|| NO_MOMENT.to_owned())
                .into_iter()
                .chain(done.remarks)
                .collect(),
            tags: done
                .scanned
                .then(|| NOT_POINT_IN_TIME.to_owned())
                .into_iter()
                .chain(done.tags)
                .collect(),
            clock_ahead_seconds: self.clock_ahead_seconds,
            selection: None,
        })
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        let done = self.done.borrow().clone();
        let done = done.ok_or_else(|| {
            SourceError::new(SourceErrorKind::Unavailable, "the backup was interrupted")
        })?;
        Ok(Checkpoint {
            started: done.started,
            finished: done.time,
            position: done.position.as_ref().map(ToString::to_string),
            log: done.log.or(done.position.map(|at| LogStart::new(at.offset, at))),
        })
    }

    async fn abort(self: Box<Self>) {
        // The connection ends with it, and the server stops its work.
        drop(self.task);
    }
}
