//! Confirming copies: a copy of a blob is given up only after another one was read and found sound.
//!
//! An index object can state a false place of a blob. If that counted as a copy, the true one would
//! be removed as a duplicate.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, TryStreamExt};

use super::usage::{Usage, Verdicts};
use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::format::PackedBlob;
use crate::repository::index::BlobLocation;
use crate::repository::{BlobReader, IndexedRepository};

/// Reads the copies of blobs, which are given by slot, until one is sound. Adds the results to
/// `verdicts`; returns true if one of them changes the copy that counts, which is the first of each.
///
/// # Errors
/// Cancellation. A copy that cannot be read at present counts as not sound.
pub(super) async fn confirm(
    indexed: &IndexedRepository,
    usage: &Usage,
    copies: &BTreeMap<u64, Vec<u32>>,
    verdicts: &mut Verdicts,
    cx: &Context,
) -> Result<bool> {
    // Two index objects may state two places in the same pack.
    let mut places: HashMap<(u64, u32), Vec<PackedBlob>> = HashMap::new();
    indexed.index().for_each_copy(&mut |slot, pack, blob| {
        if copies.contains_key(&slot) {
            let known = places.entry((slot, pack)).or_default();
            if !known.contains(blob) {
                known.push(*blob);
            }
        }
    });
    let reader = indexed.reader();
    let concurrency = indexed.repository().sink().capabilities().concurrency.clamp(1, 32);
    let read = |(slot, packs): (&u64, &Vec<u32>)| {
        let candidates: Vec<(u32, BlobLocation)> = packs
            .iter()
            .flat_map(|pack| {
                let info = usage.packs[*pack as usize].info;
                let blobs = places.get(&(*slot, *pack)).into_iter().flatten();
                blobs.map(move |blob| {
                    (*pack, BlobLocation { pack: info.id, pack_end: info.end, blob: *blob })
                })
            })
            .collect();
        let (slot, first, reader) = (*slot, packs.first().copied(), &reader);
        async move {
            cx.check_cancelled()?;
            let sound = first_sound(reader, candidates).await?;
            Ok::<_, crate::error::Error>((slot, first, sound))
        }
    };
    let mut reading = futures::stream::iter(copies).map(read).buffer_unordered(concurrency);
    let mut is_changed = false;
    while let Some((slot, first, sound)) = reading.try_next().await? {
        is_changed |= sound != first;
        verdicts.insert(slot, sound);
    }
    Ok(is_changed)
}

async fn first_sound(
    reader: &BlobReader,
    candidates: Vec<(u32, BlobLocation)>,
) -> Result<Option<u32>> {
    for (pack, at) in candidates {
        match reader.require_sound(at).await {
            Ok(()) => return Ok(Some(pack)),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            // Damaged, in an archive, or out of reach at present.
            Err(_) => {}
        }
    }
    Ok(None)
}
