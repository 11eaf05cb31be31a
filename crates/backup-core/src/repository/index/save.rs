//! Storing index objects.

use crate::error::{Error, Result};
use crate::format::{IndexFile, IndexPack, MarkedPack, seal_json};
use crate::id::IndexId;
use crate::repository::cpu::panicked;
use crate::repository::{Repository, layout};
use crate::sink::{SinkErrorKind, SinkOps};

/// Blobs per index object, as in restic.
pub(crate) const MAX_BLOBS: usize = 50_000;
/// A prune takes an object away once, at most.
const ATTEMPTS: usize = 3;

/// Stores an index object and reads it back: it is small, and everything depends on it.
pub(crate) async fn save(repository: &Repository, file: IndexFile) -> Result<IndexId> {
    let key = repository.key().clone();
    let sealed =
        tokio::task::spawn_blocking(move || seal_json(&key, &file)).await.map_err(panicked)??;
    let id = IndexId::digest(&sealed);
    let object = layout::index(&id);
    let mut attempt = 1;
    let stored = loop {
        repository.sink().put_bytes(&object, sealed.clone()).await?;
        match repository.sink().get_bytes(&object).await {
            // A prune has put it together with others meanwhile: what it says is listed twice then,
            // which harms nothing.
            Err(error) if error.kind() == SinkErrorKind::NotFound && attempt < ATTEMPTS => {
                attempt += 1;
            }
            stored => break stored?,
        }
    };
    if IndexId::digest(&stored) != id {
        return Err(Error::damaged(format!(
            "{object}: the bytes read back differ from the bytes written"
        ))
        .with_hint("check the disk and choose another place for backups: the storage is faulty"));
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
