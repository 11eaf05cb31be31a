//! Operations and the documents they touch, on disk: in partitions by collection and `_id`, each of which fits into
//! memory. The files have no name and vanish with the process.
//!
//! Writing goes through buffers into the page cache and is done where the data arrives; a partition is read in one go.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;

use crate::mongodb::raw::LARGEST;

/// Bytes of oplog per partition, and bounds of their number (each may have two files open).
const PER_PARTITION: u64 = 8 << 20;
const MOST: u64 = 200;
/// Size of the filter of touched documents in bits; with ten million touched documents one in twenty others waits too.
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
    next: usize,
}

#[derive(Debug, Default)]
struct Partition {
    operations: Option<BufWriter<File>>,
    base: Option<BufWriter<File>>,
}

impl Spill {
    pub(super) fn new(oplog_bytes: u64) -> Self {
        let partitions = (oplog_bytes / PER_PARTITION + 1).min(MOST);
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            filter: Vec::new(),
            touched: std::collections::HashSet::new(),
            sequence: 0,
            next: 0,
        }
    }

    /// Whether any operation touches the collection.
    pub(super) fn is_touched(&self, number: u32) -> bool {
        self.touched.contains(&number)
    }

    /// Whether some operation touches the document; rarely also true if none does.
    pub(super) fn may_touch(&self, number: u32, id: &[u8]) -> bool {
        !self.filter.is_empty() && bits(number, id).all(|bit| self.filter[bit / 64] >> (bit % 64) & 1 == 1)
    }

    pub(super) fn operation(&mut self, number: u32, id: &[u8], operation: &Operation) -> SourceResult<()> {
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

    /// Settles the next partition.
    pub(super) fn settle(&mut self) -> SourceResult<Option<Vec<Settled>>> {
        let Some(partition) = self.partitions.get_mut(self.next) else { return Ok(None) };
        self.next += 1;
        let Partition { operations, base } = std::mem::take(partition);
        let mut documents: HashMap<Key, (u64, Bytes)> = HashMap::new();
        read(base, |record| {
            let key = (record.number, record.id.into());
            let document = Bytes::copy_from_slice(record.payload);
            // Met twice: the later one counts, in the place of the first.
            let entry = documents.entry(key).or_insert_with(|| (record.place, Bytes::new()));
            entry.1 = document;
            Ok(())
        })?;
        read(operations, |record| {
            let payload = || Bytes::copy_from_slice(record.payload);
            let operation = match record.kind {
                1 => Operation::Insert(payload()),
                2 => Operation::Replace(payload()),
                3 => Operation::Diff(payload()),
                4 => Operation::Modify(payload()),
                _ => Operation::Delete,
            };
            let key = (record.number, Box::from(record.id));
            let (place, document) = documents.remove(&key).unzip();
            // An insertion goes to the end, also of what was deleted before; everything else stays where it is.
            let place = place.filter(|_| record.kind != 1).unwrap_or(record.place);
            if let Some(document) = operation.apply(document)? {
                documents.insert(key, (place, document));
            }
            Ok(())
        })?;
        let settled = documents.into_iter();
        Ok(Some(settled.map(|((number, _), (place, document))| Settled { number, place, document }).collect()))
    }
}

/// Number of the collection and `_id`.
type Key = (u32, Box<[u8]>);

fn hashes(number: u32, id: &[u8]) -> [u64; 2] {
    [0x9e37_79b9_u32, 0x85eb_ca6b].map(|seed| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u32(seed);
        hasher.write_u32(number);
        hasher.write(id);
        hasher.finish()
    })
}

/// Bits of the filter that stand for a document.
fn bits(number: u32, id: &[u8]) -> impl Iterator<Item = usize> {
    let [first, second] = hashes(number, id);
    (0..4_u64).map(move |n| usize::try_from(first.wrapping_add(n.wrapping_mul(second | 1)) % FILTER_BITS).unwrap_or(0))
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
    fn write(&self, to: &mut Option<BufWriter<File>>) -> SourceResult<()> {
        let to = match to {
            Some(to) => to,
            none => none.insert(BufWriter::with_capacity(BUFFER, tempfile::tempfile().map_err(failed)?)),
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

fn read(from: Option<BufWriter<File>>, mut take: impl FnMut(&Record<'_>) -> SourceResult<()>) -> SourceResult<()> {
    let Some(from) = from else { return Ok(()) };
    let mut file = from.into_inner().map_err(|error| failed(error.into_error()))?;
    file.rewind().map_err(failed)?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let (mut head, mut body) = ([0; HEAD], Vec::new());
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap_or_default());
    loop {
        match file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        let (id, payload) = (number(&head[13..17]) as usize, number(&head[17..21]) as usize);
        if id.max(payload) > LARGEST {
            return Err(failed(std::io::Error::other("it was changed")));
        }
        body.resize(id + payload, 0);
        file.read_exact(&mut body).map_err(failed)?;
        let (id, payload) = body.split_at(id);
        let place = u64::from_le_bytes(head[5..13].try_into().unwrap_or_default());
        take(&Record { number: number(&head[..4]), kind: head[4], place, id, payload })?;
    }
}
