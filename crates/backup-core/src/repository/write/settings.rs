//! How blobs are stored, and what that came to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compress::Compression;

/// How blobs are stored.
#[derive(Debug, Clone)]
pub struct WriteSettings {
    /// How hard to compress.
    pub compression: Compression,
    /// Size at which a pack is closed, bytes.
    pub pack_size: usize,
    /// How many data packs are filled at a time; a blob goes to a random one of them, so that the
    /// order of packs tells little about the order of files.
    pub open_packs: usize,
    /// How many packs are uploaded at a time. `None`: 1 for sinks that suggest up to 4 requests,
    /// else a quarter of that.
    pub uploads: Option<usize>,
    /// Which share of the sealed blobs is opened and compared, and of the stored packs is read back
    /// whole: 0 to 1. The size of *every* stored object is checked whatever this says.
    pub verify_sample: f64,
    /// After how long the packs stored so far get their first index object; the interval then
    /// doubles, so that a run of any length writes few of them and a killed run loses little.
    pub index_interval: Duration,
}

impl WriteSettings {
    /// Default size of a pack: 32 MiB.
    pub const PACK_SIZE: usize = 32 << 20;
    /// What suits a directory: 8 MiB. Files cost little there, and every pack that is open costs
    /// memory.
    pub const LOCAL_PACK_SIZE: usize = 8 << 20;
    /// Largest size of a pack that stock tools handle well: 128 MiB.
    pub const MAX_PACK_SIZE: usize = 128 << 20;

    /// The share to verify as a probability.
    pub(super) fn sample(&self) -> f64 {
        if self.verify_sample.is_nan() { 1.0 } else { self.verify_sample.clamp(0.0, 1.0) }
    }

    /// The size of data packs, within what stock tools handle.
    pub(crate) fn data_pack_size(&self) -> usize {
        self.pack_size.clamp(1 << 20, Self::MAX_PACK_SIZE)
    }

    /// Trees are small: an eighth of a pack holds the entries of some 50 000 files.
    pub(crate) fn tree_pack_size(&self) -> usize {
        (self.data_pack_size() / 8).max(1 << 20)
    }

    /// How many packs are uploaded at a time into a sink that suggests so many requests.
    pub(super) fn uploads_for(&self, concurrency: usize) -> usize {
        self.uploads.unwrap_or(concurrency / 4).max(1)
    }
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            pack_size: Self::PACK_SIZE,
            open_packs: 2,
            uploads: None,
            verify_sample: 0.05,
            index_interval: Duration::from_secs(5),
        }
    }
}

impl std::ops::AddAssign for WriteStats {
    fn add_assign(&mut self, other: Self) {
        self.data_blobs += other.data_blobs;
        self.tree_blobs += other.tree_blobs;
        self.added_bytes += other.added_bytes;
        self.packed_bytes += other.packed_bytes;
        self.packs += other.packs;
        self.index_objects += other.index_objects;
        self.sampled_blobs += other.sampled_blobs;
        self.sampled_packs += other.sampled_packs;
    }
}

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WriteStats {
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Bytes of new blobs before compression.
    pub added_bytes: u64,
    /// Bytes of new blobs as stored.
    pub packed_bytes: u64,
    /// Packs stored.
    pub packs: u64,
    /// Index objects stored.
    pub index_objects: u64,
    /// Sealed blobs that were opened and compared.
    pub sampled_blobs: u64,
    /// Stored packs that were read back whole.
    pub sampled_packs: u64,
}
