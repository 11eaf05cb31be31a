//! Packs that no index lists: an index object is lost or damaged, or a run was interrupted; and
//! packs that index objects list with different contents. Their own headers list the blobs.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt};

use super::{Changes, Repair, RepairReport, Run, rewrite};
use crate::context::Context;
use crate::error::Result;
use crate::format::IndexPack;
use crate::id::{IndexId, PackId};
use crate::repository::index::IndexBatch;
use crate::repository::listings::header;
use crate::repository::{IndexedRepository, layout};
use crate::sink::SinkOps;

/// Replaces index objects that list packs with false contents; returns true if it did.
pub(super) async fn correct(
    indexed: &IndexedRepository,
    report: &mut RepairReport,
    cx: &Context,
) -> Result<bool> {
    let disputes = indexed.disputes(cx).await?;
    if disputes.false_listings.is_empty() {
        return Ok(false);
    }
    for (object, pack) in &disputes.false_listings {
        let object = format!("index {}", object.short());
        let what = format!("listed pack {} with false contents; corrected", pack.short());
        report.repaired.push(Repair { object, what });
    }
    if report.dry_run {
        return Ok(false);
    }
    let changes = Changes { correct: disputes.contents, ..Changes::default() };
    let damaged: HashSet<IndexId> = indexed.damaged_indexes().iter().map(|(id, _)| *id).collect();
    let objects = indexed.loaded_objects().difference(&damaged).copied().collect();
    let rewritten = rewrite(indexed, &objects, &changes, cx).await?;
    for id in &rewritten.replaced {
        indexed.repository().sink().delete_one(&layout::index(id)).await?;
    }
    Ok(true)
}

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
