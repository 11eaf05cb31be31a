//! Effective times that follow the order of snapshots.
//!
//! The store's time of an object is no evidence where the clock that wrote the snapshot wrote the
//! object's time too, as on a disk. Two facts remain: a snapshot is older than the snapshots built
//! on it, and none is newer than the present. In each chain of parents, the largest set of times
//! that agree with both is trusted. Any other snapshot counts for the nearest time between those of
//! its trusted neighbours. A snapshot that was made by a clock in doubt, earlier than the latest known
//! time, is never trusted.
//!
//! Where the store has a clock of its own, its times are trusted. They only never precede those of a
//! parent.

use std::collections::HashMap;

use jiff::Timestamp;

use super::effective_time::AGREEMENT;
use super::{SnapshotInfo, TimeBasis};
use crate::format::Snapshot;
use crate::id::SnapshotId;
use crate::retention::Candidate;

/// Corrects the effective times, and sorts by them: parents precede the snapshots built on them.
///
/// A time up to 48 hours after `now` counts as the present. If most snapshots are later than that,
/// `now` is wrong rather than they, and limits none. `has_clock` is true if the store has a clock of
/// its own.
pub(super) fn settle(snapshots: &mut [SnapshotInfo], has_clock: bool, now: Timestamp) {
    let limit = now.checked_add(AGREEMENT).unwrap_or(Timestamp::MAX);
    let is_later =
        |info: &&SnapshotInfo| info.time() > limit && info.snapshot.x_clock_seen.is_none();
    let later = snapshots.iter().filter(is_later).count();
    // The times of a store with a clock are no later than its present.
    let is_unlimited = has_clock || later * 2 > snapshots.len();
    let now = if is_unlimited { Timestamp::MAX } else { now };
    let family = Family::of(snapshots);
    let times = family.times(snapshots, has_clock, now);
    for (info, time) in snapshots.iter_mut().zip(times) {
        info.effective = info.effective.in_order(time);
    }
    let depths: HashMap<SnapshotId, usize> =
        snapshots.iter().map(|info| info.id).zip(family.depths).collect();
    snapshots.sort_by_key(|info| (info.time(), depths[&info.id], info.effective.own(), info.id));
}

/// Recognises snapshots that another program copied: the store wrote them later than they state, as
/// it did most snapshots within 48 hours of them.
pub(super) fn mark_moved(snapshots: &mut [SnapshotInfo]) {
    let mut written: Vec<(Timestamp, bool)> = snapshots
        .iter()
        .filter_map(|info| Some((info.effective.stored()?, info.effective.is_stored_later())))
        .collect();
    written.sort_unstable();
    // The number of late ones before each position.
    let mut late = vec![0];
    for (_, is_late) in &written {
        late.push(late.last().copied().unwrap_or(0) + usize::from(*is_late));
    }
    for info in snapshots.iter_mut().filter(|info| info.effective.is_stored_later()) {
        let Some(stored) = info.effective.stored() else { continue };
        let (start, end) = (stored.saturating_sub(AGREEMENT), stored.saturating_add(AGREEMENT));
        let start = start.map_or(0, |start| written.partition_point(|(time, _)| *time < start));
        let end = end.map_or(0, |end| written.partition_point(|(time, _)| *time <= end));
        if (late[end] - late[start]) * 2 > end - start {
            info.effective = info.effective.moved();
        }
    }
}

/// Predecessors and successors, by positions in the list of snapshots.
struct Family {
    parents: Vec<Option<usize>>,
    /// Ancestors in the list.
    depths: Vec<usize>,
    /// Snapshots that no other one is built on, those with most ancestors first.
    ends: Vec<usize>,
}

impl Family {
    fn of(snapshots: &[SnapshotInfo]) -> Self {
        let positions: HashMap<SnapshotId, usize> =
            snapshots.iter().enumerate().map(|(at, info)| (info.id, at)).collect();
        let parents: Vec<Option<usize>> = snapshots
            .iter()
            .map(|info| {
                let Snapshot { x_previous, parent, .. } = &*info.snapshot;
                let position =
                    |id: &Option<SnapshotId>| id.as_ref().and_then(|id| positions.get(id).copied());
                position(x_previous).or_else(|| position(parent))
            })
            .collect();
        let depths = depths(&parents);
        let mut is_parent = vec![false; snapshots.len()];
        parents.iter().flatten().for_each(|at| is_parent[*at] = true);
        let mut ends: Vec<usize> = (0..snapshots.len()).filter(|at| !is_parent[*at]).collect();
        ends.sort_by_key(|at| (std::cmp::Reverse(depths[*at]), snapshots[*at].id));
        Self { parents, depths, ends }
    }

    /// The times that count, in the order of the list.
    fn times(&self, snapshots: &[SnapshotInfo], has_clock: bool, now: Timestamp) -> Vec<Timestamp> {
        let mut times: Vec<Option<Timestamp>> = vec![None; snapshots.len()];
        let mut unknown = Vec::new();
        for end in &self.ends {
            let mut chain: Vec<usize> = Vec::new();
            let mut next = Some(*end);
            while let Some(at) = next.filter(|at| times[*at].is_none()) {
                chain.push(at);
                next = self.parents[at];
            }
            chain.reverse();
            let first = next.and_then(|at| times[at]);
            let links: Vec<Link> = chain.iter().map(|at| Link::of(&snapshots[*at], now)).collect();
            for (at, time) in chain.iter().zip(times_of_chain(&links, first, has_clock, now)) {
                times[*at] = time;
            }
            unknown.extend(chain.into_iter().filter(|at| times[*at].is_none()));
        }
        let oldest = oldest_of_groups(snapshots, &times);
        for at in unknown {
            let group = Candidate::group_of(&snapshots[at].snapshot);
            let own = snapshots[at].time();
            times[at] = Some(oldest.get(&group).copied().unwrap_or(own.min(now)));
        }
        let own = snapshots.iter().map(SnapshotInfo::time);
        times.into_iter().zip(own).map(|(time, own)| time.unwrap_or(own)).collect()
    }
}

/// The number of ancestors of each snapshot.
fn depths(parents: &[Option<usize>]) -> Vec<usize> {
    let mut depths: Vec<Option<usize>> = vec![None; parents.len()];
    for start in 0..parents.len() {
        let mut path = Vec::new();
        let mut next = Some(start);
        // Names are digests of contents with the parent's name: there are no circles.
        while let Some(at) = next.filter(|at| depths[*at].is_none() && path.len() < parents.len()) {
            path.push(at);
            next = parents[at];
        }
        let first = next.and_then(|at| depths[at]).map_or(0, |depth| depth + 1);
        for (depth, at) in (first..).zip(path.into_iter().rev()) {
            depths[at] = Some(depth);
        }
    }
    depths.into_iter().map(Option::unwrap_or_default).collect()
}

/// The earliest known time in each group of snapshots.
fn oldest_of_groups(
    snapshots: &[SnapshotInfo],
    times: &[Option<Timestamp>],
) -> HashMap<String, Timestamp> {
    let mut oldest = HashMap::new();
    for (info, time) in snapshots.iter().zip(times) {
        let Some(time) = time else { continue };
        let known = oldest.entry(Candidate::group_of(&info.snapshot)).or_insert(*time);
        *known = (*known).min(*time);
    }
    oldest
}

/// The part of a snapshot's time in the decision about its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Trusted if it agrees with the others.
    Open,
    /// A maintainer vouched for the time: it counts, and limits no other one.
    Adopted,
    /// The clock was certainly wrong.
    Wrong,
}

/// A snapshot in a chain of parents.
#[derive(Debug, Clone, Copy)]
struct Link {
    time: Timestamp,
    trust: Trust,
}

impl Link {
    fn of(info: &SnapshotInfo, now: Timestamp) -> Self {
        let trust = match info.effective.basis() {
            TimeBasis::Adopted => Trust::Adopted,
            TimeBasis::Order => Trust::Wrong,
            _ => Trust::Open,
        };
        // Clocks differ a little: slightly after the present is the present.
        let is_close = |time: Timestamp| now.duration_until(time) <= AGREEMENT;
        let time = info.time();
        let time = if is_close(time) { time.min(now) } else { time };
        Self { time, trust }
    }
}

/// The times that count in a chain, oldest link first, built on a snapshot of the time `first`. A
/// time is unknown if no time in the chain is trusted.
fn times_of_chain(
    links: &[Link],
    first: Option<Timestamp>,
    has_clock: bool,
    now: Timestamp,
) -> Vec<Option<Timestamp>> {
    let is_trusted = match has_clock {
        true => links.iter().map(|link| link.trust == Trust::Open && link.time <= now).collect(),
        false => trusted(links, first.unwrap_or(Timestamp::MIN), now),
    };
    // Backwards: the next trusted time after each link.
    let mut next = None;
    let mut nexts: Vec<Option<Timestamp>> = Vec::with_capacity(links.len());
    for (link, is_trusted) in links.iter().zip(&is_trusted).rev() {
        next = if *is_trusted { Some(link.time) } else { next };
        nexts.push(next);
    }
    let mut last = first;
    let mut times = Vec::with_capacity(links.len());
    for ((link, is_trusted), next) in links.iter().zip(is_trusted).zip(nexts.into_iter().rev()) {
        if is_trusted {
            last = last.max(Some(link.time));
        }
        let (earliest, latest) = (last.or(next), next.max(last));
        let time = match (earliest, latest) {
            _ if link.trust == Trust::Adopted => Some(link.time),
            _ if is_trusted => last,
            (Some(earliest), Some(latest)) => Some(link.time.clamp(earliest, latest)),
            _ => None,
        };
        times.push(time);
    }
    times
}

/// The largest set of links whose times lie between `first` and `now` and never decrease. Of two
/// such sets, the one with earlier links.
fn trusted(links: &[Link], first: Timestamp, now: Timestamp) -> Vec<bool> {
    // From the end: the first link of the best set of each length, and the link after each link in
    // its set.
    let mut firsts: Vec<usize> = Vec::new();
    let mut next: Vec<Option<usize>> = vec![None; links.len()];
    for (at, link) in links.iter().enumerate().rev() {
        if link.trust != Trust::Open || link.time < first || link.time > now {
            continue;
        }
        let length = firsts.partition_point(|first| links[*first].time >= link.time);
        next[at] = length.checked_sub(1).map(|shorter| firsts[shorter]);
        match firsts.get_mut(length) {
            Some(first) => *first = at,
            None => firsts.push(at),
        }
    }
    let mut is_trusted = vec![false; links.len()];
    let mut link = firsts.last().copied();
    while let Some(at) = link {
        is_trusted[at] = true;
        link = next[at];
    }
    is_trusted
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    fn name(digit: usize) -> SnapshotId {
        format!("{digit:064x}").parse().unwrap()
    }

    /// Snapshots as (day, parent); each is stored at its own time, as on a disk.
    fn family(days: &[(i64, Option<usize>)]) -> Vec<SnapshotInfo> {
        let info = |(at, (own, parent)): (usize, &(i64, Option<usize>))| {
            let json = serde_json::json!({
                "time": day(*own), "tree": "00".repeat(32), "paths": ["/data"], "hostname": "h",
                "username": "u", "parent": parent.map(|parent| name(parent).to_hex()),
            });
            SnapshotInfo::new(name(at), serde_json::from_value(json).unwrap())
        };
        days.iter().enumerate().map(info).collect()
    }

    /// The order, as positions, and the days that count, in that order.
    fn settled(days: &[(i64, Option<usize>)], now: i64) -> (Vec<usize>, Vec<i64>) {
        let mut all = family(days);
        let names: Vec<SnapshotId> = all.iter().map(|info| info.id).collect();
        settle(&mut all, false, day(now));
        let position = |info: &SnapshotInfo| names.iter().position(|id| *id == info.id).unwrap();
        let order = all.iter().map(position).collect();
        (order, all.iter().map(|info| info.time().as_second() / 86_400).collect())
    }

    fn chain(days: &[i64]) -> Vec<(i64, Option<usize>)> {
        days.iter().enumerate().map(|(at, day)| (*day, at.checked_sub(1))).collect()
    }

    /// Own days along a chain of parents, the present, the days that count.
    #[test]
    fn times_follow_parents_and_present() {
        let cases: [(&[i64], i64, &[i64]); 12] = [
            (&[10, 11, 12], 13, &[10, 11, 12]),
            // One backup while the clock was thirty years ahead, then right ones.
            (&[10, 11, 11_000], 13, &[10, 11, 11]),
            (&[10, 11, 11_000, 13], 13, &[10, 11, 13, 13]),
            // The same after the present has caught up with half a year.
            (&[10, 11, 190, 13, 14, 15], 200, &[10, 11, 13, 13, 14, 15]),
            // A clock at the beginning of time.
            (&[10, 11, 0], 12, &[10, 11, 11]),
            (&[10, 11, 0, 0, 13], 14, &[10, 11, 11, 11, 13]),
            // The first one ahead counts for the next right one.
            (&[11_000, 11, 12], 13, &[11, 11, 12]),
            (&[11_000, 11_001, 11], 13, &[11_000, 11_001, 11_001]),
            // The present is behind: it moves nothing.
            (&[10, 11, 12], 0, &[10, 11, 12]),
            (&[11_000], 13, &[11_000]),
            // Of two, the child is wrong.
            (&[12, 10], 13, &[12, 12]),
            (&[10, 10, 10], 10, &[10, 10, 10]),
        ];
        for (own, now, expected) in cases {
            let (order, days) = settled(&chain(own), now);
            assert_eq!(days, expected, "{own:?} at {now}");
            assert_eq!(order, (0..own.len()).collect::<Vec<_>>(), "{own:?} at {now}");
        }
    }

    #[test]
    fn branches_and_lone_snapshots_are_placed() {
        // Two built on the first; a later end is longer, the other contradicts its parent.
        let branches = [(10, None), (12, Some(0)), (5, Some(0)), (13, Some(1))];
        assert_eq!(settled(&branches, 20), (vec![0, 2, 1, 3], vec![10, 10, 12, 13]));
        // Its neighbours are forgotten: it counts as the oldest of its group, and is never the
        // latest.
        let lone = [(10, None), (11, Some(0)), (11_000, None)];
        assert_eq!(settled(&lone, 20), (vec![0, 2, 1], vec![10, 10, 11]));
    }

    #[test]
    fn adopted_times_stay_and_large_corrections_are_disputed() {
        let mut all = family(&chain(&[10, 11, 5, 13]));
        all[2].effective = crate::repository::EffectiveTime::decide(day(5), None, None, true);
        settle(&mut all, false, day(20));
        let days: Vec<i64> = all.iter().map(|info| info.time().as_second() / 86_400).collect();
        assert_eq!(days, [5, 10, 11, 13]);
        let mut all = family(&chain(&[10, 14, 13, 15, 11_000, 17]));
        settle(&mut all, false, day(20));
        let bases: Vec<TimeBasis> = all.iter().map(|info| info.effective.basis()).collect();
        use TimeBasis::{Order, Unverifiable};
        let own = Unverifiable;
        assert_eq!(bases, [own, own, own, own, Order, own], "a day is a small correction");
        assert!(all[4].effective.is_disputed() && !all[4].effective.is_own());
        assert_eq!(all[4].effective.own(), day(11_000));
    }

    /// A dead battery for most of the nights: the writer knew that its clock was behind.
    #[test]
    fn clocks_in_doubt_never_outvote_right_ones() {
        let mut all = family(&chain(&[10, 11, 12, 0, 0, 0, 0, 0, 18]));
        for info in &mut all[3..8] {
            Arc::make_mut(&mut info.snapshot).x_clock_seen = Some(day(12));
        }
        let names: Vec<SnapshotId> = all.iter().map(|info| info.id).collect();
        let settled = |all: &mut [SnapshotInfo]| {
            for info in &mut *all {
                info.effective = crate::repository::EffectiveTime::of(&info.snapshot, None, false);
            }
            settle(all, false, day(19));
        };
        settled(&mut all);
        let days: Vec<i64> = all.iter().map(|info| info.time().as_second() / 86_400).collect();
        assert_eq!(days, [10, 11, 12, 12, 12, 12, 12, 12, 18]);
        assert_eq!(all.iter().map(|info| info.id).collect::<Vec<_>>(), names);
        assert!(all[3..8].iter().all(|info| info.effective.is_disputed()));
        // After the neighbours are forgotten, too.
        let mut left: Vec<SnapshotInfo> = all.drain(4..).collect();
        settled(&mut left);
        assert!(
            left[..4].iter().all(|info| info.effective.is_disputed() && info.time() >= day(12))
        );
    }

    /// Own day, day of the store; the days that count.
    #[test]
    fn moved_repositories_keep_their_dates() {
        type Dates = &'static [(i64, i64)];
        let cases: [(Dates, &[i64]); 4] = [
            // Copied over a week, in the order of names.
            (&[(10, 107), (11, 100), (12, 103), (13, 101)], &[10, 11, 12, 13]),
            // A weekly mirror: the last two days of each week agree.
            (&[(93, 100), (94, 100), (97, 100), (99, 100), (100, 100)], &[93, 94, 97, 99, 100]),
            // A forged one among right ones.
            (&[(90, 100), (99, 99), (100, 100), (101, 101)], &[99, 100, 100, 101]),
            // One of a clock in 1970 among right ones.
            (&[(0, 100), (99, 99), (101, 101)], &[99, 100, 101]),
        ];
        for (dated, expected) in cases {
            let lone: Vec<(i64, Option<usize>)> =
                dated.iter().map(|(own, _)| (*own, None)).collect();
            let mut all = family(&lone);
            for (info, (_, stored)) in all.iter_mut().zip(dated) {
                let stored = Some(day(*stored));
                info.effective =
                    crate::repository::EffectiveTime::of(&info.snapshot, stored, false);
            }
            mark_moved(&mut all);
            settle(&mut all, true, day(120));
            let days: Vec<i64> = all.iter().map(|info| info.time().as_second() / 86_400).collect();
            assert_eq!(days, expected, "{dated:?}");
        }
    }

    proptest::proptest! {
        /// Daily backups, one of them by a clock that is up to forty years wrong.
        #[test]
        fn one_wrong_clock_makes_no_right_snapshot_older(
            days in 3_usize..40,
            wrong in proptest::prelude::any::<proptest::sample::Index>(),
            offset in -15_000_i64..15_000,
            later in 0_i64..400,
        ) {
            let wrong = wrong.index(days);
            let first = 20_000;
            let mut own: Vec<i64> = (first..).take(days).collect();
            own[wrong] += offset;
            let now = first + days as i64 + later;
            let (order, counted) = settled(&chain(&own), now);
            proptest::prop_assert_eq!(order, (0..days).collect::<Vec<_>>());
            proptest::prop_assert!(counted.is_sorted() && *counted.last().unwrap() <= now);
            for (at, counts) in counted.iter().enumerate() {
                let right = first + at as i64;
                // With two right ones after it, the wrong one shifts others by a day at most.
                let is_between = wrong + 2 < days;
                let expected = match at == wrong {
                    false if is_between => right..=right + 1,
                    false => right..=i64::MAX,
                    true if is_between && wrong > 0 => right - 1..=right + 2,
                    true => i64::MIN..=i64::MAX,
                };
                proptest::prop_assert!(expected.contains(counts), "{:?} at {}", own, now);
            }
        }
    }

    #[test]
    fn cost_grows_with_the_number_of_snapshots() {
        let days: Vec<i64> = (0..20_000).collect();
        let started = std::time::Instant::now();
        assert_eq!(settled(&chain(&days), 30_000).1, days);
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
    }
}
