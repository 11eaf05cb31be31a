//! Index objects of verified packs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::format::{IndexFile, IndexPack, PackedBlob, seal_json};
use crate::id::{IndexId, PackId};
use crate::repository::index::BlobIndex;
use crate::repository::{IndexedRepository, Repository, layout};
use crate::sink::SinkOps;

/// Blobs per index object, as in restic.
const MAX_BLOBS: usize = 50_000;
/// Longest time for which a stored pack stays without an index entry, as in restic.
const MAX_INTERVAL: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct IndexWriter {
    repository: Repository,
    /// The index of this process: what is stored is found at once.
    index: Arc<dyn BlobIndex>,
    pending: IndexFile,
    pending_blobs: usize,
    interval: Duration,
    last: Instant,
    written: u64,
}

impl IndexWriter {
    pub(super) fn new(repository: &IndexedRepository, interval: Duration) -> Self {
        Self {
            repository: repository.repository().clone(),
            index: Arc::clone(repository.index()),
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
        self.index.add_pack(pack, &blobs);
        self.pending_blobs += blobs.len();
        self.pending.packs.push(IndexPack { id: pack, blobs: blobs.into_iter().map(Into::into).collect() });
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
        let key = self.repository.key().clone();
        let sealed = tokio::task::spawn_blocking(move || seal_json(&key, &file))
            .await
            .map_err(crate::repository::cpu::panicked)??;
        let id = IndexId::digest(&sealed);
        let object = layout::index(&id);
        self.repository.sink().put_bytes(&object, sealed).await?;
        // Small, and everything depends on it: always read back.
        let stored = self.repository.sink().get_bytes(&object).await?;
        if IndexId::digest(&stored) != id {
            return Err(Error::damaged(format!("{object} reads back differently from what was written"))
                .with_hint("the storage is faulty: check the disk, and choose another place for backups"));
        }
        self.written += 1;
        Ok(())
    }
}
