//! Runs that are dated after the present: a clock was wrong. Such a run is the newest one for years,
//! and would hide all later ones. It is listed behind the others.

use std::collections::HashSet;

use backup_core::clock::{Clock, SystemClock};
use jiff::{SignedDuration, Timestamp};

use super::{Found, History, Result, RunFilter};
use crate::runs::Run;

/// A run dated later than this after the present has a wrong clock. Clocks differ a little.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// The first time that no run can have.
fn limit() -> Timestamp {
    SystemClock.now().checked_add(AHEAD).unwrap_or(Timestamp::MAX)
}

fn has_future(found: &Found, limit: Timestamp) -> bool {
    found.runs.iter().any(|run| run.started >= limit)
}

/// The runs that `select` finds for a filter. Newest first, those of the future are behind the
/// others; if all are of the future, the clock of this machine is behind.
pub(super) async fn runs<F>(filter: &RunFilter, select: impl Fn(RunFilter) -> F) -> Result<Found>
where
    F: Future<Output = Result<Found>>,
{
    let (all, limit) = (select(filter.clone()).await?, limit());
    if filter.oldest_first || !has_future(&all, limit) {
        return Ok(all);
    }
    let within = match &filter.within {
        Some(within) => within.start.min(limit)..within.end.min(limit),
        None => Timestamp::MIN..limit,
    };
    let past = select(RunFilter { within: Some(within), ..filter.clone() }).await?;
    if past.runs.is_empty() {
        return Ok(all);
    }
    let mut runs = past.runs;
    runs.extend(all.runs.into_iter().filter(|run| run.started >= limit));
    runs.truncate(filter.limit.map_or(usize::MAX, |limit| limit as usize));
    Ok(Found { runs, unreadable: all.unreadable })
}

/// The history that `select` finds, without runs of the future. A job that has no others keeps
/// them: the clock of this machine may be behind.
pub(super) async fn history<F>(of: &History, select: impl Fn(History) -> F) -> Result<Found>
where
    F: Future<Output = Result<Found>>,
{
    let (all, limit) = (select(of.clone()).await?, limit());
    if !has_future(&all, limit) {
        return Ok(all);
    }
    let mut runs = select(History { until: Some(limit), ..of.clone() }).await?.runs;
    let known: HashSet<(String, String)> =
        runs.iter().map(|run| (run.job.clone(), run.repository.clone())).collect();
    let is_alone = |run: &Run| !known.contains(&(run.job.clone(), run.repository.clone()));
    runs.extend(all.runs.into_iter().filter(is_alone));
    runs.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
    Ok(Found { runs, unreadable: all.unreadable })
}
