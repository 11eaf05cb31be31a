//! Storing index objects.

use crate::error::{Error, Result};
use crate::format::{IndexFile, IndexPack, MarkedPack, seal_json};
use crate::id::IndexId;
use crate::repository::cpu::panicked;
use crate::repository::{Repository, layout};
use crate::sink::SinkOps;

/// Blobs per index object, as in restic.
pub(crate) const MAX_BLOBS: usize = 50_000;

/// Stores an index object and reads it back: it is small, and everything depends on it.
pub(crate) async fn save(repository: &Repository, file: IndexFile) -> Result<IndexId> {
    let key = repository.key().clone();
    let sealed = tokio::task::spawn_blocking(move || seal_json(&key, &file)).await.map_err(panicked)??;
    let id = IndexId::digest(&sealed);
    let object = layout::index(&id);
    repository.sink().put_bytes(&object, sealed).await?;
    let stored = repository.sink().get_bytes(&object).await?;
    if IndexId::digest(&stored) != id {
        return Err(Error::damaged(format!("{object} reads back differently from what was written"))
            .with_hint("the storage is faulty: check the disk, and choose another place for backups"));
    }
    Ok(id)
}

/// Collects packs and stores an index object whenever there are enough.
#[derive(Debug)]
pub(crate) struct IndexBatch {
    repository: Repository,
    file: IndexFile,
    blobs: usize,
    saved: u64,
}

impl IndexBatch {
    pub(crate) fn new(repository: &Repository) -> Self {
        Self { repository: repository.clone(), file: IndexFile::default(), blobs: 0, saved: 0 }
    }

    pub(crate) async fn add(&mut self, pack: IndexPack) -> Result<()> {
        self.make_room(pack.blobs.len()).await?;
        self.file.packs.push(pack);
        Ok(())
    }

    pub(crate) async fn add_marked(&mut self, pack: MarkedPack) -> Result<()> {
        self.make_room(pack.blobs.len()).await?;
        self.file.packs_to_delete.push(pack);
        Ok(())
    }

    async fn make_room(&mut self, blobs: usize) -> Result<()> {
        if self.blobs + blobs > MAX_BLOBS {
            self.flush().await?;
        }
        self.blobs += blobs;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.blobs = 0;
        let file = std::mem::take(&mut self.file);
        if file != IndexFile::default() {
            save(&self.repository, file).await?;
            self.saved += 1;
        }
        Ok(())
    }

    /// Stores what is left; returns how many objects were stored.
    pub(crate) async fn finish(mut self) -> Result<u64> {
        self.flush().await?;
        Ok(self.saved)
    }
}
