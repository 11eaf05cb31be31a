//! What is known of a log: where it can begin, what is kept of it, where it branched, where
//! something is missing.

mod gaps;

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;

use super::{Position, Watermark};
use crate::id::SnapshotId;

/// A snapshot that a log can be applied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Base {
    /// The snapshot.
    pub id: SnapshotId,
    /// From here on the log is needed; before [`Self::at`] if the source went on while it was read.
    pub needs: u64,
    /// The state that it stands for, and the earliest that can be restored from it.
    pub at: Position,
    /// It is that state by itself: without the log, it can be restored as of that position.
    #[serde(skip)]
    pub is_whole: bool,
    /// When that was.
    pub time: Timestamp,
    /// What restoring it reads, bytes.
    pub bytes: u64,
    /// How fast it was stored, bytes per second, if it stored enough to tell.
    pub rate: Option<u64>,
}

/// Where a piece of the log is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In a snapshot of type `log`.
    Snapshot(SnapshotId),
    /// In the lane, under this name.
    Slice(String),
}

/// A piece of the log: applied to the state at `from` it leads to the state at `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Branch that it is a piece of.
    pub branch: String,
    /// Its beginning.
    pub from: u64,
    /// Its end.
    pub to: u64,
    /// What happened when, in the order of the log: at the end of an event, and its time by the
    /// clock of the source. Events that are left out happened at the time of the one before.
    pub ticks: Vec<Tick>,
    /// Where it is kept.
    pub place: Place,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A moment in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
pub struct Tick {
    /// Where the event ends.
    pub offset: u64,
    /// When it happened, by the clock of the source.
    pub time: Timestamp,
}

/// A branch other than the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// Where it left its parent, if that is known.
    pub parent: Option<Position>,
}

/// A piece of the log that is known to be missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Branch.
    pub branch: String,
    /// Where it begins.
    pub from: u64,
    /// Where it ends, if the log goes on behind it.
    pub to: Option<u64>,
    /// Why, if that was noted.
    pub reason: Option<String>,
}

/// A range that can be restored: every position in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Branch.
    pub branch: String,
    /// First position.
    pub from: u64,
    /// Last position.
    pub to: u64,
    /// When the first was.
    pub from_time: Option<Timestamp>,
    /// The moment that the last stands for: of its event, of a snapshot there, or up to which
    /// nothing more happened.
    pub to_time: Option<Timestamp>,
}

/// Everything that is known of one stream.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Timeline {
    pub(super) bases: Vec<Base>,
    /// By branch, in order of their beginnings.
    pub(super) stretches: BTreeMap<String, Vec<Stretch>>,
    /// By name.
    pub(super) branches: BTreeMap<String, Position>,
    /// Branches in the order in which they began.
    pub(super) order: Vec<String>,
    pub(super) watermarks: Vec<Watermark>,
    reasons: Vec<Gap>,
}

impl Timeline {
    /// Puts together what is known. Branches come in the order in which they began; `reasons` are
    /// gaps that somebody noted.
    #[must_use]
    pub fn new(
        mut bases: Vec<Base>,
        stretches: impl IntoIterator<Item = Stretch>,
        branches: impl IntoIterator<Item = Branch>,
        reasons: Vec<Gap>,
    ) -> Self {
        bases.sort_by(|a, b| {
            (&a.at.branch, a.at.offset, a.id).cmp(&(&b.at.branch, b.at.offset, b.id))
        });
        let mut timeline = Self { bases, reasons, ..Self::default() };
        for stretch in stretches {
            timeline.stretches.entry(stretch.branch.clone()).or_default().push(stretch);
        }
        for stretches in timeline.stretches.values_mut() {
            stretches.sort_by(|a, b| (a.from, a.to, &a.place).cmp(&(b.from, b.to, &b.place)));
        }
        for branch in branches {
            timeline.order.push(branch.name.clone());
            if let Some(parent) = branch.parent {
                timeline.branches.insert(branch.name, parent);
            }
        }
        timeline
    }

    /// The same, with the times up to which the log is known to be complete.
    #[must_use]
    pub fn complete_up_to(self, watermarks: impl IntoIterator<Item = Watermark>) -> Self {
        Self { watermarks: watermarks.into_iter().collect(), ..self }
    }

    /// Without the other snapshots: restores begin with this one.
    #[must_use]
    pub fn beginning_with(mut self, id: SnapshotId) -> Self {
        self.bases.retain(|base| base.id == id);
        self
    }

    /// The history that a branch belongs to: without the branches that have nothing in common with
    /// it, as those of a server that was replaced by another one.
    #[must_use]
    pub fn of_history(mut self, branch: &str) -> Self {
        let root = |name: &str| self.lineage(name).swap_remove(0).0;
        let wanted = root(branch);
        let names = self.branch_names();
        let related: HashSet<String> =
            names.into_iter().filter(|name| root(name) == wanted).collect();
        self.bases.retain(|base| related.contains(&base.at.branch));
        self.stretches.retain(|name, _| related.contains(name));
        self.branches.retain(|name, _| related.contains(name));
        self.order.retain(|name| related.contains(name));
        self.watermarks.retain(|mark| related.contains(&mark.at.branch));
        self.reasons.retain(|gap| related.contains(&gap.branch));
        self
    }

    /// The snapshots that a restore can begin with.
    #[must_use]
    pub fn bases(&self) -> &[Base] {
        &self.bases
    }

    /// Names of all branches, the one that began last at the end.
    #[must_use]
    pub fn branch_names(&self) -> Vec<String> {
        let known = self.stretches.keys().chain(self.bases.iter().map(|base| &base.at.branch));
        let mut names: Vec<String> =
            known.filter(|name| !self.order.contains(name)).cloned().collect();
        names.sort();
        names.dedup();
        names.extend(self.order.iter().cloned());
        names
    }

    /// The branch that began last: what the source goes on writing.
    #[must_use]
    pub fn current_branch(&self) -> Option<String> {
        self.branch_names().pop()
    }

    /// A branch and those that it came from, each with where the next one left it; itself last,
    /// without an end.
    #[must_use]
    pub fn lineage(&self, branch: &str) -> Vec<(String, Option<u64>)> {
        let mut lineage = vec![(branch.to_owned(), None)];
        let mut at = branch;
        while let Some(parent) = self.branches.get(at) {
            // A circle can only come from damaged notes; nothing before it counts.
            if lineage.iter().any(|(name, _)| *name == parent.branch) {
                break;
            }
            lineage.push((parent.branch.clone(), Some(parent.offset)));
            at = &parent.branch;
        }
        lineage.reverse();
        lineage
    }

    /// How far the log is kept without a break from an offset of a branch.
    #[must_use]
    pub fn reach(&self, branch: &str, from: u64) -> u64 {
        let mut end = from;
        for stretch in self.stretches.get(branch).into_iter().flatten() {
            if stretch.from > end {
                break;
            }
            end = end.max(stretch.to);
        }
        // Behind the last piece nothing may have happened: nothing is stored of that.
        let quiet = |mark: &&Watermark| mark.at.branch == branch && mark.stored_to() <= end;
        self.watermarks.iter().filter(quiet).map(|mark| mark.at.offset).fold(end, u64::max)
    }

    /// The last place that a branch is known to have: where the last piece ends that is kept, a
    /// snapshot stands or another branch has left it. What is missing before it is a break, and not
    /// the end of the log.
    #[must_use]
    pub fn known_end(&self, branch: &str) -> Option<u64> {
        let kept = self.stretches.get(branch).into_iter().flatten().map(|stretch| stretch.to);
        let bases = self.bases.iter().map(|base| &base.at);
        let places = bases
            .chain(self.branches.values())
            .filter(|at| at.branch == branch)
            .map(|at| at.offset);
        kept.chain(places).max()
    }

    /// Whether the log is kept without a break.
    #[must_use]
    pub(super) fn covers(&self, branch: &str, from: u64, to: u64) -> bool {
        // What lies before `from` does not count: a stretch that ends there is no beginning.
        from >= to || self.reach(branch, from) >= to
    }

    /// What can be restored, by branch and position. Ranges that touch are one.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range> {
        let mut ranges: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for branch in self.branch_names() {
            for base in &self.bases {
                for (name, from, to) in self.ranges_of(base, &branch) {
                    ranges.entry(name).or_default().push((from, to));
                }
            }
        }
        let mut merged = Vec::new();
        for (branch, mut found) in ranges {
            found.sort_unstable();
            let mut joined: Vec<(u64, u64)> = Vec::new();
            for (from, to) in found {
                match joined.last_mut() {
                    Some(last) if from <= last.1 => last.1 = last.1.max(to),
                    _ => joined.push((from, to)),
                }
            }
            merged.extend(joined.into_iter().map(|(from, to)| self.range(&branch, from, to)));
        }
        merged
    }

    fn range(&self, branch: &str, from: u64, to: u64) -> Range {
        let at_base = self.bases.iter().filter(|base| base.at == Position::new(branch, from));
        let from_time = self.time_at(branch, from).or_else(|| at_base.map(|base| base.time).min());
        // The clock of the source may have been turned back: a range does not end before it begins.
        let to_time = self.moment_at(branch, to).max(from_time);
        Range { branch: branch.to_owned(), from, to, from_time, to_time }
    }

    /// The time of the last event that ends at or before an offset.
    #[must_use]
    pub fn time_at(&self, branch: &str, offset: u64) -> Option<Timestamp> {
        let ticks =
            self.stretches.get(branch).into_iter().flatten().flat_map(|stretch| &stretch.ticks);
        ticks
            .filter(|tick| tick.offset <= offset)
            .max_by_key(|tick| tick.offset)
            .map(|tick| tick.time)
    }

    /// The moment that an offset stands for: of the last event at or before it, of a snapshot that
    /// was made since, or up to which nothing more happened. A snapshot of an idle source may stand
    /// behind the offset that the source vouches for: keepalives count in its offsets.
    #[must_use]
    pub fn moment_at(&self, branch: &str, offset: u64) -> Option<Timestamp> {
        let ticks =
            self.stretches.get(branch).into_iter().flatten().flat_map(|stretch| &stretch.ticks);
        let events = ticks.map(|tick| (tick.offset, tick.time)).filter(|(at, _)| *at <= offset);
        let last_event = events.max();
        let is_before = |at: &Position| at.branch == branch && at.offset <= offset;
        let bases = self.bases.iter().filter(|base| is_before(&base.at));
        let states = bases.map(|base| (base.at.offset, base.time)).chain(last_event);
        let idle_since = last_event.map_or(0, |(at, _)| at);
        let vouched = self
            .watermarks
            .iter()
            .filter(|mark| is_before(&mark.at) && mark.at.offset >= idle_since)
            .map(|mark| mark.time);
        states.max().map(|(_, time)| time).max(vouched.max())
    }

    /// Where everything ends that happened on a branch up to `time`, if that is known and not
    /// behind `to`.
    pub(super) fn vouched(&self, branch: &str, to: u64, time: Timestamp) -> Option<u64> {
        let vouches = |mark: &&Watermark| mark.at.branch == branch && mark.time > time;
        let ends = self.watermarks.iter().filter(vouches).map(|mark| mark.at.offset);
        ends.filter(|end| *end <= to).min()
    }

    /// What can be restored of the lineage of `branch` from one base.
    pub(super) fn ranges_of(&self, base: &Base, branch: &str) -> Vec<(String, u64, u64)> {
        let mut ranges = Vec::new();
        let lineage = self.lineage(branch);
        let Some(start) = lineage.iter().position(|(name, _)| *name == base.at.branch) else {
            return ranges;
        };
        if !self.covers(&base.at.branch, base.needs, base.at.offset) {
            // Also a state by itself is one of this history only up to where that left the branch.
            if base.is_whole && lineage[start].1.is_none_or(|end| base.at.offset <= end) {
                ranges.push((base.at.branch.clone(), base.at.offset, base.at.offset));
            }
            return ranges;
        }
        let mut from = base.at.offset;
        for (name, end) in &lineage[start..] {
            // What was left behind before the base cannot be reached from it.
            if end.is_some_and(|end| end < from) {
                return ranges;
            }
            let reached = self.reach(name, from);
            let to = end.map_or(reached, |end| end.min(reached));
            ranges.push((name.clone(), from, to));
            match end {
                Some(end) if to == *end => from = *end,
                _ => break,
            }
        }
        ranges
    }
}
