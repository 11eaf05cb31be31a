//! Giving back the space of what nothing needs, beside writers and readers that wait for nobody.
//!
//! ```text
//!  lease ─▶ who is at work ─▶ snapshots ─▶ reach ─▶ plan ─▶ delete what is due ─▶ move ─▶ marks ─▶ record who is at work
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`prune`]: the order of things |
//! | `options.rs` | [`PruneOptions`], [`PruneReport`] |
//! | `usage.rs` | which packs hold how much of what is needed |
//! | `plan.rs` | what is to become of every pack |
//! | `confirm.rs` | reading one copy of a blob before another one is given up |
//! | `sweep.rs` | deleting |
//! | `repack.rs` | moving what is needed out of packs that are given up |
//! | `rewrite.rs` | index objects written anew |
//! | `records.rs` | who was at work when packs were marked |
//!
//! # Two phases
//! A pack that nothing needs is first *marked*: index objects name it as one to be deleted (in
//! rustic's way), so that no writer relies upon it any more. It is *deleted* by a later run, when
//! the grace period is over, nobody who was at work then is still at work, and still nothing needs
//! it. Otherwise it is listed again.
//!
//! # Order
//! Who is at work is looked up before the snapshots are listed: whoever has left by then has
//! published. New packs are listed before old ones are marked; marks are durable before the index
//! objects that listed the packs go; in between, snapshots that have appeared meanwhile get back
//! what they need. A run that is killed leaves nothing that the next one does not understand.

mod confirm;
mod options;
mod plan;
mod records;
mod repack;
mod rewrite;
mod sweep;
mod usage;

use std::collections::{BTreeSet, HashMap, HashSet};

pub use options::{MaxUnused, PruneOptions, PruneReport};

use super::prune_lease;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::Stage;
use crate::format::IndexBlob;
use crate::id::{PackId, SnapshotId};
use crate::pipeline::Meter;
use crate::repository::index::PackInfo;
use crate::repository::reach::{Bits, Reach};
use crate::repository::reliance::list_again;
use crate::repository::{IndexedRepository, KeptLease, PackComparison, Repository, layout};
use crate::sink::{Key, ObjectMeta, SinkOps};
use plan::{Facts, Plan};
use records::Records;
pub(super) use records::foreign_locks;
pub(super) use rewrite::{Changes, rewrite};
use usage::{Usage, Verdicts};

/// Marks what nothing needs, moves what is needed out of packs that hold much else, and deletes
/// what was marked long enough ago.
///
/// # Errors
/// [`ErrorKind::Busy`](crate::error::ErrorKind::Busy) if somebody else prunes;
/// [`ErrorKind::Invalid`](crate::error::ErrorKind::Invalid) if the clock contradicts the latest time
/// that is known, see [`Repository::present`];
/// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if something that snapshots need is
/// lost or cannot be read, because then nobody knows what else they need; those of the sink;
/// cancellation. Whenever it stops, every snapshot is still whole.
pub async fn prune(
    repository: &Repository,
    options: &PruneOptions,
    cx: &Context,
) -> Result<PruneReport> {
    if options.dry_run {
        let survey = Survey::make(repository, options, cx).await?;
        return Ok(survey.foretell());
    }
    repository.prepare_writing(cx).await?;
    repository.require_right_clock(cx).await?;
    let lease = prune_lease(repository, &options.holder, cx).await?;
    let result = lease.guard(run(repository, options, &lease, cx)).await;
    lease.release_after(result).await
}

async fn run(
    repository: &Repository,
    options: &PruneOptions,
    lease: &KeptLease,
    cx: &Context,
) -> Result<PruneReport> {
    let mut survey = Survey::make(repository, options, cx).await?;
    let plan = std::mem::take(&mut survey.plan);
    let mut report = std::mem::take(&mut survey.report);
    let gone = sweep::sweep(&survey, &plan, lease, &mut report, cx).await?;
    let needed = survey.reach.reached();
    let moved = repack::repack(
        &survey.indexed,
        &survey.usage,
        needed,
        &plan.repack,
        options,
        &mut report,
        cx,
    )
    .await?;
    let name = |number: &u32| survey.usage.packs[*number as usize].info.id;
    let changes = Changes {
        mark: plan.mark.iter().chain(&moved).map(name).collect(),
        time: cx.clock.now(),
        recover: plan.recover.iter().map(name).collect(),
        drop: plan.drop.iter().map(name).chain(gone.iter().copied()).collect(),
        correct: std::mem::take(&mut survey.correct),
    };
    lease.confirm().await?;
    let objects = survey.indexed.loaded_objects();
    let rewritten = rewrite(&survey.indexed, objects, &changes, cx).await?;
    if !rewritten.marked.is_empty() {
        give_back(repository, &survey.snapshots, cx).await?;
    }
    lease.confirm().await?;
    for id in &rewritten.replaced {
        lease.check()?;
        repository.sink().delete_one(&layout::index(id)).await?;
    }
    let sizes = survey.usage.packs.iter().filter(|pack| rewritten.marked.contains(&pack.info.id));
    (report.marked_packs, report.marked_bytes) =
        sizes.fold((0, 0), |(packs, bytes), pack| (packs + 1, bytes + pack.info.size));
    report.index_objects_after = crate::repository::index::names(repository).await?.len() as u64;
    let orphans: BTreeSet<PackId> = survey
        .store
        .unlisted
        .keys()
        .filter(|id| !gone.contains(*id) && !survey.recent.contains(*id))
        .copied()
        .collect();
    survey.records.write(repository, &rewritten.marks, &orphans, cx).await?;
    sweep::tidy(&survey.records, repository).await?;
    sweep::empty_quarantine(repository, survey.quarantined, &mut report, cx).await?;
    sweep::clear_uploads(&survey.records, repository, &mut report, cx).await;
    Ok(report)
}

/// Snapshots that were published since the survey get back what they need of the packs that were
/// marked.
async fn give_back(
    repository: &Repository,
    known: &HashSet<SnapshotId>,
    cx: &Context,
) -> Result<()> {
    let listed = repository.list(&layout::snapshots()).await?;
    let ids = listed.iter().filter_map(|meta| meta.key.file_name().parse::<SnapshotId>().ok());
    let mut roots = Vec::new();
    for id in ids.filter(|id| !known.contains(id)) {
        match repository.load_snapshot(id).await {
            Ok(snapshot) => roots.push(snapshot.tree),
            // Forgotten again, or damaged: there is nothing to follow.
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    if roots.is_empty() {
        return Ok(());
    }
    let indexed = repository.load_index(cx).await?;
    // A copy in a pack that is gone, though still listed, is none.
    indexed.hide_lost_packs().await?;
    let mut reach = Reach::new(&indexed, None, cx);
    for root in roots {
        match reach.follow([root]).await {
            Err(error) if error.is_damage() => {
                cx.events.note(format!("A new snapshot is damaged: {}.", error.chain()));
            }
            result => result?,
        }
    }
    list_again(&indexed, &reach).await?;
    Ok(())
}

/// Everything that is known before anything is changed.
struct Survey<'a> {
    indexed: IndexedRepository,
    records: Records,
    snapshots: HashSet<SnapshotId>,
    store: PackComparison,
    recent: HashSet<PackId>,
    reach: Reach<'a>,
    usage: Usage,
    plan: Plan,
    /// True contents of packs that index objects list with different ones.
    correct: HashMap<PackId, Vec<IndexBlob>>,
    /// Objects that repairs have replaced, to be deleted.
    quarantined: Vec<Key>,
    report: PruneReport,
}

impl<'a> Survey<'a> {
    async fn make(
        repository: &Repository,
        options: &PruneOptions,
        cx: &'a Context,
    ) -> Result<Self> {
        let records = Records::read(repository, options.grace, cx).await?;
        let snapshots = readable_snapshots(repository, cx).await?;
        let indexed = repository.load_index(cx).await?;
        let damaged = indexed.damaged_objects(cx).await?;
        if let Some((id, error)) = damaged.first() {
            return Err(Error::damaged(format!(
                "index {} is damaged: {}",
                id.short(),
                error.chain()
            ))
            .with_hint(REPAIR));
        }
        let store = indexed.hide_lost_packs().await?;
        let recent = recent_packs(&indexed, &records).await?;
        let meter = Meter::start(Stage::Reach, &cx.events);
        let ticking = meter.ticking();
        let mut reach = Reach::new(&indexed, Some(meter.clone()), cx);
        let reached = reach.follow(snapshots.iter().map(|(_, tree)| *tree)).await;
        indexed.require_intact()?;
        reached.map_err(|error| if error.is_damage() { error.with_hint(REPAIR) } else { error })?;
        drop(ticking);
        meter.finish();
        let (usage, plan, mut report) =
            decide(&indexed, reach.reached(), options, &records, &store, &recent, cx).await?;
        report.snapshots = snapshots.len() as u64;
        let (quarantined, waiting) = records.quarantined(repository).await?;
        report.quarantined_waiting = waiting;
        let disputes = indexed.disputes(cx).await?;
        let snapshots = snapshots.into_iter().map(|(id, _)| id).collect();
        let correct = disputes.contents;
        Ok(Self {
            indexed,
            records,
            snapshots,
            store,
            recent,
            reach,
            usage,
            plan,
            correct,
            quarantined,
            report,
        })
    }

    /// What a run would come to.
    fn foretell(self) -> PruneReport {
        let sum = |packs: &[u32]| {
            packs.iter().map(|number| self.usage.packs[*number as usize].info.size).sum::<u64>()
        };
        let plan = &self.plan;
        let moved =
            plan.repack.iter().map(|number| self.usage.packs[*number as usize].used_bytes).sum();
        PruneReport {
            marked_packs: (plan.mark.len() + plan.repack.len()) as u64,
            marked_bytes: sum(&plan.mark) + sum(&plan.repack),
            repacked_packs: plan.repack.len() as u64,
            repacked_bytes: moved,
            deleted_packs: (plan.delete.len() + plan.orphans.len()) as u64,
            deleted_bytes: sum(&plan.delete)
                + plan.orphans.iter().map(|(_, size)| size).sum::<u64>(),
            quarantined_deleted: self.quarantined.len() as u64,
            index_objects_after: self.report.index_objects_before,
            ..self.report
        }
    }
}

/// Decides which copies count, and makes the plan. Repeats both while a copy that would count turns
/// out not to be sound.
async fn decide(
    indexed: &IndexedRepository,
    needed: &Bits,
    options: &PruneOptions,
    records: &Records,
    store: &PackComparison,
    recent: &HashSet<PackId>,
    cx: &Context,
) -> Result<(Usage, Plan, PruneReport)> {
    let is_there = |info: &PackInfo| !store.is_lost(&info.id);
    let mut verdicts = Verdicts::new();
    loop {
        let usage = Usage::count(&**indexed.index(), needed, is_there, &verdicts);
        indexed.require_intact()?;
        let mut report = PruneReport {
            index_objects_before: indexed.index_objects() as u64,
            dry_run: options.dry_run,
            ..PruneReport::default()
        };
        let plan = Facts { options, usage: &usage, records, store, recent }.plan(&mut report);
        let copies = usage.unconfirmed(&plan.given_up(), &verdicts);
        let is_final = copies.is_empty()
            || !confirm::confirm(indexed, &usage, &copies, &mut verdicts, cx).await?;
        if is_final {
            return Ok((usage, plan, report));
        }
    }
}

const REPAIR: &str = "list the affected files with `backup check`, then run `backup repair`; until \
                      then nothing is deleted";

/// All snapshots with their root directories. One that is unreadable, or lost, may need anything.
async fn readable_snapshots(
    repository: &Repository,
    cx: &Context,
) -> Result<Vec<(SnapshotId, crate::id::BlobId)>> {
    // Receipts first: a snapshot that is published meanwhile has none in this list.
    let receipts = repository.snapshot_receipts().await?;
    let list = repository.snapshots(cx).await?;
    if let Some((id, error)) = list.damaged.first() {
        return Err(Error::damaged(format!(
            "cannot read snapshot {}: {}",
            id.short(),
            error.chain()
        ))
        .with_hint(REPAIR));
    }
    let there: HashSet<SnapshotId> = list.snapshots.iter().map(|info| info.id).collect();
    for id in receipts.into_iter().filter(|id| !there.contains(id)) {
        if repository.was_lost(&id).await? {
            return Err(Error::damaged(format!(
                "snapshot {} is missing, but was never forgotten",
                id.short()
            ))
            .with_hint(REPAIR));
        }
    }
    Ok(list.snapshots.into_iter().map(|info| (info.id, info.snapshot.tree)).collect())
}

/// Packs that may have been written by a session that is at work now.
async fn recent_packs(indexed: &IndexedRepository, records: &Records) -> Result<HashSet<PackId>> {
    let live = &records.sessions.live;
    if live.is_empty() {
        return Ok(HashSet::new());
    }
    // Where the store does not tell, any pack may be.
    let since = live.iter().map(|session| session.since).min().flatten();
    let is_recent = |written: Option<jiff::Timestamp>| match (written, since) {
        (Some(written), Some(since)) => written >= since,
        _ => true,
    };
    let of = |meta: &ObjectMeta| is_recent(meta.last_modified).then_some(());
    let packs = indexed.repository().stored_packs(indexed.index_packs(), of).await?;
    Ok(packs.into_keys().collect())
}
