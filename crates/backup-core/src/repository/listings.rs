//! Packs that index objects list with different contents. The header of the pack decides which of
//! them is true.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;

use super::{IndexedRepository, index};
use crate::context::Context;
use crate::error::Result;
use crate::format::{IndexBlob, PackedBlob};
use crate::id::{IndexId, PackId};

/// The disputed packs of a repository.
#[derive(Debug, Default)]
pub(crate) struct Disputes {
    /// True contents of packs.
    pub(crate) contents: HashMap<PackId, Vec<IndexBlob>>,
    /// Packs whose header cannot be read.
    pub(crate) unknown: Vec<PackId>,
    /// Index objects that list a blob in a pack that its header does not have. A listing without
    /// some of the blobs is harmless.
    pub(crate) false_listings: Vec<(IndexId, PackId)>,
}

impl IndexedRepository {
    /// Reads the headers of disputed packs, and the index objects that list them.
    ///
    /// # Errors
    /// Errors of the sink; cancellation. A header that cannot be read is part of the result.
    pub(crate) async fn disputes(&self, cx: &Context) -> Result<Disputes> {
        let mut disputes = Disputes::default();
        let disputed = self.index().disputed_packs();
        if disputed.is_empty() {
            return Ok(disputes);
        }
        let given_up = self.given_up_packs();
        for id in disputed {
            cx.check_cancelled()?;
            match self.header_of(&id).await? {
                Some(header) => {
                    let blobs = header.blobs.iter().copied().map(IndexBlob::from).collect();
                    disputes.contents.insert(id, blobs);
                }
                // A prune may have deleted it.
                None if given_up.contains(&id) => {}
                None => disputes.unknown.push(id),
            }
        }
        if disputes.contents.is_empty() {
            return Ok(disputes);
        }
        let mut objects = HashSet::new();
        self.index().for_each_listing(&mut |object, listing| {
            if disputes.contents.contains_key(&listing.pack) {
                objects.insert(*object);
            }
        });
        let mut files = index::read_all(self.repository(), objects.into_iter().collect(), cx);
        while let Some((object, _, file)) = files.try_next().await? {
            let Ok(file) = file else { continue };
            let listed = file.packs.into_iter().map(|pack| (pack.id, pack.blobs));
            let marked = file.packs_to_delete.into_iter().map(|pack| (pack.id, pack.blobs));
            for (pack, blobs) in listed.chain(marked) {
                if disputes.contents.get(&pack).is_some_and(|truth| !is_within(truth, &blobs)) {
                    disputes.false_listings.push((object, pack));
                }
            }
        }
        disputes.false_listings.sort_unstable();
        Ok(disputes)
    }

    /// Packs that are marked for deletion.
    pub(crate) fn given_up_packs(&self) -> HashSet<PackId> {
        let mut packs = HashSet::new();
        self.index().for_each_pack(&mut |pack| packs.extend(pack.is_given_up().then_some(pack.id)));
        packs
    }

    /// Number of these blobs of a pack that the index lists there.
    pub(crate) fn listed_of(&self, pack: &PackId, blobs: &[PackedBlob]) -> usize {
        let is_listed = |blob: &PackedBlob| {
            let copies = self.index().find_all(blob.kind, &blob.id);
            copies.iter().any(|at| at.pack == *pack && at.blob == *blob)
        };
        blobs.iter().filter(|blob| is_listed(blob)).count()
    }
}

/// True if a pack with these contents has all of the blobs.
fn is_within(contents: &[IndexBlob], blobs: &[IndexBlob]) -> bool {
    let contents: HashMap<_, PackedBlob> =
        contents.iter().map(|blob| ((blob.id, blob.offset), PackedBlob::from(*blob))).collect();
    blobs.iter().all(|blob| contents.get(&(blob.id, blob.offset)) == Some(&PackedBlob::from(*blob)))
}
