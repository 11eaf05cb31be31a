//! Which snapshots stay: a pure function of snapshots, policy, moment and time zone.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`decide`]: a decision and its reasons for every snapshot |
//! | `policy.rs` | [`Policy`]: how many of what, for how long |
//! | `candidate.rs` | [`Candidate`]: what counts about a snapshot; [`Hold`] |
//! | `calendar.rs` | hours, days, ISO weeks, months and years in a time zone |
//! | `group.rs` | one group of snapshots: rules, distrust, dependencies |
//! | `anomaly.rs` | [`anomalies`]: days with many more snapshots, sizes that collapse |
//!
//! # Rules
//! - Snapshots are grouped by job, source and, for those of a part of a job, selection: those of one
//!   group never count for, or against, those of another.
//! - A snapshot is kept if any rule keeps it; everything that a kept snapshot needs is kept too.
//! - In every hour, day, … the newest snapshot stands for the period.
//! - A snapshot counts for its [`EffectiveTime`](crate::repository::EffectiveTime). While its time
//!   is disputed, or lies in the future, it stays and replaces no other snapshot.
//! - Whatever the policy: the newest snapshots of a group ([`Policy::min_copies`], and the newest
//!   verified one) stay.

mod anomaly;
mod calendar;
mod candidate;
mod group;
mod policy;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

pub use anomaly::{Anomaly, AnomalyKind, anomalies};
pub use calendar::Period;
pub use candidate::{Candidate, Hold};
pub(crate) use policy::before;
pub use policy::{Keep, Policy, PolicyError, Rule};

use crate::id::SnapshotId;

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// It is one of the newest that the policy wants.
    Last,
    /// It stands for a period.
    Period {
        /// Which kind of period.
        period: Period,
    },
    /// It is younger than the policy's `within`.
    Within,
    /// It has a tag that the policy keeps.
    Tag {
        /// The tag.
        tag: String,
    },
    /// A rule of its tier keeps it.
    Tier {
        /// The tier.
        tier: String,
    },
    /// A rule of its type keeps it.
    Type {
        /// The type.
        #[serde(rename = "type")]
        kind: String,
    },
    /// It lies in the window in which every moment can be restored, or begins it.
    PointInTime,
    /// Somebody holds it.
    Hold {
        /// Why.
        reason: String,
    },
    /// It is too young to be dropped by anybody.
    Compliance,
    /// There would be too few left.
    MinCopies,
    /// It is the newest that was verified.
    NewestVerified,
    /// Its date lies in the future, or after it was received: its clock was wrong, and a person
    /// should look at it.
    WrongClock,
    /// The store's time contradicts its own, and no maintainer has adopted it.
    DisputedTime,
    /// It is the newest of its group before an [`Anomaly`].
    BeforeAnomaly,
    /// Another snapshot that is kept needs it.
    NeededBy {
        /// Which.
        id: SnapshotId,
    },
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The snapshot.
    pub id: SnapshotId,
    /// Why it is kept; empty if it is not.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether it is kept.
    #[must_use]
    pub fn keep(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Decides for every snapshot whether it is kept, and why; in the order of `candidates`.
#[must_use]
pub fn decide(
    candidates: &[Candidate],
    policy: &Policy,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Decision> {
    let mut groups: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        groups.entry(&candidate.group).or_default().push(candidate);
    }
    let mut reasons: BTreeMap<SnapshotId, Vec<Reason>> = BTreeMap::new();
    for group in groups.into_values() {
        reasons.extend(group::decide(&group, policy, now, zone));
    }
    keep_needed(candidates, &mut reasons);
    let decision = |candidate: &Candidate| {
        let mut reasons = reasons.get(&candidate.id).cloned().unwrap_or_default();
        reasons.sort();
        reasons.dedup();
        Decision { id: candidate.id, reasons }
    };
    candidates.iter().map(decision).collect()
}

/// What a kept snapshot needs is kept, and what that needs, and so on; also across groups.
fn keep_needed(candidates: &[Candidate], reasons: &mut BTreeMap<SnapshotId, Vec<Reason>>) {
    let by_id: BTreeMap<SnapshotId, &Candidate> = candidates.iter().map(|c| (c.id, c)).collect();
    let mut todo: Vec<SnapshotId> =
        reasons.iter().filter(|(_, why)| !why.is_empty()).map(|(id, _)| *id).collect();
    while let Some(id) = todo.pop() {
        for needed in by_id.get(&id).map(|candidate| candidate.needs.as_slice()).unwrap_or_default()
        {
            if !by_id.contains_key(needed) {
                continue;
            }
            let why = reasons.entry(*needed).or_default();
            if why.is_empty() {
                todo.push(*needed);
            }
            let reason = Reason::NeededBy { id };
            if !why.contains(&reason) {
                why.push(reason);
            }
        }
    }
}
