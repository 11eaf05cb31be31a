//! Operations and the documents they touch, on disk: in partitions by collection and `_id`. The
//! files have no name and vanish with the process.
//!
//! Writing goes through buffers into the page cache and is done where the data arrives; a partition
//! is read in one go. Few operations may touch large documents: a partition whose documents do not
//! fit into memory is split, as often as needed.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::ops::ControlFlow;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;

use crate::mongodb::raw::LARGEST;

/// Bytes of oplog per partition, and bounds of their number (each may have two files open).
const PER_PARTITION: u64 = 8 << 20;
const MOST: u64 = 200;
/// Bytes of documents that are in memory at the same time; twice the largest one at least.
const IN_MEMORY: usize = 48 << 20;
/// What a document takes beside its bytes and those of its `_id`.
const OVERHEAD: usize = 128;
/// Into how many a partition is split that is too large, and how often at most: by then every
/// document is alone.
const PARTS: u64 = 8;
const SPLITS: u32 = 16;
/// Size of the filter of touched documents in bits; with ten million touched documents one in
/// twenty others waits too.
const FILTER_BITS: u64 = 64 << 20;
/// Places of documents that were not in the dump.
const INSERTED: u64 = 1 << 62;
const BUFFER: usize = 32 << 10;

/// What an entry of the oplog does to a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operation {
    /// It is this document, at the end of its collection.
    Insert(Bytes),
    /// It is this document, in its place.
    Replace(Bytes),
    /// It changes by a difference of version 2.
    Diff(Bytes),
    /// It changes by `$set` and `$unset`, as up to 4.4.
    Modify(Bytes),
    Delete,
}

/// A document of the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mongodb) struct Settled {
    /// Number of its collection.
    pub(in crate::mongodb) number: u32,
    /// Its place in the natural order of its collection.
    pub(in crate::mongodb) place: u64,
    pub(in crate::mongodb) document: Bytes,
}

pub(super) fn failed(error: std::io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Target, "cannot use a temporary file")
        .with_source(error)
        .with_hint("point TMPDIR at a disk with room for the oplog and the documents it touches")
}

#[derive(Debug)]
pub(super) struct Spill {
    partitions: Vec<Partition>,
    filter: Vec<u64>,
    touched: std::collections::HashSet<u32>,
    sequence: u64,
    /// Bytes of documents in memory.
    in_memory: usize,
}

#[derive(Debug, Default)]
struct Partition {
    operations: Option<BufWriter<File>>,
    base: Option<BufWriter<File>>,
    /// How often it was split.
    splits: u32,
}

impl Spill {
    pub(super) fn new(oplog_bytes: u64) -> Self {
        let partitions = (oplog_bytes / PER_PARTITION + 1).min(MOST);
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            filter: Vec::new(),
            touched: std::collections::HashSet::new(),
            sequence: 0,
            in_memory: IN_MEMORY,
        }
    }

    /// Whether any operation touches the collection.
    pub(super) fn is_touched(&self, number: u32) -> bool {
        self.touched.contains(&number)
    }

    /// Whether some operation touches the document; rarely also true if none does.
    pub(super) fn may_touch(&self, number: u32, id: &[u8]) -> bool {
        !self.filter.is_empty()
            && bits(number, id).all(|bit| self.filter[bit / 64] >> (bit % 64) & 1 == 1)
    }

    pub(super) fn operation(
        &mut self,
        number: u32,
        id: &[u8],
        operation: &Operation,
    ) -> SourceResult<()> {
        if self.filter.is_empty() {
            self.filter = vec![0; usize::try_from(FILTER_BITS / 64).unwrap_or(0)];
        }
        for bit in bits(number, id) {
            self.filter[bit / 64] |= 1 << (bit % 64);
        }
        self.touched.insert(number);
        let (kind, payload) = match operation {
            Operation::Insert(document) => (1, &document[..]),
            Operation::Replace(document) => (2, &document[..]),
            Operation::Diff(change) => (3, &change[..]),
            Operation::Modify(change) => (4, &change[..]),
            Operation::Delete => (5, &[][..]),
        };
        self.sequence += 1;
        let record = Record { number, kind, place: INSERTED + self.sequence, id, payload };
        let partition = self.partition(number, id);
        record.write(&mut self.partitions[partition].operations)
    }

    pub(super) fn base(&mut self, number: u32, id: &[u8], document: &[u8]) -> SourceResult<()> {
        self.sequence += 1;
        // All operations are in when the first document comes; places of the dump sort before them.
        let record = Record { number, kind: 0, place: self.sequence, id, payload: document };
        let partition = self.partition(number, id);
        record.write(&mut self.partitions[partition].base)
    }

    fn partition(&self, number: u32, id: &[u8]) -> usize {
        let [first, _] = hashes(number, id);
        // Other bits than those of the filter.
        usize::try_from((first >> 40) % self.partitions.len() as u64).unwrap_or(0)
    }

    /// Settles the next partition, or a part of it.
    pub(super) fn settle(&mut self) -> SourceResult<Option<Vec<Settled>>> {
        while let Some(mut partition) = self.partitions.pop() {
            let limit = if partition.splits < SPLITS { self.in_memory } else { usize::MAX };
            match partition.settled(limit)? {
                Some(settled) => return Ok(Some(settled)),
                None => self.partitions.extend(partition.split()?),
            }
        }
        Ok(None)
    }
}

impl Partition {
    /// Its documents, unless they come to more than `limit` bytes.
    fn settled(&mut self, limit: usize) -> SourceResult<Option<Vec<Settled>>> {
        let mut held = Held { limit, ..Held::default() };
        let fits = read(&mut self.base, |record| {
            let key = (record.number, record.id.into());
            // Met twice: the later one counts, in the place of the first.
            let place = held.take(&key).map_or(record.place, |(place, _)| place);
            Ok(held.put(key, place, Bytes::copy_from_slice(record.payload)))
        })?;
        if fits.is_break() {
            return Ok(None);
        }
        let fits = read(&mut self.operations, |record| {
            let key = (record.number, Box::from(record.id));
            let (place, document) = held.take(&key).unzip();
            // An insertion goes to the end, also of what was deleted before; everything else stays
            // where it is.
            let place = place.filter(|_| record.kind != 1).unwrap_or(record.place);
            Ok(match record.operation().apply(document)? {
                Some(document) => held.put(key, place, document),
                None => ControlFlow::Continue(()),
            })
        })?;
        Ok(fits.is_continue().then(|| held.settled()))
    }

    /// In parts, by other bits.
    fn split(mut self) -> SourceResult<Vec<Self>> {
        let splits = self.splits + 1;
        let mut parts: Vec<Self> = (0..PARTS).map(|_| Self { splits, ..Self::default() }).collect();
        let part_of = |record: &Record<'_>| {
            usize::try_from(hash(splits, record.number, record.id) % PARTS).unwrap_or(0)
        };
        // To its end: nothing stops it.
        _ = read(&mut self.base, |record| {
            record.write(&mut parts[part_of(record)].base).map(ControlFlow::Continue)
        })?;
        _ = read(&mut self.operations, |record| {
            record.write(&mut parts[part_of(record)].operations).map(ControlFlow::Continue)
        })?;
        Ok(parts)
    }
}

/// Documents in memory, each with its place.
#[derive(Default)]
struct Held {
    documents: HashMap<Key, (u64, Bytes)>,
    bytes: usize,
    limit: usize,
}

impl Held {
    fn take(&mut self, key: &Key) -> Option<(u64, Bytes)> {
        let found = self.documents.remove(key)?;
        self.bytes -= found.1.len() + key.1.len() + OVERHEAD;
        Some(found)
    }

    /// Stops if that is too much.
    fn put(&mut self, key: Key, place: u64, document: Bytes) -> ControlFlow<()> {
        self.bytes += document.len() + key.1.len() + OVERHEAD;
        self.documents.insert(key, (place, document));
        if self.bytes > self.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn settled(self) -> Vec<Settled> {
        let settled = self.documents.into_iter();
        settled
            .map(|((number, _), (place, document))| Settled { number, place, document })
            .collect()
    }
}

/// Number of the collection and `_id`.
type Key = (u32, Box<[u8]>);

fn hash(seed: u32, number: u32, id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u32(seed);
    hasher.write_u32(number);
    hasher.write(id);
    hasher.finish()
}

fn hashes(number: u32, id: &[u8]) -> [u64; 2] {
    [0x9e37_79b9, 0x85eb_ca6b].map(|seed| hash(seed, number, id))
}

/// Bits of the filter that stand for a document.
fn bits(number: u32, id: &[u8]) -> impl Iterator<Item = usize> {
    let [first, second] = hashes(number, id);
    (0..4_u64).map(move |n| {
        usize::try_from(first.wrapping_add(n.wrapping_mul(second | 1)) % FILTER_BITS).unwrap_or(0)
    })
}

struct Record<'a> {
    number: u32,
    kind: u8,
    place: u64,
    id: &'a [u8],
    payload: &'a [u8],
}

/// Lengths of the fixed part: number, kind, place, length of the id, length of the payload.
const HEAD: usize = 4 + 1 + 8 + 4 + 4;

impl Record<'_> {
    fn operation(&self) -> Operation {
        let payload = || Bytes::copy_from_slice(self.payload);
        match self.kind {
            1 => Operation::Insert(payload()),
            2 => Operation::Replace(payload()),
            3 => Operation::Diff(payload()),
            4 => Operation::Modify(payload()),
            _ => Operation::Delete,
        }
    }

    fn write(&self, to: &mut Option<BufWriter<File>>) -> SourceResult<()> {
        let to = match to {
            Some(to) => to,
            none => {
                none.insert(BufWriter::with_capacity(BUFFER, tempfile::tempfile().map_err(failed)?))
            }
        };
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&self.number.to_le_bytes());
        head.push(self.kind);
        head.extend_from_slice(&self.place.to_le_bytes());
        head.extend_from_slice(&length(self.id));
        head.extend_from_slice(&length(self.payload));
        to.write_all(&head)
            .and_then(|()| to.write_all(self.id))
            .and_then(|()| to.write_all(self.payload))
            .map_err(failed)
    }
}

/// Hands over all records, in order, unless it is stopped.
fn read(
    from: &mut Option<BufWriter<File>>,
    mut take: impl FnMut(&Record<'_>) -> SourceResult<ControlFlow<()>>,
) -> SourceResult<ControlFlow<()>> {
    let Some(from) = from else { return Ok(ControlFlow::Continue(())) };
    from.rewind().map_err(failed)?;
    let mut file = BufReader::with_capacity(1 << 20, from.get_ref());
    let (mut head, mut body) = ([0; HEAD], Vec::new());
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap_or_default());
    loop {
        match file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Ok(ControlFlow::Continue(()));
            }
            Err(error) => return Err(failed(error)),
        }
        let (id, payload) = (number(&head[13..17]) as usize, number(&head[17..21]) as usize);
        if id.max(payload) > LARGEST {
            return Err(failed(std::io::Error::other("a record has an impossible length")));
        }
        body.resize(id + payload, 0);
        file.read_exact(&mut body).map_err(failed)?;
        let (id, payload) = body.split_at(id);
        let place = u64::from_le_bytes(head[5..13].try_into().unwrap_or_default());
        let record = Record { number: number(&head[..4]), kind: head[4], place, id, payload };
        if take(&record)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents of the dump and operations on them, on others and on some again and again.
    fn filled(in_memory: usize) -> Spill {
        let mut spill = Spill { in_memory, ..Spill::new(0) };
        let document = |id: u32, n: u32| {
            Bytes::from(vec![u8::try_from(n % 251).unwrap(); 100 + id as usize % 50])
        };
        for id in 0..900 {
            let operation = match id % 3 {
                0 => Operation::Delete,
                1 => Operation::Insert(document(id, 1)),
                _ => Operation::Replace(document(id, 2)),
            };
            spill.operation(id % 2, &id.to_le_bytes(), &operation).unwrap();
            spill.operation(7, b"hot", &Operation::Replace(document(0, id))).unwrap();
        }
        for id in (0..900).filter(|id| id % 5 != 0) {
            spill.base(id % 2, &id.to_le_bytes(), &document(id, 3)).unwrap();
        }
        spill
    }

    fn settled(spill: &mut Spill, most: usize) -> (usize, Vec<(u32, u64, Bytes)>) {
        let (mut batches, mut all) = (0, Vec::new());
        while let Some(settled) = spill.settle().unwrap() {
            let bytes: usize = settled.iter().map(|found| found.document.len()).sum();
            assert!(bytes <= most, "{bytes} bytes at once");
            all.extend(
                settled.into_iter().map(|found| (found.number, found.place, found.document)),
            );
            batches += 1;
        }
        all.sort();
        (batches, all)
    }

    #[test]
    fn what_does_not_fit_into_memory_is_split_and_stays_the_same() {
        let (whole, expected) = settled(&mut filled(usize::MAX), usize::MAX);
        assert_eq!((whole, expected.len()), (1, 601));
        for in_memory in [50_000, 5000, 1000] {
            let (batches, found) = settled(&mut filled(in_memory), in_memory);
            assert!(
                batches > 150_000 / in_memory && found == expected,
                "{batches} batches for {in_memory}"
            );
        }
        // What cannot be split any further comes as it is.
        let (_, found) = settled(&mut filled(0), usize::MAX);
        assert!(found == expected);
    }
}
