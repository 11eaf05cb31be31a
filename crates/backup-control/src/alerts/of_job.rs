//! Rules about jobs.

use std::time::Duration;

use jiff::Timestamp;

use super::rules::Observation;
use super::sizes::MAX_ANOMALY;
use super::{Condition, JobFacts, slots};
use crate::config::AlertConfig;
use crate::runs::{Run, State};
use crate::units::{Share, Time};
use crate::words;

/// Successful runs of which a usual duration is the average, at least and at most.
const HISTORY: (usize, usize) = (5, 20);
/// Durations up to this are usual, unless the rule has another `floor`.
const FLOOR: Duration = Duration::from_secs(60);

/// Observation of a job by the rule `name`; none if it is unknown.
pub(super) fn observe(
    name: &str,
    rule: &AlertConfig,
    job: &str,
    known: &JobFacts,
    now: Timestamp,
) -> Option<Observation> {
    match &rule.condition {
        Condition::Failure => failure(job, known),
        Condition::Stale(limit) => stale(job, known, limit, now),
        Condition::Duration(factor) => duration(job, known, *factor, rule.floor.as_ref(), now),
        Condition::SizeAnomaly(share) => size(name, job, known, *share),
        Condition::Rpo(limit) => rpo(job, known, limit.as_ref(), now),
        Condition::CleanupFailed => cleanup(job, known),
        Condition::LogGap => log_gap(job, known),
        Condition::LogLag(limit) => log_lag(job, known, limit, now),
        Condition::SlotUnhealthy(limit) => {
            Some(slots::observe(job, known.slot.as_ref()?, limit, now))
        }
        _ => None,
    }
}

fn cleanup(job: &str, known: &JobFacts) -> Option<Observation> {
    let done = known.cleaned.as_ref()?;
    let error =
        if done.error.is_empty() { "see the output of the command" } else { done.error.as_str() };
    let next = format!(
        "compare the snapshots with `backup list --job {job}`; show the plan with `backup cleanup \
         --job {job} --dry-run`"
    );
    Some(
        Observation::new(!done.is_success, format!("the cleanup of {job} failed"))
            .because(format!("cleanup at {:.0}: {error}", done.time), next),
    )
}

fn log_gap(job: &str, known: &JobFacts) -> Option<Observation> {
    let gap = known.log?.gap;
    let title = format!("the captured log of {job} has a gap");
    let cause = gap
        .map(|time| format!("changes around {time:.0} are missing in the captured log"))
        .unwrap_or_default();
    let next = format!(
        "run `backup run {job} --type full`: moments before the gap, and from the new backup on, \
         can be restored"
    );
    Some(Observation::new(gap.is_some(), title).because(cause, next))
}

fn log_lag(job: &str, known: &JobFacts, limit: &Time, now: Timestamp) -> Option<Observation> {
    let point = known.log?.recovery_point?;
    let lag = words::between(point, now);
    let title = format!("the captured log of {job} lags");
    let cause = format!(
        "the latest restorable moment is {} ago; the limit is {limit}",
        words::duration(lag)
    );
    let next = format!(
        "check that `backup logs follow {job}` is running; `backup logs status {job}` shows its \
         position"
    );
    Some(Observation::new(lag > limit.length(), title).because(cause, next))
}

/// What came of runs that were not stopped by somebody.
fn ended(known: &JobFacts) -> impl Iterator<Item = &Run> {
    known.runs.iter().filter(|run| run.state.is_success() || run.state == State::Failed)
}

fn failure(job: &str, known: &JobFacts) -> Option<Observation> {
    let last = ended(known).next()?;
    let observed =
        Observation::new(last.state == State::Failed, format!("the backup of {job} failed"));
    let retry = format!("run `backup retry {}` once the cause is corrected", last.id);
    let Some(failure) = &last.evidence.failure else {
        let cause = format!("run {} recorded no cause", last.id);
        return Some(observed.because(cause, retry).with("run", last.id.as_str()));
    };
    let next =
        failure.hint.as_ref().map_or_else(|| retry.clone(), |hint| format!("{hint}; then {retry}"));
    Some(observed.because(failure.message.clone(), next).with("run", last.id.as_str()))
}

fn stale(job: &str, known: &JobFacts, limit: &Time, now: Timestamp) -> Option<Observation> {
    // One that never succeeded is late from its first try on, and one that was never tried since
    // somebody has looked for it.
    let since = known.last_success.or(known.first_run).or(known.watched_since)?;
    let age = words::between(since, now);
    if age > limit.length() && !known.is_looked_at && !known.is_out_of_reach {
        // Another machine may have made one.
        return None;
    }
    let what = match (known.last_success, known.first_run) {
        (Some(_), _) => "the last successful backup began",
        (None, Some(_)) => "no backup has succeeded; the first attempt was",
        (None, None) => "no backup was attempted since monitoring began",
    };
    let where_else = if known.is_out_of_reach {
        "; the repository is unreachable, and may hold newer backups"
    } else {
        ""
    };
    Some(
        Observation::new(age > limit.length(), format!("no backup of {job} in the last {limit}"))
            .because(
                format!("{what} {} ago{where_else}; the limit is {limit}", words::duration(age)),
                format!("run `backup run {job}`, and check that its timer is active"),
            ),
    )
}

fn took(run: &Run, now: Timestamp) -> Duration {
    words::between(run.started, run.finished.unwrap_or(now))
}

fn duration(
    job: &str,
    known: &JobFacts,
    factor: f64,
    floor: Option<&Time>,
    now: Timestamp,
) -> Option<Observation> {
    // A running backup counts as soon as it takes too long.
    let last = known.runs.iter().find(|run| run.finished.is_none() || run.state.is_success())?;
    let is_alike =
        |run: &&Run| last.evidence.kind.is_none() || run.evidence.kind == last.evidence.kind;
    let earlier = known.successes().filter(|run| run.started < last.started).filter(is_alike);
    let earlier: Vec<Duration> = earlier.take(HISTORY.1).map(|run| took(run, now)).collect();
    if earlier.len() < HISTORY.0 {
        return None;
    }
    let usual = earlier.iter().sum::<Duration>() / u32::try_from(earlier.len()).ok()?;
    let floor = floor.map_or(FLOOR, Time::length);
    let limit = Duration::try_from_secs_f64(usual.as_secs_f64() * factor).ok()?.max(floor);
    let length = took(last, now);
    let holds = length > limit;
    if last.finished.is_none() && !holds {
        return None;
    }
    let cause = format!(
        "{}; the average of {} earlier ones is {}, the limit is {}",
        words::duration(length),
        earlier.len(),
        words::duration(usual),
        words::duration(limit)
    );
    let next = format!("run `backup analyze {}` to see the duration of each stage", last.id);
    Some(
        Observation::new(holds, format!("the backup of {job} takes longer than usual"))
            .because(cause, next)
            .with("run", last.id.as_str()),
    )
}

fn size(name: &str, job: &str, known: &JobFacts, limit: Share) -> Option<Observation> {
    let sizes = known.sizes.get(name)?;
    let (bytes, usual) = (sizes.bytes, sizes.usual);
    let differs = bytes.abs_diff(usual) as f64 / usual as f64 * 100.0;
    let direction = if bytes < usual { "less" } else { "more" };
    let cause = format!(
        "{} is {differs:.0}% {direction} than {}, the median of {}; the limit is {limit}",
        words::size(bytes),
        words::size(usual),
        words::count(sizes.backups as u64, "usual backup", "usual backups"),
    );
    let snapshot = sizes.snapshot.as_deref().and_then(|id| id.get(..8)).unwrap_or("SNAPSHOT");
    let next = format!(
        "run `backup diff {snapshot} latest` to see the changes; the alert ends when the size is \
         usual again, or after {}",
        words::duration(MAX_ANOMALY)
    );
    let mut observed = Observation::new(
        sizes.since.is_some(),
        format!("the size of the backup of {job} is unusual"),
    )
    .because(cause, next)
    .with("run", sizes.run.as_str());
    if let Some(since) = sizes.since {
        observed = observed.with("unusual since", format!("{since:.0}"));
    }
    Some(observed)
}

fn rpo(job: &str, known: &JobFacts, limit: Option<&Time>, now: Timestamp) -> Option<Observation> {
    let limit = limit.map(Time::length).or(known.rpo)?;
    // Of what was never backed up, everything there is since somebody has looked for it.
    let point = known.log.and_then(|log| log.recovery_point).max(known.last_success);
    let point = point.or(known.first_run).or(known.watched_since)?;
    let lost = words::between(point, now);
    if lost > limit && !known.is_looked_at && !known.is_out_of_reach {
        // Its log may hold more, and another machine may have made a backup.
        return None;
    }
    let (lost, limit, holds) = (words::duration(lost), words::duration(limit), lost > limit);
    Some(Observation::new(holds, format!("{job} could lose more data than allowed")).because(
        format!("a failure now would lose the last {lost}; the limit is {limit}"),
        format!(
            "check `backup status {job}`; capture the log (`backup logs follow {job}`) or back up \
             more often"
        ),
    ))
}
