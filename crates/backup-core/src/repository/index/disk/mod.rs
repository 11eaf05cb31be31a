//! An index on disk: files of sorted records, mapped into memory, so that memory does not grow with
//! the repository.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`DiskIndex`]: several files, and what this process has added, as one index |
//! | `cache.rs` | [`open`]: bringing the files up to date with the repository |
//! | `format.rs` | the form of a file |
//! | `part.rs` | a mapped file, and which of its packs count |
//! | `queries.rs` | [`BlobIndex`] of all files together |
//! | `segment.rs` | a file, mapped |
//! | `writer.rs` | writing a file from front to back |
//! | `tests.rs` | beside the index in memory |
//! | `build.rs` | files from index objects, and one file from several |
//!
//! Index objects never change, and are named by their content: what a file says of one stays true.
//! A file names the index objects that it holds; packs of objects that are gone count no more,
//! objects that are new go into a new file, and when there are many files they become one. Files
//! are written under another name and then renamed, never changed, and can be removed at any time:
//! several processes share a directory without knowing of each other.

mod build;
mod cache;
mod format;
mod part;
mod queries;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::sync::{PoisonError, RwLock};

pub(crate) use cache::{Failure, open};

use super::{BlobIndex, Mark, MemoryIndex, PackInfo};
use crate::format::{BlobKind, PackedBlob};
use crate::id::{BlobId, ID_LEN, PackId};
use crate::repository::reach::Bits;
use format::Record;
use part::{Copied, Part};
use segment::Segment;

/// So many records are walked over before the memory that shows them is given back: some megabytes,
/// and a few pages of every file.
const WALKED: u64 = 1 << 16;
/// Less than this is not worth being given back.
const LITTLE: u64 = 16 << 20;

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct DiskIndex {
    parts: Vec<Part>,
    /// Packs in all files.
    packs: u32,
    slots: u64,
    blobs: usize,
    /// Packs of this process and what it has learnt from others.
    added: MemoryIndex,
    state: RwLock<State>,
}

/// What differs from what the files say.
#[derive(Debug, Default)]
struct State {
    /// By number.
    hidden: Bits,
    /// Packs that several index objects list: what they say together. By number.
    combined: HashMap<u32, (Option<Mark>, bool)>,
}

impl DiskIndex {
    /// Adds a file. Packs that an earlier one lists as well are looked up there.
    fn push(&mut self, segment: Segment, mut dead: Bits, counts: Vec<bool>) {
        let mut several = Vec::new();
        // Listings with other contents than the first: number, and that of the first in this file,
        // or among all that count.
        let mut differing: Vec<(u32, Result<u32, u32>)> = Vec::new();
        let mut number = 0;
        while let Some(pack) = segment.pack(number) {
            let same: Vec<u32> = segment.find_packs(&pack.id).collect();
            number += u32::try_from(same.len()).unwrap_or(1).max(1);
            let live: Vec<u32> =
                same.into_iter().filter(|number| !dead.contains(u64::from(*number))).collect();
            let marks =
                live.iter().filter_map(|number| segment.pack(*number)).map(|pack| pack.mark);
            let (mark, listed) = marks
                .fold((None, false), |(mark, listed), own| (mark.max(own), listed | own.is_none()));
            let earlier = self.find_pack(&pack.id).filter(|_| !live.is_empty());
            let keep = usize::from(earlier.is_none());
            if let Some((earlier, info, _)) = earlier {
                self.combine(earlier, info.mark.max(mark), info.listed | listed);
            }
            let contents = |number: &u32| segment.pack(*number).map(|pack| pack.contents);
            let first = match earlier {
                Some((_, _, contents)) => Some(contents),
                None => live.first().and_then(contents),
            };
            for other in live.iter().skip(keep) {
                dead.insert(u64::from(*other));
                if contents(other) != first {
                    differing.push((*other, earlier.map_or(Err(live[0]), |found| Ok(found.0))));
                }
            }
            if keep == 1 && live.len() > 1 {
                several.push((live[0], mark, listed));
            }
        }
        let mut part = Part::new(segment, dead, counts);
        (part.first_pack, part.first_slot) = (self.packs, self.slots);
        self.packs += part.packs;
        self.slots +=
            2 * part.segment.count(BlobKind::Data).max(part.segment.count(BlobKind::Tree));
        for number in
            (0..part.segment.packs()).filter(|number| !part.dead.contains(u64::from(*number)))
        {
            self.blobs += part.segment.pack(number).map_or(0, |pack| pack.blobs as usize);
        }
        for (number, first) in differing {
            if let Some(global) = first.ok().or_else(|| part.own(first.err()?)) {
                part.disputed.insert(number, global);
            }
        }
        for (number, mark, listed) in several {
            if let Some(global) = part.global(number) {
                self.combine(global, mark, listed);
            }
        }
        self.parts.push(part);
    }

    fn combine(&self, number: u32, mark: Option<Mark>, listed: bool) {
        self.state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .combined
            .insert(number, (mark, listed));
    }

    /// The number of a pack among all that count, the listing that counts, and the digest of its
    /// contents.
    fn find_pack(&self, id: &PackId) -> Option<(u32, PackInfo, u64)> {
        self.parts.iter().find_map(|part| {
            let (number, global) =
                part.segment.find_packs(id).find_map(|number| Some((number, part.own(number)?)))?;
            let contents = part.segment.pack(number)?.contents;
            Some((global, self.info(part, number, global)?, contents))
        })
    }

    fn slot_in_files(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        self.parts.iter().find_map(|part| Some(part.slot(kind, part.copies(kind, id).next()?.0)))
    }

    /// All files at once, by name: the first copy of each name is the one whose place is its slot.
    fn for_each_in_files(&self, kind: BlobKind, f: &mut dyn FnMut(u64, u32, &PackedBlob)) {
        let mut heads: Vec<Option<Copied>> =
            self.parts.iter().map(|part| part.next(kind, 0)).collect();
        // Of several that are equal that of the first file comes first.
        let name = |at: usize, copy: &Copied| Reverse((*copy.record.id.as_bytes(), at));
        let mut names: BinaryHeap<Reverse<([u8; ID_LEN], usize)>> = heads
            .iter()
            .enumerate()
            .filter_map(|(at, head)| Some(name(at, head.as_ref()?)))
            .collect();
        let mut earlier: Option<(BlobId, u64)> = None;
        let mut walked = 0;
        while let Some(mut first) = names.peek_mut() {
            let Reverse((_, at)) = *first;
            let part = &self.parts[at];
            let Some(copy) = heads[at].take() else {
                PeekMut::pop(first);
                continue;
            };
            let slot = match earlier {
                Some((id, slot)) if id == copy.record.id => slot,
                _ => part.slot(kind, copy.at),
            };
            earlier = Some((copy.record.id, slot));
            f(slot, copy.pack, &copy.record.blob(kind));
            let next = part.next(kind, copy.at + 1);
            walked += next.as_ref().map_or(1, |next| next.at - copy.at);
            if walked >= WALKED {
                walked = 0;
                self.release();
            }
            match &next {
                Some(next) => *first = name(at, next),
                None => _ = PeekMut::pop(first),
            }
            heads[at] = next;
        }
    }

    fn info(&self, part: &Part, number: u32, global: u32) -> Option<PackInfo> {
        let pack = part.segment.pack(number)?;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let own = (pack.mark, pack.mark.is_none());
        let (mark, listed) = state.combined.get(&global).copied().unwrap_or(own);
        Some(PackInfo {
            id: pack.id,
            blobs: pack.blobs,
            end: pack.end.into(),
            size: pack.size.into(),
            mark,
            listed,
        })
    }

    /// Copies in files that are not hidden, each with its pack.
    fn in_files<'a>(
        &'a self,
        kind: BlobKind,
        id: &'a BlobId,
    ) -> impl Iterator<Item = (Record, PackInfo)> + 'a {
        self.parts.iter().flat_map(move |part| {
            part.copies(kind, id).filter_map(move |(_, record)| {
                let global = part.global(record.pack)?;
                let hidden = self
                    .state
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .hidden
                    .contains(global.into());
                if hidden { None } else { Some((record, self.info(part, record.pack, global)?)) }
            })
        })
    }
}
