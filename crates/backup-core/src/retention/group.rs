//! One group of snapshots.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Reason;
use super::calendar::Period;
use super::candidate::Candidate;
use super::policy::{Keep, Policy, Rule, before};
use crate::id::SnapshotId;

/// A snapshot stands for a moment before it was received: a backup takes its time, and clocks
/// differ a little.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);
/// What is dated earlier than this before it was received was imported, or its clock was wrong.
const BEHIND: SignedDuration = SignedDuration::from_hours(48);

type Reasons = BTreeMap<SnapshotId, Vec<Reason>>;

struct Group<'a> {
    policy: &'a Policy,
    now: Timestamp,
    zone: &'a TimeZone,
    /// Newest first; without those dated in the future.
    snapshots: Vec<&'a Candidate>,
    reasons: Reasons,
}

pub(super) fn decide(
    all: &[&Candidate],
    policy: &Policy,
    now: Timestamp,
    zone: &TimeZone,
) -> Reasons {
    let mut reasons = Reasons::new();
    let (wrong, mut snapshots): (Vec<&Candidate>, Vec<&Candidate>) =
        all.iter().partition(|c| is_ahead(c, now));
    for candidate in wrong {
        reasons.entry(candidate.id).or_default().push(Reason::WrongClock);
    }
    snapshots.sort_by_key(|c| std::cmp::Reverse((c.time, c.id)));
    let mut group = Group { policy, now, zone, snapshots, reasons };
    group.keep_held(all);
    group.keep_newest();
    group.keep_periods();
    group.keep_marked();
    group.keep_point_in_time();
    group.reasons
}

/// Dated later than it can be.
fn is_ahead(candidate: &Candidate, now: Timestamp) -> bool {
    let latest = candidate.received.map_or(now, |received| received.min(now));
    latest.duration_until(candidate.time) > AHEAD
}

/// Dated as it should be.
fn is_consistent(candidate: &Candidate) -> bool {
    candidate.received.is_none_or(|received| candidate.time.duration_until(received) <= BEHIND)
}

impl Group<'_> {
    fn keep(&mut self, id: SnapshotId, reason: Reason) {
        self.reasons.entry(id).or_default().push(reason);
    }

    fn keep_all(&mut self, ids: impl IntoIterator<Item = SnapshotId>, reason: &Reason) {
        for id in ids {
            self.keep(id, reason.clone());
        }
    }

    /// What nobody may drop, also of those whose clock was wrong.
    fn keep_held(&mut self, all: &[&Candidate]) {
        for candidate in all {
            if let Some(hold) = candidate.hold.as_ref().filter(|hold| hold.is_in_force(self.now)) {
                self.keep(candidate.id, Reason::Hold { reason: hold.reason.clone() });
            }
            // The later of both times: an earlier date does not make it older.
            let born =
                candidate.received.map_or(candidate.time, |received| received.max(candidate.time));
            if let Some(age) = self.policy.compliance
                && born > before(self.now, age, self.zone)
            {
                self.keep(candidate.id, Reason::Compliance);
            }
        }
    }

    /// The newest so many of all, and the newest so many of those that are dated as they should be:
    /// what is dated wrongly takes nobody's place.
    fn newest(&self, fits: impl Fn(&Candidate) -> bool, keep: Keep) -> BTreeSet<SnapshotId> {
        let fitting = || self.snapshots.iter().filter(|candidate| fits(candidate));
        let counted = |candidates: &mut dyn Iterator<Item = &&Candidate>| -> Vec<SnapshotId> {
            candidates
                .enumerate()
                .take_while(|(at, _)| keep.allows(*at))
                .map(|(_, c)| c.id)
                .collect()
        };
        let all = counted(&mut fitting());
        let consistent = counted(&mut fitting().filter(|candidate| is_consistent(candidate)));
        all.into_iter().chain(consistent).collect()
    }

    fn keep_newest(&mut self) {
        let last = self.newest(|_| true, self.policy.last);
        self.keep_all(last, &Reason::Last);
        let copies = self.newest(|_| true, Keep::Count(self.policy.min_copies.max(1)));
        self.keep_all(copies, &Reason::MinCopies);
        let verified = self
            .snapshots
            .iter()
            .find(|candidate| candidate.verified)
            .map(|candidate| candidate.id);
        self.keep_all(verified, &Reason::NewestVerified);
        if let Some(span) = self.policy.within {
            let since = before(self.now, span, self.zone);
            let young: Vec<_> =
                self.snapshots.iter().filter(|c| c.time > since).map(|c| c.id).collect();
            self.keep_all(young, &Reason::Within);
        }
    }

    /// The newest of every period; one that is dated as it should be goes before one that is not.
    fn keep_periods(&mut self) {
        for period in Period::ALL {
            let keep = self.policy.of(period);
            let mut standing: BTreeMap<(i32, i32), &Candidate> = BTreeMap::new();
            for candidate in self.snapshots.iter().rev() {
                let name = period.name(candidate.time, self.zone);
                let earlier = standing.get(&name);
                if earlier.is_none_or(|earlier| is_consistent(candidate) || !is_consistent(earlier))
                {
                    standing.insert(name, candidate);
                }
            }
            let ids: BTreeSet<SnapshotId> =
                standing.values().map(|candidate| candidate.id).collect();
            let kept = self.newest(|candidate| ids.contains(&candidate.id), keep);
            self.keep_all(kept, &Reason::Period { period });
        }
    }

    /// By tag, tier and type.
    fn keep_marked(&mut self) {
        let tagged: Vec<_> = self
            .snapshots
            .iter()
            .flat_map(|c| {
                c.tags
                    .iter()
                    .filter(|tag| self.policy.tags.contains(tag))
                    .map(|tag| (c.id, tag.clone()))
            })
            .collect();
        for (id, tag) in tagged {
            self.keep(id, Reason::Tag { tag });
        }
        for (tier, rule) in &self.policy.tiers {
            let kept = self.by_rule(rule, |c| c.tier.as_deref() == Some(tier));
            self.keep_all(kept, &Reason::Tier { tier: tier.clone() });
        }
        for (kind, rule) in &self.policy.types {
            let kept = self.by_rule(rule, |c| c.kind.as_deref() == Some(kind));
            self.keep_all(kept, &Reason::Type { kind: kind.clone() });
        }
    }

    fn by_rule(&self, rule: &Rule, fits: impl Fn(&Candidate) -> bool) -> BTreeSet<SnapshotId> {
        let since = rule.within.map(|span| before(self.now, span, self.zone));
        let young =
            self.snapshots.iter().filter(|c| fits(c) && since.is_some_and(|since| c.time > since));
        let young: Vec<SnapshotId> = young.map(|c| c.id).collect();
        self.newest(fits, rule.last).into_iter().chain(young).collect()
    }

    /// Everything in the window, the last base before it, and the logs between that base and the
    /// window.
    fn keep_point_in_time(&mut self) {
        let Some(span) = self.policy.point_in_time else {
            return;
        };
        let start = before(self.now, span, self.zone);
        // One that was dated back to just before the window must not stand in for the real one.
        let bases = || self.snapshots.iter().filter(|c| !c.is_log() && c.time <= start);
        let base = bases().find(|c| is_consistent(c)).or_else(|| bases().next()).map(|c| c.time);
        let kept: Vec<_> = self
            .snapshots
            .iter()
            .filter(|c| {
                c.time > start
                    || base.is_some_and(|base| c.time >= base && (c.is_log() || c.time == base))
            })
            .map(|c| c.id)
            .collect();
        self.keep_all(kept, &Reason::PointInTime);
    }
}
