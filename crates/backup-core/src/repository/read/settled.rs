//! Blobs of which index objects state several lengths.
//!
//! Layouts of files are computed from the lengths in the index, before anything is read. A false
//! index entry must not change them: such a blob is read once, and the entry that its content
//! confirms counts from then on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use super::blob::BlobReader;
use crate::error::Result;
use crate::format::{BlobKind, Tree};
use crate::id::BlobId;
use crate::repository::index::BlobLocation;

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
    /// Finds the true lengths of the blobs that the files of a directory consist of.
    ///
    /// # Errors
    /// Errors of the sink. A blob that cannot be read anywhere is no error here.
    pub(crate) async fn settle(&self, tree: &Tree) -> Result<()> {
        for node in &tree.nodes {
            self.settle_content(&node.content).await?;
        }
        Ok(())
    }

    /// Finds the true lengths of these blobs.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub(crate) async fn settle_content(&self, content: &[BlobId]) -> Result<()> {
        let (index, settled) = (self.repository().index(), self.repository().settled());
        for id in content {
            if !index.is_disputed(BlobKind::Data, id) || settled.contains(id) {
                continue;
            }
            // Rare, and larger than the futures of all callers.
            match Box::pin(self.sound_place(BlobKind::Data, id)).await {
                Ok(place) => settled.insert(*id, Some(place)),
                Err(error) if error.is_damage() => settled.insert(*id, None),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
