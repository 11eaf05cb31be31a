//! Readers whose errors name the connected user in the statement of their hints, and which report
//! the databases that a backup is limited to.

use async_trait::async_trait;
use backup_core::event::{Warning, WarningKind};
use backup_core::log::{Position, Watermark};
use backup_core::source::{
    BackupReader, Checkpoint, Content, Entry, Facts, Item, LogReader, LogSegment, SelectedPatterns,
    SourceError, SourceResult,
};
use futures::StreamExt as _;
use futures::future::BoxFuture;

use super::server::Server;
use super::user::{User, named};
use super::within::Within;

/// A reader and the user of its connection.
pub(super) struct Naming<R: ?Sized> {
    user: Option<User>,
    /// Seconds by which the clock of the server is ahead, of readers of backups.
    clock_ahead_seconds: Option<i64>,
    /// The patterns of a backup that is limited to some databases.
    narrowed: Option<SelectedPatterns>,
    /// A warning that comes before all entries.
    warning: Option<String>,
    reader: Box<R>,
}

impl<R: ?Sized> Naming<R> {
    pub(super) fn new(reader: Box<R>, server: &Server) -> Self {
        let user = server.user.clone();
        Self { user, clock_ahead_seconds: None, narrowed: None, warning: None, reader }
    }

    /// The same, limited to some databases.
    pub(super) fn within(self, within: Within) -> Self {
        Self { narrowed: within.narrowed, warning: within.warning, ..self }
    }

    /// The same with the offset of the clock of the server.
    pub(super) fn with_clock(self, ahead_seconds: Option<i64>) -> Self {
        Self { clock_ahead_seconds: ahead_seconds, ..self }
    }

    fn named<T>(&self, result: SourceResult<T>) -> SourceResult<T> {
        result.map_err(|error| named(error, self.user.as_ref()))
    }
}

#[async_trait]
impl BackupReader for Naming<dyn BackupReader> {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        if let Some(message) = self.warning.take() {
            let (kind, path) = (WarningKind::Other, String::new());
            return Ok(Some(Item::Warning(Warning { kind, path, message })));
        }
        let next = self.reader.next().await;
        let next = self.named(next)?;
        Ok(next.map(|item| match item {
            Item::Entry(Entry { content: Content::Stream(content), path, metadata, chunking }) => {
                let user = self.user.clone();
                let content =
                    content.map(move |piece| piece.map_err(|error| named(error, user.as_ref())));
                let content = Content::Stream(content.boxed());
                Item::Entry(Entry { content, path, metadata, chunking })
            }
            other => other,
        }))
    }

    fn stalled(&self) -> BoxFuture<'static, SourceError> {
        self.reader.stalled()
    }

    fn facts(&self) -> Facts {
        Facts {
            clock_ahead_seconds: self.clock_ahead_seconds,
            selection: self.narrowed.clone(),
            ..self.reader.facts()
        }
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        let Self { user, reader, .. } = *self;
        reader.finish().await.map_err(|error| named(error, user.as_ref()))
    }

    async fn abort(self: Box<Self>) {
        self.reader.abort().await;
    }
}

#[async_trait]
impl LogReader for Naming<dyn LogReader> {
    async fn next(&mut self) -> SourceResult<LogSegment> {
        let next = self.reader.next().await;
        self.named(next)
    }

    fn state(&self) -> Option<String> {
        self.reader.state()
    }

    fn vouched_for(&self) -> Option<Watermark> {
        self.reader.vouched_for()
    }

    fn begin_behind(&mut self, known: &[Position]) {
        self.reader.begin_behind(known);
    }

    async fn acknowledge(&mut self, position: &Position) -> SourceResult<()> {
        let acknowledged = self.reader.acknowledge(position).await;
        self.named(acknowledged)
    }
}
