//! A repository: all objects under one prefix of a sink, in restic's format 2.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Repository`]: an opened repository; [`IndexedRepository`]: one whose index is loaded |
//! | `layout.rs` | all object names |
//! | `init.rs`, `open.rs` | creating and opening |
//! | `key_files.rs` | key files |
//! | `guard.rs` | the lock that keeps stock `prune` and `forget` away from lock-free writers |
//! | `headers.rs` | headers of packs, which decide where index entries do not fit |
//! | `listings.rs` | packs that index objects list with different contents |
//! | `listing.rs` | listings of objects, which may be empty or endless by mistake |
//! | `pack_comparison.rs` | the packs in the index, compared with those in the store |
//! | `snapshots.rs` | listing, naming and saving snapshots |
//! | `known_snapshots.rs` | snapshots that this process has read |
//! | `recent.rs` | the snapshots as this process listed them lately |
//! | `effective_time.rs` | [`EffectiveTime`]: the time that a snapshot counts for |
//! | `snapshot_order.rs` | effective times that follow the order of parents and the present |
//! | `adoptions.rs` | maintainers vouch for the times of snapshots |
//! | `unavailable.rs` | snapshots that should be there and cannot be read |
//! | `receipts.rs` | notes beside the repository by which the loss of an object is noticed |
//! | `lease.rs`, `lease/` | at most one process at a time: the lease, its stored object, its holder |
//! | `session.rs` | who reads or writes at the moment |
//! | `reliance.rs` | what a writer relies upon must still be there when its snapshot appears |
//! | `reach.rs` | what snapshots need |
//! | `prune_records.rs` | what prunes note for later ones |
//! | `present.rs` | [`Present`]: the present by which snapshots expire |
//! | `store_clock.rs` | the age of objects by the store's own clock |
//! | `locks.rs` | renewing locks against deletion |
//! | `probe.rs` | what the store really does |
//! | `index/` | which pack holds which blob |
//! | `write/` | storing blobs: deduplicate, seal, pack, upload, verify, index |
//! | `read/` | reading blobs and snapshots |
//! | `cpu.rs` | the bounded pool that all hashing, compression and encryption runs on |
//!
//! # Order of durability
//! packs → verification of what was written → index → snapshot. A crash at any point leaves
//! unreferenced objects only.

mod adoptions;
pub(crate) mod cpu;
mod effective_time;
pub(crate) mod guard;
pub(crate) mod headers;
pub mod index;
mod init;
pub(crate) mod key_files;
mod known_snapshots;
pub(crate) mod layout;
mod lease;
mod listing;
pub(crate) mod listings;
mod locks;
mod open;
mod pack_comparison;
mod present;
mod probe;
pub(crate) mod prune_records;
pub(crate) mod reach;
mod read;
mod receipts;
mod recent;
pub(crate) mod reliance;
pub(crate) mod session;
pub(crate) mod snapshot_order;
mod snapshots;
pub(crate) mod store_clock;
mod unavailable;
mod write;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use adoptions::Adoptions;
pub use effective_time::{EffectiveTime, TimeBasis, TimeEvidence};
pub use init::{InitOptions, Likeness};
pub use key_files::KeyInfo;
pub use lease::{KeptLease, Lease, LeaseNote, LeaseOptions, LeaseState};
pub use locks::LockReport;
pub(crate) use pack_comparison::PackComparison;
pub use present::{ClockDoubt, Present};
pub use probe::{LARGEST_SKEW, StoreVerdict};
use read::Settled;
pub(crate) use read::{BlobReader, Decoded, decode_with, verify_blob};
pub use read::{SnapshotReader, TreeWalk};
pub use receipts::Receipt;
pub use recent::RecentSnapshots;
pub use snapshots::{SnapshotFilter, SnapshotInfo, SnapshotList};
pub use unavailable::UnavailableSnapshot;
pub(crate) use write::BlobWriter;
pub use write::{WriteSettings, WriteStats};

use crate::chunker::Gear;
use crate::context::Context;
use crate::crypto::MasterKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BlobKind, Config, IndexBlob};
use crate::id::{IndexId, KeyId, PackId};
use crate::sink::Sink;
use cpu::CpuPool;
use headers::Headers;
use index::{BlobIndex, LoadedIndex};
use known_snapshots::KnownSnapshots;
use recent::Recent;

/// An opened repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    sink: Arc<dyn Sink>,
    key: Arc<MasterKey>,
    key_id: KeyId,
    config: Config,
    gear: Gear,
    cpu: CpuPool,
    /// Where the index is cached.
    cache: Option<PathBuf>,
    snapshots: KnownSnapshots,
    recent: Recent,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({})", self.0.sink)
    }
}

impl Repository {
    pub(crate) fn assemble(
        sink: Arc<dyn Sink>,
        key: MasterKey,
        key_id: KeyId,
        config: Config,
    ) -> Self {
        let gear = Gear::from_seed(config.chunker_seed(&key));
        let cpu = CpuPool::with_all_cores();
        Self(Arc::new(Inner {
            sink,
            key: Arc::new(key),
            key_id,
            config,
            gear,
            cpu,
            cache: None,
            snapshots: KnownSnapshots::default(),
            recent: Recent::default(),
        }))
    }

    /// The same repository, with its index cached in files below `dir`: memory does not grow with
    /// the repository then, and only index objects that are new have to be read. Nothing is lost
    /// with the cache; it holds the names of blobs, which whoever has the same files can compute,
    /// so it belongs where only this user reads.
    #[must_use]
    pub fn with_cache(&self, dir: &Path) -> Self {
        self.with_index_cache(Some(dir.join(&self.config().id).join("index")))
    }

    /// The same repository, its index read from the repository alone.
    pub(crate) fn without_cache(&self) -> Self {
        self.with_index_cache(None)
    }

    fn with_index_cache(&self, cache: Option<PathBuf>) -> Self {
        let Inner { sink, key, key_id, config, gear, cpu, .. } = &*self.0;
        let (sink, key, config) = (Arc::clone(sink), Arc::clone(key), config.clone());
        Self(Arc::new(Inner {
            sink,
            key,
            key_id: *key_id,
            config,
            gear: gear.clone(),
            cpu: cpu.clone(),
            cache,
            snapshots: KnownSnapshots::default(),
            recent: Recent::default(),
        }))
    }

    pub(crate) fn index_cache(&self) -> Option<&Path> {
        self.0.cache.as_deref()
    }

    /// Where its objects are.
    #[must_use]
    pub fn sink(&self) -> &Arc<dyn Sink> {
        &self.0.sink
    }

    /// What it says of itself.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The key file that opened it.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.0.key_id
    }

    pub(crate) fn key(&self) -> &Arc<MasterKey> {
        &self.0.key
    }

    pub(crate) fn gear(&self) -> &Gear {
        &self.0.gear
    }

    pub(crate) fn cpu(&self) -> &CpuPool {
        &self.0.cpu
    }

    /// Loads the index, which everything that touches blobs needs.
    ///
    /// # Errors
    /// Those of the sink. Damaged index objects are no error here;
    /// [`IndexedRepository::damaged_indexes`] names them.
    pub async fn load_index(&self, cx: &Context) -> Result<IndexedRepository> {
        Ok(self.with_index(index::load(self, cx).await?))
    }

    /// Loads the index into memory, with these contents of packs instead of the stored entries.
    ///
    /// # Errors
    /// As [`Self::load_index`].
    pub(crate) async fn load_corrected_index(
        &self,
        contents: &HashMap<PackId, Vec<IndexBlob>>,
        cx: &Context,
    ) -> Result<IndexedRepository> {
        Ok(self.with_index(index::load_corrected(self, contents, cx).await?))
    }

    fn with_index(&self, loaded: LoadedIndex) -> IndexedRepository {
        IndexedRepository {
            repository: self.clone(),
            index: Arc::from(loaded.index),
            damaged: Arc::new(loaded.damaged),
            objects: Arc::new(loaded.objects),
            read: Arc::new(loaded.read),
            saved: Arc::default(),
            directories: Arc::default(),
            settled: Arc::default(),
            headers: Arc::default(),
        }
    }
}

/// A repository whose index is loaded. Cheap to clone.
#[derive(Debug, Clone)]
pub struct IndexedRepository {
    repository: Repository,
    index: Arc<dyn BlobIndex>,
    damaged: Arc<Vec<(IndexId, Error)>>,
    /// The index objects that were there when the index was loaded.
    objects: Arc<HashSet<IndexId>>,
    /// Those of them that were read then, and understood.
    read: Arc<HashSet<IndexId>>,
    /// Those that this process has stored since.
    saved: Arc<Mutex<HashSet<IndexId>>>,
    /// Length of all directory objects, in bytes; filled when it is first needed.
    directories: Arc<OnceLock<u64>>,
    /// Blobs of which index objects state several lengths, and where the true one is.
    settled: Arc<Settled>,
    headers: Arc<Headers>,
}

impl IndexedRepository {
    /// The repository itself.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The repository with an index that has these snapshots: this one, or one that is loaded now if
    /// a snapshot is newer.
    ///
    /// # Errors
    /// As [`Repository::load_index`].
    pub async fn including(
        &self,
        mut snapshots: impl Iterator<Item = &SnapshotInfo> + Send,
        cx: &Context,
    ) -> Result<Self> {
        // The root directory is stored last.
        let has =
            |info: &SnapshotInfo| self.index.find(BlobKind::Tree, &info.snapshot.tree).is_some();
        if snapshots.all(has) { Ok(self.clone()) } else { self.repository.load_index(cx).await }
    }

    /// Its index.
    #[must_use]
    pub fn index(&self) -> &Arc<dyn BlobIndex> {
        &self.index
    }

    /// Index objects that could not be used, with the reason.
    #[must_use]
    pub fn damaged_indexes(&self) -> &[(IndexId, Error)] {
        &self.damaged
    }

    /// Index objects that cannot be used as they are stored now, whatever a cache knows of them:
    /// reads those that were not read when the index was loaded.
    pub(crate) async fn damaged_objects(&self, cx: &Context) -> Result<Vec<(IndexId, Error)>> {
        let is_known =
            |id: &IndexId| self.read.contains(id) || self.damaged.iter().any(|(bad, _)| bad == id);
        let cached = self.objects.iter().filter(|id| !is_known(id)).copied().collect();
        let mut damaged = index::find_changed(&self.repository, cached, cx).await?;
        damaged.extend(self.damaged.iter().map(|(id, error)| (*id, Error::damaged(error.chain()))));
        damaged.sort_by_key(|(id, _)| *id);
        Ok(damaged)
    }

    /// Fails if the cache turned out to be damaged: what was not found may be there.
    pub(crate) fn require_intact(&self) -> Result<()> {
        if self.index.is_intact() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "the index cache is damaged")
            .with_hint("run the command again, which rebuilds the cache"))
    }

    /// How many index objects there are.
    #[must_use]
    pub fn index_objects(&self) -> usize {
        self.objects.len()
    }

    /// This process has stored an index object, of which it knows everything.
    pub(crate) fn note_saved(&self, object: IndexId) {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner).insert(object);
    }

    pub(crate) fn has_saved(&self, object: &IndexId) -> bool {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner).contains(object)
    }

    pub(crate) fn loaded_objects(&self) -> &HashSet<IndexId> {
        &self.objects
    }

    /// Number of packs in the index.
    pub(crate) fn index_packs(&self) -> usize {
        let mut packs = 0;
        self.index.for_each_pack(&mut |_| packs += 1);
        packs
    }

    /// Length of all directory objects in the index before compression, in bytes. The first call
    /// reads the whole index.
    #[must_use]
    pub fn directory_bytes(&self) -> u64 {
        *self.directories.get_or_init(|| {
            let mut sum = 0_u64;
            self.index.for_each_copy(&mut |_, _, blob| {
                if blob.kind == BlobKind::Tree {
                    sum = sum.saturating_add(u64::from(blob.plain_len()));
                }
            });
            sum
        })
    }

    pub(crate) fn settled(&self) -> &Settled {
        &self.settled
    }

    pub(crate) fn headers(&self) -> &Headers {
        &self.headers
    }

    pub(crate) fn reader(&self) -> BlobReader {
        BlobReader::new(self)
    }

    /// A reader for one snapshot.
    #[must_use]
    pub fn snapshot(&self, info: &SnapshotInfo) -> SnapshotReader {
        SnapshotReader::new(self.reader(), info.clone())
    }
}
