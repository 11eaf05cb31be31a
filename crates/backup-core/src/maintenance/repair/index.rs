//! Packs that no index lists: an index object is lost or damaged, or a run was interrupted. Their
//! own headers tell what they hold.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt};

use super::Run;
use crate::error::{Error, Result};
use crate::format::{IndexPack, PackHeader};
use crate::id::PackId;
use crate::repository::index::IndexBatch;
use crate::repository::{Repository, layout};
use crate::sink::SinkOps;

/// Enough for the header of most packs.
const TAIL: u64 = 64 << 10;

pub(super) async fn list_unlisted(
    run: &mut Run<'_>,
    unlisted: &HashMap<PackId, u64>,
) -> Result<()> {
    let (repository, cx) = (run.repository().clone(), run.cx);
    let concurrency = repository.sink().capabilities().concurrency.max(1);
    let read = |(id, size): (PackId, u64)| {
        let repository = &repository;
        async move {
            cx.check_cancelled()?;
            match header(repository, id, size).await {
                Ok(header) => Ok(Some((id, header))),
                // It never was a whole pack, or its header is lost; what it may hold is found to be
                // missing then.
                Err(error) if error.is_damage() => Ok(None),
                Err(error) => Err(error),
            }
        }
    };
    let packs: Vec<(PackId, u64)> = unlisted.iter().map(|(id, size)| (*id, *size)).collect();
    let mut reading = futures::stream::iter(packs).map(read).buffer_unordered(concurrency);
    let mut batch = IndexBatch::new(&repository);
    let mut listed = Vec::new();
    while let Some(found) = reading.try_next().await? {
        let Some((id, header)) = found else { continue };
        run.indexed.index().add_pack(id, &header.blobs);
        if !run.options.dry_run {
            let blobs = header.blobs.iter().copied().map(Into::into).collect();
            batch.add(IndexPack { id, blobs }).await?;
        }
        listed.push(id);
    }
    batch.finish().await?;
    for id in listed {
        run.repaired(format!("pack {}", id.short()), "was in no index; indexed again");
    }
    Ok(())
}

/// Reads the header of a pack of `size` bytes.
async fn header(repository: &Repository, id: PackId, size: u64) -> Result<PackHeader> {
    let key = layout::pack(&id);
    let read = |len: u64| repository.sink().get_range(&key, size.saturating_sub(len)..size);
    let damaged = || Error::damaged(format!("pack {} is too short", id.short()));
    let mut tail = read(TAIL.min(size)).await?;
    let len = PackHeader::tail_len(*tail.last_chunk().ok_or_else(damaged)?, size)?;
    if len > tail.len() as u64 {
        tail = read(len).await?;
    }
    let start = tail.len().saturating_sub(usize::try_from(len).unwrap_or(usize::MAX));
    PackHeader::open(&tail[start..], size, repository.key())
}
