//! What snapshots need: every blob that can be reached from their root directories.

use tokio::task::JoinSet;

use super::cpu::panicked;
use super::{BlobReader, IndexedRepository};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::format::BlobKind;
use crate::id::BlobId;
use crate::pipeline::Meter;

/// A set of small numbers, one bit each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// An empty set with room for numbers below `limit`.
    pub(crate) fn below(limit: u64) -> Self {
        Self(vec![0; usize::try_from(limit.div_ceil(64)).unwrap_or(0)])
    }

    /// Whether the number was new.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let word = &mut self.0[word];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many smaller numbers of the same 64, of which the first is divisible by 64, are in the set.
    pub(crate) fn before_in_word(&self, number: u64) -> u32 {
        let (word, bit) = Self::place(number);
        self.0.get(word).map_or(0, |word| (word & (bit - 1)).count_ones())
    }

    fn place(number: u64) -> (usize, u64) {
        (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
    }
}

/// Follows directories; every one of them is read once.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    reader: BlobReader,
    concurrency: usize,
    cx: &'a Context,
    meter: Option<Meter>,
    /// Slots of the blobs that were reached.
    reached: Bits,
}

/// What a directory leads to.
struct Found {
    subtrees: Vec<BlobId>,
    /// Slots of data blobs.
    data: Vec<u64>,
}

impl<'a> Reach<'a> {
    pub(crate) fn new(indexed: &IndexedRepository, meter: Option<Meter>, cx: &'a Context) -> Self {
        Self {
            reader: indexed.reader(),
            concurrency: indexed.repository().sink().capabilities().concurrency.clamp(1, 32),
            cx,
            meter,
            reached: Bits::below(indexed.index().slots()),
        }
    }

    /// Slots of all blobs that were reached so far.
    pub(crate) fn reached(&self) -> &Bits {
        &self.reached
    }

    /// Reaches everything at and below these directories.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if something of it is lost or damaged; those of the sink.
    pub(crate) async fn follow(&mut self, roots: impl IntoIterator<Item = BlobId>) -> Result<()> {
        let mut waiting: Vec<BlobId> = roots.into_iter().collect();
        let mut reading: JoinSet<Result<Found>> = JoinSet::new();
        loop {
            while reading.len() < self.concurrency
                && let Some(id) = waiting.pop()
            {
                let slot = slot(&self.reader, BlobKind::Tree, &id)?;
                if self.reached.insert(slot) {
                    reading.spawn(read(self.reader.clone(), id));
                }
            }
            let Some(found) = reading.join_next().await else {
                return Ok(());
            };
            self.cx.check_cancelled()?;
            let found = found.map_err(panicked)??;
            for slot in found.data {
                self.reached.insert(slot);
            }
            waiting.extend(found.subtrees);
            if let Some(meter) = &self.meter {
                meter.add_items(1);
            }
        }
    }
}

async fn read(reader: BlobReader, id: BlobId) -> Result<Found> {
    let in_directory = |error: Error| error.context(format!("directory {}", id.short()));
    let tree = reader.tree(&id).await.map_err(in_directory)?;
    let mut found = Found { subtrees: Vec::new(), data: Vec::new() };
    for node in tree.nodes.iter() {
        for blob in &node.content {
            found.data.push(slot(&reader, BlobKind::Data, blob).map_err(in_directory)?);
        }
        found.subtrees.extend(node.subtree);
    }
    Ok(found)
}

fn slot(reader: &BlobReader, kind: BlobKind, id: &BlobId) -> Result<u64> {
    if let Some(slot) = reader.repository().index().slot_if_found(kind, id) {
        return Ok(slot);
    }
    reader.locate(kind, id)?;
    Err(Error::internal(format!("blob {} has a place but no slot", id.short())))
}
