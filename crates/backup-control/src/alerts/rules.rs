//! What rules see.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::GlobSet;
use jiff::Timestamp;

use super::{About, Condition, Done, Facts, JobFacts, RepositoryFacts, configuration, slots};
use crate::alive::{self, Alive};
use crate::config::AlertConfig;
use crate::error::Result;
use crate::runs::{Run, State};
use crate::units::{Share, Time};
use crate::words;

/// Successful runs that say how long one usually takes, at least and at most.
const USUAL: (usize, usize) = (3, 20);

/// The daemon is silent after so long if the rule says nothing else: it misses its turn ten times.
const SILENT: Duration = Duration::from_secs(300);
/// What the daemon is called where jobs and repositories have names.
pub const DAEMON: &str = "backupd";

/// What a rule sees of one job, one repository or the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The name of the job or the repository, or the daemon.
    pub subject: String,
    /// Which of these it is.
    pub about: About,
    /// Whether the rule holds.
    pub holds: bool,
    /// What is wrong, in one line; also when it is over.
    pub title: String,
    /// Why.
    pub cause: String,
    /// What can be done about it.
    pub next: String,
    /// What else there is to know.
    pub details: BTreeMap<String, String>,
}

impl Observation {
    pub(super) fn new(holds: bool, title: String) -> Self {
        let (subject, cause, next) = (String::new(), String::new(), String::new());
        Self { subject, about: About::Job, holds, title, cause, next, details: BTreeMap::new() }
    }

    pub(super) fn because(self, cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self { cause: cause.into(), next: next.into(), ..self }
    }

    pub(super) fn of(self, subject: &str, about: About) -> Self {
        Self { subject: subject.to_owned(), about, ..self }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// Holds a rule against what is known: an observation for each job or repository of which it is
/// known whether it holds.
///
/// # Errors
/// A pattern of the rule is none, which is found when a configuration is loaded.
pub fn observe(rule: &AlertConfig, facts: &Facts, now: Timestamp) -> Result<Vec<Observation>> {
    let only = crate::notify::patterns(&rule.only)?;
    let is_meant = |name: &str| rule.only.is_empty() || GlobSet::is_match(&only, name);
    let condition = &rule.condition;
    let about = condition.about();
    let mut observed: Vec<_> = match about {
        About::Job => {
            let meant = facts.jobs.iter().filter(|(name, _)| is_meant(name));
            meant
                .filter_map(|(name, known)| {
                    Some(of_job(condition, name, known, facts.watched_since, now)?.of(name, about))
                })
                .collect()
        }
        About::Repository => {
            let meant = facts.repositories.iter().filter(|(name, _)| is_meant(name));
            meant
                .filter_map(|(name, known)| {
                    Some(of_repository(condition, name, known)?.of(name, about))
                })
                .collect()
        }
        About::Daemon => {
            let known = facts.daemon.iter();
            known
                .filter_map(|last| {
                    Some(of_daemon(condition, last.as_ref(), now)?.of(DAEMON, about))
                })
                .collect()
        }
    };
    observed.extend(configuration::observe(condition, facts.configuration.as_ref(), now));
    Ok(observed)
}

fn of_daemon(condition: &Condition, last: Option<&Alive>, now: Timestamp) -> Option<Observation> {
    let Condition::DaemonSilent(limit) = condition else { return None };
    let title = "the daemon is silent".to_owned();
    // None was left, or it was taken away: nobody expects one.
    let Some(last) = last else { return Some(Observation::new(false, title)) };
    let silent = words::between(last.at, now);
    let longest = limit.as_ref().map_or(SILENT, Time::length);
    let cause = format!(
        "the last beacon is {} old; process {} writes one every {}",
        words::duration(silent),
        last.pid,
        words::duration(alive::EVERY)
    );
    let next = "check that `backupd` is running, and read its messages; until it runs, scheduled \
                backups do not start";
    let observed = Observation::new(silent > longest, title).because(cause, next);
    Some(observed.with("version", last.version.as_str()))
}

fn of_job(
    condition: &Condition,
    job: &str,
    known: &JobFacts,
    watched_since: Option<Timestamp>,
    now: Timestamp,
) -> Option<Observation> {
    match condition {
        Condition::Failure => failure(job, known),
        Condition::Stale(limit) => stale(job, known, limit, watched_since, now),
        Condition::Duration(factor) => duration(job, known, *factor, now),
        Condition::SizeAnomaly(share) => size(job, known, *share),
        Condition::Rpo(limit) => rpo(job, known, limit.as_ref(), watched_since, now),
        Condition::LogGap => {
            let gap = known.log?.gap;
            let title = format!("the captured log of {job} has a gap");
            let cause = gap
                .map(|time| format!("changes around {time:.0} are missing in the captured log"))
                .unwrap_or_default();
            let next = format!(
                "run `backup run {job} --type full`: moments before the gap, and from the new \
                 backup on, can be restored"
            );
            Some(Observation::new(gap.is_some(), title).because(cause, next))
        }
        Condition::LogLag(limit) => {
            let point = known.log?.recovery_point?;
            let lag = words::between(point, now);
            let title = format!("the captured log of {job} lags");
            let cause = format!("the latest restorable moment is {} ago", words::duration(lag));
            let next = format!(
                "check that `backup logs follow {job}` is running; `backup logs status {job}` \
                 shows its position"
            );
            Some(Observation::new(lag > limit.length(), title).because(cause, next))
        }
        Condition::SlotUnhealthy(limit) => {
            Some(slots::observe(job, known.slot.as_ref()?, limit, now))
        }
        _ => None,
    }
}

/// What came of runs that were not stopped by somebody.
fn ended(known: &JobFacts) -> impl Iterator<Item = &Run> {
    known.runs.iter().filter(|run| run.state.is_success() || run.state == State::Failed)
}

fn failure(job: &str, known: &JobFacts) -> Option<Observation> {
    let last = ended(known).next()?;
    let observed =
        Observation::new(last.state == State::Failed, format!("the backup of {job} failed"));
    let Some(failure) = &last.evidence.failure else {
        return Some(observed.with("run", last.id.as_str()));
    };
    let retry = format!("run `backup retry {}` once the cause is corrected", last.id);
    let next =
        failure.hint.as_ref().map_or_else(|| retry.clone(), |hint| format!("{hint}; then {retry}"));
    Some(observed.because(failure.message.clone(), next).with("run", last.id.as_str()))
}

fn stale(
    job: &str,
    known: &JobFacts,
    limit: &Time,
    watched_since: Option<Timestamp>,
    now: Timestamp,
) -> Option<Observation> {
    // One that never succeeded is late from its first try on, and one that was never tried since
    // somebody has looked for it.
    let since = known.last_success.or(known.first_run).or(watched_since)?;
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
                format!("{what} {} ago{where_else}", words::duration(age)),
                format!("run `backup run {job}`, and check that its timer is active"),
            ),
    )
}

fn took(run: &Run, now: Timestamp) -> Duration {
    words::between(run.started, run.finished.unwrap_or(now))
}

fn duration(job: &str, known: &JobFacts, factor: f64, now: Timestamp) -> Option<Observation> {
    // One that goes on counts as soon as it takes too long.
    let last = known.runs.iter().find(|run| run.finished.is_none() || run.state.is_success())?;
    let others =
        known.runs.iter().filter(|run| run.started < last.started && run.state.is_success());
    let others: Vec<Duration> = others
        .filter(|run| last.evidence.kind.is_none() || run.evidence.kind == last.evidence.kind)
        .take(USUAL.1)
        .map(|run| took(run, now))
        .collect();
    if others.len() < USUAL.0 {
        return None;
    }
    let usual = others.iter().sum::<Duration>() / u32::try_from(others.len()).ok()?;
    let length = took(last, now);
    let holds = length.as_secs_f64() > usual.as_secs_f64() * factor;
    if last.finished.is_none() && !holds {
        return None;
    }
    let cause =
        format!("{} instead of the usual {}", words::duration(length), words::duration(usual));
    let next = format!("run `backup analyze {}` to see the duration of each stage", last.id);
    Some(
        Observation::new(holds, format!("the backup of {job} takes longer than usual"))
            .because(cause, next)
            .with("run", last.id.as_str()),
    )
}

fn size(job: &str, known: &JobFacts, share: Share) -> Option<Observation> {
    let mut successes = known.runs.iter().filter(|run| run.state.is_success());
    let last = successes.next()?;
    let before = successes.find(|run| run.evidence.kind == last.evidence.kind)?;
    let (new, old) = (last.evidence.bytes, before.evidence.bytes);
    let holds = new.abs_diff(old) as f64 > old as f64 * share.0;
    let cause = format!("{}; the previous backup had {}", words::size(new), words::size(old));
    let next = format!("run `backup diff {} latest` to see the changes", short(before));
    Some(
        Observation::new(holds, format!("the size of the backup of {job} is unusual"))
            .because(cause, next)
            .with("run", last.id.as_str()),
    )
}

fn short(run: &Run) -> &str {
    run.evidence.snapshot.as_deref().and_then(|id| id.get(..8)).unwrap_or("SNAPSHOT")
}

fn rpo(
    job: &str,
    known: &JobFacts,
    limit: Option<&Time>,
    watched_since: Option<Timestamp>,
    now: Timestamp,
) -> Option<Observation> {
    let limit = limit.map(Time::length).or(known.rpo)?;
    // Of what was never backed up, everything there is since somebody has looked for it.
    let point = known.log.and_then(|log| log.recovery_point).max(known.last_success);
    let point = point.or(known.first_run).or(watched_since)?;
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

fn of_repository(
    condition: &Condition,
    name: &str,
    known: &RepositoryFacts,
) -> Option<Observation> {
    match condition {
        Condition::StorageUsed(_) | Condition::StorageFree(_) | Condition::StorageFull(_) => {
            room(condition, name, known)
        }
        Condition::VerifyFailed => {
            let next =
                format!("run `backup check -r {name} --read-data`, then `backup repair -r {name}`");
            done(
                known.verified.as_ref()?,
                format!("verification of repository {name} failed"),
                next,
            )
        }
        Condition::CopyFailed => {
            let next = "find the command with `backup audit --operation copy` (or `archive`), \
                        correct the cause and run it again";
            done(
                known.copied.as_ref()?,
                format!("a copy or archive from repository {name} failed"),
                next,
            )
        }
        Condition::CopyLag(limit) => {
            let (last, newest) = (known.last_copy?, known.last_success?);
            let lag = words::between(last, newest);
            let cause =
                format!("the last copy is {} older than the last backup", words::duration(lag));
            let next = format!(
                "run `backup copy --all --from {name} --to COPY`, and check that its timer is \
                 active"
            );
            Some(
                Observation::new(
                    lag > limit.length(),
                    format!("the copy of repository {name} lags"),
                )
                .because(cause, next),
            )
        }
        _ => None,
    }
}

fn done(done: &Done, title: String, next: impl Into<String>) -> Option<Observation> {
    let why =
        if done.error.is_empty() { "see the output of the command" } else { done.error.as_str() };
    Some(
        Observation::new(!done.is_success, title)
            .because(format!("{} at {:.0}: {why}", done.operation, done.time), next),
    )
}

fn room(condition: &Condition, name: &str, known: &RepositoryFacts) -> Option<Observation> {
    let storage = known.storage?;
    let used = storage.used as f64 / storage.whole.max(1) as f64;
    let (holds, title) = match condition {
        Condition::StorageUsed(share) => {
            (used > share.0, format!("{:.0}% of repository {name} is used", used * 100.0))
        }
        Condition::StorageFree(share) => {
            let free = storage.left as f64 / storage.whole.max(1) as f64;
            (free < share.0, format!("{:.0}% of repository {name} is free", free * 100.0))
        }
        Condition::StorageFull(limit) => {
            // That it does not grow is known too.
            let holds = storage.lasts.is_some_and(|lasts| lasts < limit.length());
            let lasts = storage.lasts.map_or_else(|| "a long time".to_owned(), words::duration);
            (holds, format!("repository {name} will be full in {lasts}"))
        }
        _ => return None,
    };
    let cause = format!("{} of {} are free", words::size(storage.left), words::size(storage.whole));
    Some(Observation::new(holds, title).because(
        cause,
        "run `backup cleanup --all` and `backup prune`, raise the quota, or run `backup archive`",
    ))
}
