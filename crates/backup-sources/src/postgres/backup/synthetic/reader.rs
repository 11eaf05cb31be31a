//! The backup reader of a snapshot that is put together: the directories of all layers are gone
//! through side by side, as a restore does it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::format::{Node, Tree};
use backup_core::id::BlobId;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupKind, BackupReader, Checkpoint, Chunking, Content, Entry, EntryPath, Facts, Item,
    Metadata, NodeKind, SourceError, SourceErrorKind, SourceResult,
};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc::Receiver;
use tokio_util::task::AbortOnDropHandle;

use super::super::super::cluster::{Cluster, version_text};
use super::super::super::delta::{BLOCK, Combined, Delta};
use super::super::super::error::malformed;
use super::super::super::layout::{Layout, Segments};
use super::super::super::restore::{
    Chain, Maps, TOGETHER, chain, combined, is_of_relations, label_of_full, require_names,
};
use super::super::feed::{Feed, Growing, chunking};
use super::super::manifest::Manifest;
use super::super::{Description, content};
use super::pieces::Pieces;

/// Files that are not what they were.
const LABEL: &[u8] = b"backup_label";
const MANIFEST: &[u8] = b"backup_manifest";
/// The log is in no manifest.
const LOG: &[u8] = b"pg_wal/";

/// Begins to read.
pub(super) fn open(
    cx: &Context,
    snapshot: &SnapshotReader,
    layout: Layout,
    description: Description,
    checkpoint: Checkpoint,
) -> Box<dyn BackupReader> {
    let (feed, items) = Feed::new();
    let version = description.version;
    let run = Run {
        cx: cx.clone(),
        snapshot: snapshot.clone(),
        layout,
        description,
        feed,
        manifest: Manifest::default(),
    };
    let task = tokio::spawn(async move {
        let (cx, feed) = (run.cx.clone(), run.feed.clone());
        let done = tokio::select! {
            () = cx.cancel.cancelled() => Err(SourceError::cancelled()),
            done = run.carry_out() => done,
        };
        match done {
            Ok(()) => true,
            Err(error) => {
                feed.fail(error).await;
                false
            }
        }
    });
    Box::new(Reader { items, version, checkpoint, task: AbortOnDropHandle::new(task) })
}

struct Reader {
    items: Receiver<SourceResult<Item>>,
    version: u32,
    checkpoint: Checkpoint,
    /// Whether all was handed on.
    task: AbortOnDropHandle<bool>,
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        self.items.recv().await.transpose()
    }

    fn facts(&self) -> Facts {
        Facts {
            kind: Some(BackupKind::Full),
            server_version: Some(version_text(self.version)),
            ..Facts::default()
        }
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        match self.task.await {
            Ok(true) => Ok(self.checkpoint),
            _ => Err(SourceError::new(
                SourceErrorKind::Unavailable,
                "compacting the snapshot was interrupted",
            )),
        }
    }

    async fn abort(self: Box<Self>) {
        drop(self.task);
    }
}

/// A directory in all layers, oldest first.
struct Level {
    /// Where it is in the new snapshot, and in manifests of servers, with a slash behind it.
    path: EntryPath,
    listed: Vec<u8>,
    trees: Vec<Option<BlobId>>,
    has_relations: bool,
}

struct Run {
    cx: Context,
    snapshot: SnapshotReader,
    layout: Layout,
    description: Description,
    feed: Feed,
    manifest: Manifest,
}

impl Run {
    async fn carry_out(mut self) -> SourceResult<()> {
        let layers: Vec<Layout> = self.layout.layers(self.description.increments).collect();
        let mut waiting = vec![self.top(&layers, Layout::base, b"").await?];
        let far: Vec<u32> = self.description.tablespaces.keys().copied().collect();
        for oid in far {
            let listed = format!("pg_tblspc/{oid}/");
            waiting
                .push(self.top(&layers, |layer| layer.tablespace(oid), listed.as_bytes()).await?);
        }
        let mut like = None;
        for level in waiting.iter().flatten() {
            like = like.or(self.directory(&level.path, &layers).await?);
        }
        let mut waiting: Vec<Level> = waiting.into_iter().flatten().collect();
        while let Some(level) = waiting.pop() {
            self.cx.check_cancelled()?;
            waiting.extend(self.level(level).await?);
        }
        let like = like.unwrap_or_else(|| Metadata::stream(self.cx.clock.now()));
        self.about(like).await
    }

    /// A directory that all layers may have, if the newest has it.
    async fn top(
        &self,
        layers: &[Layout],
        of: impl Fn(&Layout) -> EntryPath,
        listed: &[u8],
    ) -> SourceResult<Option<Level>> {
        let mut trees = Vec::with_capacity(layers.len());
        for layer in layers {
            trees.push(self.snapshot.find(&of(layer)).await?.and_then(|node| node.subtree));
        }
        let is_there = trees.last().is_some_and(Option::is_some);
        let (path, listed, has_relations) = (of(&self.layout), listed.to_vec(), !listed.is_empty());
        Ok(is_there.then_some(Level { path, listed, trees, has_relations }))
    }

    /// Hands on the entry of a directory at the top; returns what files like its own have.
    async fn directory(
        &self,
        path: &EntryPath,
        layers: &[Layout],
    ) -> SourceResult<Option<Metadata>> {
        let Some(newest) = layers.last() else { return Ok(None) };
        let below =
            path.as_bytes().strip_prefix(self.layout.cluster().as_bytes()).unwrap_or_default();
        let stored = EntryPath::new([newest.cluster().as_bytes(), below].concat());
        let stored = stored.ok_or_else(|| malformed("path in the data directory"))?;
        let Some(node) = self.snapshot.find(&stored).await? else { return Ok(None) };
        let like = Metadata {
            uid: node.metadata.uid,
            gid: node.metadata.gid,
            ..Metadata::stream(self.cx.clock.now())
        };
        self.entry(path.clone(), node.metadata).await?;
        Ok(Some(like))
    }

    /// Anything that has no content.
    async fn entry(&self, path: EntryPath, metadata: Metadata) -> SourceResult<()> {
        let (content, chunking) = (Content::Empty, Chunking::default());
        self.feed.item(Item::Entry(Entry { path, metadata, content, chunking })).await
    }

    /// Everything of a directory but what is in the directories in it, which are returned.
    async fn level(&mut self, level: Level) -> SourceResult<Vec<Level>> {
        let mut trees = Vec::with_capacity(level.trees.len());
        for id in &level.trees {
            trees.push(match id {
                Some(id) => self.snapshot.tree(id).await?,
                None => Tree::default(),
            });
        }
        trees.iter().try_for_each(require_names)?;
        let (older, newest) = trees.split_at(trees.len() - 1);
        let (mut below, mut chains) = (Vec::new(), Vec::new());
        let nodes = || newest.iter().flat_map(|tree| &tree.nodes);
        for node in nodes() {
            let path = level.path.join(&node.name);
            let listed = [&level.listed[..], &node.name].concat();
            match &node.metadata.kind {
                NodeKind::Dir => {
                    self.entry(path.clone(), node.metadata.clone()).await?;
                    let has_relations = level.has_relations
                        || (level.listed.is_empty() && is_of_relations(&node.name));
                    let older =
                        older.iter().map(|tree| tree.get(&node.name).and_then(|node| node.subtree));
                    let (listed, trees) =
                        ([&listed[..], b"/"].concat(), older.chain([node.subtree]).collect());
                    below.push(Level { path, listed, trees, has_relations });
                }
                NodeKind::Symlink { .. } => self.entry(path, node.metadata.clone()).await?,
                NodeKind::File => match node.name.strip_prefix(Delta::PREFIX) {
                    Some(name) if level.has_relations => chains.push(chain(older, name, node)?),
                    _ => self.whole(path, &listed, node).await?,
                },
                _ => return Err(malformed(format!("snapshot: {path} is not a file"))),
            }
        }
        let dir = PathBuf::from(OsStr::from_bytes(level.path.as_bytes()));
        let mut maps = Maps::default();
        maps.enter(&dir, older.len(), nodes());
        self.look_at_maps(&mut maps, &mut chains).await?;
        for some in chains.chunks(TOGETHER) {
            for (chain, combined) in
                some.iter().zip(combined(&self.cx, &self.snapshot, some).await?)
            {
                self.put_together(&level, chain, &combined, &maps, &dir).await?;
            }
        }
        Ok(below)
    }

    /// Finds out what becomes of maps, which depends on where the pages of their tables come from.
    /// Maps come first.
    async fn look_at_maps(&self, maps: &mut Maps, chains: &mut [Chain]) -> SourceResult<()> {
        chains.sort_by_key(|chain| !chain.is_map());
        if chains.first().is_some_and(Chain::is_map) {
            for some in chains.chunks(TOGETHER) {
                for (chain, combined) in
                    some.iter().zip(combined(&self.cx, &self.snapshot, some).await?)
                {
                    maps.put_together(&chain.name, &combined);
                }
            }
        }
        maps.leave();
        Ok(())
    }

    /// A file that is there in full.
    async fn whole(&mut self, path: EntryPath, listed: &[u8], node: &Node) -> SourceResult<()> {
        if listed == MANIFEST {
            return Ok(());
        }
        if listed == LABEL {
            let text = content(&self.snapshot, node).await?;
            let text =
                String::from_utf8(text).map_err(|_| malformed("backup_label in the snapshot"))?;
            let text = Bytes::from(label_of_full(&text));
            self.list(listed, text.len() as u64, &node.metadata, crc32c::crc32c(&text))?;
            return self
                .feed
                .whole(path, node.metadata.clone(), Chunking::ContentDefined, text)
                .await;
        }
        let size = node.metadata.size;
        let how = chunking(listed, listed.starts_with(b"pg_tblspc/"));
        let mut growing = self.feed.begin(path, node.metadata.clone(), how, Some(size)).await?;
        let (mut crc, mut read) = (0, self.snapshot.content(node));
        while let Some(piece) = read.next().await {
            let pushed = match piece {
                Ok(piece) => {
                    crc = crc32c::crc32c_append(crc, &piece);
                    growing.push(piece).await
                }
                Err(error) => Err(error.into()),
            };
            growing = pushed_on(growing, pushed).await?;
        }
        self.feed.end(growing).await?;
        self.list(listed, size, &node.metadata, crc)
    }

    /// A file of which each block comes from the newest layer that has it.
    async fn put_together(
        &mut self,
        level: &Level,
        chain: &Chain,
        combined: &Combined,
        maps: &Maps,
        dir: &Path,
    ) -> SourceResult<()> {
        let Some((_, newest)) = chain.nodes.last() else { return Ok(()) };
        let map = maps.of(&dir.join(OsStr::from_bytes(&chain.name)));
        let len = map.map_or(combined.len(), |map| combined.len().min(map.longest()));
        let listed = [&level.listed[..], &chain.name].concat();
        let metadata = Metadata { size: len, ..newest.metadata.clone() };
        let how = chunking(&listed, level.listed.starts_with(b"pg_tblspc/"));
        let (path, metadata_of) = (level.path.join(&chain.name), metadata.clone());
        let mut growing = self.feed.begin(path, metadata, how, Some(len)).await?;
        let mut pieces = Pieces::new((&self.cx, &self.snapshot), combined, &chain.nodes, len)?;
        let mut crc = 0;
        loop {
            let pushed = match pieces.next().await {
                Ok(None) => break,
                Ok(Some((first, mut bytes))) => {
                    if let Some(map) = map {
                        let pages = bytes.as_chunks_mut::<{ BLOCK as usize }>().0.iter_mut();
                        (first..)
                            .zip(pages)
                            .for_each(|(number, page)| _ = map.mend_page(number, page));
                    }
                    crc = crc32c::crc32c_append(crc, &bytes);
                    growing.push(bytes.into()).await
                }
                Err(error) => Err(error),
            };
            growing = pushed_on(growing, pushed).await?;
        }
        self.feed.end(growing).await?;
        self.list(&listed, len, &metadata_of, crc)
    }

    /// A line of the manifest.
    fn list(
        &mut self,
        listed: &[u8],
        size: u64,
        metadata: &Metadata,
        crc: u32,
    ) -> SourceResult<()> {
        if listed.starts_with(LOG) {
            return Ok(());
        }
        let path =
            std::str::from_utf8(listed).map_err(|_| malformed("path in the data directory"))?;
        self.manifest.add(path, size, metadata.mtime, crc)
    }

    /// What is said of it all: the manifest, configuration that lay elsewhere, what a restore has
    /// to know.
    async fn about(self, like: Metadata) -> SourceResult<()> {
        let Self { snapshot, layout, description, feed, manifest, .. } = &self;
        let place = |text: &str| text.parse().map_err(|_| malformed("cluster.json"));
        let cluster = Cluster {
            system_id: description.system_id.parse().map_err(|_| malformed("cluster.json"))?,
            segments: Segments::of_size(description.wal_segment_size)
                .ok_or_else(|| malformed("cluster.json"))?,
            version: description.version,
            refusal: None,
        };
        let range = (place(&description.start)?, place(&description.end)?);
        let text = manifest.text(&cluster, range, description.timeline);
        feed.whole(layout.manifest(), like.clone(), Chunking::ContentDefined, text.into()).await?;
        if let Some(tree) = snapshot.find(&layout.config()).await?.and_then(|node| node.subtree) {
            for node in snapshot.tree(&tree).await?.nodes.iter().filter(|node| node.is_file()) {
                let data = content(snapshot, node).await?;
                let path = layout.config().join(&node.name);
                feed.whole(path, node.metadata.clone(), Chunking::default(), data.into()).await?;
            }
        }
        let full = Description { increments: 0, ..description.clone() };
        let json = serde_json::to_vec_pretty(&full)
            .map_err(|_| malformed("description of the cluster"))?;
        let metadata = Metadata::stream(like.mtime);
        feed.whole(layout.description(), metadata, Chunking::default(), json.into()).await
    }
}

/// Whoever reads a content must not take for its end that it was broken off.
async fn pushed_on(growing: Growing, pushed: SourceResult<()>) -> SourceResult<Growing> {
    match pushed {
        Ok(()) => Ok(growing),
        Err(error) => {
            growing.break_off(&error).await;
            Err(error)
        }
    }
}
