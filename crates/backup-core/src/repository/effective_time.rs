//! The time that a snapshot counts for.
//!
//! A snapshot's own time is written by the machine that made it. A machine that may only put
//! objects cannot choose when the store receives them. The own time therefore counts only if the
//! store's modification time of the object agrees with it, or if a maintainer vouched for it with a
//! record in `x-adopted/`, which writers may not put.
//!
//! A store on a disk writes its times with the clock of the machine that made the snapshot. There the
//! order of parents and the present decide, see `snapshot_order.rs`.
//!
//! Every user of a snapshot's time reads [`SnapshotInfo::time`](super::SnapshotInfo::time):
//! retention, `latest`, lists, status, alerts and reports.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::adoptions::Adoptions;
use crate::format::Snapshot;
use crate::id::SnapshotId;

/// Largest difference between two times that agree. Covers clocks that are wrong, days that are
/// taken for others, and the time between the end of a run and the storing of its snapshot.
pub(super) const AGREEMENT: SignedDuration = SignedDuration::from_hours(48);

/// Reason why a snapshot counts for its [`EffectiveTime::time`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TimeBasis {
    /// Own time; the store's time agrees within 48 hours.
    Confirmed,
    /// Own time; a maintainer vouched for it.
    Adopted,
    /// End of the run; the store's time agrees with it, and the run was longer than 48 hours. The
    /// start of the run cannot be confirmed: a forged snapshot may claim any.
    RunEnd,
    /// Own time; the store reports no time.
    Unverifiable,
    /// The store's time; the own time differs from it by more than 48 hours. The snapshot replaces
    /// no other one.
    Disputed,
    /// Own time; the store's time is later because the repository was copied by another program: most
    /// snapshots that the store wrote within 48 hours of this one are disputed, too. The snapshot
    /// replaces no other one.
    Moved,
    /// The nearest time between those of its parent and of the next snapshot built on it; the own
    /// time lies in the future, or contradicts most ancestors and descendants, by more than 48
    /// hours. The snapshot replaces no other one.
    Order,
}

/// The time that a snapshot counts for, with both times that it is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EffectiveTime {
    time: Timestamp,
    own: Timestamp,
    stored: Option<Timestamp>,
    basis: TimeBasis,
}

impl EffectiveTime {
    /// Decides which time counts. `stored` is the store's modification time of the object, from a
    /// listing; `is_adopted` is true if the repository has a record in `x-adopted/`.
    #[must_use]
    pub fn of(snapshot: &Snapshot, stored: Option<Timestamp>, is_adopted: bool) -> Self {
        let own = snapshot.time;
        let end = snapshot.summary.as_ref().map(|summary| summary.backup_end);
        let decided = Self::decide(own, end, stored, is_adopted);
        match snapshot.clock_was_behind().filter(|_| !is_adopted) {
            Some(seen) => Self { time: seen, basis: TimeBasis::Order, ..decided },
            None => decided,
        }
    }

    /// Like [`Self::of`], from an own time and the end of the run.
    #[must_use]
    pub fn decide(
        own: Timestamp,
        run_end: Option<Timestamp>,
        stored: Option<Timestamp>,
        is_adopted: bool,
    ) -> Self {
        let (time, basis) = match stored {
            _ if is_adopted => (own, TimeBasis::Adopted),
            None => (own, TimeBasis::Unverifiable),
            Some(stored) if agree(own, stored) => (own, TimeBasis::Confirmed),
            Some(stored) => match run_end.filter(|end| own < *end && agree(*end, stored)) {
                Some(end) => (end, TimeBasis::RunEnd),
                None => (stored, TimeBasis::Disputed),
            },
        };
        Self { time, own, stored, basis }
    }

    /// The time that counts.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The time in the snapshot object.
    #[must_use]
    pub fn own(&self) -> Timestamp {
        self.own
    }

    /// The store's modification time of the object, where the store reports it.
    #[must_use]
    pub fn stored(&self) -> Option<Timestamp> {
        self.stored
    }

    /// Reason why [`Self::time`] counts.
    #[must_use]
    pub fn basis(&self) -> TimeBasis {
        self.basis
    }

    /// True if the own time counts: only then may a copy or a rewrite of the snapshot be adopted.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.basis != TimeBasis::RunEnd && !self.is_disputed()
    }

    /// True if the own time contradicts the store's or the order of snapshots, and no maintainer
    /// vouched for it.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        matches!(self.basis, TimeBasis::Disputed | TimeBasis::Moved | TimeBasis::Order)
    }

    /// True if the time that counts differs from the own time by more than 48 hours.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        matches!(self.basis, TimeBasis::Disputed | TimeBasis::Order)
    }

    /// The same of a snapshot that another program copied.
    pub(super) fn moved(self) -> Self {
        Self { time: self.own, basis: TimeBasis::Moved, ..self }
    }

    /// True if the store's time disputes the own time and is later.
    pub(super) fn is_stored_later(&self) -> bool {
        self.basis == TimeBasis::Disputed && self.stored.is_some_and(|stored| stored > self.own)
    }

    /// The time that counts by the order of snapshots. A small correction changes no basis.
    pub(super) fn in_order(self, time: Timestamp) -> Self {
        let basis = if agree(self.time, time) { self.basis } else { TimeBasis::Order };
        Self { time, basis, ..self }
    }
}

fn agree(a: Timestamp, b: Timestamp) -> bool {
    a.duration_until(b).abs() <= AGREEMENT
}

/// The evidence about the times of a repository's snapshots: the store's times and the adoptions.
#[derive(Debug, Clone, Default)]
pub struct TimeEvidence {
    /// The store's modification times of snapshot objects.
    pub stored: HashMap<SnapshotId, Timestamp>,
    /// These times are of a clock of the store's own.
    pub(super) has_clock: bool,
    /// Adoptions by maintainers.
    pub(super) adoptions: Adoptions,
}

impl TimeEvidence {
    /// The effective time of a snapshot of the repository, regardless of other snapshots.
    #[must_use]
    pub fn effective(&self, id: &SnapshotId, snapshot: &Snapshot) -> EffectiveTime {
        // A disk has the clock of the machine, or the times of a copy that was made later.
        let is_evidence = |stored: &Timestamp| self.has_clock || *stored > snapshot.time;
        let stored = self.stored.get(id).copied().filter(is_evidence);
        EffectiveTime::of(snapshot, stored, self.adoptions.ids.contains(id))
    }

    /// True if the adoption of snapshots of the time before adoptions existed is done.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.adoptions.has_begun
    }

    /// Counts snapshots as adopted: the effect of an adoption that is only planned.
    pub fn adopt(&mut self, ids: impl IntoIterator<Item = SnapshotId>) {
        self.adoptions.ids.extend(ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Own time, end of the run, store's time, adopted; the time that counts, and why.
    #[test]
    fn effective_time_cases() {
        use TimeBasis::{Adopted, Confirmed, Disputed, RunEnd, Unverifiable};
        let cases = [
            ("2026-03-01T00:00:00Z", "-", "2026-03-01T00:05:00Z", "own", Confirmed),
            // Exactly 48 hours agree, in both directions; one second more does not.
            ("2026-03-01T00:00:00Z", "-", "2026-03-03T00:00:00Z", "own", Confirmed),
            ("2026-03-03T00:00:00Z", "-", "2026-03-01T00:00:00Z", "own", Confirmed),
            ("2026-03-01T00:00:00Z", "-", "2026-03-03T00:00:01Z", "stored", Disputed),
            ("2026-03-03T00:00:01Z", "-", "2026-03-01T00:00:00Z", "stored", Disputed),
            ("2026-03-01T00:00:00Z", "-", "-", "own", Unverifiable),
            // A run of four days counts for its end, a claimed one of years too.
            ("2026-03-01T00:00:00Z", "2026-03-05T00:00:00Z", "2026-03-05T01:00:00Z", "end", RunEnd),
            ("2019-03-01T00:00:00Z", "2026-03-05T00:00:00Z", "2026-03-05T01:00:00Z", "end", RunEnd),
            // An end that the store contradicts, and one before the start, prove nothing.
            (
                "2026-03-01T00:00:00Z",
                "2026-03-02T00:00:00Z",
                "2026-03-05T01:00:00Z",
                "stored",
                Disputed,
            ),
            (
                "2026-04-01T00:00:00Z",
                "2026-03-05T00:00:00Z",
                "2026-03-05T01:00:00Z",
                "stored",
                Disputed,
            ),
        ];
        for (own, end, stored, expected, basis) in cases {
            let known = |text: &str| (text != "-").then(|| moment(text));
            let time = EffectiveTime::decide(moment(own), known(end), known(stored), false);
            let expected = match expected {
                "own" => own,
                "end" => end,
                _ => stored,
            };
            assert_eq!((time.time(), time.basis()), (moment(expected), basis), "{own} {stored}");
            let adopted = EffectiveTime::decide(moment(own), known(end), known(stored), true);
            assert_eq!((adopted.time(), adopted.basis()), (moment(own), Adopted));
            assert_eq!((adopted.own(), adopted.stored()), (moment(own), known(stored)));
        }
    }
}
