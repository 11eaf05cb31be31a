//! Which pack holds which blob.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`BlobIndex`]: the seam behind which an index can grow from memory to disk |
//! | `memory.rs` | [`MemoryIndex`]: about 60 bytes of memory per blob |
//! | `disk/` | an index in files, for repositories of any size |
//! | `load.rs` | reading all index objects of a repository |
//! | `save.rs` | storing index objects |

mod disk;
mod load;
mod memory;
mod save;

pub(crate) use load::{LoadedIndex, add, find_changed, load, load_corrected, names, read_all};
pub use memory::MemoryIndex;
pub(crate) use save::{IndexBatch, MAX_BLOBS, save};

use jiff::Timestamp;

use crate::format::{BlobKind, PackHeader, PackedBlob};
use crate::id::{BlobId, IndexId, PackId};

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
    /// When it was marked for deletion, if it is.
    pub mark: Option<Mark>,
    /// Whether an index object lists it as a pack like any other, be it marked by another one or
    /// not.
    pub listed: bool,
}

impl PackInfo {
    /// Whether it is marked for deletion, and nobody has listed it again.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.mark.is_some() && !self.listed
    }
}

/// A pack as one index object lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listing {
    /// The pack.
    pub pack: PackId,
    /// How many blobs it holds.
    pub blobs: u32,
    /// When it was marked for deletion, if it is.
    pub mark: Option<Mark>,
}

/// A pack was marked for deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// When, if that was noted.
    pub time: Option<Timestamp>,
}

/// End of the last of these blobs of a pack, and size of the pack with its header, in bytes. Packs
/// have no gaps: the size is the sum of the lengths, as in restic, and false lengths change it.
fn extent(blobs: &[PackedBlob]) -> (u64, u64) {
    let ends = blobs.iter().map(|blob| u64::from(blob.offset) + u64::from(blob.len));
    let sum: u64 = blobs.iter().map(|blob| u64::from(blob.len)).sum();
    (ends.max().unwrap_or(0), sum + PackHeader::sealed_len(blobs) as u64)
}

/// The plain length of a blob by the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatedLen {
    /// No index object lists the blob.
    Unknown,
    /// All listings state this length, in bytes.
    One(u32),
    /// Listings state several lengths, of which one at most is right.
    Several,
}

impl StatedLen {
    /// The length by these listings.
    pub(crate) fn of(mut lengths: impl Iterator<Item = u32>) -> Self {
        match lengths.next() {
            None => Self::Unknown,
            Some(first) if lengths.all(|other| other == first) => Self::One(first),
            Some(_) => Self::Several,
        }
    }
}

/// Finds blobs. Implementations are internally synchronised.
///
/// A pack that is marked for deletion can still be read, and what is in it is found; only writers
/// must not rely upon it, and ask with [`Self::find_lasting`].
pub trait BlobIndex: std::fmt::Debug + Send + Sync {
    /// Where the blob is, if the repository has it; in a pack that is not marked if there is one.
    fn find(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation>;

    /// Where the blob is in a pack that is not marked.
    fn find_lasting(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation>;

    /// All places where the blob is: two writers that run at the same time may both store it.
    fn find_all(&self, kind: BlobKind, id: &BlobId) -> Vec<BlobLocation>;

    /// The plain length that index objects state for a blob, also in hidden packs.
    fn stated_len(&self, kind: BlobKind, id: &BlobId) -> StatedLen;

    /// Packs that index objects list with different contents. All of the listings are searched: a
    /// false one hides nothing.
    fn disputed_packs(&self) -> Vec<PackId>;

    /// The sizes that a pack has according to its listings, in bytes: one unless it is disputed.
    fn sizes(&self, pack: &PackId) -> Vec<u64>;

    /// A number below [`Self::slots`] that is the same for all copies of a blob and for no other
    /// blob, as long as nothing is added.
    fn slot(&self, kind: BlobKind, id: &BlobId) -> Option<u64>;

    /// See [`Self::slot`].
    fn slots(&self) -> u64;

    /// Its slot, if [`Self::find`] finds it: what is in hidden packs only has a slot as well.
    fn slot_if_found(&self, kind: BlobKind, id: &BlobId) -> Option<u64>;

    /// Calls `f` for every copy of every blob, also in hidden packs: with its slot, and the number
    /// of its pack in the order of [`Self::for_each_pack`].
    fn for_each_copy(&self, f: &mut dyn FnMut(u64, u32, &PackedBlob));

    /// Finds nothing in these packs any more: they are not in the store.
    fn hide_packs(&self, packs: &[PackId]);

    /// Adds a pack. Adding what is there already changes nothing but that it is listed now.
    fn add_pack(&self, pack: PackId, blobs: &[PackedBlob]);

    /// Adds a pack that is marked for deletion. One that is listed as well stays marked: it may be
    /// on its way out.
    fn add_marked_pack(&self, pack: PackId, blobs: &[PackedBlob], mark: Mark);

    /// Marks those of these packs that are there.
    fn mark_packs(&self, packs: &[PackId], mark: Mark);

    /// Calls `f` for every pack, also hidden ones.
    fn for_each_pack(&self, f: &mut dyn FnMut(PackInfo));

    /// Calls `f` for everything that the index objects list that were there when this was loaded:
    /// for a pack as often as it is listed.
    fn for_each_listing(&self, f: &mut dyn FnMut(&IndexId, Listing));

    /// Calls `f` for every blob in every pack, also hidden ones.
    fn for_each_blob(&self, f: &mut dyn FnMut(BlobLocation));

    /// Number of blobs in all packs.
    fn len(&self) -> usize;

    /// Whether everything that was asked for was told. A cache that turns out to be damaged knows
    /// less than there is; it is made anew by the next run.
    fn is_intact(&self) -> bool {
        true
    }

    /// Gives back memory that holds nothing but what can be had from disk again: for who looks up
    /// or walks over very much, in the order of names.
    fn release(&self) {}

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
