//! Anomalies: snapshots of a group that differ so much from the earlier ones that a policy should
//! not replace the earlier ones without a person.
//!
//! A writer may store any number of snapshots, and may state any size. Snapshots that a maintainer
//! adopted are no anomaly, and count as usual.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::candidate::Candidate;
use super::group::is_ahead;
use crate::id::SnapshotId;
use crate::repository::TimeBasis;

/// Days that a day is compared with: the latest of the usual ones before it.
const DAYS: usize = 7;
/// With fewer usual days the usual number is unknown.
const MIN_DAYS: usize = 3;
/// Snapshots that a size is compared with: the latest of the usual ones before it.
const SIZES: usize = 5;
/// A size below this share of the usual one has collapsed: one tenth.
const COLLAPSE: u64 = 10;
/// Usual sizes below this many bytes are not compared.
const MIN_SIZE: u64 = 1 << 20;

/// The difference from the usual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "anomaly", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnomalyKind {
    /// A day has many more snapshots than the days before: more than twice the largest number of
    /// the last 7 usual days, plus 2. Needs 3 usual days.
    ManySnapshots {
        /// The day, as `YYYY-MM-DD` in the time zone of the policy.
        day: String,
        /// Snapshots that the store received on this day, without adopted ones.
        count: usize,
        /// Largest number on one of the usual days before.
        usual: usize,
    },
    /// Sizes collapsed to less than a tenth of the median of the last 5 usual snapshots of the same
    /// type. Usual sizes below 1 MiB are not compared.
    SmallSize {
        /// Stated size of the smallest snapshot, in bytes; 0 if it states none.
        bytes: u64,
        /// The usual size, in bytes.
        usual: u64,
    },
}

/// Unusual snapshots of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// The difference.
    #[serde(flatten)]
    pub kind: AnomalyKind,
    /// The unusual snapshots, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// The newest usual snapshot before them.
    pub before: Option<SnapshotId>,
}

/// Finds the anomalies of all groups. Snapshots of logs are not compared, and neither are those that
/// replace no other one because their time is disputed or lies in the future.
#[must_use]
pub fn anomalies(candidates: &[Candidate], now: Timestamp, zone: &TimeZone) -> Vec<Anomaly> {
    let mut groups: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
    let counted = |c: &&Candidate| !c.is_log() && !c.time.is_disputed() && !is_ahead(c, now);
    for candidate in candidates.iter().filter(counted) {
        groups.entry(&candidate.group).or_default().push(candidate);
    }
    let mut found = Vec::new();
    for mut group in groups.into_values() {
        group.sort_by_key(|c| c.order());
        found.extend(many_snapshots(&group, zone));
        found.extend(small_sizes(&group));
    }
    found
}

/// The day on which the store received a snapshot, else the day that it counts for.
fn day_of(candidate: &Candidate, zone: &TimeZone) -> Date {
    let is_of_store = matches!(candidate.time.basis(), TimeBasis::Confirmed | TimeBasis::RunEnd);
    let stored = candidate.time.stored().filter(|_| is_of_store);
    stored.unwrap_or(candidate.at()).to_zoned(zone.clone()).date()
}

fn many_snapshots(group: &[&Candidate], zone: &TimeZone) -> Vec<Anomaly> {
    let mut days: BTreeMap<Date, Vec<&Candidate>> = BTreeMap::new();
    for candidate in group {
        days.entry(day_of(candidate, zone)).or_default().push(candidate);
    }
    let mut usual: Vec<usize> = Vec::new();
    let mut before: Option<&Candidate> = None;
    let mut found = Vec::new();
    for (day, members) in days {
        let new: Vec<&Candidate> = members.iter().copied().filter(|c| !c.is_adopted()).collect();
        let most = usual.iter().rev().take(DAYS).max().copied().unwrap_or(0);
        if usual.len() >= MIN_DAYS && new.len() > 2 * most + 2 {
            let (day, count) = (day.to_string(), new.len());
            found.push(Anomaly {
                kind: AnomalyKind::ManySnapshots { day, count, usual: most },
                snapshots: new.iter().map(|c| c.id).collect(),
                before: before.map(|c| c.id),
            });
            continue;
        }
        usual.push(members.len());
        before = before.into_iter().chain(members).max_by_key(|c| c.order());
    }
    found
}

fn small_sizes(group: &[&Candidate]) -> Vec<Anomaly> {
    let mut kinds: BTreeMap<Option<&str>, Vec<&Candidate>> = BTreeMap::new();
    for candidate in group {
        kinds.entry(candidate.kind.as_deref()).or_default().push(candidate);
    }
    kinds.into_values().flat_map(|kind| small_of_kind(&kind)).collect()
}

fn small_of_kind(group: &[&Candidate]) -> Vec<Anomaly> {
    let mut usual: Vec<u64> = Vec::new();
    let mut before: Option<SnapshotId> = None;
    let mut found: Vec<Anomaly> = Vec::new();
    let mut is_open = false;
    for candidate in group {
        let size = candidate.size.unwrap_or(0);
        let median = median(&usual);
        let has_collapsed = median >= MIN_SIZE && size < median / COLLAPSE;
        if !has_collapsed || candidate.is_adopted() {
            if has_collapsed {
                // The adopted size is the usual one from now on.
                usual.clear();
            }
            if candidate.size.is_some() {
                usual.push(size);
            }
            before = Some(candidate.id);
            is_open = false;
            continue;
        }
        match found.last_mut().filter(|_| is_open) {
            Some(open) => {
                open.snapshots.push(candidate.id);
                if let AnomalyKind::SmallSize { bytes, .. } = &mut open.kind {
                    *bytes = size.min(*bytes);
                }
            }
            None => found.push(Anomaly {
                kind: AnomalyKind::SmallSize { bytes: size, usual: median },
                snapshots: vec![candidate.id],
                before,
            }),
        }
        is_open = true;
    }
    found
}

/// The median of the latest sizes; 0 without any.
fn median(sizes: &[u64]) -> u64 {
    let mut latest: Vec<u64> = sizes.iter().rev().take(SIZES).copied().collect();
    latest.sort_unstable();
    latest.get(latest.len() / 2).copied().unwrap_or(0)
}
