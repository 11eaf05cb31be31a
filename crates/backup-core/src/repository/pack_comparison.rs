//! The packs in the index, compared with those in the store.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt};

use super::IndexedRepository;
use super::headers::Mislisted;
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;

/// Differences of the packs in the store from those in the index.
#[derive(Debug, Default)]
pub(crate) struct PackComparison {
    /// Packs that are gone.
    pub(crate) missing: HashSet<PackId>,
    /// Packs that are gone after they were marked for deletion.
    pub(crate) deleted: HashSet<PackId>,
    /// Packs of another size than in the index and without a header that confirms it, with their
    /// real size.
    pub(crate) wrong_size: HashMap<PackId, u64>,
    /// Packs whose header confirms their size, and which the index lists with other contents.
    pub(crate) mislisted: BTreeMap<PackId, Mislisted>,
    /// Packs that no index lists, with their sizes.
    pub(crate) unlisted: HashMap<PackId, u64>,
}

impl PackComparison {
    /// True if a pack is gone or cut off, or cannot be used by its index entries.
    pub(crate) fn is_lost(&self, pack: &PackId) -> bool {
        self.missing.contains(pack)
            || self.wrong_size.contains_key(pack)
            || self.deleted.contains(pack)
            || self.mislisted.get(pack).is_some_and(|listed| !listed.is_incomplete_only)
    }

    /// Packs whose index entries are not to be relied upon.
    fn lost_packs(&self) -> Vec<PackId> {
        let packs = self.missing.iter().chain(self.wrong_size.keys()).chain(&self.deleted);
        packs.chain(self.mislisted.keys()).filter(|pack| self.is_lost(pack)).copied().collect()
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
        found.unlisted = stored;
        self.judge(differing, &mut found).await?;
        Ok(found)
    }

    /// Separates damaged packs from those that the index lists wrongly: several index objects may each
    /// list a part of a pack.
    async fn judge(&self, differing: Vec<(PackId, u64)>, found: &mut PackComparison) -> Result<()> {
        let mut entries = self.entries_of(differing.iter().map(|(pack, _)| *pack));
        let concurrency = self.repository.sink().capabilities().concurrency.max(1);
        let read = |(pack, size): (PackId, u64)| async move {
            match self.header_of(&pack).await {
                // The credentials of a writer may not read packs: it stores the blobs again.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok((pack, size, None)),
                header => Ok::<_, Error>((pack, size, header?)),
            }
        };
        let mut reading = futures::stream::iter(differing).map(read).buffer_unordered(concurrency);
        while let Some((pack, size, header)) = reading.try_next().await? {
            match header {
                Some(header) => {
                    let entries = entries.remove(&pack).unwrap_or_default();
                    found.mislisted.insert(pack, Mislisted::new(header, &entries));
                }
                None => _ = found.wrong_size.insert(pack, size),
            }
        }
        Ok(())
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
        let lost = found.lost_packs();
        if !lost.is_empty() {
            self.index.hide_packs(&lost);
        }
        Ok(found)
    }
}
