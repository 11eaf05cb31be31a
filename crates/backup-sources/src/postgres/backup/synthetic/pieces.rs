//! The content of a file that is put together, from its beginning to its end: for some of its
//! blocks at a time, what is stored of them in each layer is fetched. Of each layer the last blob
//! is kept: what changed lies close together there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::context::Context;
use backup_core::format::Node;
use backup_core::id::BlobId;
use backup_core::repository::SnapshotReader;
use backup_core::source::SourceResult;
use bytes::Bytes;

use super::super::super::delta::{BLOCK, Combined};
use super::super::super::error::malformed;

/// Blocks that are put together at a time: 4 MiB.
const WINDOW: u64 = 512;

/// A blob of a layer's file, by its number in that.
type Number = (u8, usize);

/// The file of a layer.
#[derive(Debug)]
struct Stored {
    /// Where each blob begins.
    blobs: Vec<(u64, BlobId)>,
    size: u64,
}

/// What is put together.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    cx: &'a Context,
    snapshot: &'a SnapshotReader,
    combined: &'a Combined,
    layers: BTreeMap<u8, Stored>,
    /// Blobs that the last blocks came from.
    held: BTreeMap<Number, Bytes>,
    next: u64,
    /// Blocks in all.
    end: u64,
}

impl<'a> Pieces<'a> {
    /// Of the files of its layers, `len` bytes.
    pub(super) fn new(
        (cx, snapshot): (&'a Context, &'a SnapshotReader),
        combined: &'a Combined,
        nodes: &[(u8, Node)],
        len: u64,
    ) -> SourceResult<Self> {
        let mut layers = BTreeMap::new();
        for (layer, node) in nodes {
            let (mut blobs, mut size) = (Vec::with_capacity(node.content.len()), 0);
            for blob in &node.content {
                blobs.push((size, *blob));
                size += u64::from(snapshot.blob_len(blob)?);
            }
            if size != node.metadata.size {
                let name = String::from_utf8_lossy(&node.name).into_owned();
                return Err(malformed(format!(
                    "snapshot: {name} has {size} of {} bytes",
                    node.metadata.size
                )));
            }
            layers.insert(*layer, Stored { blobs, size });
        }
        Ok(Self {
            cx,
            snapshot,
            combined,
            layers,
            held: BTreeMap::new(),
            next: 0,
            end: len / BLOCK,
        })
    }

    /// The next blocks, and the number of the first of them.
    pub(super) async fn next(&mut self) -> SourceResult<Option<(u64, Vec<u8>)>> {
        if self.next >= self.end {
            return Ok(None);
        }
        self.cx.check_cancelled()?;
        let (first, end) = (self.next, self.end.min(self.next + WINDOW));
        self.next = end;
        let places: Vec<Option<(u8, u64)>> =
            (first..end).map(|block| self.combined.place_of(block)).collect();
        let mut needed: BTreeMap<Number, BlobId> = BTreeMap::new();
        for (layer, at) in places.iter().flatten() {
            let stored = self.stored(*layer)?;
            for number in stored.numbers(*at)? {
                needed.insert((*layer, number), stored.blobs[number].1);
            }
        }
        self.fetch(needed).await?;
        let mut bytes = vec![0; usize::try_from((end - first) * BLOCK).unwrap_or(0)];
        for (block, place) in bytes.chunks_mut(usize::try_from(BLOCK).unwrap_or(1)).zip(&places) {
            if let Some((layer, at)) = place {
                self.copy(*layer, *at, block)?;
            }
        }
        let last: BTreeMap<u8, usize> = self.held.keys().copied().collect();
        let last: BTreeSet<Number> = last.into_iter().collect();
        self.held.retain(|number, _| last.contains(number));
        Ok(Some((first, bytes)))
    }

    fn stored(&self, layer: u8) -> SourceResult<&Stored> {
        self.layers.get(&layer).ok_or_else(|| malformed("relation file: a layer is missing"))
    }

    /// What is held is not fetched.
    async fn fetch(&mut self, mut needed: BTreeMap<Number, BlobId>) -> SourceResult<()> {
        needed.retain(|number, _| !self.held.contains_key(number));
        let (numbers, blobs): (Vec<Number>, Vec<BlobId>) = needed.into_iter().unzip();
        let found: Arc<Mutex<Vec<(Number, Bytes)>>> = Arc::default();
        let into = Arc::clone(&found);
        let handle = move |at: usize, data: &[u8]| {
            let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
            into.push((numbers[at], Bytes::copy_from_slice(data)));
            Ok(())
        };
        self.snapshot.fetch(self.cx, &blobs, handle).await?;
        self.held
            .extend(std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner)));
        Ok(())
    }

    /// A block that stands at `at` in the file of a layer.
    fn copy(&self, layer: u8, at: u64, block: &mut [u8]) -> SourceResult<()> {
        let stored = self.stored(layer)?;
        for number in stored.numbers(at)? {
            let begin = stored.blobs[number].0;
            let data = self
                .held
                .get(&(layer, number))
                .ok_or_else(|| malformed("relation file: a part is missing"))?;
            let from = at.max(begin);
            let to = (at + BLOCK).min(begin + data.len() as u64);
            let range = |offset: u64, len: usize| usize::try_from(offset).unwrap_or(len).min(len);
            let source = &data[range(from - begin, data.len())..range(to - begin, data.len())];
            let into = range(from - at, block.len());
            block[into..into + source.len()].copy_from_slice(source);
        }
        Ok(())
    }
}

impl Stored {
    /// The blobs that a block at `at` lies in.
    fn numbers(&self, at: u64) -> SourceResult<std::ops::Range<usize>> {
        if at + BLOCK > self.size {
            return Err(malformed("relation file: it ends within a block"));
        }
        let first = self.blobs.partition_point(|(begin, _)| *begin <= at).saturating_sub(1);
        let end = self.blobs.partition_point(|(begin, _)| *begin < at + BLOCK);
        Ok(first..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_in_blobs() {
        let blob = |byte: u8| format!("{byte:02x}").repeat(32).parse::<BlobId>().unwrap();
        // A head, then blocks that are cut anywhere.
        let blobs =
            vec![(0, blob(1)), (100, blob(2)), (BLOCK + 100, blob(3)), (3 * BLOCK, blob(4))];
        let stored = Stored { blobs, size: 4 * BLOCK };
        assert_eq!(stored.numbers(0).unwrap(), 0..2);
        assert_eq!(stored.numbers(100).unwrap(), 1..2);
        assert_eq!(stored.numbers(BLOCK).unwrap(), 1..3);
        assert_eq!(stored.numbers(2 * BLOCK).unwrap(), 2..3);
        assert_eq!(stored.numbers(3 * BLOCK).unwrap(), 3..4);
        assert!(stored.numbers(3 * BLOCK + 1).is_err());
    }
}
