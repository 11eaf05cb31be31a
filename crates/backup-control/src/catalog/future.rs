//! Runs that are dated after the present: a clock was wrong. Such a run is the newest one for years,
//! and would hide all later ones. It is listed behind the others.

use backup_core::clock::{Clock, SystemClock};
use jiff::{SignedDuration, Timestamp};

use super::{Found, History, RunFilter};

/// A run dated later than this after the present has a wrong clock. Clocks differ a little.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// The first time that no run can have.
fn limit() -> Timestamp {
    SystemClock.now().checked_add(AHEAD).unwrap_or(Timestamp::MAX)
}

fn has_future(found: &Found, limit: Timestamp) -> bool {
    found.runs.iter().any(|run| run.started >= limit)
}

/// The filter for runs of the past, if runs of the future are among those that `filter` found
/// newest first.
pub(super) fn past(filter: &RunFilter, found: &Found) -> Option<RunFilter> {
    let limit = limit();
    if filter.oldest_first || !has_future(found, limit) {
        return None;
    }
    let within = match &filter.within {
        Some(within) => within.start.min(limit)..within.end.min(limit),
        None => Timestamp::MIN..limit,
    };
    Some(RunFilter { within: Some(within), ..filter.clone() })
}

/// Runs of the past, and behind them those of the future. If all are of the future, the clock of
/// this machine is behind.
pub(super) fn behind(past: Found, all: Found, filter: &RunFilter) -> Found {
    if past.runs.is_empty() {
        return all;
    }
    let limit = limit();
    let mut runs = past.runs;
    runs.extend(all.runs.into_iter().filter(|run| run.started >= limit));
    runs.truncate(filter.limit.map_or(usize::MAX, |limit| limit as usize));
    Found { runs, unreadable: all.unreadable }
}

/// The request for the past, if runs of the future are among a history.
pub(super) fn past_history(of: &History, found: &Found) -> Option<History> {
    let limit = limit();
    has_future(found, limit).then(|| History { until: Some(limit), ..of.clone() })
}

/// A history of the past alone. Jobs that have none keep theirs: the clock of this machine may be
/// behind.
pub(super) fn of_past(past: Found, all: Found) -> Found {
    let mut runs = past.runs;
    let is_known = |runs: &[crate::runs::Run], job: &str, place: &str| {
        runs.iter().any(|run| run.job == job && run.repository == place)
    };
    let alone: Vec<_> =
        all.runs.into_iter().filter(|run| !is_known(&runs, &run.job, &run.repository)).collect();
    runs.extend(alone);
    runs.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
    Found { runs, unreadable: all.unreadable }
}
