//! The packs in the index, compared with those in the store.

use std::collections::{HashMap, HashSet};

use super::IndexedRepository;
use crate::error::Result;
use crate::id::PackId;

/// Differences of the packs in the store from those in the index.
#[derive(Debug, Default)]
pub(crate) struct PackComparison {
    /// Packs that are gone.
    pub(crate) missing: HashSet<PackId>,
    /// Packs that are gone after they were marked for deletion.
    pub(crate) deleted: HashSet<PackId>,
    /// Packs of another size than the index says, with their real size.
    pub(crate) wrong_size: HashMap<PackId, u64>,
    /// Packs that no index lists, with their sizes.
    pub(crate) unlisted: HashMap<PackId, u64>,
}

impl PackComparison {
    /// Whether a pack is gone or cut off.
    pub(crate) fn is_lost(&self, pack: &PackId) -> bool {
        self.missing.contains(pack)
            || self.wrong_size.contains_key(pack)
            || self.deleted.contains(pack)
    }

    /// How many packs are gone or cut off.
    pub(crate) fn lost(&self) -> usize {
        self.missing.len() + self.wrong_size.len()
    }
}

impl IndexedRepository {
    /// Compares the packs in the index with those in the store. Given up packs may be missing.
    pub(crate) async fn compare_packs(&self) -> Result<PackComparison> {
        let mut stored =
            self.repository.stored_packs(self.index_packs(), |meta| Some(meta.size)).await?;
        let mut found = PackComparison::default();
        let mut differing = Vec::new();
        self.index.for_each_pack(&mut |pack| match stored.remove(&pack.id) {
            Some(size) if size == pack.size => {}
            Some(_) if pack.is_given_up() => {}
            None if pack.is_given_up() => _ = found.deleted.insert(pack.id),
            Some(size) => differing.push((pack.id, size)),
            None => _ = found.missing.insert(pack.id),
        });
        // A false listing of a pack states another size than the true one.
        differing.retain(|(pack, size)| !self.index.sizes(pack).contains(size));
        found.wrong_size.extend(differing);
        found.unlisted = stored;
        Ok(found)
    }

    /// For writers: blobs of missing packs, and of packs that a prune has recorded for deletion, are
    /// stored again. Returns the differences.
    pub(crate) async fn trust_lasting_packs(&self) -> Result<PackComparison> {
        // The records first: a prune deletes a record after its packs.
        self.distrust_noted_packs().await?;
        self.hide_lost_packs().await
    }

    /// What was in a pack that is gone or cut off is stored again by writers instead of being
    /// relied upon: the repository mends itself. Returns what was found.
    pub(crate) async fn hide_lost_packs(&self) -> Result<PackComparison> {
        let found = self.compare_packs().await?;
        let lost: Vec<_> = found
            .missing
            .iter()
            .chain(found.wrong_size.keys())
            .chain(&found.deleted)
            .copied()
            .collect();
        if !lost.is_empty() {
            self.index.hide_packs(&lost);
        }
        Ok(found)
    }
}
