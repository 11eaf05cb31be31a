//! Deleting what was marked long enough ago.

use std::collections::{HashMap, HashSet};

use futures::StreamExt;

use super::Survey;
use super::options::PruneReport;
use super::plan::Plan;
use super::records::Records;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::Stage;
use crate::id::PackId;
use crate::pipeline::Meter;
use crate::repository::store_clock::StoreClock;
use crate::repository::{KeptLease, Repository, layout};
use crate::sink::{Key, SinkErrorKind, SinkOps};

/// Between two looks at whether the lease still holds.
const BATCH: usize = 100;

/// Deletes what is due; returns the packs that are gone.
pub(super) async fn sweep(
    survey: &Survey<'_>,
    plan: &Plan,
    lease: &KeptLease,
    report: &mut PruneReport,
    cx: &Context,
) -> Result<HashSet<PackId>> {
    let repository = survey.indexed.repository();
    let marked = plan.delete.iter().map(|number| &survey.usage.packs[*number as usize].info);
    let due: Vec<(PackId, u64)> =
        marked.map(|info| (info.id, info.size)).chain(plan.orphans.iter().copied()).collect();
    let mut gone = HashSet::new();
    if due.is_empty() {
        return Ok(gone);
    }
    lease.confirm().await?;
    give_up_forgotten(survey, repository, cx).await?;
    let meter = Meter::start(Stage::Delete, &cx.events);
    meter.expect(due.len() as u64, due.iter().map(|(_, size)| size).sum());
    let ticking = meter.ticking();
    for (number, batch) in due.chunks(BATCH).enumerate() {
        cx.check_cancelled()?;
        // By this process's own clocks every time; asking the store takes longer.
        lease.check()?;
        if number % 10 == 0 {
            lease.confirm().await?;
        }
        let free = without_locked(repository, batch, report, cx).await?;
        let keys: Vec<Key> = free.iter().map(|(id, _)| layout::pack(id)).collect();
        repository.sink().delete_all(keys).await?;
        for (id, size) in free {
            gone.insert(id);
            report.deleted_packs += 1;
            report.deleted_bytes += size;
            meter.add_items(1);
            meter.add_bytes(size);
        }
    }
    drop(ticking);
    meter.finish();
    Ok(gone)
}

/// Snapshots that can still be brought back lose that first: their data is about to go.
async fn give_up_forgotten(
    survey: &Survey<'_>,
    repository: &Repository,
    cx: &Context,
) -> Result<()> {
    let clock = StoreClock::read(repository, cx).await?;
    let listed = repository.sink().list_all(&layout::all_forgotten()).await?;
    let written: HashMap<Key, _> =
        listed.into_iter().map(|meta| (meta.key, meta.last_modified)).collect();
    let (mut receipts, mut keys) = (Vec::new(), Vec::new());
    // One that cannot be read cannot be brought back either; it goes with the next sweep that can
    // read it, or stays.
    for one in repository.forgotten(cx).await? {
        let key = layout::forgotten(&one.info.id);
        // Marks are younger than the forgetting that caused them: what was forgotten within the
        // grace period loses nothing.
        if let Some(written) = written.get(&key)
            && clock.age(*written, one.forgotten) >= survey.records.grace
        {
            // A receipt that somebody wrote again would say that it was lost, once nothing says
            // that it was forgotten.
            if !repository.sink().exists(&layout::snapshot(&one.info.id)).await? {
                receipts.push(layout::snapshot_receipt(&one.info.id));
            }
            keys.push(key);
        }
    }
    repository.sink().delete_all(receipts).await?;
    repository.sink().delete_all(keys).await?;
    Ok(())
}

async fn without_locked(
    repository: &Repository,
    packs: &[(PackId, u64)],
    report: &mut PruneReport,
    cx: &Context,
) -> Result<Vec<(PackId, u64)>> {
    let Some(custody) =
        repository.sink().custody().filter(|custody| custody.lock_period().is_some())
    else {
        return Ok(packs.to_vec());
    };
    let (custody, now) = (&*custody, cx.clock.now());
    let look = |pack: (PackId, u64)| async move {
        let locked = custody.locked_until(&layout::pack(&pack.0)).await;
        (pack, locked)
    };
    let concurrency = repository.sink().capabilities().concurrency.max(1);
    let mut looking =
        futures::stream::iter(packs.iter().copied()).map(look).buffer_unordered(concurrency);
    let mut free = Vec::new();
    while let Some((pack, locked)) = looking.next().await {
        match locked {
            Ok(Some(until)) if until > now => report.locked_packs += 1,
            Ok(_) => free.push(pack),
            Err(error) if error.kind() == SinkErrorKind::NotFound => free.push(pack),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(free)
}

/// Deletes objects that repairs have replaced, except those that the store locks.
pub(super) async fn empty_quarantine(
    repository: &Repository,
    keys: Vec<Key>,
    report: &mut PruneReport,
    cx: &Context,
) -> Result<()> {
    let sink = repository.sink();
    let custody = sink.custody().filter(|custody| custody.lock_period().is_some());
    let mut free = Vec::new();
    for key in keys {
        cx.check_cancelled()?;
        let locked = match &custody {
            Some(custody) => custody.locked_until(&key).await,
            None => Ok(None),
        };
        match locked {
            Ok(Some(until)) if until > cx.clock.now() => report.quarantined_waiting += 1,
            Ok(_) => free.push(key),
            Err(error) if error.kind() == SinkErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    report.quarantined_deleted = free.len() as u64;
    sink.delete_all(free).await?;
    Ok(())
}

/// Removes uploads in parts that killed sessions left in the store. A store that refuses is noted:
/// the uploads cost money, and harm nothing else.
pub(super) async fn clear_uploads(
    records: &Records,
    repository: &Repository,
    report: &mut PruneReport,
    cx: &Context,
) {
    let Some(custody) = repository.sink().custody() else { return };
    let Some(before) = records.uploads_abandoned_before(cx.clock.now()) else { return };
    match custody.clear_unfinished(before).await {
        Ok(count) => report.cleared_uploads = count,
        Err(error) if error.kind() == SinkErrorKind::Unsupported => {}
        Err(error) => {
            let cause = Error::from(error).chain();
            cx.events.note(format!("Cannot remove unfinished uploads: {cause}."));
        }
    }
}

/// Removes what is left of sessions that have died.
pub(super) async fn tidy(records: &Records, repository: &Repository) -> Result<()> {
    let dead: Vec<Key> = records.sessions.dead.iter().map(|meta| meta.key.clone()).collect();
    repository.sink().delete_all(dead).await?;
    Ok(())
}
