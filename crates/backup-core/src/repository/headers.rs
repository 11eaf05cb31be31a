//! Headers of packs. The index is a hint: where its entries do not fit, the header of the pack
//! decides, which is authenticated and describes the pack to its last byte.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::{IndexedRepository, Repository, layout};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BlobKind, PackHeader, PackedBlob};
use crate::id::{BlobId, PackId};
use crate::repository::index::BlobLocation;
use crate::sink::SinkOps;

/// Bytes at the end of a pack that are read first: enough for most headers.
const TAIL: u64 = 64 << 10;
/// Headers that are kept in memory.
const MAX_KEPT: usize = 64;

/// Headers that were read because index entries did not fit.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    /// `None` for a pack without a readable header.
    kept: Mutex<HashMap<PackId, Option<Arc<PackHeader>>>>,
    /// Places of the blobs of packs that the index lists incompletely.
    unlisted: OnceCell<HashMap<(BlobKind, BlobId), BlobLocation>>,
    /// Packs whose header has replaced index entries.
    contradicted: Mutex<BTreeSet<PackId>>,
    /// Walks over the whole index for entries.
    #[cfg(test)]
    walks: std::sync::atomic::AtomicUsize,
}

/// A pack whose index entries differ from its header.
#[derive(Debug)]
pub(crate) struct Mislisted {
    pub(crate) header: Arc<PackHeader>,
    /// Entries that the header has with the same values.
    pub(crate) confirmed: usize,
    /// Entries of blobs that the header does not have.
    pub(crate) absent: Vec<BlobId>,
    /// True if the header has every entry of the index.
    pub(crate) is_incomplete_only: bool,
}

impl Mislisted {
    /// Compares the entries of the index with the header.
    pub(crate) fn new(header: Arc<PackHeader>, entries: &[PackedBlob]) -> Self {
        let places: HashMap<(BlobId, u32), &PackedBlob> =
            header.blobs.iter().map(|blob| ((blob.id, blob.offset), blob)).collect();
        let is_same =
            |entry: &&PackedBlob| places.get(&(entry.id, entry.offset)).is_some_and(|b| b == entry);
        let ids: HashSet<BlobId> = header.blobs.iter().map(|blob| blob.id).collect();
        let is_absent = |entry: &&PackedBlob| !ids.contains(&entry.id);
        let confirmed = entries.iter().filter(is_same).count();
        let absent = entries.iter().filter(is_absent).map(|entry| entry.id).collect();
        Self { confirmed, absent, is_incomplete_only: confirmed == entries.len(), header }
    }

    /// True if index entries and header are equal.
    pub(crate) fn is_equal(&self) -> bool {
        self.is_incomplete_only && self.confirmed == self.header.blobs.len()
    }
}

impl IndexedRepository {
    /// The header of a pack; `None` if the pack is missing or its header cannot be understood.
    ///
    /// # Errors
    /// Errors of the sink.
    pub(crate) async fn header_of(&self, id: &PackId) -> Result<Option<Arc<PackHeader>>> {
        let headers = self.headers();
        let known = headers.kept.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = match read_header(self.repository(), *id).await {
            Ok(header) => Some(Arc::new(header)),
            Err(error) if error.is_damage() => None,
            Err(error) => return Err(error),
        };
        let mut kept = headers.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(*id, found.clone());
        Ok(found)
    }

    /// Entries of the index for these packs, without repetitions. Walks over the whole index.
    pub(crate) fn entries_of(
        &self,
        packs: impl Iterator<Item = PackId>,
    ) -> HashMap<PackId, Vec<PackedBlob>> {
        let mut entries: HashMap<PackId, Vec<PackedBlob>> =
            packs.map(|pack| (pack, Vec::new())).collect();
        if entries.is_empty() {
            return entries;
        }
        #[cfg(test)]
        self.headers().walks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.index().for_each_blob(&mut |at| {
            if let Some(known) = entries.get_mut(&at.pack) {
                known.push(at.blob);
            }
        });
        for known in entries.values_mut() {
            known.sort_unstable_by_key(|blob| (blob.offset, blob.id, blob.kind, blob.len));
            known.dedup();
        }
        entries
    }

    /// Places of a blob by the headers of packs, where they differ from those in the index: in the
    /// packs that the index names for it, or in packs that the index lists incompletely.
    ///
    /// # Errors
    /// Errors of the sink.
    pub(crate) async fn places_in_headers(
        &self,
        kind: BlobKind,
        id: &BlobId,
    ) -> Result<Vec<BlobLocation>> {
        let mut listed = self.index().find_all(BlobKind::Data, id);
        listed.extend(self.index().find_all(BlobKind::Tree, id));
        let packs: BTreeSet<PackId> = listed.iter().map(|at| at.pack).collect();
        let mut places = Vec::new();
        for pack in packs {
            let Some(header) = self.header_of(&pack).await? else { continue };
            let pack_end = end_of(&header.blobs);
            let found = header.blobs.iter().filter(|blob| blob.kind == kind && blob.id == *id);
            places.extend(found.map(|blob| BlobLocation { pack, pack_end, blob: *blob }));
        }
        places.retain(|place| !listed.iter().any(|at| same_place(at, place)));
        if places.is_empty() {
            places.extend(self.unlisted_blobs().await?.get(&(kind, *id)).copied());
        }
        Ok(places)
    }

    /// Blobs of packs whose size shows that the index lists them incompletely.
    async fn unlisted_blobs(&self) -> Result<&HashMap<(BlobKind, BlobId), BlobLocation>> {
        let find = || async {
            let mut blobs = HashMap::new();
            let found = match self.compare_packs().await {
                // The credentials of a reader may not list packs.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(blobs),
                found => found?,
            };
            for (pack, mislisted) in found.mislisted {
                let pack_end = end_of(&mislisted.header.blobs);
                for blob in &mislisted.header.blobs {
                    let place = BlobLocation { pack, pack_end, blob: *blob };
                    blobs.insert((blob.kind, blob.id), place);
                }
            }
            Ok::<_, Error>(blobs)
        };
        Box::pin(self.headers().unlisted.get_or_try_init(find)).await
    }

    /// Notes that a blob was found by the header of its pack and not by the index.
    pub(crate) fn note_contradiction(&self, pack: PackId) {
        let contradicted = &self.headers().contradicted;
        contradicted.lock().unwrap_or_else(PoisonError::into_inner).insert(pack);
    }

    /// Packs with blobs that were found by the header and not by the index.
    pub(crate) fn contradicted_packs(&self) -> BTreeSet<PackId> {
        self.headers().contradicted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn end_of(blobs: &[PackedBlob]) -> u64 {
    blobs.iter().map(|blob| u64::from(blob.offset) + u64::from(blob.len)).max().unwrap_or(0)
}

fn same_place(a: &BlobLocation, b: &BlobLocation) -> bool {
    a.pack == b.pack && a.blob == b.blob
}

async fn read_header(repository: &Repository, id: PackId) -> Result<PackHeader> {
    let size = repository.sink().head(&layout::pack(&id)).await?.size;
    header(repository, id, size).await
}

/// Reads the header of a pack of `size` bytes.
///
/// # Errors
/// [`ErrorKind::Damaged`] if it cannot be understood; those of the sink.
pub(crate) async fn header(repository: &Repository, id: PackId, size: u64) -> Result<PackHeader> {
    let key = layout::pack(&id);
    let read = |len: u64| repository.sink().get_range(&key, size.saturating_sub(len)..size);
    let damaged = || Error::damaged(format!("pack {} is too short", id.short()));
    if size == 0 {
        return Err(damaged());
    }
    let mut tail = read(TAIL.min(size)).await?;
    let len = PackHeader::tail_len(*tail.last_chunk().ok_or_else(damaged)?, size)?;
    if len > tail.len() as u64 {
        tail = read(len).await?;
    }
    let start = tail.len().saturating_sub(usize::try_from(len).unwrap_or(usize::MAX));
    PackHeader::open(&tail[start..], size, repository.key())
}

/// The header of a pack whose SHA-256 is its name, as its writer stored it. The pack as a whole is
/// read.
///
/// # Errors
/// [`ErrorKind::Damaged`] if the content does not match the name, or has no valid header; those of
/// the sink.
pub(crate) async fn confirmed_header(repository: &Repository, id: PackId) -> Result<PackHeader> {
    let bytes = repository.sink().get_bytes(&layout::pack(&id)).await?;
    let key = Arc::clone(repository.key());
    let work = move || {
        if PackId::digest(&bytes) != id {
            return Err(Error::new(
                ErrorKind::Damaged,
                "the SHA-256 of its content does not match its name",
            ));
        }
        PackHeader::of_pack(&bytes, &key)
    };
    repository.cpu().run(work).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::check::find_damage;
    use crate::context::Context;
    use crate::crypto::Passphrase;
    use crate::format::{IndexBlob, IndexPack};
    use crate::pipeline::{BackupOptions, backup};
    use crate::repository::InitOptions;
    use crate::repository::index::IndexBatch;
    use crate::sink::Operation;
    use crate::testing::{Fault, FaultRule, FaultySink, MemorySink, ScriptedSource};

    /// Backups in a repository.
    const BACKUPS: u64 = 8;

    /// A repository with several packs, whose index lists each pack that has more than one blob as
    /// `change` does. Returns the number of these packs.
    async fn mislisted(
        sink: Arc<FaultySink>,
        change: fn(&mut Vec<IndexBlob>),
    ) -> (IndexedRepository, usize) {
        let (passphrase, cx) = (Passphrase::new("correct horse"), Context::silent());
        let repository =
            Repository::init(sink, &passphrase, &InitOptions::default(), &cx).await.unwrap();
        for number in 0..BACKUPS {
            let mut state = number;
            let content: Vec<u8> = std::iter::repeat_with(|| {
                state =
                    state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                state.to_be_bytes()[0]
            })
            .take(3 << 20)
            .collect();
            let source = ScriptedSource::new().file("/top/file", content);
            backup(&repository, &source, &BackupOptions::default(), &cx).await.unwrap();
        }
        let indexed = repository.load_index(&cx).await.unwrap();
        let mut packs: HashMap<PackId, Vec<IndexBlob>> = HashMap::new();
        indexed.index().for_each_blob(&mut |at| {
            packs.entry(at.pack).or_default().push(at.blob.into());
        });
        let old = crate::repository::index::names(&repository).await.unwrap();
        let mut batch = IndexBatch::new(&repository);
        let mut changed = 0;
        for (id, mut blobs) in packs {
            if blobs.len() > 1 {
                change(&mut blobs);
                changed += 1;
            }
            batch.add(IndexPack { id, blobs }).await.unwrap();
        }
        batch.finish().await.unwrap();
        for id in old {
            repository.sink().delete_one(&layout::index(&id)).await.unwrap();
        }
        (repository.load_index(&cx).await.unwrap(), changed)
    }

    #[tokio::test]
    async fn check_walks_over_the_index_once_for_all_mislisted_packs() {
        let sink = Arc::new(FaultySink::new(Arc::new(MemorySink::new())));
        let change = |blobs: &mut Vec<IndexBlob>| blobs[0].id = BlobId::digest(b"another");
        let (indexed, changed) = mislisted(sink, change).await;
        assert!(changed >= 8, "{changed}");
        let damage = find_damage(&indexed, &Context::silent()).await.unwrap();
        assert_eq!(damage.mislisted.len(), changed);
        assert_eq!(indexed.headers().walks.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn headers_of_packs_with_other_sizes_are_read_concurrently() {
        const DELAY: Duration = Duration::from_millis(300);
        let sink = Arc::new(FaultySink::new(Arc::new(MemorySink::new())));
        let (indexed, changed) = mislisted(Arc::clone(&sink), |blobs| _ = blobs.pop()).await;
        assert!(changed >= 8, "{changed}");
        let slow = FaultRule::new(Fault::Delay(DELAY)).on(Operation::Get).under("data");
        sink.add(slow.times(u64::MAX));
        let since = Instant::now();
        let found = indexed.compare_packs().await.unwrap();
        assert_eq!(found.mislisted.len(), changed);
        let one_by_one = DELAY * u32::try_from(changed).unwrap();
        assert!(since.elapsed() < one_by_one * 3 / 4, "{:?}", since.elapsed());
    }
}
