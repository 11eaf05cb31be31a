//! Index entries and the packs they describe. Entries are hints: the header of a pack whose SHA-256
//! is its name decides, also for packs that no index object lists.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt};

use super::{Changes, Run, quarantine, rewrite};
use crate::check::Problem;
use crate::error::{Error, Result};
use crate::format::{IndexBlob, IndexPack, PackHeader, PackedBlob};
use crate::id::{IndexId, PackId};
use crate::repository::headers::{Mislisted, confirmed_header, header};
use crate::repository::index::IndexBatch;
use crate::repository::{IndexedRepository, layout};
use crate::sink::SinkOps;
use crate::words;

/// Index entries that are held at a time, in some 300 MB of memory. Each group takes a walk over the
/// index.
const MAX_ENTRIES: u64 = 4 << 20;

/// The comparison of index entries with the pack itself.
enum Verdict {
    Equal,
    /// Contents of an intact pack, and how the entries differ from them.
    Corrected(Vec<IndexBlob>, String),
    /// The pack is not as it was written, or has no readable header.
    Damaged,
}

/// Compares the index entries of these packs with the packs. Entries of intact packs are corrected;
/// other packs that differ are damaged.
pub(super) async fn compare(run: &mut Run<'_>, packs: BTreeSet<PackId>) -> Result<()> {
    let is_open = |pack: &PackId| {
        !run.bad.missing.contains(pack)
            && !run.bad.damaged.contains(pack)
            && !run.contents.contains_key(pack)
    };
    let packs: BTreeSet<PackId> = packs.into_iter().filter(is_open).collect();
    if packs.is_empty() {
        return Ok(());
    }
    let disputed: HashSet<PackId> = run.indexed.index().disputed_packs().into_iter().collect();
    let marked = run.indexed.given_up_packs();
    let (indexed, cx) = (run.indexed.clone(), run.cx);
    let concurrency = indexed.repository().sink().capabilities().concurrency.max(1);
    let judge = |(pack, entries): (PackId, Vec<PackedBlob>)| {
        let (indexed, in_parts) = (&indexed, disputed.contains(&pack));
        async move {
            cx.check_cancelled()?;
            Ok::<_, Error>((pack, verdict_on(indexed, pack, &entries, in_parts).await?))
        }
    };
    let mut is_changed = false;
    for batch in batches(sizes(&indexed, &packs), MAX_ENTRIES) {
        let entries = indexed.entries_of(batch.into_iter());
        let mut judging = futures::stream::iter(entries).map(judge).buffer_unordered(concurrency);
        while let Some((pack, verdict)) = judging.try_next().await? {
            match verdict {
                Verdict::Equal => {}
                // A prune may have deleted a marked pack.
                Verdict::Damaged if marked.contains(&pack) => {}
                Verdict::Damaged => _ = run.bad.damaged.insert(pack),
                Verdict::Corrected(blobs, what) => {
                    run.contents.insert(pack, blobs);
                    run.repaired(format!("pack {}", pack.short()), what);
                    is_changed = true;
                }
            }
        }
    }
    if is_changed {
        reload(run).await?;
    }
    run.hide();
    Ok(())
}

/// `packs` with the number of their index entries. Packs that the index lacks have none.
fn sizes(indexed: &IndexedRepository, packs: &BTreeSet<PackId>) -> Vec<(PackId, u64)> {
    let mut entries: BTreeMap<PackId, u64> = packs.iter().map(|pack| (*pack, 0)).collect();
    indexed.index().for_each_pack(&mut |pack| {
        if let Some(entries) = entries.get_mut(&pack.id) {
            *entries += u64::from(pack.blobs);
        }
    });
    entries.into_iter().collect()
}

/// Groups of packs with at most `limit` index entries together; a pack with more is alone.
fn batches(packs: Vec<(PackId, u64)>, limit: u64) -> Vec<Vec<PackId>> {
    let mut batches: Vec<Vec<PackId>> = Vec::new();
    let mut left = 0;
    for (pack, entries) in packs {
        match batches.last_mut() {
            Some(batch) if entries <= left => {
                batch.push(pack);
                left -= entries;
            }
            _ => {
                batches.push(vec![pack]);
                left = limit.saturating_sub(entries);
            }
        }
    }
    batches
}

/// Loads the index as it will be after the repair; nothing is hidden in it.
pub(super) async fn reload(run: &mut Run<'_>) -> Result<()> {
    let contents = run.contents.iter().chain(&run.listed);
    let contents = contents.map(|(pack, blobs)| (*pack, blobs.clone())).collect();
    run.indexed = run.repository().clone().load_corrected_index(&contents, run.cx).await?;
    Ok(())
}

async fn verdict_on(
    indexed: &IndexedRepository,
    pack: PackId,
    entries: &[PackedBlob],
    in_parts: bool,
) -> Result<Verdict> {
    let Some(header) = indexed.header_of(&pack).await? else {
        return Ok(Verdict::Damaged);
    };
    let listed = Mislisted::new(header, entries);
    let contents = |header: &PackHeader| header.blobs.iter().copied().map(Into::into).collect();
    if listed.is_equal() {
        let what = "was listed in parts by several index objects; is listed once now".to_owned();
        return Ok(if in_parts {
            Verdict::Corrected(contents(&listed.header), what)
        } else {
            Verdict::Equal
        });
    }
    let what = if listed.is_incomplete_only {
        let all = listed.header.blobs.len() as u64;
        let all = words::count(all, "blob", "blobs");
        format!("was listed with {} of {all}; is listed with all now", listed.confirmed)
    } else {
        "was listed with contents that it does not have; is listed by its header now".to_owned()
    };
    match confirmed_header(indexed.repository(), pack).await {
        Ok(header) => Ok(Verdict::Corrected(contents(&header), what)),
        Err(error) if error.is_damage() => Ok(Verdict::Damaged),
        Err(error) => Err(error),
    }
}

/// All packs of the index.
pub(super) fn all_packs(indexed: &IndexedRepository) -> BTreeSet<PackId> {
    let mut packs = BTreeSet::new();
    indexed.index().for_each_pack(&mut |pack| _ = packs.insert(pack.id));
    packs
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
        let blobs: Vec<IndexBlob> = header.blobs.iter().copied().map(Into::into).collect();
        if run.options.dry_run {
            run.listed.insert(id, blobs);
        } else {
            batch.add(IndexPack { id, blobs }).await?;
        }
        listed.push(id);
    }
    batch.finish().await?;
    if !listed.is_empty() {
        // With the new index objects, which may have to be renewed again.
        reload(run).await?;
        run.hide();
    }
    for id in listed {
        run.repaired(format!("pack {}", id.short()), "was in no index; indexed again");
    }
    Ok(())
}

/// Renews the index: damaged packs are marked, missing ones are listed no more, entries that
/// differ from their packs are corrected, and objects that cannot be read go. Replaced
/// objects are put aside.
pub(super) async fn renew(run: &mut Run<'_>) -> Result<()> {
    let damaged: Vec<IndexId> = run.indexed.damaged_indexes().iter().map(|(id, _)| *id).collect();
    let mut replaced = Vec::new();
    for id in &damaged {
        let object = format!("index {}", id.short());
        if quarantine::put(run, &layout::index(id)).await? {
            replaced.push(*id);
            run.repaired(object, "cannot be read; moved to x-quarantine/");
        } else {
            let message = "the storage cannot read the object: it stays in place".to_owned();
            let affects = vec!["packs that only this index object lists".to_owned()];
            run.report.lost.push(Problem { object, message, affects });
        }
    }
    if run.options.dry_run {
        return Ok(());
    }
    let changes = Changes {
        mark: run.bad.damaged.clone(),
        time: run.cx.clock.now(),
        recover: HashSet::new(),
        drop: run.bad.missing.clone(),
        correct: run.contents.clone(),
    };
    let mut objects = run.indexed.loaded_objects().clone();
    objects.retain(|id| !damaged.contains(id));
    let rewritten = rewrite(&run.indexed, &objects, &changes, run.cx).await?;
    for id in &rewritten.replaced {
        quarantine::put(run, &layout::index(id)).await?;
    }
    for id in rewritten.replaced.iter().chain(&replaced) {
        run.repository().sink().delete_one(&layout::index(id)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_compared_in_groups_of_limited_size() {
        let entries = [3, 3, 4, 1, 20, 0, 5, 5, 1];
        let packs: Vec<(PackId, u64)> =
            (0_u8..).map(|at| PackId::digest(&[at])).zip(entries).collect();
        let groups = batches(packs.clone(), 10);
        let sizes: Vec<u64> = groups
            .iter()
            .map(|group| {
                let of = |id: &PackId| packs.iter().find(|(pack, _)| pack == id).unwrap().1;
                group.iter().map(of).sum()
            })
            .collect();
        assert_eq!(sizes, [10, 1, 20, 10, 1]);
        assert_eq!(groups.concat(), packs.iter().map(|(pack, _)| *pack).collect::<Vec<_>>());
        assert_eq!(batches(Vec::new(), 10), Vec::<Vec<PackId>>::new());
    }
}
