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

    /// Whether the number was there.
    pub(crate) fn remove(&mut self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.0.get_mut(word).is_some_and(|word| {
            let there = *word & bit != 0;
            *word &= !bit;
            there
        })
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many smaller numbers of the same 64, of which the first is divisible by 64, are in the
    /// set.
    pub(crate) fn before_in_word(&self, number: u64) -> u32 {
        let (word, bit) = Self::place(number);
        self.0.get(word).map_or(0, |word| (word & (bit - 1)).count_ones())
    }

    fn place(number: u64) -> (usize, u64) {
        (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
    }
}

/// So many data blobs are looked up at once.
const AT_ONCE: usize = 1 << 16;
/// After so many of them, what shows the part of the index where they were is given back: each may
/// have brought some pages of every file.
const LOOKED_UP: usize = 1 << 8;

/// Follows directories; every one of them is read once.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    reader: BlobReader,
    concurrency: usize,
    cx: &'a Context,
    meter: Option<Meter>,
    /// Slots of the blobs that were reached.
    reached: Bits,
    named: Named,
}

/// What a directory leads to.
struct Found {
    directory: BlobId,
    subtrees: Vec<BlobId>,
    /// Of each file.
    data: Vec<Vec<BlobId>>,
}

/// Data blobs that were reached and are not looked up yet.
#[derive(Debug, Default)]
struct Named {
    /// Each with the number of the directory that leads to it.
    blobs: Vec<(BlobId, u32)>,
    directories: Vec<BlobId>,
}

impl Named {
    fn add(&mut self, directory: BlobId, blobs: &[BlobId]) {
        if self.directories.last() != Some(&directory) {
            self.directories.push(directory);
        }
        let number = u32::try_from(self.directories.len() - 1).unwrap_or(u32::MAX);
        self.blobs.extend(blobs.iter().map(|blob| (*blob, number)));
    }

    fn is_full(&self) -> bool {
        self.blobs.len() >= AT_ONCE
    }

    /// Their slots, and what cannot be found. In the order of their names, which is that of the
    /// index: one look-up finds in the processor's caches what the one before has brought there.
    fn slots(mut self, reader: &BlobReader) -> (Vec<u64>, Result<()>) {
        self.blobs.sort_unstable_by_key(|(id, _)| *id);
        let mut slots = Vec::with_capacity(self.blobs.len());
        let mut found = Ok(());
        for (number, (blob, directory)) in self.blobs.into_iter().enumerate() {
            if number % LOOKED_UP == 0 {
                reader.repository().index().release();
            }
            match slot(reader, BlobKind::Data, &blob) {
                Ok(slot) => slots.push(slot),
                Err(error) if found.is_ok() => {
                    let directory = self
                        .directories
                        .get(directory as usize)
                        .map(BlobId::short)
                        .unwrap_or_default();
                    found = Err(error.context(format!("directory {directory}")));
                }
                Err(_) => {}
            }
        }
        (slots, found)
    }
}

impl<'a> Reach<'a> {
    pub(crate) fn new(indexed: &IndexedRepository, meter: Option<Meter>, cx: &'a Context) -> Self {
        Self {
            reader: indexed.reader(),
            concurrency: indexed.repository().sink().capabilities().concurrency.clamp(1, 32),
            cx,
            meter,
            reached: Bits::below(indexed.index().slots()),
            named: Named::default(),
        }
    }

    /// Slots of all blobs that were reached so far.
    pub(crate) fn reached(&self) -> &Bits {
        &self.reached
    }

    /// Reaches everything at and below these directories.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if something of it is lost or
    /// damaged; those of the sink. What was read by then counts all the same.
    pub(crate) async fn follow(&mut self, roots: impl IntoIterator<Item = BlobId>) -> Result<()> {
        let followed = self.follow_trees(roots.into_iter().collect()).await;
        followed.and(self.look_up().await)
    }

    async fn follow_trees(&mut self, mut waiting: Vec<BlobId>) -> Result<()> {
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
            waiting.extend(found.subtrees);
            for piece in found.data.iter().flat_map(|blobs| blobs.chunks(AT_ONCE)) {
                self.named.add(found.directory, piece);
                if self.named.is_full() {
                    self.look_up().await?;
                }
            }
            if let Some(meter) = &self.meter {
                meter.add_items(1);
            }
        }
    }

    async fn look_up(&mut self) -> Result<()> {
        let (named, reader) = (std::mem::take(&mut self.named), self.reader.clone());
        let work = move || Ok(named.slots(&reader));
        let (slots, found) = self.reader.repository().repository().cpu().run(work).await?;
        for slot in slots {
            self.reached.insert(slot);
        }
        found
    }
}

async fn read(reader: BlobReader, directory: BlobId) -> Result<Found> {
    let tree = reader
        .tree(&directory)
        .await
        .map_err(|error| error.context(format!("directory {}", directory.short())))?;
    let mut found = Found { directory, subtrees: Vec::new(), data: Vec::new() };
    for node in tree.nodes {
        found.subtrees.extend(node.subtree);
        if !node.content.is_empty() {
            found.data.push(node.content);
        }
    }
    // Data of entries that cannot be restored here stays, as far as it is there: other tools may be
    // able to restore them.
    let index = reader.repository().index();
    let is_there = |kind, id: &BlobId| index.slot_if_found(kind, id).is_some();
    for fault in tree.faults {
        found.subtrees.extend(fault.subtree.filter(|id| is_there(BlobKind::Tree, id)));
        let content = fault.content.into_iter().filter(|id| is_there(BlobKind::Data, id));
        found.data.push(content.collect());
    }
    Ok(found)
}

fn slot(reader: &BlobReader, kind: BlobKind, id: &BlobId) -> Result<u64> {
    if let Some(slot) = reader.repository().index().slot_if_found(kind, id) {
        return Ok(slot);
    }
    reader.locate(kind, id)?;
    Err(Error::internal(format!("blob {} has a location but no index slot", id.short())))
}
