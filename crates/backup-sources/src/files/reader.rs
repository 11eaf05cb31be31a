//! The backup reader: receives what the walk sends.

use std::sync::Arc;
use std::vec::IntoIter;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::source::{
    BackupReader, Checkpoint, EntryPath, Item, SkipRules, SourceError, SourceErrorKind,
    SourceResult,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::scan::Rules;
use super::walk::{Message, Walk};
use super::watch::Watch;

/// Batches that may wait: enough that the walk does not stop for each of them.
const QUEUE: usize = 4;

/// Yields what a walk finds.
#[derive(Debug)]
pub(super) struct FilesReader {
    cx: Context,
    started: Timestamp,
    ready: IntoIter<Item>,
    queue: Receiver<Message>,
    watch: Arc<Watch>,
    rules: SkipRules,
    /// Ends the walk when the reader is dropped.
    _walk: DropGuard,
}

impl FilesReader {
    /// Starts walking `roots`.
    pub(super) fn start(cx: &Context, rules: Arc<Rules>, roots: Vec<EntryPath>) -> Self {
        let started = cx.clock.now();
        let cancel: CancellationToken = cx.cancel.child_token();
        let (out, queue) = channel(QUEUE);
        let runtime = Handle::current();
        let (watch, recorded) = (Arc::clone(&rules.watch), rules.record());
        let walk = Walk::new(rules, cancel.clone(), out, runtime.clone());
        runtime.spawn_blocking(move || walk.run(&roots));
        Self {
            cx: cx.clone(),
            started,
            ready: Vec::new().into_iter(),
            queue,
            watch,
            rules: recorded,
            _walk: cancel.drop_guard(),
        }
    }

    /// The next items, empty at the end.
    pub(super) async fn receive(&mut self) -> SourceResult<Vec<Item>> {
        tokio::select! {
            biased;
            () = self.cx.cancel.cancelled() => Err(SourceError::cancelled()),
            message = self.queue.recv() => match message {
                Some(Ok(items)) => Ok(items.unwrap_or_default()),
                Some(Err(error)) => Err(error),
                None => Err(SourceError::new(SourceErrorKind::Io,
                    "the worker that walks the directories ended unexpectedly")),
            },
        }
    }
}

#[async_trait]
impl BackupReader for FilesReader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        if let Some(item) = self.ready.next() {
            return Ok(Some(item));
        }
        self.ready = self.receive().await?.into_iter();
        Ok(self.ready.next())
    }

    fn stalled(&self) -> BoxFuture<'static, SourceError> {
        Arc::clone(&self.watch).stalled().boxed()
    }

    fn skip_rules(&self) -> Option<SkipRules> {
        Some(self.rules.clone())
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        Ok(Checkpoint {
            started: self.started,
            finished: self.cx.clock.now(),
            position: None,
            log: None,
        })
    }

    async fn abort(self: Box<Self>) {}
}
