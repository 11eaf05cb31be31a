//! The backup reader of a snapshot that is folded.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::source::{
    BackupReader, Checkpoint, Chunking, Content, Entry, EntryPath, Facts, Item, Metadata,
    ObjectDigest, SourceError, SourceErrorKind, SourceResult,
};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::watch;

use super::spool::Spool;
use crate::mongodb::catalog::Collection;
use crate::mongodb::digest::Sum;
use crate::mongodb::dump::Dump;
use crate::mongodb::export::described;
use crate::mongodb::fold::{Folded, Live};
use crate::mongodb::layout::{self, Arranged};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::raw::first_of;
use crate::mongodb::reading::Reading;
use crate::mongodb::server::unless_cancelled;
use crate::mongodb::state::{Saved, State};

/// What all contents share.
#[derive(Debug)]
struct Shared {
    cx: Context,
    dump: Dump,
    folded: Folded,
    spool: Spool,
    digests: Mutex<BTreeMap<Namespace, ObjectDigest>>,
    /// Contents that are not read to their end yet.
    open: watch::Sender<usize>,
}

impl Shared {
    fn digests(&self) -> BTreeMap<Namespace, ObjectDigest> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Pieces = BoxStream<'static, SourceResult<Bytes>>;

/// The documents of one collection.
struct Documents {
    shared: Arc<Shared>,
    live: Live,
    /// Those of the dump, before they have all come.
    dumped: Option<Reading>,
    /// The next piece of the settled ones.
    piece: usize,
    sum: Sum,
}

fn documents(shared: &Arc<Shared>, live: &Live) -> SourceResult<Pieces> {
    let dumped = shared.dump.documents(live)?;
    shared.open.send_modify(|open| *open += 1);
    let state = Documents {
        shared: Arc::clone(shared),
        live: live.clone(),
        dumped,
        piece: 0,
        sum: Sum::default(),
    };
    Ok(stream::try_unfold(state, |mut state| async {
        let piece = state.next().await?;
        Ok(piece.map(|piece| (piece, state)))
    })
    .boxed())
}

impl Drop for Documents {
    fn drop(&mut self) {
        self.shared.open.send_modify(|open| *open -= 1);
    }
}

impl Documents {
    async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        let shared = Arc::clone(&self.shared);
        while let Some(dumped) = &mut self.dumped {
            match unless_cancelled(&shared.cx, dumped.piece()).await? {
                None => self.dumped = None,
                Some(piece) => {
                    let piece = self.untouched(piece)?;
                    if !piece.is_empty() {
                        self.sum.add_all(&piece)?;
                        return Ok(Some(piece));
                    }
                }
            }
        }
        let settled = shared.spool.read(self.live.number, self.piece)?;
        self.piece += 1;
        match &settled {
            Some(piece) => self.sum.add_all(piece)?,
            None => {
                let digest = self.sum.finish(&self.live.collection);
                let mut digests = shared.digests.lock().unwrap_or_else(PoisonError::into_inner);
                digests.insert(self.live.collection.namespace.clone(), digest);
            }
        }
        Ok(settled)
    }

    /// Without the documents that come when they are settled.
    fn untouched(&self, mut piece: Bytes) -> SourceResult<Bytes> {
        if !self.shared.folded.is_touched(&self.live) {
            return Ok(piece);
        }
        let mut kept = BytesMut::with_capacity(piece.len());
        while let Some(document) = first_of(&mut piece)? {
            if self.shared.folded.waits(&self.live, &document)?.is_none() {
                kept.extend_from_slice(&document);
            }
        }
        Ok(kept.freeze())
    }
}

/// What comes next.
enum Next {
    Directory(EntryPath),
    /// A small file.
    Text(EntryPath, String),
    Data(EntryPath, Box<Live>),
    Catalog(Vec<Saved>),
}

pub(super) struct Reader {
    shared: Arc<Shared>,
    checkpoint: Checkpoint,
    items: VecDeque<Next>,
}

impl Reader {
    pub(super) fn new(
        cx: &Context,
        dump: Dump,
        folded: Folded,
        spool: Spool,
        checkpoint: Checkpoint,
    ) -> Self {
        let (digests, open) = (Mutex::default(), watch::Sender::new(0));
        let shared = Arc::new(Shared { cx: cx.clone(), dump, folded, spool, digests, open });
        let mut reader = Self { shared, checkpoint, items: VecDeque::new() };
        reader.prepare();
        reader
    }

    fn prepare(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut found: Vec<(Collection, Option<&Live>)> = Vec::new();
        for live in &shared.folded.live {
            let collection = live.changed();
            if collection.namespace.is_buckets() && !live.orphan {
                found.push((described(&collection, false), None));
            }
            found.push((collection, Some(live)));
        }
        found.extend(shared.folded.views.iter().map(|view| (view.clone(), None)));
        let collections: Vec<&Collection> =
            found.iter().map(|(collection, _)| collection).collect();
        let layout = shared.dump.layout();
        let Arranged { directories, files } = layout.arrange(&collections);
        self.items.extend(directories.into_iter().map(Next::Directory));
        let mut saved = Vec::new();
        for ((collection, live), files) in found.iter().zip(files) {
            if let Some(path) = files.metadata {
                self.items.push_back(Next::Text(path, layout::metadata(collection)));
            }
            let path = files.data.as_ref().map(|path| layout.relative(path));
            saved.push(match live {
                Some(live) => saved_of(live, path),
                None => Saved::of(collection, path),
            });
            if let (Some(path), Some(live)) = (files.data, live) {
                self.items.push_back(Next::Data(path, Box::new((*live).clone())));
            }
        }
        self.items.push_back(Next::Catalog(saved));
    }

    fn file(&self, path: EntryPath, content: Pieces) -> Item {
        let (metadata, content) =
            (Metadata::stream(self.checkpoint.started), Content::Stream(content));
        Item::Entry(Entry { path, metadata, content, chunking: Chunking::ContentDefined })
    }

    /// Comes when everything else has been read, with what that came to.
    fn catalog(&self, mut saved: Vec<Saved>) -> Pieces {
        let shared = Arc::clone(&self.shared);
        stream::once(async move {
            let mut open = shared.open.subscribe();
            unless_cancelled(&shared.cx, async {
                // The sender is shared: it cannot be gone.
                let gone =
                    |_| SourceError::new(SourceErrorKind::Io, "compacting ended unexpectedly");
                open.wait_for(|open| *open == 0).await.map(drop).map_err(gone)
            })
            .await?;
            let digests = shared.digests();
            for saved in saved.iter_mut().filter(|saved| !saved.collection.options.has("temp")) {
                saved.digest = digests.get(&saved.collection.namespace).cloned();
            }
            let state = shared.dump.state.clone();
            Ok(State { needs_oplog: false, since: None, collections: saved, ..state }.encode())
        })
        .boxed()
    }
}

/// What later operations find: its changes are still to be made when it is created, and it may be
/// there for a while only.
fn saved_of(live: &Live, path: Option<String>) -> Saved {
    let mut collection = live.collection.clone();
    if live.temporary {
        collection.options.set("temp", true);
    }
    Saved { changes: live.changes.clone(), ..Saved::of(&collection, path) }
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        self.shared.cx.check_cancelled().map_err(SourceError::from)?;
        let Some(next) = self.items.pop_front() else { return Ok(None) };
        Ok(Some(match next {
            Next::Directory(path) => {
                let metadata = Metadata::directory(self.checkpoint.started);
                Item::Entry(Entry {
                    path,
                    metadata,
                    content: Content::Empty,
                    chunking: Chunking::default(),
                })
            }
            Next::Text(path, text) => {
                self.file(path, stream::once(async { Ok(text.into()) }).boxed())
            }
            Next::Data(path, live) => self.file(path, documents(&self.shared, &live)?),
            Next::Catalog(saved) => {
                self.file(self.shared.dump.layout().catalog(), self.catalog(saved))
            }
        }))
    }

    fn facts(&self) -> Facts {
        let [major, minor, patch] = self.shared.dump.state.newest();
        // A change that is still to be made is part of what a server says of a collection.
        let is_final = |live: &&Live| live.changes.is_empty() && !live.temporary;
        let finals =
            self.shared.folded.live.iter().filter(is_final).map(|live| &live.collection.namespace);
        let finals: HashSet<_> = finals.collect();
        let digests = self.shared.digests().into_iter().filter(|(name, _)| finals.contains(name));
        let objects = digests.map(|(name, digest)| (name.to_string(), digest)).collect();
        Facts {
            kind: None,
            server_version: Some(format!("{major}.{minor}.{patch}")),
            objects,
            ..Facts::default()
        }
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        Ok(self.checkpoint)
    }

    async fn abort(self: Box<Self>) {
        // The files have no name and go with their contents.
    }
}
