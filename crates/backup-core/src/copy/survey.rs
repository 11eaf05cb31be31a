//! Following a snapshot's trees to the blobs that are missing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{transfer, unfit};
use crate::check::Problem;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::{BlobKind, Tree};
use crate::id::BlobId;
use crate::pipeline::Meter;
use crate::repository::cpu::panicked;
use crate::repository::{BlobReader, BlobWriter, Decoded, IndexedRepository, SnapshotInfo};

/// Blobs that are moved in one go: enough to read packs in few large ranges, few enough to bound
/// memory.
const WINDOW: usize = 1 << 17;

/// A directory of the source, and the one at the same place in a snapshot that the target has.
type Pair = (BlobId, Option<BlobId>);

/// What a directory leads to.
struct Found {
    id: BlobId,
    subtrees: Vec<Pair>,
    blobs: Vec<BlobId>,
    /// True if an entry cannot be restored, or lacks metadata.
    is_faulty: bool,
}

/// Copies what snapshots need; remembers which directories are complete in the target.
pub(super) struct Survey<'a> {
    reader: BlobReader,
    concurrency: usize,
    same_key: bool,
    dry_run: bool,
    meter: Meter,
    cx: &'a Context,
    complete: HashSet<BlobId>,
    /// Data blobs of the current window.
    window: Vec<BlobId>,
    /// The same; in a dry run, all that would have been moved.
    wanted: HashSet<BlobId>,
    totals: (u64, u64),
    /// True if a directory was faulty.
    has_faults: bool,
}

impl<'a> Survey<'a> {
    pub(super) fn new(
        from: &IndexedRepository,
        same_key: bool,
        dry_run: bool,
        meter: Meter,
        cx: &'a Context,
    ) -> Self {
        Self {
            reader: from.reader(),
            concurrency: from.repository().sink().capabilities().concurrency.max(1),
            same_key,
            dry_run,
            meter,
            cx,
            complete: HashSet::new(),
            window: Vec::new(),
            wanted: HashSet::new(),
            totals: (0, 0),
            has_faults: false,
        }
    }

    /// Entries of a snapshot that was copied and that no restore restores.
    pub(super) async fn unfit(&self, info: &SnapshotInfo) -> Result<Vec<Problem>> {
        if self.has_faults {
            unfit::entries(&self.reader, info, self.cx).await
        } else {
            Ok(Vec::new())
        }
    }

    /// Missing data blobs so far, and their stored bytes.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.totals
    }

    /// Copies everything a snapshot needs but the snapshot object itself; or says why that cannot
    /// be done.
    pub(super) async fn copy(
        &mut self,
        info: &SnapshotInfo,
        counterpart: Option<BlobId>,
        writer: &BlobWriter,
    ) -> Result<Option<Problem>> {
        match self.follow(info.snapshot.tree, counterpart, writer).await {
            Ok(visited) => {
                self.complete.extend(visited);
                Ok(None)
            }
            Err(error) if error.is_damage() => {
                self.window.clear();
                self.wanted.clear();
                let object = format!("snapshot {}", info.id.short());
                Ok(Some(Problem { affects: vec![object.clone()], object, message: error.chain() }))
            }
            Err(error) => Err(error),
        }
    }

    /// Level by level from the root. Returns the directories that are complete now.
    async fn follow(
        &mut self,
        root: BlobId,
        counterpart: Option<BlobId>,
        writer: &BlobWriter,
    ) -> Result<HashSet<BlobId>> {
        let mut visited = HashSet::new();
        let mut frontier: Vec<Pair> = vec![(root, counterpart)];
        while !frontier.is_empty() {
            self.cx.check_cancelled()?;
            frontier.retain(|(tree, there)| {
                Some(*tree) != *there && !self.complete.contains(tree) && visited.insert(*tree)
            });
            let level = std::mem::take(&mut frontier);
            frontier = self.read_level(level, writer).await?.concat();
        }
        self.flush(writer).await?;
        Ok(visited)
    }

    /// Reads directories, several at a time, and moves what they need whenever that is worth while.
    async fn read_level(
        &mut self,
        level: Vec<Pair>,
        writer: &BlobWriter,
    ) -> Result<Vec<Vec<Pair>>> {
        let writer_of_trees = (!self.dry_run).then(|| writer.clone());
        let mut waiting = level.into_iter();
        let mut done = Vec::new();
        // Tasks of their own: while blobs are moved nobody polls them here, and what they hold then
        // (a place in the pool, a connection) would never be given back.
        let mut reading: JoinSet<Result<Found>> = JoinSet::new();
        let result = loop {
            while reading.len() < self.concurrency
                && let Some(pair) = waiting.next()
            {
                reading.spawn(read(
                    self.reader.clone(),
                    pair,
                    writer_of_trees.clone(),
                    self.same_key,
                ));
            }
            let Some(found) = reading.join_next().await else {
                break Ok(done);
            };
            let taken = match found.map_err(panicked).flatten() {
                Ok(found) => self.take(found, &mut done, writer).await,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                break Err(error);
            }
        };
        reading.shutdown().await;
        result
    }

    async fn take(
        &mut self,
        found: Found,
        done: &mut Vec<Vec<Pair>>,
        writer: &BlobWriter,
    ) -> Result<()> {
        self.cx.check_cancelled()?;
        self.meter.add_items(1);
        self.has_faults |= found.is_faulty;
        for id in found.blobs {
            self.want(id, writer)
                .map_err(|error| error.context(format!("directory {}", found.id.short())))?;
        }
        done.push(found.subtrees);
        if self.window.len() >= WINDOW { self.flush(writer).await } else { Ok(()) }
    }

    fn want(&mut self, id: BlobId, writer: &BlobWriter) -> Result<()> {
        if writer.knows(BlobKind::Data, &id) || !self.wanted.insert(id) {
            return Ok(());
        }
        let len = u64::from(self.reader.locate(BlobKind::Data, &id)?.blob.len);
        self.window.push(id);
        self.totals.0 += 1;
        self.totals.1 += len;
        self.meter.expect(0, self.totals.1);
        Ok(())
    }

    async fn flush(&mut self, writer: &BlobWriter) -> Result<()> {
        let window = std::mem::take(&mut self.window);
        if self.dry_run || window.is_empty() {
            return Ok(());
        }
        self.wanted.clear();
        transfer::transfer(&self.reader, window, writer, self.same_key, &self.meter, self.cx).await
    }
}

/// Reads a directory, stores it, and says what it leads to.
async fn read(
    reader: BlobReader,
    (id, there): Pair,
    writer: Option<BlobWriter>,
    same_key: bool,
) -> Result<Found> {
    let others: HashMap<Box<[u8]>, BlobId> = match there {
        None => HashMap::new(),
        Some(there) => match reader.tree(&there).await {
            Ok(tree) => tree
                .nodes
                .iter()
                .filter_map(|node| Some((node.name.clone(), node.subtree?)))
                .collect(),
            // It only saves work.
            Err(error) if error.is_damage() => HashMap::new(),
            Err(error) => return Err(error),
        },
    };
    let others = Arc::new(others);
    let lengths = reader.clone();
    let take = move |decoded: Decoded<'_>, tree: Tree| -> Result<Found> {
        if let Some(writer) = &writer {
            writer.store_copy(&decoded, same_key)?;
        }
        let mut found = Found { id, subtrees: Vec::new(), blobs: Vec::new(), is_faulty: false };
        found.is_faulty =
            !tree.faults.is_empty() || tree.nodes.iter().any(|node| lengths.misfit(node).is_some());
        // Data of entries that cannot be restored is copied too, as far as it is there: other tools
        // may be able to restore them.
        let is_there = |kind, id: &BlobId| lengths.locate(kind, id).is_ok();
        for fault in tree.faults {
            found.blobs.extend(fault.content.iter().filter(|id| is_there(BlobKind::Data, id)));
            let subtree = fault.subtree.filter(|id| is_there(BlobKind::Tree, id));
            found.subtrees.extend(subtree.map(|subtree| (subtree, None)));
        }
        for node in tree.nodes.iter() {
            found.blobs.extend_from_slice(&node.content);
            if let Some(subtree) = node.subtree {
                found.subtrees.push((subtree, others.get(&node.name).copied()));
            }
        }
        Ok(found)
    };
    let in_directory = |error: Error| error.context(format!("directory {}", id.short()));
    reader.decoded_tree(&id, take).await.map_err(in_directory)?.map_err(in_directory)
}
