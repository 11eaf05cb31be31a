//! Which file comes from which backup.
//!
//! The newest layer says which files there are. One that it has in full comes from there; of one
//! that is called `INCREMENTAL.<name>`, each block comes from the newest layer that has it, down to
//! the one that has the file in full. The directories of all layers are gone through side by side.
//! A full backup is one layer.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::context::Context;
use backup_core::format::{Node, Tree};
use backup_core::id::BlobId;
use backup_core::repository::SnapshotReader;
use backup_core::source::{Metadata, NodeKind, RestoreReport, SourceResult};
use futures::StreamExt as _;

use super::super::delta::{Combined, Delta};
use super::super::error::malformed;
use super::super::layout::Layout;
use super::Job;
use super::files::{Doing, Part, Window};
use super::manifest::{verify_names, verify_sums};
use super::maps::Maps;
use super::target::{Target, failed};

/// Files whose blocks are looked up together.
pub(in super::super) const TOGETHER: usize = 64;
/// Where a data directory has files of relations.
const RELATIONS: [&[u8]; 3] = [b"base", b"global", b"pg_tblspc"];

/// Writes everything that belongs to the data directory; returns what is to be done to visibility
/// maps.
pub(super) async fn write(
    job: &Job<'_>,
    target: &Target,
    report: &mut RestoreReport,
) -> SourceResult<Maps> {
    refuse_unknown(job).await?;
    let mut walk = Walk::new(job, target, Doing::Writing);
    walk.all(report).await?;
    // A directory that may not be written to gets its mode when it is complete.
    walk.dirs.iter().rev().try_for_each(|(dir, metadata)| target.own(dir, metadata))?;
    Ok(walk.maps)
}

/// Reads everything back: compared with what the server said when it was backed up, or block by
/// block with the repository if it was put together.
pub(super) async fn verify(
    job: &Job<'_>,
    target: &Target,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    if job.description.increments == 0 {
        return verify_sums(job, target, report).await;
    }
    verify_names(job, target).await?;
    let mut walk = Walk::new(job, target, Doing::Comparing);
    walk.all(&mut RestoreReport::default()).await?;
    report.verified_bytes += walk.window.done();
    Ok(())
}

/// A tablespace that nobody knows has no place.
async fn refuse_unknown(job: &Job<'_>) -> SourceResult<()> {
    let newest = job.layout.newest(job.description.increments);
    let Some(tree) = job.snapshot.find(&newest.tablespaces()).await?.and_then(|node| node.subtree)
    else {
        return Ok(());
    };
    for node in &job.snapshot.tree(&tree).await?.nodes {
        let oid = std::str::from_utf8(&node.name).ok().and_then(|name| name.parse::<u32>().ok());
        if oid.is_none_or(|oid| !job.description.tablespaces.contains_key(&oid)) {
            let path = newest.tablespaces().join(&node.name);
            return Err(malformed(format!(
                "snapshot: {} belongs to no tablespace",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The directories of a layer, in the order of their places. The list of tablespaces, which can be
/// long, is read once for all of them.
pub(super) async fn directories(
    job: &Job<'_>,
    target: &Target,
    layer: &Layout,
) -> SourceResult<Vec<Option<Node>>> {
    let list = job.snapshot.find(&layer.tablespaces()).await?.and_then(|node| node.subtree);
    let list = match list {
        Some(id) => job.snapshot.tree(&id).await?,
        None => Tree::default(),
    };
    let mut found = vec![job.snapshot.find(&layer.base()).await?];
    let tablespaces = target.places(layer).skip(1);
    found.extend(tablespaces.map(|(path, _)| list.get(path.name()).cloned()));
    Ok(found)
}

/// A directory in all layers, oldest first.
struct Level {
    place: PathBuf,
    trees: Vec<Option<BlobId>>,
    /// Files of relations are here, or below: what is called like a file of an incremental backup
    /// elsewhere is somebody's own.
    has_relations: bool,
}

/// A file that is put together: its nodes with their layers, oldest first. The first one has it in
/// full.
pub(in super::super) struct Chain {
    pub(in super::super) name: Vec<u8>,
    pub(in super::super) nodes: Vec<(u8, Node)>,
}

impl Chain {
    /// Whether it is a visibility map.
    pub(in super::super) fn is_map(&self) -> bool {
        self.name.ends_with(b"_vm")
    }
}

/// Whether a directory of a data directory has files of relations.
pub(in super::super) fn is_of_relations(name: &[u8]) -> bool {
    RELATIONS.contains(&name)
}

struct Walk<'a> {
    job: &'a Job<'a>,
    target: &'a Target,
    window: Window,
    dirs: Vec<(PathBuf, Metadata)>,
    maps: Maps,
}

impl<'a> Walk<'a> {
    fn new(job: &'a Job<'a>, target: &'a Target, doing: Doing) -> Self {
        Self { job, target, window: Window::new(doing), dirs: Vec::new(), maps: Maps::default() }
    }

    fn writes(&self) -> bool {
        !self.job.request.dry_run && self.window.doing() == Doing::Writing
    }

    async fn all(&mut self, report: &mut RestoreReport) -> SourceResult<()> {
        let layers: Vec<Layout> = self.job.layout.layers(self.job.description.increments).collect();
        let mut found = Vec::with_capacity(layers.len());
        for layer in &layers {
            found.push(directories(self.job, self.target, layer).await?.into_iter());
        }
        let target = self.target;
        let mut waiting = Vec::new();
        for (at, (_, place)) in target.places(&layers[0]).enumerate() {
            let nodes: Vec<Option<Node>> = found.iter_mut().map(|of| of.next().flatten()).collect();
            let Some(Some(newest)) = nodes.last() else { continue };
            let place = place.to_path_buf();
            self.directory(&place, newest, report)?;
            let trees = nodes.into_iter().map(|node| node?.subtree).collect();
            waiting.push(Level { place, trees, has_relations: at > 0 });
        }
        while let Some(level) = waiting.pop() {
            self.job.cx.check_cancelled()?;
            waiting.extend(self.level(level, report).await?);
        }
        if self.job.request.dry_run { Ok(()) } else { self.window.fetch(self.job).await }
    }

    fn directory(
        &mut self,
        place: &Path,
        node: &Node,
        report: &mut RestoreReport,
    ) -> SourceResult<()> {
        report.entries += 1;
        if self.writes() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(place);
            made.map_err(|error| failed(place, error))?;
            self.dirs.push((place.to_path_buf(), node.metadata.clone()));
        }
        Ok(())
    }

    /// Everything of a directory but the directories in it, which are returned.
    async fn level(
        &mut self,
        level: Level,
        report: &mut RestoreReport,
    ) -> SourceResult<Vec<Level>> {
        let mut trees = Vec::with_capacity(level.trees.len());
        for id in &level.trees {
            trees.push(match id {
                Some(id) => self.job.snapshot.tree(id).await?,
                None => Tree::default(),
            });
        }
        trees.iter().try_for_each(require_names)?;
        let (older, newest) = trees.split_at(trees.len() - 1);
        let (mut below, mut chains) = (Vec::new(), Vec::new());
        for node in newest.iter().flat_map(|tree| &tree.nodes) {
            let place = self.target.place(&level.place, &node.name);
            match &node.metadata.kind {
                NodeKind::Dir => {
                    self.directory(&place, node, report)?;
                    let older =
                        older.iter().map(|tree| tree.get(&node.name).and_then(|node| node.subtree));
                    let is_top = level.place == self.target.root;
                    let has_relations =
                        level.has_relations || (is_top && is_of_relations(&node.name));
                    below.push(Level {
                        place,
                        trees: older.chain([node.subtree]).collect(),
                        has_relations,
                    });
                }
                NodeKind::Symlink { target: to } => {
                    report.entries += 1;
                    if self.writes() {
                        let to = std::ffi::OsStr::from_bytes(to);
                        symlink(to, &place).map_err(|error| failed(&place, error))?;
                    }
                }
                NodeKind::File => match node.name.strip_prefix(Delta::PREFIX) {
                    Some(name) if !older.is_empty() && level.has_relations => {
                        chains.push(chain(older, name, node)?);
                    }
                    _ => self.whole(place, node, report).await?,
                },
                _ => {
                    return Err(malformed(format!("snapshot: {} is not a file", place.display())));
                }
            }
        }
        if !older.is_empty() {
            self.maps.enter(&level.place, older.len(), newest.iter().flat_map(|tree| &tree.nodes));
        }
        // Maps first: what becomes of them depends on where their pages come from.
        let (maps, others): (Vec<Chain>, Vec<Chain>) = chains.into_iter().partition(Chain::is_map);
        for chains in [maps, others] {
            for some in chains.chunks(TOGETHER) {
                self.chains(&level.place, some, report).await?;
            }
        }
        Ok(below)
    }

    /// A file that is there in full.
    async fn whole(
        &mut self,
        place: PathBuf,
        node: &Node,
        report: &mut RestoreReport,
    ) -> SourceResult<()> {
        count(report, node.metadata.size);
        if self.job.request.dry_run {
            return Ok(());
        }
        self.window.file(self.job, self.target, (place, node.metadata.size, node)).await?;
        self.window.blobs(self.job, node, Part::Whole).await
    }

    /// Files that are put together.
    async fn chains(
        &mut self,
        dir: &Path,
        chains: &[Chain],
        report: &mut RestoreReport,
    ) -> SourceResult<()> {
        let together = combined(self.job.cx, self.job.snapshot, chains).await?;
        for (chain, combined) in chains.iter().zip(together.into_iter().map(Arc::new)) {
            let Some((_, newest)) = chain.nodes.last() else { continue };
            count(report, combined.len());
            self.maps.put_together(&chain.name, &combined);
            if self.job.request.dry_run {
                continue;
            }
            let place = self.target.place(dir, &chain.name);
            self.window.file(self.job, self.target, (place, combined.len(), newest)).await?;
            for (layer, node) in &chain.nodes {
                self.window.blobs(self.job, node, Part::Of(Arc::clone(&combined), *layer)).await?;
            }
        }
        Ok(())
    }
}

/// Names that lead elsewhere, or that are there twice, are no server's.
pub(in super::super) fn require_names(tree: &Tree) -> SourceResult<()> {
    let is_safe = |node: &Node| {
        let stripped = node.name.strip_prefix(Delta::PREFIX).unwrap_or(&node.name);
        node.has_safe_name() && !matches!(stripped, b"" | b"." | b"..")
    };
    let twice = tree.nodes.windows(2).any(|two| two[0].name == two[1].name);
    if !twice && tree.nodes.iter().all(is_safe) {
        return Ok(());
    }
    Err(malformed("snapshot: it has file names that no server creates"))
}

fn count(report: &mut RestoreReport, size: u64) {
    report.entries += 1;
    report.files_written += 1;
    report.total_bytes += size;
    report.written_bytes += size;
}

/// Where the blocks of a file are, down to the layer that has it in full.
pub(in super::super) fn chain(older: &[Tree], name: &[u8], newest: &Node) -> SourceResult<Chain> {
    let number =
        |at: usize| u8::try_from(at).map_err(|_| malformed("snapshot: it has too many layers"));
    let partial = [Delta::PREFIX, name].concat();
    let mut nodes = vec![(number(older.len())?, newest.clone())];
    for (at, tree) in older.iter().enumerate().rev() {
        if let Some(full) = tree.get(name).filter(|node| node.is_file()) {
            nodes.push((number(at)?, full.clone()));
            nodes.reverse();
            return Ok(Chain { name: name.to_vec(), nodes });
        }
        match tree.get(&partial).filter(|node| node.is_file()) {
            Some(node) => nodes.push((number(at)?, node.clone())),
            None => break,
        }
    }
    let shown = String::from_utf8_lossy(name).into_owned();
    Err(malformed(format!("snapshot: it has only changes to {shown}, not the full file")))
}

/// What becomes of files, in their order.
pub(in super::super) async fn combined(
    cx: &Context,
    snapshot: &SnapshotReader,
    chains: &[Chain],
) -> SourceResult<Vec<Combined>> {
    let later = |chain: &Chain| chain.nodes.len().saturating_sub(1);
    let nodes: Vec<&Node> =
        chains.iter().flat_map(|chain| chain.nodes.iter().skip(1).map(|(_, node)| node)).collect();
    let mut deltas = deltas(cx, snapshot, &nodes).await?.into_iter();
    let mut together = Vec::with_capacity(chains.len());
    for chain in chains {
        let layers = chain.nodes.iter().skip(1).map(|(layer, _)| *layer);
        let of_chain: Vec<(u8, Delta)> = layers.zip(deltas.by_ref().take(later(chain))).collect();
        let (first, full) =
            chain.nodes.first().ok_or_else(|| malformed("snapshot: a file without a layer"))?;
        together.push(Combined::new(*first, full.metadata.size, of_chain)?);
    }
    Ok(together)
}

/// What files of incremental backups say before their blocks, in their order.
async fn deltas(
    cx: &Context,
    snapshot: &SnapshotReader,
    nodes: &[&Node],
) -> SourceResult<Vec<Delta>> {
    let none = || malformed("file of an incremental backup: empty");
    let blobs: SourceResult<Vec<BlobId>> =
        nodes.iter().map(|node| node.content.first().copied().ok_or_else(none)).collect();
    let sizes: Vec<u64> = nodes.iter().map(|node| node.metadata.size).collect();
    let found: Arc<Mutex<HashMap<usize, Delta>>> = Arc::default();
    let into = Arc::clone(&found);
    let handle = move |number: usize, data: &[u8]| {
        if let Ok(delta) = Delta::parse(data, sizes[number])? {
            into.lock().unwrap_or_else(PoisonError::into_inner).insert(number, delta);
        }
        Ok(())
    };
    snapshot.fetch(cx, &blobs?, handle).await?;
    let mut found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let mut deltas = Vec::with_capacity(nodes.len());
    for (number, node) in nodes.iter().enumerate() {
        deltas.push(match found.remove(&number) {
            Some(delta) => delta,
            None => numbers(snapshot, node).await?,
        });
    }
    Ok(deltas)
}

/// The same of a file whose numbers are in more than one blob.
async fn numbers(snapshot: &SnapshotReader, node: &Node) -> SourceResult<Delta> {
    let (mut bytes, mut content) = (Vec::new(), snapshot.content(node));
    while let Some(piece) = content.next().await.transpose()? {
        bytes.extend_from_slice(&piece);
        if let Ok(delta) = Delta::parse(&bytes, node.metadata.size)? {
            return Ok(delta);
        }
    }
    Err(malformed("file of an incremental backup: truncated"))
}
