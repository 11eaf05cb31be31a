//! The documents of the moment, summed up. Untouched documents are summed in the order of the dump;
//! the others wait on disk, in parts by collection and `_id`. The operations of each part are applied
//! in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read as _, Seek as _, Write as _};

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use twox_hash::XxHash3_128;

use super::change::change;
use super::failed;
use super::log::{Log, Transaction};
use super::tree::{Slice, encode, find, parse};
use crate::mongodb::catalog::CollectionUuid;
use crate::mongodb::digest::Sum;

/// Bytes of oplog for each part, and how many parts there are at most.
const PER_PART: u64 = 8 << 20;
const MOST: u64 = 128;
/// A part with more bytes than `LARGEST` is cut into `CUT_INTO` parts, up to `CUTS` times.
const LARGEST: u64 = 64 << 20;
const CUT_INTO: usize = 16;
const CUTS: u32 = 4;
/// Size of the filter of touched documents in bits.
const BITS: u64 = 64 << 20;
/// Places behind those of the dump.
const LATER: u64 = 1 << 62;

/// A collection whose documents are summed up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Documents may be in the dump twice: the later one counts.
    pub(super) is_repeated: bool,
    /// Most documents and bytes of a capped collection, if the server does not log its deletions.
    pub(super) limits: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Tally {
    wanted: Wanted,
    sum: Sum,
    /// Places, lengths and hashes of single documents where the oldest are dropped: 32 bytes each.
    places: Vec<(u64, u32, [u64; 2])>,
}

#[derive(Debug)]
pub(super) struct Documents {
    numbers: HashMap<CollectionUuid, u32>,
    tallies: Vec<Tally>,
    touched: Vec<u64>,
    parts: Vec<Part>,
    place: u64,
}

#[derive(Debug, Default)]
struct Part {
    dumped: Records,
    operations: Records,
    cuts: u32,
}

impl Documents {
    pub(super) fn new(
        wanted: impl IntoIterator<Item = (CollectionUuid, Wanted)>,
        oplog_bytes: u64,
    ) -> Self {
        let (mut numbers, mut tallies) = (HashMap::new(), Vec::new());
        for ((uuid, wanted), number) in wanted.into_iter().zip(0..) {
            numbers.insert(uuid, number);
            tallies.push(Tally { wanted, sum: Sum::default(), places: Vec::new() });
        }
        let parts = (oplog_bytes / PER_PART + 1).min(MOST);
        let parts = (0..parts).map(|_| Part::default()).collect();
        let touched = vec![0; usize::try_from(BITS / 64).unwrap_or(0)];
        Self { numbers, tallies, touched, parts, place: 0 }
    }

    fn tally(&mut self, number: u32) -> SourceResult<&mut Tally> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        self.tallies.get_mut(at).ok_or_else(|| failed("a collection without a number"))
    }

    /// Takes an operation on a document; those of other collections do not matter.
    pub(super) fn operation(
        &mut self,
        transaction: Option<Transaction>,
        operation: &[u8],
    ) -> SourceResult<()> {
        let uuid = find(operation, "ui").and_then(Slice::uuid);
        let Some(number) = uuid.and_then(|uuid| self.numbers.get(&uuid).copied()) else {
            return Ok(());
        };
        let kind = match find(operation, "op").and_then(Slice::text) {
            Some([kind @ (b'i' | b'u' | b'd')]) => *kind,
            _ => return Ok(()),
        };
        let object = |name| find(operation, name).and_then(Slice::inside);
        let named = if kind == b'u' { "o2" } else { "o" };
        let id = object(named).and_then(id_of).ok_or_else(|| failed("an operation without _id"))?;
        let payload = object("o").filter(|_| kind != b'd').unwrap_or_default();
        self.place += 1;
        let key = Key::of(number, id);
        let bit = key.hash(0) % BITS;
        if let Some(word) = usize::try_from(bit / 64).ok().and_then(|at| self.touched.get_mut(at)) {
            *word |= 1 << (bit % 64);
        }
        let place = LATER + self.place;
        let record =
            Record { key, kind, transaction: transaction.map_or(0, |n| n + 1), place, payload };
        let part = record.key.place(1, self.parts.len());
        self.parts[part].operations.write(&record)
    }

    /// Takes a document of the dump, behind all operations.
    pub(super) fn dumped(&mut self, uuid: &CollectionUuid, document: &[u8]) -> SourceResult<()> {
        let Some(&number) = self.numbers.get(uuid) else { return Ok(()) };
        self.place += 1;
        let place = self.place;
        let Wanted { is_repeated, limits } = self.tally(number)?.wanted;
        let key = id_of(document).map(|id| Key::of(number, id));
        let is_touched = |key: &Key| {
            let bit = key.hash(0) % BITS;
            let word = usize::try_from(bit / 64).ok().and_then(|at| self.touched.get(at));
            word.is_none_or(|word| word >> (bit % 64) & 1 == 1)
        };
        match key {
            Some(key) if is_repeated || limits.is_some() || is_touched(&key) => {
                let record = Record { key, kind: 0, transaction: 0, place, payload: document };
                let part = record.key.place(1, self.parts.len());
                self.parts[part].dumped.write(&record)
            }
            _ => {
                self.tally(number)?.add(place, document);
                Ok(())
            }
        }
    }

    /// The sums of all collections.
    pub(super) fn finish(
        mut self,
        cx: &Context,
        log: &Log,
    ) -> SourceResult<HashMap<CollectionUuid, Sum>> {
        while let Some(part) = self.parts.pop() {
            cx.check_cancelled().map_err(SourceError::from)?;
            if part.dumped.bytes + part.operations.bytes > LARGEST && part.cuts < CUTS {
                self.parts.extend(part.cut()?);
                continue;
            }
            for (key, (place, document)) in part.settled(log)? {
                self.tally(key.number)?.add(place, &document);
            }
        }
        let tallies = &mut self.tallies;
        let sums = self.numbers.iter().filter_map(|(uuid, number)| {
            let tally = tallies.get_mut(usize::try_from(*number).ok()?)?;
            Some((*uuid, tally.finish()))
        });
        Ok(sums.collect())
    }
}

impl Tally {
    fn add(&mut self, place: u64, document: &[u8]) {
        if self.wanted.limits.is_none() {
            return self.sum.add(document);
        }
        let hash = Sum::hash(document);
        let halves = [hash >> 64, hash & u128::from(u64::MAX)];
        let halves = halves.map(|half| u64::try_from(half).unwrap_or(0));
        self.places.push((place, u32::try_from(document.len()).unwrap_or(u32::MAX), halves));
    }

    /// Of a capped collection, the newest that fit.
    fn finish(&mut self) -> Sum {
        let Some((documents, bytes)) = self.wanted.limits else { return self.sum };
        self.places.sort_unstable();
        for &(_, length, [high, low]) in self.places.iter().rev() {
            let length = u64::from(length);
            if self.sum.count + 1 > documents || self.sum.bytes + length > bytes {
                break;
            }
            self.sum.add_hash(u128::from(high) << 64 | u128::from(low), length);
        }
        self.sum
    }
}

impl Part {
    fn cut(mut self) -> SourceResult<Vec<Self>> {
        let cuts = self.cuts + 1;
        let mut parts: Vec<Self> =
            (0..CUT_INTO).map(|_| Self { cuts, ..Self::default() }).collect();
        let place = |key: &Key| key.place(1 + u64::from(cuts), CUT_INTO);
        self.dumped.read(|record| parts[place(&record.key)].dumped.write(record))?;
        self.operations.read(|record| parts[place(&record.key)].operations.write(record))?;
        Ok(parts)
    }

    /// Its documents at the moment, with their places.
    fn settled(mut self, log: &Log) -> SourceResult<HashMap<Key, (u64, Vec<u8>)>> {
        let mut held: HashMap<Key, (u64, Vec<u8>)> = HashMap::new();
        self.dumped.read(|record| {
            let entry = held.entry(record.key.clone()).or_insert((record.place, Vec::new()));
            entry.1 = record.payload.to_vec();
            Ok(())
        })?;
        self.operations.read(|record| {
            let transaction = record.transaction.checked_sub(1);
            if !log.took_effect(transaction) {
                return Ok(());
            }
            let is_whole = record.kind == b'i' || id_of(record.payload).is_some();
            match (record.kind, held.get_mut(&record.key)) {
                (b'd', _) => _ = held.remove(&record.key),
                (b'u', Some((_, document))) if is_whole => *document = record.payload.to_vec(),
                (_, _) if is_whole => {
                    held.insert(record.key.clone(), (record.place, record.payload.to_vec()));
                }
                (_, Some((_, document))) => *document = changed(document, record.payload)?,
                // A later entry deletes or replaces the document.
                (_, None) => {}
            }
            Ok(())
        })?;
        Ok(held)
    }
}

fn changed(document: &[u8], update: &[u8]) -> SourceResult<Vec<u8>> {
    let (document, update) = (parse(document), parse(update));
    let changed = document.zip(update).and_then(|(mut document, update)| {
        change(&mut document, &update)?;
        Some(encode(&document))
    });
    changed.ok_or_else(|| failed("an update of an unknown form"))
}

/// Type and bytes of the `_id`.
fn id_of(document: &[u8]) -> Option<Slice<'_>> {
    find(document, "_id")
}

/// A document, by the number of its collection and its `_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    number: u32,
    id: Vec<u8>,
}

impl Key {
    /// Equal numbers of different types are one `_id`.
    fn of(number: u32, id: Slice<'_>) -> Self {
        let whole = match (id.kind, id.value) {
            (16, value) => value.try_into().ok().map(|value| i64::from(i32::from_le_bytes(value))),
            (18, value) => value.try_into().ok().map(i64::from_le_bytes),
            #[expect(clippy::cast_possible_truncation, reason = "whole numbers in this range fit")]
            (1, value) => value
                .try_into()
                .ok()
                .map(f64::from_le_bytes)
                .filter(|value| value.fract() == 0.0 && value.abs() < 9e15)
                .map(|value| value as i64),
            _ => None,
        };
        match whole {
            Some(whole) => Self { number, id: [&[18][..], &whole.to_le_bytes()].concat() },
            None => Self { number, id: [&[id.kind], id.value].concat() },
        }
    }

    fn hash(&self, seed: u64) -> u64 {
        let bytes = [&self.number.to_le_bytes()[..], &self.id].concat();
        let hash = XxHash3_128::oneshot_with_seed(seed, &bytes);
        u64::try_from(hash & u128::from(u64::MAX)).unwrap_or(0)
    }

    fn place(&self, seed: u64, among: usize) -> usize {
        usize::try_from(self.hash(seed) % among.max(1) as u64).unwrap_or(0)
    }
}

struct Record<'a> {
    key: Key,
    /// `i`, `u` or `d`; 0 for a document of the dump.
    kind: u8,
    /// Its number and 1, or 0.
    transaction: u32,
    place: u64,
    payload: &'a [u8],
}

/// Records in a file without a name.
#[derive(Debug, Default)]
struct Records {
    file: Option<BufWriter<File>>,
    bytes: u64,
}

/// Number of the collection, kind, transaction, place, and lengths of `_id` and payload.
const HEAD: usize = 4 + 1 + 4 + 8 + 4 + 4;

impl Records {
    fn write(&mut self, record: &Record<'_>) -> SourceResult<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(tempfile::tempfile().map_err(disk)?)),
        };
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&record.key.number.to_le_bytes());
        head.push(record.kind);
        head.extend_from_slice(&record.transaction.to_le_bytes());
        head.extend_from_slice(&record.place.to_le_bytes());
        head.extend_from_slice(&length(&record.key.id));
        head.extend_from_slice(&length(record.payload));
        for bytes in [&head, &record.key.id, record.payload] {
            file.write_all(bytes).map_err(disk)?;
            self.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// All of them, in order.
    fn read(&mut self, mut take: impl FnMut(&Record<'_>) -> SourceResult<()>) -> SourceResult<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.rewind().map_err(disk)?;
        let mut file = BufReader::new(file.get_ref());
        let mut head = [0; HEAD];
        loop {
            match file.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(disk(error)),
            }
            let four = |at: usize| {
                head[at..].first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes))
            };
            let place = head[9..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let mut bytes = |length: u32| {
                let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
                file.read_exact(&mut bytes).map(|()| bytes).map_err(disk)
            };
            let id = bytes(four(17))?;
            let payload = bytes(four(21))?;
            let key = Key { number: four(0), id };
            take(&Record { key, kind: head[4], transaction: four(5), place, payload: &payload })?;
        }
    }
}

fn disk(error: std::io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Target, "cannot use a temporary file for --verify")
        .with_source(error)
        .with_hint("point TMPDIR at a disk with room for the oplog and the documents it touches")
}
