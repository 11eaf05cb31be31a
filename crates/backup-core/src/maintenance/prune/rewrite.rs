//! Index objects written anew: with marks, without what is gone, and fewer of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::{IndexBlob, IndexFile, IndexPack, MarkedPack};
use crate::id::{IndexId, PackId};
use crate::repository::index::{self, IndexBatch, Listing};
use crate::repository::{IndexedRepository, Repository, layout};

/// Index objects with fewer blobs are small.
const SMALL: u64 = 5_000;
/// So many small ones are worth being put together.
const MANY_SMALL: usize = 20;

/// What is to change.
#[derive(Debug, Default)]
pub(in crate::maintenance) struct Changes {
    /// Packs to be marked, with this time.
    pub(in crate::maintenance) mark: HashSet<PackId>,
    pub(in crate::maintenance) time: Timestamp,
    /// Marked packs to be listed like any other again.
    pub(in crate::maintenance) recover: HashSet<PackId>,
    /// Packs that are gone.
    pub(in crate::maintenance) drop: HashSet<PackId>,
    /// True contents of packs that index objects list with different ones.
    pub(in crate::maintenance) correct: HashMap<PackId, Vec<IndexBlob>>,
}

/// What was written.
#[derive(Debug, Default)]
pub(in crate::maintenance) struct Rewritten {
    /// Objects whose content is in new ones now.
    pub(in crate::maintenance) replaced: Vec<IndexId>,
    /// Packs that were marked.
    pub(in crate::maintenance) marked: HashSet<PackId>,
    /// The times of all marks that the index holds now.
    pub(in crate::maintenance) marks: BTreeSet<Option<Timestamp>>,
}

impl Changes {
    fn touch(&self, listing: &Listing) -> bool {
        let recover = listing.mark.is_some() && self.recover.contains(&listing.pack);
        let changes = self.mark.contains(&listing.pack) || self.drop.contains(&listing.pack);
        recover || changes || self.correct.contains_key(&listing.pack)
    }

    fn corrected(&self, pack: PackId, blobs: Vec<IndexBlob>) -> Vec<IndexBlob> {
        self.correct.get(&pack).cloned().unwrap_or(blobs)
    }
}

/// An index object as far as its listings tell what becomes of it.
#[derive(Debug, Default)]
struct Listed {
    blobs: u64,
    touched: bool,
    /// Whether it lists a pack that is not gone.
    lives: bool,
    /// The times of its marks.
    marks: BTreeSet<Option<Timestamp>>,
}

impl Listed {
    /// Whether nothing but its size speaks for writing it anew.
    fn is_only_small(&self) -> bool {
        !self.touched && self.blobs < SMALL
    }
}

/// Writes what has to change of these index objects; only those are read. The old ones stay, until
/// all that depends on it is done.
pub(in crate::maintenance) async fn rewrite(
    indexed: &IndexedRepository,
    objects: &HashSet<IndexId>,
    changes: &Changes,
    cx: &Context,
) -> Result<Rewritten> {
    let repository = indexed.repository();
    let mut listed: BTreeMap<IndexId, Listed> =
        objects.iter().map(|id| (*id, Listed::default())).collect();
    indexed.index().for_each_listing(&mut |object, listing| {
        if let Some(listed) = listed.get_mut(object) {
            listed.blobs += u64::from(listing.blobs);
            listed.touched |= changes.touch(&listing);
            listed.lives |= !changes.drop.contains(&listing.pack);
            listed.marks.extend(listing.mark.map(|mark| mark.time));
        }
    });
    let eligible = listed
        .iter()
        .filter(|(_, listed)| listed.touched || listed.is_only_small())
        .map(|(id, _)| *id);
    let free = unlocked(repository, eligible.collect(), cx).await?;
    let small =
        listed.iter().filter(|(id, listed)| free.contains(*id) && listed.is_only_small()).count();
    let mut run = Run::new(repository, changes);
    let mut reading = Vec::new();
    for (id, listed) in listed {
        let worth_it = listed.touched || (listed.is_only_small() && small >= MANY_SMALL);
        if !worth_it || !free.contains(&id) {
            run.rewritten.marks.extend(listed.marks);
        } else if listed.lives {
            reading.push(id);
        } else {
            run.rewritten.replaced.push(id);
        }
    }
    let mut files = index::read_all(repository, reading, cx);
    while let Some((id, _, file)) = files.try_next().await? {
        run.replace(id, file.map_err(|error| error.context(format!("index {}", id.short())))?)
            .await?;
    }
    run.lasting.finish().await?;
    run.marked.finish().await?;
    Ok(run.rewritten)
}

/// Without those that the store has locked against deletion: their content would only be doubled.
async fn unlocked(
    repository: &Repository,
    objects: HashSet<IndexId>,
    cx: &Context,
) -> Result<HashSet<IndexId>> {
    let Some(custody) =
        repository.sink().custody().filter(|custody| custody.lock_period().is_some())
    else {
        return Ok(objects);
    };
    let now = cx.clock.now();
    let custody = &*custody;
    let look = |id: IndexId| async move {
        let locked =
            custody.locked_until(&layout::index(&id)).await?.is_some_and(|until| until > now);
        Ok::<_, Error>((!locked).then_some(id))
    };
    let concurrency = repository.sink().capabilities().concurrency.max(1);
    let looked: Vec<Option<IndexId>> = futures::stream::iter(objects)
        .map(look)
        .buffer_unordered(concurrency)
        .try_collect()
        .await?;
    Ok(looked.into_iter().flatten().collect())
}

struct Run<'a> {
    changes: &'a Changes,
    lasting: IndexBatch,
    /// In objects of their own: when they go, nothing else has to be written anew.
    marked: IndexBatch,
    /// Recovered and corrected packs that are listed already.
    listed: HashSet<PackId>,
    rewritten: Rewritten,
}

impl<'a> Run<'a> {
    fn new(repository: &Repository, changes: &'a Changes) -> Self {
        let (lasting, marked) = (IndexBatch::new(repository), IndexBatch::new(repository));
        Self { changes, lasting, marked, listed: HashSet::new(), rewritten: Rewritten::default() }
    }

    async fn replace(&mut self, id: IndexId, file: IndexFile) -> Result<()> {
        for mut pack in file.packs {
            pack.blobs = self.changes.corrected(pack.id, pack.blobs);
            if self.changes.drop.contains(&pack.id) {
                continue;
            }
            if self.changes.mark.contains(&pack.id) {
                self.mark(pack).await?;
            } else {
                self.list(pack).await?;
            }
        }
        for mut pack in file.packs_to_delete {
            pack.blobs = self.changes.corrected(pack.id, pack.blobs);
            if self.changes.drop.contains(&pack.id) || self.changes.mark.contains(&pack.id) {
                continue;
            }
            if self.changes.recover.contains(&pack.id) {
                self.list(IndexPack { id: pack.id, blobs: pack.blobs }).await?;
            } else {
                self.rewritten.marks.insert(pack.time);
                self.marked.add_marked(pack).await?;
            }
        }
        self.rewritten.replaced.push(id);
        Ok(())
    }

    async fn mark(&mut self, pack: IndexPack) -> Result<()> {
        if !self.rewritten.marked.insert(pack.id) {
            return Ok(());
        }
        let time = Some(self.changes.time);
        self.rewritten.marks.insert(time);
        self.marked
            .add_marked(MarkedPack { id: pack.id, blobs: pack.blobs, time, size: None })
            .await
    }

    async fn list(&mut self, pack: IndexPack) -> Result<()> {
        let is_once =
            self.changes.recover.contains(&pack.id) || self.changes.correct.contains_key(&pack.id);
        if is_once && !self.listed.insert(pack.id) {
            return Ok(());
        }
        self.lasting.add(pack).await
    }
}
