//! Making files of the cache: from index objects, and from several files one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::Result;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::WALKED;
use super::format::{Pack, Record};
use super::segment::Segment;
use super::writer::SegmentWriter;
use crate::format::{BlobKind, IndexBlob, IndexFile, PackedBlob};
use crate::id::{IndexId, PackId};
use crate::repository::index::{MAX_BLOBS, Mark, extent};
use crate::repository::reach::Bits;

/// So many records are collected before a file is written (those of three full index objects): some
/// 9 MB of memory.
const RUN: usize = 3 * MAX_BLOBS;

/// Collects index objects for a file.
#[derive(Debug, Default)]
pub(super) struct Collector {
    data: Vec<Record>,
    trees: Vec<Record>,
    packs: Vec<Pack>,
    objects: Vec<IndexId>,
}

impl Collector {
    pub(super) fn is_full(&self) -> bool {
        self.data.len() + self.trees.len() >= RUN
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub(super) fn add(&mut self, id: IndexId, file: &IndexFile) {
        let object = u32::try_from(self.objects.len()).unwrap_or(u32::MAX);
        self.objects.push(id);
        if self.data.capacity() == 0 {
            // Growing would copy all of it; of what is not used no page is ever touched.
            self.data.reserve(RUN + MAX_BLOBS);
        }
        for pack in &file.packs {
            self.add_pack(object, pack.id, &pack.blobs, None);
        }
        for pack in &file.packs_to_delete {
            self.add_pack(object, pack.id, &pack.blobs, Some(Mark { time: pack.time }));
        }
    }

    fn add_pack(&mut self, object: u32, id: PackId, blobs: &[IndexBlob], mark: Option<Mark>) {
        let blobs: Vec<PackedBlob> = blobs.iter().copied().map(Into::into).collect();
        let (end, size) = extent(&blobs);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let number = small(self.packs.len() as u64);
        self.packs.push(Pack {
            id,
            object,
            blobs: small(blobs.len() as u64),
            end: small(end),
            size: small(size),
            mark,
            contents: contents(&blobs),
        });
        for blob in blobs {
            let record = record(number, &blob);
            match blob.kind {
                BlobKind::Data => self.data.push(record),
                BlobKind::Tree => self.trees.push(record),
            }
        }
    }

    /// Writes what was collected, and begins anew: in the same memory, as long as there is more.
    pub(super) fn write(&mut self, path: &Path) -> Result<()> {
        let Self { data, trees, packs, objects } = self;
        let mut order: Vec<usize> = (0..packs.len()).collect();
        order.sort_by_key(|at| (packs[*at].id, packs[*at].mark));
        let mut numbers = vec![0; packs.len()];
        for (number, at) in (0_u32..).zip(&order) {
            numbers[*at] = number;
        }
        for records in [&mut *data, &mut *trees] {
            for record in records.iter_mut() {
                record.pack = numbers[record.pack as usize];
            }
            records.sort_unstable();
        }
        let mut writer = SegmentWriter::create(path.with_extension("new"), data.len() as u64)?;
        data.iter().try_for_each(|record| writer.record(record))?;
        writer.begin_trees(trees.len() as u64)?;
        trees.iter().try_for_each(|record| writer.record(record))?;
        writer.finish(order.into_iter().map(|at| packs[at]), objects, path)?;
        data.clear();
        trees.clear();
        packs.clear();
        objects.clear();
        Ok(())
    }
}

fn record(pack: u32, blob: &PackedBlob) -> Record {
    let plain = blob.uncompressed_len.unwrap_or(0);
    Record { id: blob.id, pack, offset: blob.offset, len: blob.len, plain }
}

/// Digest of blobs in any order: listings of a pack that have the same one are equal. A strong hash,
/// because listings may be crafted.
fn contents(blobs: &[PackedBlob]) -> u64 {
    let mut sorted: Vec<&PackedBlob> = blobs.iter().collect();
    sorted.sort_unstable_by_key(|blob| (blob.offset, blob.len, blob.id));
    let mut hash = Sha256::new();
    for blob in sorted {
        hash.update([u8::from(blob.kind == BlobKind::Tree)]);
        hash.update(record(0, blob).encode());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// A file, and what counts of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) segment: &'a Segment,
    /// Packs that do not count.
    pub(super) dead: &'a Bits,
    /// Whether an object counts.
    pub(super) counts: &'a [bool],
}

/// Makes one file of several: without packs of index objects that are gone, or that an earlier file
/// has, too.
pub(super) fn merge(segments: &[Part<'_>], path: &Path) -> Result<()> {
    let (packs, numbers, objects) = merge_packs(segments);
    let count = |kind| segments.iter().map(|part| part.segment.count(kind)).sum();
    let mut writer = SegmentWriter::create(path.with_extension("new"), count(BlobKind::Data))?;
    merge_records(segments, BlobKind::Data, &numbers, &mut writer)?;
    writer.begin_trees(count(BlobKind::Tree))?;
    merge_records(segments, BlobKind::Tree, &numbers, &mut writer)?;
    let places = packs.into_iter();
    let read = |(segment, number, object): (usize, u32, u32)| {
        segments[segment].segment.pack(number).map(|pack| Pack { object, ..pack })
    };
    writer.finish(places.filter_map(read), &objects, path)
}

/// Where a pack is (segment and number there), and its object's new number.
type Place = (usize, u32, u32);

/// The packs that stay in order, the new number of every pack of every segment, and the objects.
fn merge_packs(segments: &[Part<'_>]) -> (Vec<Place>, Vec<Vec<u32>>, Vec<IndexId>) {
    let (objects, renamed) = merge_objects(segments);
    let mut numbers: Vec<Vec<u32>> =
        segments.iter().map(|part| vec![u32::MAX; part.segment.packs() as usize]).collect();
    let mut places: Vec<Place> = Vec::new();
    let next = |at: usize, from: u32| {
        let Part { segment, dead, .. } = segments[at];
        let number = (from..segment.packs()).find(|number| !dead.contains(u64::from(*number)))?;
        segment.pack(number).map(|pack| Reverse((pack.id, pack.mark, at, number, pack.object)))
    };
    let mut heap: BinaryHeap<_> = (0..segments.len()).filter_map(|at| next(at, 0)).collect();
    while let Some(Reverse((_, _, at, number, object))) = heap.pop() {
        if let Some(object) = renamed[at].get(object as usize).filter(|object| **object != u32::MAX)
        {
            numbers[at][number as usize] = u32::try_from(places.len()).unwrap_or(u32::MAX);
            places.push((at, number, *object));
        }
        heap.extend(next(at, number + 1));
    }
    (places, numbers, objects)
}

/// All names of objects, and the new number of every object of every segment.
fn merge_objects(segments: &[Part<'_>]) -> (Vec<IndexId>, Vec<Vec<u32>>) {
    let mut objects: Vec<IndexId> = Vec::new();
    let mut known: HashMap<IndexId, u32> = HashMap::new();
    let renamed = segments.iter().map(|part| {
        // Of an object that does not count nothing is taken over, and so its name must not be.
        let names = part.segment.objects().into_iter().zip(part.counts.iter().copied());
        let number = |(name, counts): (IndexId, bool)| {
            if !counts {
                return u32::MAX;
            }
            *known.entry(name).or_insert_with(|| {
                objects.push(name);
                u32::try_from(objects.len() - 1).unwrap_or(u32::MAX)
            })
        };
        names.map(number).collect()
    });
    let renamed = renamed.collect();
    (objects, renamed)
}

fn merge_records(
    segments: &[Part<'_>],
    kind: BlobKind,
    numbers: &[Vec<u32>],
    writer: &mut SegmentWriter,
) -> Result<()> {
    let next = |at: usize, from: u64| {
        let segment = segments[at].segment;
        (from..segment.count(kind)).find_map(|place| {
            let record = segment.record(kind, place)?;
            let pack = *numbers[at].get(record.pack as usize)?;
            (pack != u32::MAX).then_some((Record { pack, ..record }, at, place))
        })
    };
    let mut heap: BinaryHeap<_> =
        (0..segments.len()).filter_map(|at| next(at, 0)).map(Reverse).collect();
    let mut walked = 0;
    while let Some(Reverse((record, at, place))) = heap.pop() {
        writer.record(&record)?;
        let next = next(at, place + 1);
        walked += next.as_ref().map_or(1, |(_, _, next)| next - place);
        if walked >= WALKED {
            walked = 0;
            segments.iter().for_each(|part| part.segment.release());
        }
        heap.extend(next.map(Reverse));
    }
    Ok(())
}
