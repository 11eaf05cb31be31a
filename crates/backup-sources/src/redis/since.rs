//! Incremental and differential snapshots: the dump of an earlier one, and the commands since, out
//! of the server's backlog.
//!
//! Where the backlog does not reach back, everything is read, and the snapshot says that it is a
//! full one.

use std::collections::BTreeMap;

use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{BackupKind, Item, SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

use super::backup;
use super::error::WireError;
use super::follow::{self, Listener};
use super::layout::Layout;
use super::options::RedisOptions;
use super::reader::{Done, Feed};
use super::server::Info;

const DOING: &str = "cannot read the commands since the earlier snapshot";

/// Reads what came since `parent`.
pub(super) async fn since(
    cx: &Context,
    options: &RedisOptions,
    layout: &Layout,
    parent: &SnapshotReader,
    feed: &Feed,
) -> SourceResult<Done> {
    match find(options, layout, parent).await {
        Ok(since) => {
            let time = cx.clock.now();
            let to = since.read(time, layout, parent, feed).await?;
            Ok(done(time, Some(to)))
        }
        Err(error) if error.kind() == SourceErrorKind::LogGap => {
            cx.events.note(format!("This backup is a full one: {error}."));
            backup::full(cx, options, layout, feed, Some(BackupKind::Full)).await
        }
        Err(error) => Err(error),
    }
}

/// What the backup has found: nothing is counted anew.
pub(super) fn done(time: Timestamp, position: Option<Position>) -> Done {
    Done {
        started: time,
        time,
        position,
        log: None,
        kind: None,
        server_version: None,
        // Those are of the snapshot that it builds on.
        objects: BTreeMap::new(),
        counted: false,
        remarks: Vec::new(),
        scanned: false,
        tags: Vec::new(),
    }
}

/// The commands between two places.
pub(super) struct Since {
    /// Where the earlier snapshot ends,
    from: Position,
    /// and where the server was when it was asked.
    to: Position,
    listener: Listener,
}

/// Where the earlier snapshot ends, and where the server is now. That it can go on is known before
/// anything is handed on.
async fn find(
    options: &RedisOptions,
    layout: &Layout,
    parent: &SnapshotReader,
) -> SourceResult<Since> {
    let gap = |text: &str| SourceError::new(SourceErrorKind::LogGap, text);
    let manifest = parent.manifest().await?;
    let from = manifest.and_then(|manifest| manifest.checkpoint.log).map(|log| log.at);
    let from =
        from.ok_or_else(|| gap("the earlier snapshot has no position in the replication stream"))?;
    if parent.find(&layout.dump()).await?.is_none()
        || parent.find(&layout.description()).await?.is_none()
    {
        return Err(gap("the earlier snapshot holds no dump of this server"));
    }
    reach(options, from).await
}

/// The way from a place to where the server is now, if the server still knows it.
pub(super) async fn reach(options: &RedisOptions, from: Position) -> SourceResult<Since> {
    let gap = |text: &str| SourceError::new(SourceErrorKind::LogGap, text);
    let info = replication_info(options).await?;
    follow::refuse_what_is_gone(&info, &from)?;
    let (Some(id), Some(offset)) = (info.get("master_replid"), info.number("master_repl_offset"))
    else {
        return Err(gap(
            "the offset of the server's replication stream is unknown (INFO is not allowed)",
        ));
    };
    let to = Position::new(id, offset);
    let (replication, id) =
        follow::join(options, &from).await.map_err(|error| error.into_source(DOING))?;
    if id.is_some_and(|id| id != to.branch) {
        return Err(SourceError::new(
            SourceErrorKind::Unavailable,
            "the server was promoted during the query: try again",
        ));
    }
    // Nothing of it is durable before the snapshot is, and nobody must count on us.
    let (_, durable) = watch::channel(0);
    Ok(Since { from, to, listener: Listener::new(replication, durable, options) })
}

/// What the earlier snapshot has.
async fn keep(layout: &Layout, parent: &SnapshotReader, feed: &Feed) -> SourceResult<()> {
    feed.item(Item::Keep(layout.dump())).await?;
    feed.item(Item::Keep(layout.description())).await?;
    let earlier = parent.find(&layout.since_dir()).await?;
    if let Some(tree) = earlier.and_then(|node| node.subtree) {
        let mut walk = parent.walk_below(layout.since_dir(), tree);
        while let Some((path, node)) = walk.next().await? {
            if node.is_file() {
                feed.item(Item::Keep(path)).await?;
            }
        }
    }
    Ok(())
}

impl Since {
    /// Hands on what the earlier snapshot has and the commands behind it; says where they end.
    pub(super) async fn read(
        mut self,
        time: Timestamp,
        layout: &Layout,
        parent: &SnapshotReader,
        feed: &Feed,
    ) -> SourceResult<Position> {
        // The server must hear of us while others take their time.
        let (kept, said) = self.listener.meanwhile(keep(layout, parent, feed)).await;
        kept?;
        said.map_err(|error| error.into_source(DOING))?;
        if self.to.offset > self.from.offset {
            let beginning = feed.begin(layout.since(&self.to.branch, self.from.offset), time);
            let (content, said) = self.listener.meanwhile(beginning).await;
            let content = content?;
            let done = match said {
                Ok(()) => self.pass_on(&content).await,
                error => error,
            };
            if let Err(error) = done {
                let error = error.into_source(DOING);
                // Whoever reads the content must not take its end for complete.
                _ = content.send(Err(backup::copy_of(&error))).await;
                return Err(error);
            }
        }
        Ok(self.to)
    }

    /// Hands the commands on, up to the place where the server was.
    async fn pass_on(&mut self, out: &Sender<SourceResult<Bytes>>) -> Result<(), WireError> {
        let mut left = self.to.offset - self.from.offset;
        while left > 0 {
            let mut bytes = self.listener.next().await?;
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= bytes.len() as u64;
            let (sent, said) = self.listener.meanwhile(out.send(Ok(bytes))).await;
            sent.map_err(|_| SourceError::cancelled())?;
            said?;
        }
        Ok(())
    }
}

/// What the server says of its stream, asked anew.
async fn replication_info(options: &RedisOptions) -> SourceResult<Info> {
    Info::of(options).await.map_err(|error| error.into_source("cannot read the replication state"))
}
