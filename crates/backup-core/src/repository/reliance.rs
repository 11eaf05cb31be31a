//! What a writer relies upon must still be there when its snapshot appears.
//!
//! A writer deduplicates against the index that it loaded at its start. If a prune marks packs
//! meanwhile, the writer's session keeps them from being deleted; but an index object must list
//! them again, because other readers look there. A writer therefore looks for new marks twice:
//! before the snapshot is stored, and again after it. A prune on its side looks for new snapshots
//! after its marks are durable. Whichever comes second sees the other.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;

use super::IndexedRepository;
use super::index::{self, IndexBatch};
use super::reach::Reach;
use super::session::Session;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::format::{BlobKind, IndexPack, PackedBlob, Snapshot};
use crate::id::{BlobId, IndexId, SnapshotId};

/// Looks after what snapshots rely upon, from loading the index to the end of the session.
#[derive(Debug)]
pub(crate) struct Reliance<'a> {
    indexed: IndexedRepository,
    session: &'a Session,
    /// Index objects whose content is known.
    seen: HashSet<IndexId>,
}

impl<'a> Reliance<'a> {
    /// `session` was begun before the index was loaded.
    pub(crate) fn new(indexed: &IndexedRepository, session: &'a Session) -> Self {
        Self { indexed: indexed.clone(), session, seen: indexed.loaded_objects().clone() }
    }

    /// Makes sure that everything below these directories is in the store and listed.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if this process was out of touch for so long that something of it may be
    /// deleted; those of the sink.
    pub(crate) async fn secure(&mut self, roots: &[BlobId], cx: &Context) -> Result<()> {
        self.session.require_protection()?;
        if !self.learn(cx).await? {
            return Ok(());
        }
        // Packs of somebody who came too late may be listed only now, and be gone: a copy there is
        // none.
        self.indexed.trust_lasting_packs().await?;
        let mut reach = Reach::new(&self.indexed, None, cx);
        reach.follow(roots.iter().copied()).await?;
        list_again(&self.indexed, &reach).await?;
        Ok(())
    }

    /// Publishes a snapshot, if what it stands on is there before and after that; otherwise it is
    /// taken back.
    ///
    /// # Errors
    /// Those of [`Self::secure`]; of the sink.
    pub(crate) async fn publish(
        &mut self,
        snapshot: &Snapshot,
        cx: &Context,
    ) -> Result<SnapshotId> {
        self.secure(&[snapshot.tree], cx).await?;
        let repository = self.indexed.repository().clone();
        let id = repository.save_snapshot(snapshot, cx).await?;
        cx.events.emit(&Event::SnapshotSaved { id });
        let unsure = |error: Error| {
            error.context(format!("snapshot {} is stored, but not confirmed", id.short()))
        };
        match self.secure(&[snapshot.tree], cx).await {
            // What it stands on is gone, or may be by now: nobody shall take it for a backup, and
            // no prune shall stop at it.
            Err(error) if error.kind() == ErrorKind::Busy || !self.session.is_protected() => {
                repository.withdraw_snapshot(&id).await.map_err(unsure)?;
                Err(error)
            }
            secured => secured.map_err(unsure).map(|()| id),
        }
    }

    fn is_new(&self, object: &IndexId) -> bool {
        !self.seen.contains(object) && !self.indexed.has_saved(object)
    }

    /// Reads the index objects that have appeared; says whether they mark packs.
    async fn learn(&mut self, cx: &Context) -> Result<bool> {
        let repository = self.indexed.repository();
        let there = index::names(repository).await?;
        let new: Vec<IndexId> = there.into_iter().filter(|id| self.is_new(id)).collect();
        let mut marks = false;
        let mut files = index::read_all(repository, new, cx);
        while let Some((id, _, file)) = files.try_next().await? {
            // Gone again, or damaged: then `check` will say so.
            let Ok(file) = file else { continue };
            self.seen.insert(id);
            index::add(&**self.indexed.index(), &file);
            marks |= !file.packs_to_delete.is_empty();
        }
        Ok(marks)
    }
}

/// Lists marked packs again that hold something which was reached and is nowhere else. Returns how
/// many. Packs that are not in the store have to be hidden before.
pub(crate) async fn list_again(indexed: &IndexedRepository, reach: &Reach<'_>) -> Result<u64> {
    let index = indexed.index();
    let mut packs = Vec::new();
    index.for_each_pack(&mut |pack| packs.push(pack));
    let mut candidates = Vec::new();
    index.for_each_copy(&mut |slot, pack, blob| {
        if packs[pack as usize].mark.is_some() && reach.reached().contains(slot) {
            candidates.push((pack, blob.kind, blob.id));
        }
    });
    let is_lost = |(_, kind, id): &(u32, BlobKind, BlobId)| index.find_lasting(*kind, id).is_none();
    let needed: HashSet<u32> =
        candidates.into_iter().filter(is_lost).map(|(pack, ..)| pack).collect();
    let mut blobs: HashMap<u32, Vec<PackedBlob>> = HashMap::new();
    index.for_each_copy(&mut |_, pack, blob| {
        if needed.contains(&pack) {
            blobs.entry(pack).or_default().push(*blob);
        }
    });
    let mut batch = IndexBatch::new(indexed.repository());
    for (number, blobs) in &blobs {
        let id = packs[*number as usize].id;
        batch.add(IndexPack { id, blobs: blobs.iter().copied().map(Into::into).collect() }).await?;
    }
    batch.finish().await?;
    for (number, blobs) in &blobs {
        index.add_pack(packs[*number as usize].id, blobs);
    }
    Ok(blobs.len() as u64)
}
