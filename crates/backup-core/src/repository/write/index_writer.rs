//! Index objects of verified packs.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Result;
use crate::format::{IndexFile, IndexPack, PackedBlob};
use crate::id::PackId;
use crate::repository::IndexedRepository;
use crate::repository::index::{self, MAX_BLOBS};

/// Longest time for which a stored pack stays without an index entry, as in restic.
const MAX_INTERVAL: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct IndexWriter {
    /// What is stored is found in its index at once.
    repository: IndexedRepository,
    pending: IndexFile,
    pending_blobs: usize,
    interval: Duration,
    last: Instant,
    written: u64,
}

impl IndexWriter {
    pub(super) fn new(repository: &IndexedRepository, interval: Duration) -> Self {
        Self {
            repository: repository.clone(),
            pending: IndexFile::default(),
            pending_blobs: 0,
            interval,
            last: Instant::now(),
            written: 0,
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Adds a pack that is stored and verified.
    pub(super) async fn add(&mut self, pack: PackId, blobs: Vec<PackedBlob>) -> Result<()> {
        self.repository.index().add_pack(pack, &blobs);
        self.pending_blobs += blobs.len();
        self.pending
            .packs
            .push(IndexPack { id: pack, blobs: blobs.into_iter().map(Into::into).collect() });
        if self.pending_blobs >= MAX_BLOBS || self.last.elapsed() >= self.interval {
            self.flush().await?;
            self.interval = (self.interval * 2).min(MAX_INTERVAL);
        }
        Ok(())
    }

    /// Writes what is pending.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.last = Instant::now();
        if self.pending.packs.is_empty() {
            return Ok(());
        }
        let file = std::mem::take(&mut self.pending);
        self.pending_blobs = 0;
        let object = index::save(self.repository.repository(), file).await?;
        self.repository.note_saved(object);
        self.written += 1;
        Ok(())
    }
}
