//! Storing blobs.
//!
//! ```text
//!  store(kind, bytes) ──▶ hash ──▶ known? ──yes──▶ done
//!   (worker threads)                 │no
//!                                    ▼
//!                     compress ▶ seal ▶ sample check ▶ open pack (slots.rs)
//!                                                          │ full
//!                                                          ▼
//!                          uploader (upload.rs): put ▶ verify ▶ index object (index_writer.rs)
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`BlobWriter`] |
//! | `settings.rs` | [`WriteSettings`], [`WriteStats`] |
//! | `sealer.rs` | compressing and sealing in reused memory |
//! | `streamed.rs` | storing a content too large for memory |
//! | `pack_builder.rs` | one pack being filled |
//! | `slots.rs` | the packs that are open at a time |
//! | `upload.rs` | uploading packs and verifying what was written |
//! | `index_writer.rs` | index objects of verified packs |
//! | `presence.rs` | packs that vanished or changed before the run ended |
//!
//! Memory: `(open packs + uploads - 1) × pack size + a tree pack`, whatever the amount of data. Who
//! finds no memory for the next pack waits until an upload is done.

mod index_writer;
mod pack_builder;
mod presence;
mod sealer;
mod settings;
mod slots;
mod streamed;
mod upload;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashSet;
use tokio::runtime::Handle;

pub use settings::{WriteSettings, WriteStats};

use crate::error::{Error, Result};
use crate::format::{BlobKind, PackedBlob};
use crate::id::BlobId;
use crate::repository::{Decoded, IndexedRepository};
use sealer::{Sealed, Sealer};
use slots::Slots;
use upload::{UploadedBytes, Uploader};

/// Stores blobs of one run. Cheap to clone; [`BlobWriter::finish`] is called once, at the end.
#[derive(Debug, Clone)]
pub(crate) struct BlobWriter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    repository: IndexedRepository,
    dry_run: bool,
    /// Blobs of this run that are not in the index yet.
    claimed: Mutex<HashSet<(BlobKind, BlobId), std::hash::RandomState>>,
    /// Blobs whose stored copy turned out to be damaged.
    distrusted: Mutex<HashSet<(BlobKind, BlobId), std::hash::RandomState>>,
    sealer: Sealer,
    data: Slots,
    tree: Slots,
    uploader: Uploader,
    stats: Stats,
    handle: Handle,
}

#[derive(Debug, Default)]
struct Stats {
    data_blobs: AtomicU64,
    tree_blobs: AtomicU64,
    added: AtomicU64,
    packed: AtomicU64,
    sampled: AtomicU64,
}

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: BlobId,
    /// Whether it was new to the repository.
    pub(crate) new: bool,
}

impl BlobWriter {
    /// A writer into `repository`, which it deduplicates against; with `dry_run` it computes
    /// everything and stores nothing. Must be called on a tokio runtime.
    pub(crate) fn new(
        repository: &IndexedRepository,
        settings: &WriteSettings,
        dry_run: bool,
    ) -> Self {
        let uploader = Uploader::start(repository, settings);
        let slots = |kind, count, size| Slots::new(kind, count, size, uploader.clone());
        Self(Arc::new(Inner {
            repository: repository.clone(),
            claimed: Mutex::default(),
            distrusted: Mutex::default(),
            data: slots(BlobKind::Data, settings.open_packs, settings.data_pack_size()),
            tree: slots(BlobKind::Tree, 1, settings.tree_pack_size()),
            sealer: Sealer::new(settings.compression, settings.sample()),
            dry_run,
            uploader,
            stats: Stats::default(),
            handle: Handle::current(),
        }))
    }

    /// Stores a blob unless the repository has it. Computes and may wait: call it on a worker
    /// thread.
    pub(crate) fn store(&self, kind: BlobKind, plain: &[u8]) -> Result<Stored> {
        let inner = &*self.0;
        let id = BlobId::digest(plain);
        if !inner.is_wanted(kind, id) {
            return Ok(Stored { id, new: false });
        }
        inner.uploader.check()?;
        let key = inner.repository.repository().key();
        inner.sealer.seal(key, kind, id, plain, |sealed| self.place(plain.len(), &sealed))?;
        Ok(Stored { id, new: true })
    }

    /// Stores a blob of another repository, whose content was checked, unless this one has it: as
    /// it is if both have the same master key, else sealed anew, but never compressed anew. May
    /// wait: call it on a worker thread.
    pub(crate) fn store_copy(&self, decoded: &Decoded<'_>, same_key: bool) -> Result<Stored> {
        let inner = &*self.0;
        let PackedBlob { id, kind, .. } = *decoded.blob;
        if !inner.is_wanted(kind, id) {
            return Ok(Stored { id, new: false });
        }
        inner.uploader.check()?;
        let len = decoded.blob.plain_len() as usize;
        if same_key {
            let sealed = Sealed {
                blob: PackedBlob { offset: 0, ..*decoded.blob },
                bytes: decoded.sealed,
                sampled: false,
            };
            self.place(len, &sealed)?;
        } else {
            let key = inner.repository.repository().key();
            inner.sealer.seal_again(key, decoded, |sealed| self.place(len, &sealed))?;
        }
        Ok(Stored { id, new: true })
    }

    /// Stores one more copy of a blob of this repository as it is: its old pack is to be given up.
    /// May wait: call it on a worker thread.
    pub(crate) fn move_sealed(&self, blob: &PackedBlob, sealed: &[u8]) -> Result<()> {
        let inner = &*self.0;
        if !inner.claim(blob.kind, blob.id) {
            return Ok(());
        }
        inner.uploader.check()?;
        let plain_len = blob.plain_len() as usize;
        self.place(
            plain_len,
            &Sealed { blob: PackedBlob { offset: 0, ..*blob }, bytes: sealed, sampled: false },
        )
    }

    /// Puts a sealed blob of `plain_len` bytes into a pack.
    fn place(&self, plain_len: usize, sealed: &Sealed<'_>) -> Result<()> {
        let inner = &*self.0;
        inner.stats.count(plain_len, sealed);
        if inner.dry_run {
            return Ok(());
        }
        let slots = if sealed.blob.kind == BlobKind::Data { &inner.data } else { &inner.tree };
        slots.add(sealed.blob, sealed.bytes, inner.repository.repository().key(), &inner.handle)
    }

    /// This blob is in the index but cannot be read: it is stored again if it comes along.
    pub(crate) fn distrust(&self, kind: BlobKind, id: BlobId) {
        self.0.distrusted.lock().unwrap_or_else(PoisonError::into_inner).insert((kind, id));
    }

    /// Whether the blob is stored already or about to be.
    pub(crate) fn knows(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.0.repository.index().find_lasting(kind, id).is_some()
            || self.0.lock_claimed().contains(&(kind, *id))
    }

    /// Bytes of packs that were handed over for upload and stored until now.
    pub(crate) fn uploaded(&self) -> &UploadedBytes {
        self.0.uploader.bytes()
    }

    /// Uploads what is open, waits for all uploads, writes the index, and lists the packs of this run
    /// once more. After that every stored blob is durable, verified and listed.
    pub(crate) async fn finish(self) -> Result<WriteStats> {
        let flush = self.clone();
        tokio::task::spawn_blocking(move || {
            let key = flush.0.repository.repository().key().clone();
            flush.0.data.flush(&key)?;
            flush.0.tree.flush(&key)
        })
        .await
        .map_err(super::cpu::panicked)??;
        let uploads = self.0.uploader.finish().await?;
        if !uploads.stored.is_empty() {
            presence::require_packs(&self.0.repository, &uploads.stored).await?;
        }
        self.keep_promises()?;
        let stats = &self.0.stats;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(WriteStats {
            data_blobs: load(&stats.data_blobs),
            tree_blobs: load(&stats.tree_blobs),
            added_bytes: load(&stats.added),
            packed_bytes: load(&stats.packed),
            packs: uploads.stored.len() as u64,
            index_objects: uploads.index_objects,
            sampled_blobs: load(&stats.sampled),
            sampled_packs: uploads.sampled_packs,
        })
    }

    /// Every blob that [`Self::store`] has named is in the index now, or the run must not be
    /// published.
    fn keep_promises(&self) -> Result<()> {
        let index = self.0.repository.index();
        let broken = |(kind, id): &&(BlobKind, BlobId)| index.find(*kind, id).is_none();
        match self.0.lock_claimed().iter().find(broken) {
            Some((_, id)) if !self.0.dry_run => {
                Err(Error::internal(format!("blob {} is referenced but not stored", id.short())))
            }
            _ => Ok(()),
        }
    }

    /// Makes durable what was stored, unless something failed.
    pub(crate) async fn close<T>(self, result: Result<T>) -> Result<(T, WriteStats)> {
        let result = match result {
            Ok(value) => self.clone().finish().await.map(|stats| (value, stats)),
            Err(error) => Err(error),
        };
        match result {
            Ok(closed) => Ok(closed),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// Gives up after an error; returns its cause: if uploading failed, everything else is only a
    /// consequence of that.
    pub(crate) async fn give_up(self, error: Error) -> Error {
        let cause = self.0.uploader.failure().await.unwrap_or(error);
        self.abort().await;
        cause
    }

    /// Gives up: nothing more is accepted. Packs that are complete are stored and indexed, for the
    /// next run to find.
    pub(crate) async fn abort(self) {
        self.0.uploader.abort().await;
    }
}

impl Inner {
    fn lock_claimed(
        &self,
    ) -> std::sync::MutexGuard<'_, HashSet<(BlobKind, BlobId), std::hash::RandomState>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the caller has to store the blob: the repository does not have it, and nobody else
    /// of this run stores it.
    fn is_wanted(&self, kind: BlobKind, id: BlobId) -> bool {
        let distrusted =
            self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).contains(&(kind, id));
        (distrusted || self.repository.index().find_lasting(kind, &id).is_none())
            && self.claim(kind, id)
    }

    /// Whether the caller is the first of this run to store the blob.
    fn claim(&self, kind: BlobKind, id: BlobId) -> bool {
        self.lock_claimed().insert((kind, id))
    }
}

impl Stats {
    fn count(&self, plain: usize, sealed: &Sealed<'_>) {
        let blobs =
            if sealed.blob.kind == BlobKind::Data { &self.data_blobs } else { &self.tree_blobs };
        blobs.fetch_add(1, Ordering::Relaxed);
        self.added.fetch_add(plain as u64, Ordering::Relaxed);
        self.packed.fetch_add(sealed.bytes.len() as u64, Ordering::Relaxed);
        self.sampled.fetch_add(u64::from(sealed.sampled), Ordering::Relaxed);
    }
}
