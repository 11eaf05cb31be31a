//! Index objects written anew: with marks, without what is gone, and fewer of them.

use std::collections::{BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::{IndexFile, IndexPack, MarkedPack};
use crate::id::{IndexId, PackId};
use crate::repository::index::{self, IndexBatch};
use crate::repository::{Repository, layout};

/// Index objects with fewer blobs are small.
const SMALL: usize = 5_000;
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
    fn touch(&self, file: &IndexFile) -> bool {
        let lives = file.packs.iter().any(|pack| self.mark.contains(&pack.id) || self.drop.contains(&pack.id));
        let marked = |pack: &MarkedPack| {
            self.mark.contains(&pack.id) || self.recover.contains(&pack.id) || self.drop.contains(&pack.id)
        };
        lives || file.packs_to_delete.iter().any(marked)
    }
}

/// Writes what has to change of these index objects. The old ones stay, until all that depends on it is done.
pub(in crate::maintenance) async fn rewrite(
    repository: &Repository,
    objects: &HashSet<IndexId>,
    changes: &Changes,
    cx: &Context,
) -> Result<Rewritten> {
    let free = unlocked(repository, objects, cx).await?;
    let locked: Vec<IndexId> = objects.iter().filter(|id| !free.contains(*id)).copied().collect();
    let objects: Vec<IndexId> = free.into_iter().collect();
    let mut run =
        Run { changes, batch: IndexBatch::new(repository), listed: HashSet::new(), rewritten: Rewritten::default() };
    let mut small: Vec<(IndexId, IndexFile)> = Vec::new();
    let mut put_together = false;
    let mut files = index::read_all(repository, objects, cx);
    while let Some((id, _, file)) = files.try_next().await? {
        let file = file.map_err(|error| error.context(format!("index {}", id.short())))?;
        if changes.touch(&file) || (put_together && file.blobs() < SMALL) {
            run.replace(id, file).await?;
        } else if file.blobs() < SMALL {
            small.push((id, file));
            put_together = small.len() >= MANY_SMALL;
            for (id, file) in if put_together { std::mem::take(&mut small) } else { Vec::new() } {
                run.replace(id, file).await?;
            }
        } else {
            run.keep(&file);
        }
    }
    for (_, file) in &small {
        run.keep(file);
    }
    // They stay as they are, with their marks.
    let mut files = index::read_all(repository, locked, cx);
    while let Some((id, _, file)) = files.try_next().await? {
        run.keep(&file.map_err(|error| error.context(format!("index {}", id.short())))?);
    }
    run.batch.finish().await?;
    Ok(run.rewritten)
}

/// Without those that the store has locked against deletion: their content would only be doubled.
async fn unlocked(repository: &Repository, objects: &HashSet<IndexId>, cx: &Context) -> Result<HashSet<IndexId>> {
    let Some(custody) = repository.sink().custody().filter(|custody| custody.lock_period().is_some()) else {
        return Ok(objects.clone());
    };
    let now = cx.clock.now();
    let custody = &*custody;
    let look = |id: IndexId| async move {
        let locked = custody.locked_until(&layout::index(&id)).await?.is_some_and(|until| until > now);
        Ok::<_, Error>((!locked).then_some(id))
    };
    let concurrency = repository.sink().capabilities().concurrency.max(1);
    let looked: Vec<Option<IndexId>> =
        futures::stream::iter(objects.iter().copied()).map(look).buffer_unordered(concurrency).try_collect().await?;
    Ok(looked.into_iter().flatten().collect())
}

struct Run<'a> {
    changes: &'a Changes,
    batch: IndexBatch,
    /// Recovered packs that are listed already.
    listed: HashSet<PackId>,
    rewritten: Rewritten,
}

impl Run<'_> {
    fn keep(&mut self, file: &IndexFile) {
        self.rewritten.marks.extend(file.packs_to_delete.iter().map(|pack| pack.time));
    }

    async fn replace(&mut self, id: IndexId, file: IndexFile) -> Result<()> {
        for pack in file.packs {
            if self.changes.drop.contains(&pack.id) {
                continue;
            }
            if self.changes.mark.contains(&pack.id) {
                self.mark(pack).await?;
            } else {
                self.list(pack).await?;
            }
        }
        for pack in file.packs_to_delete {
            if self.changes.drop.contains(&pack.id) || self.changes.mark.contains(&pack.id) {
                continue;
            }
            if self.changes.recover.contains(&pack.id) {
                self.list(IndexPack { id: pack.id, blobs: pack.blobs }).await?;
            } else {
                self.rewritten.marks.insert(pack.time);
                self.batch.add_marked(pack).await?;
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
        self.batch.add_marked(MarkedPack { id: pack.id, blobs: pack.blobs, time, size: None }).await
    }

    async fn list(&mut self, pack: IndexPack) -> Result<()> {
        if self.changes.recover.contains(&pack.id) && !self.listed.insert(pack.id) {
            return Ok(());
        }
        self.batch.add(pack).await
    }
}
