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

    /// How many smaller numbers of the same 64, of which the first is divisible by 64, are in the set.
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

    /// Their slots, and what cannot be found. In the order of their names, which is that of the index: one look-up finds in the
    /// processor's caches what the one before has brought there.
    fn slots(mut self, reader: &BlobReader) -> (Vec<u64>, Result<()>) {
        self.blobs.sort_unstable_by_key(|(id, _)| *id);
        let mut slots = Vec::with_capacity(self.blobs.len());
        let mut found = Ok(());
        let mut first_byte = 0;
        for (blob, directory) in self.blobs {
            // Another part of the index: what shows the one before is not looked at again.
            if first_byte != blob.as_bytes()[0] {
                first_byte = blob.as_bytes()[0];
                reader.repository().index().release();
            }
            match slot(reader, BlobKind::Data, &blob) {
                Ok(slot) => slots.push(slot),
                Err(error) if found.is_ok() => {
                    let directory = self.directories.get(directory as usize).map(BlobId::short).unwrap_or_default();
                    found = Err(error.context(format!("directory {directory}")));
                }
                Err(_) => {}
            }
        }
        (slots, found)
    }
}

/// The first of what is lost or damaged.
#[derive(Debug, Default)]
struct Damage {
    first: Option<Error>,
}

impl Damage {
    /// What there is, if it is neither lost nor damaged; other errors are not put off.
    fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(there) => Ok(Some(there)),
            Err(error) if error.is_damage() => {
                self.first.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
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
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if something of it is lost or damaged, after all the rest was reached;
    /// those of the sink, at once.
    pub(crate) async fn follow(&mut self, roots: impl IntoIterator<Item = BlobId>) -> Result<()> {
        let followed = self.follow_trees(roots.into_iter().collect()).await;
        followed.and(self.look_up().await)
    }

    async fn follow_trees(&mut self, mut waiting: Vec<BlobId>) -> Result<()> {
        let mut reading: JoinSet<Result<Found>> = JoinSet::new();
        let mut damage = Damage::default();
        loop {
            while reading.len() < self.concurrency
                && let Some(id) = waiting.pop()
            {
                let slot = damage.note(slot(&self.reader, BlobKind::Tree, &id))?;
                if slot.is_some_and(|slot| self.reached.insert(slot)) {
                    reading.spawn(read(self.reader.clone(), id));
                }
            }
            let Some(found) = reading.join_next().await else {
                return damage.first.map_or(Ok(()), Err);
            };
            self.cx.check_cancelled()?;
            let Some(found) = damage.note(found.map_err(panicked)?)? else {
                continue;
            };
            waiting.extend(found.subtrees);
            for piece in found.data.iter().flat_map(|blobs| blobs.chunks(AT_ONCE)) {
                self.named.add(found.directory, piece);
                if self.named.is_full() {
                    damage.note(self.look_up().await)?;
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
    let tree =
        reader.tree(&directory).await.map_err(|error| error.context(format!("directory {}", directory.short())))?;
    let mut found = Found { directory, subtrees: Vec::new(), data: Vec::new() };
    for node in tree.nodes {
        found.subtrees.extend(node.subtree);
        if !node.content.is_empty() {
            found.data.push(node.content);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::Passphrase;
    use crate::pipeline::{BackupOptions, backup};
    use crate::repository::{InitOptions, Repository};
    use crate::testing::{MemorySink, ScriptedSource};

    #[tokio::test]
    async fn what_is_lost_hides_nothing_else() {
        let (cx, sink) = (Context::silent(), Arc::new(MemorySink::new()));
        let opened = Repository::init(sink, &Passphrase::new("x"), &InitOptions::default(), &cx).await;
        let repository = opened.unwrap();
        let source = ScriptedSource::new().file("/a/b/file", "one").file("/c/file", "two");
        let snapshot = backup(&repository, &source, &BackupOptions::default(), &cx).await.unwrap().snapshot.unwrap();
        let root = repository.load_snapshot(snapshot).await.unwrap().tree;
        let indexed = repository.load_index(&cx).await.unwrap();
        let reached = |reach: &Reach<'_>| -> Vec<u64> {
            (0..indexed.index().slots()).filter(|slot| reach.reached().contains(*slot)).collect()
        };
        let mut all = Reach::new(&indexed, None, &cx);
        all.follow([root]).await.unwrap();
        assert!(reached(&all).len() >= 6, "directories and contents");
        let nowhere = BlobId::digest(b"nowhere");
        for roots in [[root, nowhere], [nowhere, root]] {
            let mut reach = Reach::new(&indexed, None, &cx);
            let error = reach.follow(roots).await.unwrap_err();
            assert!(error.is_damage(), "{error:?}");
            assert_eq!(reached(&reach), reached(&all));
        }
    }
}
