//! Which pack holds which blob.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`BlobIndex`]: the seam behind which an index can grow from memory to disk |
//! | `memory.rs` | [`MemoryIndex`]: about 60 bytes of memory per blob |
//! | `load.rs` | reading all index objects of a repository |

mod load;
mod memory;

pub(crate) use load::load;
pub use memory::MemoryIndex;

use crate::format::{BlobKind, PackedBlob};
use crate::id::{BlobId, PackId};

/// Where a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLocation {
    /// The pack that holds it.
    pub pack: PackId,
    /// End of the pack's last blob: how far into the pack it is safe to read.
    pub pack_end: u64,
    /// Place and lengths inside the pack.
    pub blob: PackedBlob,
}

/// A pack as the index describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackInfo {
    /// Its name.
    pub id: PackId,
    /// How many blobs it holds.
    pub blobs: u32,
    /// End of its last blob.
    pub end: u64,
    /// Size that the object must have, header included.
    pub size: u64,
}

/// Finds blobs. Implementations are internally synchronised.
pub trait BlobIndex: std::fmt::Debug + Send + Sync {
    /// Where the blob is, if the repository has it.
    fn find(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation>;

    /// All places where the blob is: two writers that run at the same time may both store it.
    fn find_all(&self, kind: BlobKind, id: &BlobId) -> Vec<BlobLocation>;

    /// Finds nothing in these packs any more: they are not in the store.
    fn hide_packs(&self, packs: &[PackId]);

    /// Adds a pack. Adding what is there already changes nothing.
    fn add_pack(&self, pack: PackId, blobs: &[PackedBlob]);

    /// Calls `f` for every pack, also hidden ones.
    fn for_each_pack(&self, f: &mut dyn FnMut(PackInfo));

    /// Calls `f` for every blob in every pack, also hidden ones.
    fn for_each_blob(&self, f: &mut dyn FnMut(BlobLocation));

    /// Number of blobs in all packs.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
