//! One file of the cache, mapped into memory.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memmap2::{Mmap, UncheckedAdvice};

use super::format::{
    BLOCK, FILTER_BLOCK, HEADER, Header, Pack, Record, Section, Table, fence_of, filter_bits,
    filter_block, object, order, place_between_fences,
};
use crate::format::BlobKind;
use crate::id::{BlobId, ID_LEN, IndexId, PackId};

/// A file of the cache. Everything it says was compared with its checksum; what does not hold is as
/// if it were not there.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    map: Mmap,
    header: Header,
    /// Blocks whose checksum holds.
    checked: Vec<AtomicU64>,
    damaged: AtomicBool,
}

/// Maps a file. It is written once, under another name, and never changed: only its name may go.
#[expect(
    unsafe_code,
    reason = "mapping keeps 100 million records out of this process's own memory"
)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the directory is this user's own (mode 0700), and nobody changes or cuts a file of
    // the cache after it got its name; a cache that somebody damages behind our back may end the
    // process, and harms no repository.
    unsafe { Mmap::map(file) }
}

impl Segment {
    /// Opens a file of the cache; `None` if it is not one, or damaged.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let map = map(&file).ok()?;
        let header = Header::decode(map.get(..HEADER)?)?;
        let sums = slice(&map, header.checksums)?;
        let blocks =
            usize::try_from(header.checksums.at).ok()?.checked_sub(HEADER)?.div_ceil(BLOCK);
        if crc32fast::hash(sums) != header.checksum || sums.len() != blocks * 4 {
            return None;
        }
        let checked = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let segment =
            Self { path: path.to_owned(), map, header, checked, damaged: AtomicBool::new(false) };
        // Packs are counted and numbered: all of them, or none.
        let sound = [segment.header.packs, segment.header.objects]
            .into_iter()
            .all(|section| segment.is_sound(section));
        sound.then_some(segment)
    }

    fn is_sound(&self, section: Section) -> bool {
        usize::try_from(section.len)
            .is_ok_and(|len| len == 0 || self.entry(section, 0, len).is_some())
    }

    /// Whether no damage was found so far.
    pub(super) fn is_intact(&self) -> bool {
        !self.damaged.load(Ordering::Relaxed)
    }

    /// Gives back the memory that shows what was looked at; looking again brings it back.
    #[expect(
        unsafe_code,
        reason = "the system counts mapped pages as this process's memory until it is short of \
                  memory"
    )]
    pub(super) fn release(&self) {
        // SAFETY: the mapping is of a file and never written to: what is dropped is read from the
        // file again. See `map`.
        _ = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
    }

    pub(super) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn count(&self, kind: BlobKind) -> u64 {
        self.header.table(kind).count()
    }

    pub(super) fn packs(&self) -> u32 {
        u32::try_from(self.header.packs.len / Pack::LEN as u64).unwrap_or(u32::MAX)
    }

    pub(super) fn objects(&self) -> Vec<IndexId> {
        let count = self.header.objects.len / ID_LEN as u64;
        (0..count).filter_map(|at| object(self.entry(self.header.objects, at, ID_LEN)?)).collect()
    }

    pub(super) fn pack(&self, number: u32) -> Option<Pack> {
        Pack::decode(self.entry(self.header.packs, u64::from(number), Pack::LEN)?)
    }

    pub(super) fn record(&self, kind: BlobKind, at: u64) -> Option<Record> {
        Record::decode(self.entry(self.header.table(kind).records, at, Record::LEN)?)
    }

    /// The numbers of all listings of a pack: index objects may list it more than once.
    pub(super) fn find_packs(&self, id: &PackId) -> impl Iterator<Item = u32> {
        let (mut low, mut high) = (0, self.packs());
        while low < high {
            let middle = low + (high - low) / 2;
            let is_before = self.pack(middle).is_some_and(|pack| pack.id < *id);
            if is_before { low = middle + 1 } else { high = middle }
        }
        let id = *id;
        (low..self.packs())
            .take_while(move |number| self.pack(*number).is_some_and(|pack| pack.id == id))
    }

    /// The first record of a blob.
    pub(super) fn find(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        let table = self.header.table(kind);
        if table.count() == 0 || !self.may_contain(table.filter, id) {
            return None;
        }
        let fence = fence_of(id.as_bytes(), table.fence_bits);
        let range = self.fence(table.fence, fence)?..self.fence(table.fence, fence + 1)?;
        let Range { start: mut low, end: mut high } = self.narrow(table, range, id)?;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_before(table.records, middle, id)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < table.count() && self.record(kind, low)?.id == *id).then_some(low)
    }

    /// Where in a range between two fences the first record of a blob is, if it is there. Names are
    /// spread evenly, so that its place can be guessed: what is looked at lies side by side, while
    /// halves of halves lie far apart.
    fn narrow(&self, table: &Table, range: Range<u64>, id: &BlobId) -> Option<Range<u64>> {
        let Range { start: mut low, end: mut high } = range;
        let guess =
            low + place_between_fences(id.as_bytes(), table.fence_bits, high.saturating_sub(low));
        let mut step = 2;
        if guess >= high {
            return Some(low..high);
        }
        if self.is_before(table.records, guess, id)? {
            low = guess + 1;
            while low + step < high {
                if !self.is_before(table.records, low + step, id)? {
                    high = low + step;
                    break;
                }
                low += step + 1;
                step *= 2;
            }
        } else {
            high = guess;
            while low + step < high {
                if self.is_before(table.records, high - step, id)? {
                    low = high - step + 1;
                    break;
                }
                high -= step;
                step *= 2;
            }
        }
        Some(low..high)
    }

    /// Whether a record has a smaller name.
    fn is_before(&self, records: Section, at: u64, id: &BlobId) -> Option<bool> {
        let name: &[u8; ID_LEN] = self.entry(records, at, Record::LEN)?.first_chunk()?;
        Some(order(name, id.as_bytes()).is_lt())
    }

    fn may_contain(&self, filter: Section, id: &BlobId) -> bool {
        let block = filter_block(id.as_bytes(), filter.len / FILTER_BLOCK as u64);
        let bytes = self.entry(filter, block, FILTER_BLOCK);
        bytes.is_some_and(|bytes| {
            filter_bits(id.as_bytes()).all(|bit| bytes[bit / 8] & 1 << (bit % 8) != 0)
        })
    }

    fn fence(&self, section: Section, at: u64) -> Option<u64> {
        Some(u64::from(u32::from_le_bytes(*self.entry(section, at, 4)?.first_chunk()?)))
    }

    /// One entry of a section.
    fn entry(&self, section: Section, at: u64, len: usize) -> Option<&[u8]> {
        let offset = at.checked_mul(len as u64)?;
        if offset + len as u64 > section.len {
            return None;
        }
        let start = usize::try_from(section.at + offset).ok()?;
        let blocks = start.checked_sub(HEADER)? / BLOCK..=(start + len - 1 - HEADER) / BLOCK;
        if !blocks.into_iter().all(|block| self.holds(block)) {
            return None;
        }
        self.map.get(start..start + len)
    }

    /// Whether the checksum of a block holds; computed once.
    fn holds(&self, block: usize) -> bool {
        let (Some(word), bit) = (self.checked.get(block / 64), 1 << (block % 64)) else {
            return false;
        };
        if word.load(Ordering::Relaxed) & bit != 0 {
            return true;
        }
        let end = usize::try_from(self.header.checksums.at).unwrap_or(usize::MAX);
        let bytes = self.map.get(HEADER + block * BLOCK..(HEADER + (block + 1) * BLOCK).min(end));
        let sums = slice(&self.map, self.header.checksums).unwrap_or_default();
        let sum = sums
            .get(block * 4..)
            .and_then(|rest| rest.first_chunk().copied())
            .map(u32::from_le_bytes);
        let holds = sum.is_some() && bytes.map(crc32fast::hash) == sum;
        if holds {
            word.fetch_or(bit, Ordering::Relaxed);
        } else if !self.damaged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the index cache is damaged and will be rebuilt: {}",
                self.path.display()
            );
            // The next run finds no file, and reads the index objects again.
            _ = std::fs::remove_file(&self.path);
        }
        holds
    }
}

fn slice(map: &Mmap, section: Section) -> Option<&[u8]> {
    let start = usize::try_from(section.at).ok()?;
    map.get(start..start.checked_add(usize::try_from(section.len).ok()?)?)
}
