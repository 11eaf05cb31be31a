//! Moving what is needed out of packs that are given up: sealed blobs as they are, each compared
//! with its name.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::options::{PruneOptions, PruneReport};
use super::usage::Usage;
use crate::context::Context;
use crate::error::Result;
use crate::event::Stage;
use crate::format::PackedBlob;
use crate::id::PackId;
use crate::pipeline::Meter;
use crate::repository::reach::Bits;
use crate::repository::{BlobReader, BlobWriter, IndexedRepository, verify_blob};

/// So much is moved before new packs are listed: what an interruption costs at most.
const BATCH_BYTES: u64 = 4 << 30;
/// Packs that are read at a time.
const READERS: usize = 3;
/// Two blobs with less than this between them are read in one go.
const GAP: u64 = 256 << 10;
/// And no more than this is read in one go.
const MAX_READ: u64 = 32 << 20;

/// Moves what is needed of these packs; returns those of which everything was moved.
pub(super) async fn repack(
    indexed: &IndexedRepository,
    usage: &Usage,
    needed: &Bits,
    packs: &[u32],
    options: &PruneOptions,
    report: &mut PruneReport,
    cx: &Context,
) -> Result<Vec<u32>> {
    if packs.is_empty() {
        return Ok(Vec::new());
    }
    let meter = Meter::start(Stage::Repack, &cx.events);
    let bytes = packs.iter().map(|number| usage.packs[*number as usize].used_bytes).sum();
    meter.expect(packs.len() as u64, bytes);
    let ticking = meter.ticking();
    let deadline = options.max_time.map(|time| Instant::now() + time);
    let mut moved = Vec::new();
    let mut rest = packs;
    while !rest.is_empty() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        cx.check_cancelled()?;
        let batch = batch(usage, &mut rest);
        let blobs = blobs_of(indexed, usage, needed, batch);
        let writer = BlobWriter::new(indexed, &options.write, false);
        let result = move_batch(indexed, usage, batch, blobs, &writer, &meter, cx).await;
        moved.extend(writer.close(result).await?.0);
    }
    drop(ticking);
    meter.finish();
    report.repacked_packs = moved.len() as u64;
    report.repacked_bytes =
        moved.iter().map(|number| usage.packs[*number as usize].used_bytes).sum();
    Ok(moved)
}

/// Cuts the next packs off, up to the size of a batch.
fn batch<'a>(usage: &Usage, rest: &mut &'a [u32]) -> &'a [u32] {
    let mut bytes = 0;
    let within = rest.iter().take_while(|number| {
        let fits = bytes < BATCH_BYTES;
        bytes += usage.packs[**number as usize].used_bytes;
        fits
    });
    let (batch, others) = rest.split_at(within.count());
    *rest = others;
    batch
}

/// The blobs that are needed from these packs, in the order in which they lie there.
fn blobs_of(
    indexed: &IndexedRepository,
    usage: &Usage,
    needed: &Bits,
    packs: &[u32],
) -> HashMap<u32, Vec<PackedBlob>> {
    let mut blobs: HashMap<u32, Vec<PackedBlob>> =
        packs.iter().map(|number| (*number, Vec::new())).collect();
    indexed.index().for_each_copy(&mut |slot, pack, blob| {
        if needed.contains(slot)
            && usage.counts(slot, pack)
            && let Some(blobs) = blobs.get_mut(&pack)
        {
            blobs.push(*blob);
        }
    });
    for blobs in blobs.values_mut() {
        blobs.sort_by_key(|blob| blob.offset);
    }
    blobs
}

async fn move_batch(
    indexed: &IndexedRepository,
    usage: &Usage,
    packs: &[u32],
    mut blobs: HashMap<u32, Vec<PackedBlob>>,
    writer: &BlobWriter,
    meter: &Meter,
    cx: &Context,
) -> Result<Vec<u32>> {
    let work: Vec<_> =
        packs.iter().filter_map(|number| Some((*number, blobs.remove(number)?))).collect();
    let reader = indexed.reader();
    let mut moving = futures::stream::iter(work)
        .map(|(number, blobs)| {
            let id = usage.packs[number as usize].info.id;
            let reader = &reader;
            async move {
                cx.check_cancelled()?;
                match move_pack(reader, id, blobs, writer, meter).await {
                    Ok(()) => Ok(Some(number)),
                    // It stays where it is, with all that is sound in it.
                    Err(error) if error.is_damage() => {
                        let id = id.short();
                        cx.events.note(format!(
                            "Pack {id} is damaged and is not repacked: {}. Run `backup check`.",
                            error.chain()
                        ));
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
        })
        .buffer_unordered(READERS);
    let mut moved = Vec::new();
    while let Some(done) = moving.try_next().await? {
        moved.extend(done);
    }
    Ok(moved)
}

async fn move_pack(
    reader: &BlobReader,
    pack: PackId,
    blobs: Vec<PackedBlob>,
    writer: &BlobWriter,
    meter: &Meter,
) -> Result<()> {
    let repository = reader.repository().repository();
    for (range, blobs) in ranges(&blobs) {
        let bytes = reader.range(&pack, range.clone()).await?;
        let (key, writer, blobs) = (Arc::clone(repository.key()), writer.clone(), blobs.to_vec());
        meter.add_bytes(blobs.iter().map(|blob| u64::from(blob.len)).sum());
        let work = move || {
            for blob in &blobs {
                let sealed = sealed(&bytes, range.start, blob);
                // The seal alone proves nothing: a false index entry can state the place of another
                // blob.
                verify_blob(&key, blob, sealed)?;
                writer.move_sealed(blob, sealed)?;
            }
            Ok(())
        };
        repository.cpu().run(work).await?;
    }
    meter.add_items(1);
    Ok(())
}

fn sealed<'a>(bytes: &'a Bytes, start: u64, blob: &PackedBlob) -> &'a [u8] {
    let from = usize::try_from(u64::from(blob.offset) - start).unwrap_or(usize::MAX);
    bytes.get(from..from.saturating_add(blob.len as usize)).unwrap_or_default()
}

/// What is read in one go.
fn ranges(blobs: &[PackedBlob]) -> Vec<(Range<u64>, &[PackedBlob])> {
    let end = |blob: &PackedBlob| u64::from(blob.offset) + u64::from(blob.len);
    let mut ranges = Vec::new();
    let mut first = 0;
    for at in 1..=blobs.len() {
        let start = u64::from(blobs[first].offset);
        let ends = blobs.get(at).is_none_or(|next| {
            u64::from(next.offset) > end(&blobs[at - 1]) + GAP || end(next) > start + MAX_READ
        });
        if ends {
            ranges.push((start..end(&blobs[at - 1]), &blobs[first..at]));
            first = at;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BlobKind;
    use crate::id::BlobId;

    fn blob(offset: u32, len: u32) -> PackedBlob {
        PackedBlob {
            id: BlobId::digest(&offset.to_le_bytes()),
            kind: BlobKind::Data,
            offset,
            len,
            uncompressed_len: None,
        }
    }

    #[test]
    fn neighbours_are_read_together() {
        let blobs = [
            blob(0, 100),
            blob(100, 50),
            blob(1_000_000, 10),
            blob(1_000_100, 33 << 20),
            blob(40 << 20, 5),
        ];
        let found: Vec<_> =
            ranges(&blobs).into_iter().map(|(range, blobs)| (range, blobs.len())).collect();
        let far = u64::from(1_000_100_u32) + (33 << 20);
        assert_eq!(
            found,
            [
                (0..150, 2),
                (1_000_000..1_000_010, 1),
                (1_000_100..far, 1),
                (40 << 20..(40 << 20) + 5, 1)
            ]
        );
        assert!(ranges(&[]).is_empty());
    }
}
