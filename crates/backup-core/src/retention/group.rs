//! One group of snapshots.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Reason;
use super::calendar::Period;
use super::candidate::Candidate;
use super::policy::{Keep, Policy, Rule, before};
use crate::id::SnapshotId;

/// A snapshot dated later than this after the present has a wrong clock. Clocks differ a little.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

type Reasons = BTreeMap<SnapshotId, Vec<Reason>>;

struct Group<'a> {
    policy: &'a Policy,
    now: Timestamp,
    zone: &'a TimeZone,
    /// Newest first; without those whose time is disputed or lies in the future.
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
    let mut snapshots = Vec::new();
    for candidate in all {
        if is_ahead(candidate, now) {
            reasons.entry(candidate.id).or_default().push(Reason::WrongClock);
        } else if candidate.time.is_disputed() {
            reasons.entry(candidate.id).or_default().push(Reason::DisputedTime);
        } else {
            snapshots.push(*candidate);
        }
    }
    snapshots.sort_by_key(|c| std::cmp::Reverse(c.order()));
    let mut group = Group { policy, now, zone, snapshots, reasons };
    group.keep_held(all);
    group.keep_newest();
    group.keep_periods();
    group.keep_marked();
    group.keep_point_in_time();
    group.reasons
}

/// True if its own time lies in the future, or later than the disputed time that counts.
pub(super) fn is_ahead(candidate: &Candidate, now: Timestamp) -> bool {
    let time = candidate.time;
    now.duration_until(time.own()) > AHEAD || time.is_disputed() && time.own() > time.time()
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
            if let Some(age) = self.policy.compliance
                && candidate.born(self.now) > before(self.now, age, self.zone)
            {
                self.keep(candidate.id, Reason::Compliance);
            }
        }
    }

    fn newest(&self, fits: impl Fn(&Candidate) -> bool, keep: Keep) -> BTreeSet<SnapshotId> {
        let fitting = self.snapshots.iter().filter(|candidate| fits(candidate));
        fitting.enumerate().take_while(|(at, _)| keep.allows(*at)).map(|(_, c)| c.id).collect()
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
                self.snapshots.iter().filter(|c| c.at() > since).map(|c| c.id).collect();
            self.keep_all(young, &Reason::Within);
        }
    }

    /// The newest of every period.
    fn keep_periods(&mut self) {
        for period in Period::ALL {
            let keep = self.policy.of(period);
            let mut standing: BTreeMap<(i32, i32), SnapshotId> = BTreeMap::new();
            for candidate in &self.snapshots {
                standing.entry(period.name(candidate.at(), self.zone)).or_insert(candidate.id);
            }
            let ids: BTreeSet<SnapshotId> = standing.into_values().collect();
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
            self.snapshots.iter().filter(|c| fits(c) && since.is_some_and(|since| c.at() > since));
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
        let base = self.snapshots.iter().find(|c| !c.is_log() && c.at() <= start);
        // A long run counts for its end; its log begins at its own time.
        let log_start = base.map(|base| base.at().min(base.time.own()));
        let kept: Vec<_> = self
            .snapshots
            .iter()
            .filter(|c| {
                let is_base = base.is_some_and(|base| c.at() == base.at());
                let is_log = c.is_log() && log_start.is_some_and(|from| c.at() >= from);
                c.at() > start || is_base || is_log
            })
            .map(|c| c.id)
            .collect();
        self.keep_all(kept, &Reason::PointInTime);
    }
}
