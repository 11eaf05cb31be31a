//! Contents of entries on their way from the server to the pipeline: small ones whole, others by a
//! bounded channel, so that a slow pipeline slows the server down.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::source::{
    Chunking, Content, Entry, EntryPath, Item, Metadata, NodeKind, SourceError, SourceResult,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::super::delta::Delta;
use super::tar::{Header, Kind};

/// Files up to this size are handed on as a whole.
const SMALL: u64 = 128 << 10;
/// Pieces of at most 256 KiB that wait of one content.
const WAITING: usize = 16;
/// Relation files are cut here: pages change in place.
const PAGES: u32 = 256 << 10;
/// Pages that changed hardly come a second time.
const CHANGED: u32 = 1 << 20;
/// The log changes from its beginning on.
const LOG: u32 = 4 << 20;

/// Where items go.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    items: Sender<SourceResult<Item>>,
    /// Databases with unlogged relations, by OID.
    unlogged: Arc<Mutex<BTreeSet<u32>>>,
}

/// A content that grows.
#[derive(Debug)]
pub(super) enum Growing {
    Small(Box<(EntryPath, Metadata, Chunking, BytesMut)>),
    Large(Sender<SourceResult<Bytes>>),
}

impl Feed {
    /// Where to send items, and where they come out.
    pub(super) fn new() -> (Self, Receiver<SourceResult<Item>>) {
        let (items, received) = channel(16);
        (Self { items, unlogged: Arc::default() }, received)
    }

    /// Hands an item on.
    pub(super) async fn item(&self, item: Item) -> SourceResult<()> {
        if let Item::Entry(entry) = &item
            && let Some(database) = database_of_unlogged(&entry.path)
        {
            self.unlogged.lock().unwrap_or_else(PoisonError::into_inner).insert(database);
        }
        self.items.send(Ok(item)).await.map_err(|_| SourceError::cancelled())
    }

    /// OIDs of databases of which unlogged relations were handed on.
    pub(super) fn unlogged(&self) -> BTreeSet<u32> {
        self.unlogged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The backup fails.
    pub(super) async fn fail(&self, error: SourceError) {
        // Nobody may listen any more.
        _ = self.items.send(Err(error)).await;
    }

    /// Hands a content on that is there as a whole.
    pub(super) async fn whole(
        &self,
        path: EntryPath,
        metadata: Metadata,
        chunking: Chunking,
        data: Bytes,
    ) -> SourceResult<()> {
        let content = Content::Stream(futures::stream::iter([Ok(data)]).boxed());
        self.item(Item::Entry(Entry { path, metadata, content, chunking })).await
    }

    /// Begins a content of `size` bytes, as far as that is known.
    pub(super) async fn begin(
        &self,
        path: EntryPath,
        metadata: Metadata,
        chunking: Chunking,
        size: Option<u64>,
    ) -> SourceResult<Growing> {
        if size.is_some_and(|size| size <= SMALL) {
            return Ok(Growing::Small(Box::new((path, metadata, chunking, BytesMut::new()))));
        }
        let (sender, receiver) = channel(WAITING);
        let content = futures::stream::unfold(
            receiver,
            async |mut receiver: Receiver<SourceResult<Bytes>>| {
                receiver.recv().await.map(|bytes| (bytes, receiver))
            },
        );
        let content = Content::Stream(content.boxed());
        self.item(Item::Entry(Entry { path, metadata, content, chunking })).await?;
        Ok(Growing::Large(sender))
    }

    /// The content is complete.
    pub(super) async fn end(&self, growing: Growing) -> SourceResult<()> {
        match growing {
            Growing::Large(_) => Ok(()),
            Growing::Small(small) => {
                let (path, metadata, chunking, data) = *small;
                self.whole(path, metadata, chunking, data.freeze()).await
            }
        }
    }
}

impl Growing {
    pub(super) async fn push(&mut self, data: Bytes) -> SourceResult<()> {
        match self {
            Self::Small(small) => small.3.extend_from_slice(&data),
            Self::Large(sender) => {
                sender.send(Ok(data)).await.map_err(|_| SourceError::cancelled())?;
            }
        }
        Ok(())
    }

    /// It never becomes complete: whoever reads it must not take its end for that.
    pub(super) async fn break_off(self, why: &SourceError) {
        if let Self::Large(sender) = self {
            let mut error = SourceError::new(why.kind(), why.chain());
            if let Some(hint) = why.hint() {
                error = error.with_hint(hint);
            }
            // Nobody may listen any more.
            _ = sender.send(Err(error)).await;
        }
    }
}

/// The OID of the database that the initialization fork of an unlogged relation belongs to:
/// `base/5/16384_init`, or in a tablespace `PG_…/5/16384_init`. `None` for another file.
fn database_of_unlogged(path: &EntryPath) -> Option<u32> {
    let relation = path.name().strip_suffix(b"_init")?;
    let is_number = !relation.is_empty() && relation.iter().all(u8::is_ascii_digit);
    let directory = path.parent().filter(|_| is_number)?;
    std::str::from_utf8(directory.name()).ok()?.parse().ok()
}

/// What the archive says of an entry.
pub(super) fn metadata(header: &Header) -> Metadata {
    let time = Timestamp::from_second(header.mtime).unwrap_or(Timestamp::UNIX_EPOCH);
    let kind = match &header.kind {
        Kind::File => NodeKind::File,
        Kind::Dir => NodeKind::Dir,
        Kind::Symlink(target) => NodeKind::Symlink { target: target.clone().into() },
    };
    let plain =
        if header.kind == Kind::Dir { Metadata::directory(time) } else { Metadata::stream(time) };
    Metadata {
        kind,
        mode: header.mode,
        uid: header.uid,
        gid: header.gid,
        size: header.size,
        ..plain
    }
}

/// How a file of a data directory, or of a tablespace, is cut.
pub(super) fn chunking(name: &[u8], in_tablespace: bool) -> Chunking {
    let last = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let relation = in_tablespace || name.starts_with(b"base/") || name.starts_with(b"global/");
    match last.first() {
        Some(b'0'..=b'9') if relation => Chunking::Fixed(PAGES),
        _ if last.starts_with(Delta::PREFIX) => Chunking::Fixed(CHANGED),
        _ if name.starts_with(b"pg_wal/") => Chunking::Fixed(LOG),
        _ => Chunking::ContentDefined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlogged_relations_are_found_by_their_files() {
        let database = |path: &str| database_of_unlogged(&EntryPath::new(path).unwrap());
        assert_eq!(database("/postgres/7/base/base/5/16384_init"), Some(5));
        assert_eq!(database("/postgres/7/tablespaces/9/PG_15_202209061/6/17_init"), Some(6));
        for other in
            ["/postgres/7/base/base/5/16384", "/postgres/7/base/base/5/x_init", "/x/base/a/1_init"]
        {
            assert_eq!(database(other), None, "{other}");
        }
    }
}
