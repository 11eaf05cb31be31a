//! An index on disk: files of sorted records, mapped into memory, so that memory does not grow with
//! the repository.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`DiskIndex`]: several files, and what this process has added, as one index |
//! | `cache.rs` | [`open`]: bringing the files up to date with the repository |
//! | `format.rs` | the form of a file |
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
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::sync::{PoisonError, RwLock};

pub(crate) use cache::{Failure, open};

use super::{BlobIndex, BlobLocation, Listing, Mark, MemoryIndex, PackInfo};
use crate::format::{BlobKind, PackedBlob};
use crate::id::{BlobId, ID_LEN, IndexId, PackId};
use crate::repository::reach::Bits;
use format::Record;
use segment::Segment;

/// So many records are walked over before the memory that shows them is given back: some megabytes,
/// and a few pages of every file.
const WALKED: u64 = 1 << 16;
/// Less than this is not worth being given back.
const LITTLE: u64 = 16 << 20;

/// A file, and which of its packs do not count: those of index objects that are gone or that an
/// earlier file has as well, and second copies of a pack's listing.
#[derive(Debug)]
struct Part {
    segment: Segment,
    dead: Bits,
    /// Whether an object counts.
    counts: Vec<bool>,
    /// Dead packs before every 64th.
    dead_before: Vec<u32>,
    /// Number of its first pack among all that count.
    first_pack: u32,
    packs: u32,
    first_slot: u64,
}

/// A copy of a blob in a file: its place there, and the number of its pack among all that count.
#[derive(Debug)]
struct Copied {
    record: Record,
    at: u64,
    pack: u32,
}

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

impl Part {
    fn new(segment: Segment, dead: Bits, counts: Vec<bool>) -> Self {
        let mut dead_before = Vec::new();
        let mut count = 0;
        for number in 0..segment.packs() {
            if number % 64 == 0 {
                dead_before.push(count);
            }
            count += u32::from(dead.contains(u64::from(number)));
        }
        let packs = segment.packs() - count;
        Self { segment, dead, counts, dead_before, first_pack: 0, packs, first_slot: 0 }
    }

    /// The number of a pack of this file among all that count.
    fn global(&self, number: u32) -> Option<u32> {
        if self.dead.contains(u64::from(number)) {
            return None;
        }
        let before = self.dead_before.get(number as usize / 64)?
            + self.dead.before_in_word(u64::from(number));
        Some(self.first_pack + number - before)
    }

    /// The copies of a blob that count: place and record.
    fn copies<'a>(
        &'a self,
        kind: BlobKind,
        id: &'a BlobId,
    ) -> impl Iterator<Item = (u64, Record)> + 'a {
        let first = self.segment.find(kind, id).unwrap_or(u64::MAX);
        (first..self.segment.count(kind))
            .map_while(move |at| {
                Some((at, self.segment.record(kind, at).filter(|record| record.id == *id)?))
            })
            .filter(|(_, record)| !self.dead.contains(u64::from(record.pack)))
    }

    /// The first copy that counts from a place on.
    fn next(&self, kind: BlobKind, from: u64) -> Option<Copied> {
        (from..self.segment.count(kind)).find_map(|at| {
            let record = self.segment.record(kind, at)?;
            Some(Copied { record, at, pack: self.global(record.pack)? })
        })
    }

    fn slot(&self, kind: BlobKind, at: u64) -> u64 {
        self.first_slot + at * 2 + u64::from(kind == BlobKind::Tree)
    }
}

impl DiskIndex {
    /// Adds a file. Packs that an earlier one lists as well are looked up there.
    fn push(&mut self, segment: Segment, mut dead: Bits, counts: Vec<bool>) {
        let mut several = Vec::new();
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
            let keep = match self.find_pack(&pack.id) {
                Some((earlier, info)) if !live.is_empty() => {
                    self.combine(earlier, info.mark.max(mark), info.listed | listed);
                    0
                }
                _ => 1,
            };
            for other in live.iter().skip(keep) {
                dead.insert(u64::from(*other));
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

    fn find_pack(&self, id: &PackId) -> Option<(u32, PackInfo)> {
        self.parts.iter().find_map(|part| {
            let (number, global) = part
                .segment
                .find_packs(id)
                .find_map(|number| Some((number, part.global(number)?)))?;
            Some((global, self.info(part, number, global)?))
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

fn location(kind: BlobKind, record: &Record, pack: &PackInfo) -> BlobLocation {
    BlobLocation { pack: pack.id, pack_end: pack.end, blob: record.blob(kind) }
}

impl BlobIndex for DiskIndex {
    fn find(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        self.find_lasting(kind, id).or_else(|| {
            let marked = self.in_files(kind, id).next();
            marked
                .map(|(record, pack)| location(kind, &record, &pack))
                .or_else(|| self.added.find(kind, id))
        })
    }

    fn find_lasting(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        let lasting = self.in_files(kind, id).find(|(_, pack)| pack.mark.is_none());
        lasting
            .map(|(record, pack)| location(kind, &record, &pack))
            .or_else(|| self.added.find_lasting(kind, id))
    }

    fn find_all(&self, kind: BlobKind, id: &BlobId) -> Vec<BlobLocation> {
        let mut found: Vec<(bool, BlobLocation)> = self
            .in_files(kind, id)
            .map(|(record, pack)| (pack.mark.is_some(), location(kind, &record, &pack)))
            .collect();
        found.extend(self.added.find_all(kind, id).into_iter().map(|at| {
            let lasting = self.added.find_lasting(kind, id).is_some_and(|lasting| lasting == at);
            (!lasting, at)
        }));
        found.sort_by_key(|(marked, _)| *marked);
        found.into_iter().map(|(_, at)| at).collect()
    }

    fn slot(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        self.slot_in_files(kind, id).or_else(|| Some(self.slots + self.added.slot(kind, id)?))
    }

    fn slots(&self) -> u64 {
        self.slots + self.added.slots()
    }

    fn slot_if_found(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        let mut slot = None;
        for part in &self.parts {
            for (at, record) in part.copies(kind, id) {
                slot = slot.or(Some(part.slot(kind, at)));
                let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                if part.global(record.pack).is_some_and(|pack| !state.hidden.contains(pack.into()))
                {
                    return slot;
                }
            }
        }
        let added = self.added.slot_if_found(kind, id)?;
        slot.or(Some(self.slots + added))
    }

    fn for_each_copy(&self, f: &mut dyn FnMut(u64, u32, &PackedBlob)) {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            self.for_each_in_files(kind, f);
        }
        self.added.for_each_copy(&mut |slot, pack, blob| {
            let slot = self.slot_in_files(blob.kind, &blob.id).unwrap_or(self.slots + slot);
            f(slot, self.packs + pack, blob);
        });
    }

    fn hide_packs(&self, packs: &[PackId]) {
        let numbers: Vec<u32> =
            packs.iter().filter_map(|id| self.find_pack(id)).map(|(number, _)| number).collect();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for number in numbers {
            state.hidden.insert(number.into());
        }
        drop(state);
        self.added.hide_packs(packs);
    }

    fn add_pack(&self, pack: PackId, blobs: &[PackedBlob]) {
        match self.find_pack(&pack) {
            Some((number, info)) => self.combine(number, info.mark, true),
            None => self.added.add_pack(pack, blobs),
        }
    }

    fn add_marked_pack(&self, pack: PackId, blobs: &[PackedBlob], mark: Mark) {
        match self.find_pack(&pack) {
            Some((number, info)) => self.combine(number, info.mark.max(Some(mark)), info.listed),
            None => self.added.add_marked_pack(pack, blobs, mark),
        }
    }

    fn for_each_pack(&self, f: &mut dyn FnMut(PackInfo)) {
        for part in &self.parts {
            for number in 0..part.segment.packs() {
                if let Some(info) =
                    part.global(number).and_then(|global| self.info(part, number, global))
                {
                    f(info);
                }
            }
        }
        self.added.for_each_pack(f);
    }

    fn for_each_listing(&self, f: &mut dyn FnMut(&IndexId, Listing)) {
        for part in &self.parts {
            let objects = part.segment.objects();
            let listings = (0..part.segment.packs()).filter_map(|number| part.segment.pack(number));
            for pack in listings.filter(|pack| part.counts.get(pack.object as usize) == Some(&true))
            {
                if let Some(object) = objects.get(pack.object as usize) {
                    f(object, Listing { pack: pack.id, blobs: pack.blobs, mark: pack.mark });
                }
            }
        }
    }

    fn for_each_blob(&self, f: &mut dyn FnMut(BlobLocation)) {
        for part in &self.parts {
            for kind in [BlobKind::Data, BlobKind::Tree] {
                for at in 0..part.segment.count(kind) {
                    if at % WALKED == 0 {
                        part.segment.release();
                    }
                    let Some(record) = part.segment.record(kind, at) else { continue };
                    let Some(pack) = part
                        .global(record.pack)
                        .and_then(|global| self.info(part, record.pack, global))
                    else {
                        continue;
                    };
                    f(location(kind, &record, &pack));
                }
            }
        }
        self.added.for_each_blob(f);
    }

    fn len(&self) -> usize {
        self.blobs + self.added.len()
    }

    fn release(&self) {
        if self.parts.iter().map(|part| part.segment.bytes()).sum::<u64>() > LITTLE {
            self.parts.iter().for_each(|part| part.segment.release());
        }
    }

    fn is_intact(&self) -> bool {
        self.parts.iter().all(|part| part.segment.is_intact())
    }
}
