//! Packs that index objects list with different contents. The header of the pack decides which of
//! them is true.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;

use super::{IndexedRepository, Repository, index, layout};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::{IndexBlob, PackHeader, PackedBlob};
use crate::id::{IndexId, PackId};
use crate::sink::SinkOps;

/// Enough for the header of most packs.
const TAIL: u64 = 64 << 10;

/// The disputed packs of a repository.
#[derive(Debug, Default)]
pub(crate) struct Disputes {
    /// True contents of packs.
    pub(crate) contents: HashMap<PackId, Vec<IndexBlob>>,
    /// Packs whose header cannot be read.
    pub(crate) unknown: Vec<(PackId, Error)>,
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
        for id in self.index().disputed_packs() {
            cx.check_cancelled()?;
            match self.header(id).await {
                Ok(header) => {
                    let blobs = header.blobs.into_iter().map(IndexBlob::from).collect();
                    disputes.contents.insert(id, blobs);
                }
                Err(error) if error.is_damage() => disputes.unknown.push((id, error)),
                Err(error) => return Err(error),
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

    async fn header(&self, id: PackId) -> Result<PackHeader> {
        let size = self.repository().sink().head(&layout::pack(&id)).await?.size;
        header(self.repository(), id, size).await
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

/// Reads the header of a pack of `size` bytes.
///
/// # Errors
/// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if it cannot be understood; those of
/// the sink.
pub(crate) async fn header(repository: &Repository, id: PackId, size: u64) -> Result<PackHeader> {
    let key = layout::pack(&id);
    let read = |len: u64| repository.sink().get_range(&key, size.saturating_sub(len)..size);
    let damaged = || Error::damaged(format!("pack {} is too short", id.short()));
    let mut tail = read(TAIL.min(size)).await?;
    let len = PackHeader::tail_len(*tail.last_chunk().ok_or_else(damaged)?, size)?;
    if len > tail.len() as u64 {
        tail = read(len).await?;
    }
    let start = tail.len().saturating_sub(usize::try_from(len).unwrap_or(usize::MAX));
    PackHeader::open(&tail[start..], size, repository.key())
}

/// True if a pack with these contents has all of the blobs.
fn is_within(contents: &[IndexBlob], blobs: &[IndexBlob]) -> bool {
    let contents: HashMap<_, PackedBlob> =
        contents.iter().map(|blob| ((blob.id, blob.offset), PackedBlob::from(*blob))).collect();
    blobs.iter().all(|blob| contents.get(&(blob.id, blob.offset)) == Some(&PackedBlob::from(*blob)))
}
