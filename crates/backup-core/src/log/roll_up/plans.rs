//! Which slices belong to which base.

use std::collections::BTreeMap;

use crate::format::{LogExtent, SnapshotLog};
use crate::log::gather::LogView;
use crate::log::lane::StoredSlice;
use crate::log::slice::SliceHeader;
use crate::log::{Timeline, Watermark};
use crate::repository::SnapshotInfo;

/// What is to be done for one base.
pub(super) struct Plan<'v> {
    /// Log snapshots of which the new one holds everything.
    pub(super) earlier: Vec<(&'v SnapshotInfo, &'v SnapshotLog)>,
    /// Whose tree the new snapshot begins with.
    pub(super) on: &'v SnapshotInfo,
    pub(super) log: SnapshotLog,
    pub(super) slices: Vec<(StoredSlice, &'v SliceHeader)>,
}

/// What is to be done for each base that has new slices.
pub(super) fn plans(view: &LogView) -> Vec<Plan<'_>> {
    let order = Order { timeline: view.timeline() };
    let mut jobs: BTreeMap<Option<&str>, Vec<Plan<'_>>> = BTreeMap::new();
    for (info, log) in &view.snapshots {
        let plans = jobs.entry(info.snapshot.tag("job")).or_default();
        match plans.iter_mut().find(|plan| is_of(&plan.log, log)) {
            Some(plan) => plan.take(info, log),
            None => plans.push(Plan {
                earlier: vec![(info, log)],
                on: info,
                log: log.clone(),
                slices: Vec::new(),
            }),
        }
    }
    // Every job has all of the log: its snapshots come and go by its own policy.
    let plans = jobs.into_values().flat_map(|mut plans| {
        plans.sort_by_key(|plan| (plan.log.time, plan.log.start.at.offset));
        let bases: Vec<SnapshotLog> = plans.iter().map(|plan| plan.log.clone()).collect();
        for (number, plan) in plans.iter_mut().enumerate() {
            let log = &plan.log;
            let new = |header: &SliceHeader| {
                let has_more = match header.watermark() {
                    Some(watermark) => !is_superseded(log, &watermark),
                    None => {
                        (header.to > header.from || header.parent.is_some()) && !holds(log, header)
                    }
                };
                has_more && order.belongs(header, &bases[number], bases.get(number + 1))
            };
            plan.slices = view
                .slices
                .iter()
                .filter(|(_, header)| new(header))
                .map(|(at, header)| (*at, header))
                .collect();
            // Only what the new snapshot holds in full can give its place to it.
            plan.earlier.retain(|(_, old)| {
                !old.extents.is_empty() && old.extents.iter().all(|extent| covers(log, extent))
            });
        }
        plans
    });
    plans.filter(|plan| !plan.slices.is_empty()).collect()
}

impl<'v> Plan<'v> {
    /// One more snapshot of the same base: the one that holds the most is gone on with.
    fn take(&mut self, info: &'v SnapshotInfo, log: &'v SnapshotLog) {
        if extent_of(log) >= extent_of(&self.log) {
            (self.on, self.log) = (info, log.clone());
        }
        self.earlier.push((info, log));
    }
}

/// Whether both stand on the same base.
fn is_of(one: &SnapshotLog, other: &SnapshotLog) -> bool {
    one.start == other.start && one.time == other.time
}

/// Returns `true` if a snapshot holds the same moment as a watermark, or a later one.
pub(super) fn is_superseded(log: &SnapshotLog, watermark: &Watermark) -> bool {
    let Watermark { at, time, .. } = watermark;
    log.extents.iter().any(|extent| {
        let is_later =
            extent.last.is_some_and(|last| (last.offset, last.time) >= (at.offset, *time));
        extent.branch == at.branch
            && (is_later || extent.to > at.offset && extent.from <= at.offset)
    })
}

/// How much of the log a snapshot holds.
fn extent_of(log: &SnapshotLog) -> u64 {
    log.extents
        .iter()
        .map(|extent| extent.to.saturating_sub(extent.from))
        .fold(0, u64::saturating_add)
}

fn covers(log: &SnapshotLog, old: &LogExtent) -> bool {
    log.extents.iter().any(|extent| extent.detail == old.detail && extent.branch == old.branch)
}

/// How slices lie to bases.
struct Order {
    timeline: Timeline,
}

impl Order {
    /// Whether a slice lies, in whole or in part, behind an offset of the branch of a base.
    fn is_behind(&self, slice: &SliceHeader, base: &SnapshotLog, offset: u64, end: u64) -> bool {
        let at = &base.start.at;
        if slice.branch == at.branch {
            return end > offset;
        }
        let lineage = self.timeline.lineage(&slice.branch);
        match lineage.iter().find(|(name, _)| *name == at.branch) {
            // A branch that left before the base does not come from it.
            Some((_, left)) => left.is_none_or(|left| left >= at.offset),
            // Nobody knows where it came from: what was captured later comes later.
            None if lineage.len() == 1 => slice.captured >= base.time,
            None => false,
        }
    }

    /// Slices belong to the last base before them, up to where the next one begins.
    fn belongs(&self, slice: &SliceHeader, base: &SnapshotLog, next: Option<&SnapshotLog>) -> bool {
        self.is_behind(slice, base, base.start.needs, slice.to)
            && !next.is_some_and(|next| {
                self.is_behind(slice, next, next.start.at.offset, slice.from.saturating_add(1))
            })
    }
}

/// Whether a snapshot has all of a slice.
pub(super) fn holds(log: &SnapshotLog, slice: &SliceHeader) -> bool {
    let own = || log.extents.iter().filter(|extent| extent.branch == slice.branch);
    // Where a branch came from may be told later than its first piece: if that was lost.
    let tells_more = slice.parent.is_some() && !own().any(|extent| extent.parent == slice.parent);
    !tells_more && own().any(|extent| extent.from <= slice.from && slice.to <= extent.to)
}
