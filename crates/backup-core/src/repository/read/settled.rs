//! Blobs whose places or lengths in the index are not to be relied upon.
//!
//! Layouts of files are computed from the lengths in the index, before anything is read. A false
//! index entry must not change them. A blob of several stated lengths is read once, and the entry
//! that its content confirms counts from then on. Where no entry exists, or the lengths do not add
//! up to the size of a file, the headers of the packs decide.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use super::blob::BlobReader;
use crate::error::Result;
use crate::format::{BlobKind, Node, Tree};
use crate::id::BlobId;
use crate::repository::index::{BlobLocation, StatedLen};

/// Places of data blobs that were found by reading them.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    is_used: AtomicBool,
    /// `None` for a blob that cannot be read anywhere.
    places: RwLock<HashMap<BlobId, Option<BlobLocation>>>,
}

impl Settled {
    /// The place of a blob, if it had to be found.
    pub(crate) fn get(&self, id: &BlobId) -> Option<BlobLocation> {
        if !self.is_used.load(Ordering::Acquire) {
            return None;
        }
        self.places.read().unwrap_or_else(PoisonError::into_inner).get(id).copied().flatten()
    }

    fn contains(&self, id: &BlobId) -> bool {
        self.places.read().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    fn insert(&self, id: BlobId, place: Option<BlobLocation>) {
        self.places.write().unwrap_or_else(PoisonError::into_inner).insert(id, place);
        self.is_used.store(true, Ordering::Release);
    }
}

impl BlobReader {
    /// Finds the true lengths of those blobs of a directory of which index objects state several.
    ///
    /// # Errors
    /// Errors of the sink. A blob that cannot be read anywhere is no error here.
    pub(crate) async fn settle_disputed(&self, tree: &Tree) -> Result<()> {
        let index = self.repository().index();
        for id in tree.nodes.iter().flat_map(|node| &node.content) {
            if index.stated_len(BlobKind::Data, id) == StatedLen::Several {
                // Rare, and larger than the futures of all callers.
                Box::pin(self.settle_one(id)).await?;
            }
        }
        Ok(())
    }

    /// Finds the true lengths of the blobs that the files of a directory consist of.
    ///
    /// # Errors
    /// As [`Self::settle_disputed`].
    pub(crate) async fn settle(&self, tree: &Tree) -> Result<()> {
        for node in &tree.nodes {
            self.settle_node(node).await?;
        }
        Ok(())
    }

    /// Finds the true lengths of the blobs of a file.
    ///
    /// # Errors
    /// As [`Self::settle_disputed`].
    pub(crate) async fn settle_node(&self, node: &Node) -> Result<()> {
        let (index, settled) = (self.repository().index(), self.repository().settled());
        let mut sum = Some(0_u64);
        for id in &node.content {
            let mut len = None;
            // Rare cases, whose futures are larger than those of all callers.
            match index.stated_len(BlobKind::Data, id) {
                StatedLen::One(stated) => len = Some(stated),
                StatedLen::Several => Box::pin(self.settle_one(id)).await?,
                StatedLen::Unknown => Box::pin(self.settle_by_header(id)).await?,
            }
            let len = settled.get(id).map(|at| at.blob.plain_len()).or(len);
            sum = sum.zip(len).map(|(sum, len)| sum.saturating_add(u64::from(len)));
        }
        if node.is_file() && sum.is_some_and(|sum| sum != node.metadata.size) {
            self.settle_by_headers(node).await?;
        }
        Ok(())
    }

    /// Takes the places of the blobs of a file from the headers of packs, where they differ from the
    /// index.
    ///
    /// # Errors
    /// As [`Self::settle_disputed`].
    pub(crate) async fn settle_by_headers(&self, node: &Node) -> Result<()> {
        for id in &node.content {
            Box::pin(self.settle_by_header(id)).await?;
        }
        Ok(())
    }

    async fn settle_one(&self, id: &BlobId) -> Result<()> {
        let settled = self.repository().settled();
        if settled.contains(id) {
            return Ok(());
        }
        match self.sound_place(BlobKind::Data, id).await {
            Ok(place) => settled.insert(*id, Some(place)),
            Err(error) if error.is_damage() => settled.insert(*id, None),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes the place of a blob from the header of its pack, if that differs from the index.
    async fn settle_by_header(&self, id: &BlobId) -> Result<()> {
        let (repository, settled) = (self.repository(), self.repository().settled());
        if settled.contains(id) {
            return Ok(());
        }
        let place = repository.places_in_headers(BlobKind::Data, id).await?.first().copied();
        if let Some(place) = place {
            repository.note_contradiction(place.pack);
            settled.insert(*id, Some(place));
        }
        Ok(())
    }
}
