//! A repository that has index objects only. Everything in them follows from a number: whoever
//! looks for a blob computes where it must be.

use std::path::Path;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::{MasterKey, Passphrase};
use backup_core::format::{BlobKind, IndexBlob, IndexFile, IndexPack, KeyFile, seal_json};
use backup_core::id::{BlobId, IndexId, PackId};
use backup_core::repository::{InitOptions, Repository};
use backup_core::sink::{Key, Prefix, SinkOps};
use backup_storage::LocalSink;
use futures::{StreamExt, TryStreamExt};

use crate::Result;

/// Blobs that each pack is said to hold.
pub const BLOBS_PER_PACK: u64 = 100;
/// As in every repository.
const BLOBS_PER_OBJECT: u64 = 50_000;
/// One pack of so many holds trees.
const TREES: u64 = 16;
/// How many objects are added afterwards, and how many packs each has.
const ADDED: (u64, u64) = (20, 5);

/// Blobs in the objects that [`Synthetic::add`] stores.
pub const ADDED_BLOBS: u64 = ADDED.0 * ADDED.1 * BLOBS_PER_PACK;

/// The name of a blob.
#[must_use]
pub fn blob_id(number: u64) -> BlobId {
    BlobId::digest(&number.to_le_bytes())
}

/// The pack that holds it.
#[must_use]
pub fn pack_of(blob: u64) -> PackId {
    pack_id(blob / BLOBS_PER_PACK)
}

/// What it holds.
#[must_use]
pub fn kind_of(blob: u64) -> BlobKind {
    if (blob / BLOBS_PER_PACK).is_multiple_of(TREES) { BlobKind::Tree } else { BlobKind::Data }
}

fn pack_id(number: u64) -> PackId {
    PackId::digest(format!("pack {number}").as_bytes())
}

/// A pack, as an index has it.
#[must_use]
pub fn pack(number: u64) -> IndexPack {
    let mut offset = 0;
    let first = number * BLOBS_PER_PACK;
    let blob = |number| {
        let id = blob_id(number);
        let [.., kind, low, high] = *id.as_bytes();
        let length = 64 + u32::from(u16::from_le_bytes([low, high]));
        offset += length;
        let uncompressed_length = (kind < 224).then_some(length * 2);
        IndexBlob {
            id,
            kind: kind_of(number),
            offset: offset - length,
            length,
            uncompressed_length,
        }
    };
    IndexPack { id: pack_id(number), blobs: (first..first + BLOBS_PER_PACK).map(blob).collect() }
}

/// The repository that is being made.
#[derive(Debug)]
pub struct Synthetic {
    sink: LocalSink,
    key: Arc<MasterKey>,
    blobs: u64,
}

impl Synthetic {
    /// How many index objects so many blobs need.
    #[must_use]
    pub fn objects(blobs: u64) -> u64 {
        blobs.div_ceil(BLOBS_PER_OBJECT)
    }

    /// Makes a repository of so many blobs in `dir`, or takes the one that is there. Calls `told`
    /// with the number of objects that are stored.
    ///
    /// # Errors
    /// The directory cannot be written, or holds another repository.
    pub async fn make(
        dir: &Path,
        phrase: &Passphrase,
        blobs: u64,
        told: impl Fn(u64),
    ) -> Result<Self> {
        let sink = LocalSink::without_fsync(dir)?;
        if sink.list_all(&Prefix::new("keys")?).await?.is_empty() {
            Repository::init(
                Arc::new(sink.clone()),
                phrase,
                &InitOptions::default(),
                &Context::silent(),
            )
            .await?;
        }
        let key = match sink.list_all(&Prefix::new("keys")?).await?.first() {
            Some(file) => {
                KeyFile::from_json(&sink.get_bytes(&file.key).await?)?.unwrap_with(phrase)?
            }
            None => None,
        };
        let key = Arc::new(key.ok_or(format!("{} holds another repository", dir.display()))?);
        let made = Self { sink, key, blobs };
        let there = made.sink.list_all(&Prefix::new("index")?).await?.len() as u64;
        match there {
            0 => made.store_all(told).await?,
            _ if there == Self::objects(blobs) => {}
            _ => {
                return Err(format!(
                    "{} has {there} index objects, which is not the expected number: remove it",
                    dir.display()
                )
                .into());
            }
        }
        Ok(made)
    }

    async fn store_all(&self, told: impl Fn(u64)) -> Result<()> {
        let packs = self.blobs / BLOBS_PER_PACK;
        let each = BLOBS_PER_OBJECT / BLOBS_PER_PACK;
        let stored = futures::stream::iter((0..packs).step_by(usize::try_from(each)?))
            .map(|first| self.store(first, each.min(packs - first)))
            .buffer_unordered(std::thread::available_parallelism()?.get());
        stored.enumerate().map(|(at, key)| key.map(|_| told(at as u64 + 1))).try_collect().await
    }

    async fn store(&self, first: u64, packs: u64) -> Result<Key> {
        let key = Arc::clone(&self.key);
        let seal = move || {
            let packs = (first..first + packs).map(pack).collect();
            seal_json(&key, &IndexFile { packs, packs_to_delete: Vec::new() })
        };
        let sealed = tokio::task::spawn_blocking(seal).await??;
        let object = Key::new(format!("index/{}", IndexId::digest(&sealed)))?;
        self.sink.put_bytes(&object, sealed).await?;
        Ok(object)
    }

    /// Stores a few small objects with blobs that follow the last one.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub async fn add(&self) -> Result<Vec<Key>> {
        let (objects, each) = ADDED;
        let first = self.blobs / BLOBS_PER_PACK;
        let mut keys = Vec::new();
        for object in 0..objects {
            keys.push(self.store(first + object * each, each).await?);
        }
        Ok(keys)
    }

    /// Removes what [`Self::add`] has stored: the next run finds the repository as this one did.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub async fn remove(&self, keys: &[Key]) -> Result<()> {
        for key in keys {
            self.sink.delete_one(key).await?;
        }
        Ok(())
    }
}
