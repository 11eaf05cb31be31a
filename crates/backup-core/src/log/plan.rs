//! From a moment to what has to be restored: a base, pieces of the log, and where to stop.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Position;
use super::timeline::{Base, Stretch, Timeline};

/// The moment that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The last one that can be restored on the branch that the source goes on writing.
    Latest,
    /// A position.
    Position(Position),
    /// By the clock of the source, on the branch that it goes on writing and those that it came
    /// from: everything that happened up to then, and nothing later.
    Time(Timestamp),
}

/// What has to be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Begin with this snapshot.
    pub base: Base,
    /// Then apply these pieces, in order. They may overlap; they leave nothing out.
    pub log: Vec<Stretch>,
    /// Where branches are left for the next one, in order: of what is kept of such a branch nothing
    /// behind that is applied.
    pub turns: Vec<Position>,
    /// Stop here: nothing behind it is applied.
    pub stop: Position,
    /// If a time was asked for: not every event is noted, so that some behind [`Self::stop`] may
    /// have happened before it as well. They are applied too, up to the first later one.
    pub until: Option<Timestamp>,
    /// The moment that is restored, by the clock of the source, as far as it is known: of the last
    /// event that is applied; for the latest moment, the time up to which nothing more happened.
    pub time: Option<Timestamp>,
    /// What is read, bytes.
    pub bytes: u64,
    /// How long it may take, milliseconds: as if it went as fast as the fastest backup of this
    /// source. `None` if none has stored enough to tell.
    pub estimate_ms: Option<u64>,
}

/// The moment cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Why.
    pub reason: String,
    /// The last position before it that can be restored, and its time.
    pub before: Option<(Position, Option<Timestamp>)>,
    /// The first position behind it that can be restored, and its time.
    pub after: Option<(Position, Option<Timestamp>)>,
}

/// The latest moment that all of these can be restored to, by their clocks: what a group of sources
/// is planned for.
#[must_use]
pub fn latest_common(timelines: &[Timeline]) -> Option<Timestamp> {
    let within = timelines.iter().flat_map(|timeline| {
        let ticks = timeline.stretches.values().flatten().flat_map(|stretch| &stretch.ticks);
        // Just before something happens everything before it is there; at that moment more may
        // happen still.
        let before = |time: Timestamp| time.checked_sub(SignedDuration::from_micros(1)).ok();
        let vouched = timeline.watermarks.iter().map(|watermark| watermark.time);
        let ends = ticks.map(|tick| tick.time).chain(vouched).filter_map(before);
        ends.chain(timeline.bases.iter().map(|base| base.time))
    });
    let mut moments: Vec<Timestamp> = within.collect();
    moments.sort_unstable();
    moments.dedup();
    let is_there = |moment: &Timestamp| {
        timelines.iter().all(|timeline| timeline.plan(&Target::Time(*moment)).is_ok())
    };
    moments.into_iter().rev().find(is_there)
}

impl Timeline {
    /// Finds the cheapest way to a moment: the latest base before it from which the log is kept
    /// without a break.
    ///
    /// # Errors
    /// [`Refusal`] names the nearest moments that can be restored. A gap is never passed over.
    pub fn plan(&self, target: &Target) -> Result<Plan, Box<Refusal>> {
        match target {
            Target::Latest => self.plan_latest(),
            Target::Position(position) => self.plan_position(position),
            Target::Time(time) => self.plan_time(*time),
        }
    }

    fn plan_latest(&self) -> Result<Plan, Box<Refusal>> {
        let branch = self.current_branch().ok_or_else(|| nothing("there is no snapshot yet"))?;
        // On the branch itself if anything of it can be restored, else on the nearest one that it
        // came from.
        for (name, _) in self.lineage(&branch).into_iter().rev() {
            let ranges = self.bases.iter().flat_map(|base| self.ranges_of(base, &branch));
            if let Some(end) = ranges.filter(|(on, ..)| *on == name).map(|(.., to)| to).max() {
                let time = self.moment_at(&name, end);
                let plan = self.plan_position(&Position::new(name, end))?;
                return Ok(Plan { time: time.max(plan.time), ..plan });
            }
        }
        Err(nothing("there is no snapshot to which the log can be applied"))
    }

    fn plan_position(&self, target: &Position) -> Result<Plan, Box<Refusal>> {
        self.plan_through(target, target.offset)
    }

    /// With the log on the branch of the target up to `seen`.
    fn plan_through(&self, target: &Position, seen: u64) -> Result<Plan, Box<Refusal>> {
        let usable = |base: &&Base| {
            let ranges = self.ranges_of(base, &target.branch);
            ranges.iter().any(|(name, from, to)| {
                *name == target.branch && (*from..=*to).contains(&target.offset)
            })
        };
        // Latest first: on the last branch of the lineage, as far along it as there is.
        let lineage = self.lineage(&target.branch);
        let rank = |base: &&Base| {
            let branch = lineage.iter().position(|(name, _)| *name == base.at.branch);
            (branch, base.at.offset, std::cmp::Reverse(base.bytes))
        };
        match self.bases.iter().filter(usable).max_by_key(rank) {
            Some(base) => Ok(self.follow(base, target, &lineage, seen)),
            None => Err(Box::new(self.refuse(target))),
        }
    }

    /// The pieces from a base to a position that is known to be reachable from it, and on to
    /// `seen`.
    fn follow(
        &self,
        base: &Base,
        target: &Position,
        lineage: &[(String, Option<u64>)],
        seen: u64,
    ) -> Plan {
        let mut log = Vec::new();
        let needs_none = base.is_whole && *target == base.at && seen == target.offset;
        let start = lineage.iter().position(|(name, _)| *name == base.at.branch).unwrap_or(0);
        let mut from = base.needs;
        let left = lineage[start..]
            .iter()
            .filter_map(|(name, end)| Some(Position::new(name.clone(), (*end)?)));
        let turns = left.collect();
        for (name, end) in lineage[start..].iter().filter(|_| !needs_none) {
            let to = end.unwrap_or(seen);
            log.extend(self.pieces(name, from, to));
            from = to;
        }
        let bytes = base.bytes + log.iter().map(|stretch| stretch.bytes).sum::<u64>();
        let stands_on_base = target.branch == base.at.branch && target.offset >= base.at.offset;
        let on_base = stands_on_base.then_some(base.time);
        let time = self.time_at(&target.branch, target.offset).max(on_base);
        let rate = self.bases.iter().filter_map(|base| base.rate).max().filter(|rate| *rate > 0);
        let estimate_ms = rate.map(|rate| bytes.saturating_mul(1000) / rate);
        Plan {
            base: base.clone(),
            log,
            turns,
            stop: target.clone(),
            until: None,
            time,
            bytes,
            estimate_ms,
        }
    }

    /// As few pieces as there are between two offsets, in order; they end at the first break.
    #[must_use]
    pub fn pieces(&self, branch: &str, from: u64, to: u64) -> Vec<Stretch> {
        let mut pieces = Vec::new();
        let mut at = from;
        let stretches = self.stretches.get(branch).map_or(&[][..], Vec::as_slice);
        while at < to {
            let next = stretches
                .iter()
                .take_while(|stretch| stretch.from <= at)
                .max_by_key(|stretch| stretch.to);
            match next.filter(|stretch| stretch.to > at) {
                Some(stretch) => {
                    at = stretch.to;
                    pieces.push(stretch.clone());
                }
                None => break,
            }
        }
        pieces
    }

    /// Everything up to the first event that happened later. If the clock of the source was turned
    /// back, that is the first time it showed a later time. Not every event is noted with its time:
    /// the log comes up to one that is known to be later, and what is before that is told by the
    /// events themselves, wherever one piece ends and another one begins.
    fn plan_time(&self, time: Timestamp) -> Result<Plan, Box<Refusal>> {
        let branch = self.current_branch().ok_or_else(|| nothing("there is no snapshot yet"))?;
        let lineage = self.lineage(&branch);
        let mut best: Option<(usize, u64, u64)> = None;
        let mut past_end = false;
        for base in self.bases.iter().filter(|base| base.time <= time) {
            let mut vouched = None;
            for (name, from, to) in self.ranges_of(base, &branch) {
                let place = lineage.iter().position(|(on, _)| *on == name).unwrap_or(0);
                match self.stop_in(&name, from, to, time) {
                    Stop::At(offset, later) => {
                        vouched = Some((place, offset, later));
                        break;
                    }
                    // The watermark of a branch does not count if something happened on the next
                    // one.
                    Stop::Nothing(offset) => vouched = Some((place, offset, offset)),
                    // What follows on the next branch may tell; if nothing does, the log has not
                    // got so far.
                    Stop::NotReached => (past_end, vouched) = (true, None),
                    Stop::Empty => past_end = true,
                    Stop::Before => vouched = None,
                }
            }
            best = best.max(vouched);
        }
        if let Some((place, offset, later)) = best {
            let plan =
                self.plan_through(&Position::new(lineage[place].0.clone(), offset), later)?;
            let until = Some(time);
            return Ok(Plan { until, time: plan.time.map(|of_last| of_last.min(time)), ..plan });
        }
        Err(Box::new(self.refuse_time(time, past_end)))
    }

    /// Where to stop between two offsets so that everything up to `time` has happened and nothing
    /// later.
    fn stop_in(&self, branch: &str, from: u64, to: u64, time: Timestamp) -> Stop {
        let mut ticks: Vec<_> =
            self.stretches.get(branch).into_iter().flatten().flat_map(|s| &s.ticks).collect();
        ticks.retain(|tick| tick.offset > from && tick.offset <= to);
        ticks.sort_unstable();
        let later = ticks.iter().position(|tick| tick.time > time);
        match later {
            Some(at) => Stop::At(
                at.checked_sub(1).map_or(from, |before| ticks[before].offset),
                ticks[at].offset,
            ),
            None => {
                let last = ticks.last().map_or(from, |tick| tick.offset);
                match self.vouched(branch, to, time) {
                    Some(end) => Stop::Nothing(end.max(last)),
                    None if !ticks.is_empty() => Stop::NotReached,
                    None if to > from => Stop::Before,
                    None => Stop::Empty,
                }
            }
        }
    }

    fn refuse(&self, target: &Position) -> Refusal {
        let lineage = self.lineage(&target.branch);
        let on_branch = |ranges: Vec<super::timeline::Range>| {
            ranges.into_iter().filter(|range| range.branch == target.branch)
        };
        let ranges: Vec<_> = on_branch(self.ranges()).collect();
        let before =
            ranges.iter().filter(|range| range.to < target.offset).max_by_key(|range| range.to);
        let after =
            ranges.iter().filter(|range| range.from > target.offset).min_by_key(|range| range.from);
        let gap = self.gaps().into_iter().find(|gap| {
            gap.branch == target.branch
                && gap.from < target.offset
                && gap.to.is_none_or(|to| to > target.offset)
        });
        let reason = match gap {
            Some(gap) => match gap.reason {
                Some(reason) => format!("the log is missing at that point: {reason}"),
                None => "the log is missing at that point".to_owned(),
            },
            None if before.is_none() && lineage.len() == 1 => {
                "there is no earlier snapshot".to_owned()
            }
            None => "the stored log does not cover that position".to_owned(),
        };
        let place = |offset: u64| {
            (Position::new(target.branch.clone(), offset), self.time_at(&target.branch, offset))
        };
        Refusal {
            reason,
            before: before.map(|range| place(range.to)),
            after: after
                .map(|range| (Position::new(range.branch.clone(), range.from), range.from_time)),
        }
    }

    fn refuse_time(&self, time: Timestamp, past_end: bool) -> Refusal {
        let ranges = self.ranges();
        let before = ranges.iter().filter(|range| range.to_time.is_some_and(|end| end <= time));
        let before = before.max_by_key(|range| range.to_time);
        let after = ranges.iter().filter(|range| range.from_time.is_some_and(|start| start > time));
        let after = after.min_by_key(|range| range.from_time);
        let reason = if past_end && after.is_none() {
            "the stored log does not reach that far yet"
        } else if before.is_none() {
            "there is no earlier snapshot"
        } else {
            "the log is missing at that point"
        };
        Refusal {
            reason: reason.to_owned(),
            before: before
                .map(|range| (Position::new(range.branch.clone(), range.to), range.to_time)),
            after: after
                .map(|range| (Position::new(range.branch.clone(), range.from), range.from_time)),
        }
    }
}

enum Stop {
    /// Behind this offset; what is at the second one happened later.
    At(u64, u64),
    /// Behind this offset: nothing more happened up to the time.
    Nothing(u64),
    /// Nothing later is known.
    NotReached,
    /// The branch has just begun.
    Empty,
    /// There are no times at all.
    Before,
}

fn nothing(reason: &str) -> Box<Refusal> {
    Box::new(Refusal { reason: reason.to_owned(), before: None, after: None })
}
