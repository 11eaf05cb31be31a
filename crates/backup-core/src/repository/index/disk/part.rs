//! One mapped file of the index, with the packs that do not count in it.

use std::collections::HashMap;

use super::format::Record;
use super::segment::Segment;
use crate::format::BlobKind;
use crate::id::BlobId;
use crate::repository::reach::Bits;

/// A file, and which of its packs do not count: those of index objects that are gone or that an
/// earlier file has as well, and second copies of a pack's listing.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) segment: Segment,
    pub(super) dead: Bits,
    /// Whether an object counts.
    pub(super) counts: Vec<bool>,
    /// Dead packs before every 64th.
    dead_before: Vec<u32>,
    /// Dead packs whose listing differs from the one that counts, each with the number of the latter
    /// among all that count: their records count for it.
    pub(super) disputed: HashMap<u32, u32>,
    /// Number of its first pack among all that count.
    pub(super) first_pack: u32,
    pub(super) packs: u32,
    pub(super) first_slot: u64,
}

/// A copy of a blob in a file: its place there, and the number of its pack among all that count.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) record: Record,
    pub(super) at: u64,
    pub(super) pack: u32,
}

impl Part {
    pub(super) fn new(segment: Segment, dead: Bits, counts: Vec<bool>) -> Self {
        let mut dead_before = Vec::new();
        let mut count = 0;
        for number in 0..segment.packs() {
            if number % 64 == 0 {
                dead_before.push(count);
            }
            count += u32::from(dead.contains(u64::from(number)));
        }
        let packs = segment.packs() - count;
        let disputed = HashMap::new();
        Self { segment, dead, counts, dead_before, disputed, first_pack: 0, packs, first_slot: 0 }
    }

    /// The number among all that count of a pack of this file, or of one that this is another
    /// listing of.
    pub(super) fn global(&self, number: u32) -> Option<u32> {
        self.own(number).or_else(|| self.disputed.get(&number).copied())
    }

    /// The number of a pack of this file among all that count.
    pub(super) fn own(&self, number: u32) -> Option<u32> {
        if self.dead.contains(u64::from(number)) {
            return None;
        }
        let before = self.dead_before.get(number as usize / 64)?
            + self.dead.before_in_word(u64::from(number));
        Some(self.first_pack + number - before)
    }

    /// The copies of a blob that count: place and record.
    pub(super) fn copies<'a>(
        &'a self,
        kind: BlobKind,
        id: &'a BlobId,
    ) -> impl Iterator<Item = (u64, Record)> + 'a {
        let first = self.segment.find(kind, id).unwrap_or(u64::MAX);
        (first..self.segment.count(kind))
            .map_while(move |at| {
                Some((at, self.segment.record(kind, at).filter(|record| record.id == *id)?))
            })
            .filter(|(_, record)| self.global(record.pack).is_some())
    }

    /// The first copy that counts from a place on.
    pub(super) fn next(&self, kind: BlobKind, from: u64) -> Option<Copied> {
        (from..self.segment.count(kind)).find_map(|at| {
            let record = self.segment.record(kind, at)?;
            Some(Copied { record, at, pack: self.global(record.pack)? })
        })
    }

    pub(super) fn slot(&self, kind: BlobKind, at: u64) -> u64 {
        self.first_slot + at * 2 + u64::from(kind == BlobKind::Tree)
    }
}
