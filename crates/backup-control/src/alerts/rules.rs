//! What rules see.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::GlobSet;
use jiff::Timestamp;

use super::{About, Condition, Done, Facts, JobFacts, RepositoryFacts, slots};
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

    fn of(self, subject: &str, about: About) -> Self {
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
    Ok(match about {
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
    })
}

fn of_daemon(condition: &Condition, last: Option<&Alive>, now: Timestamp) -> Option<Observation> {
    let Condition::DaemonSilent(limit) = condition else { return None };
    let title = "the daemon gives no sign of life".to_owned();
    // None was left, or it was taken away: nobody expects one.
    let Some(last) = last else { return Some(Observation::new(false, title)) };
    let silent = words::between(last.at, now);
    let longest = limit.as_ref().map_or(SILENT, Time::length);
    let cause = format!(
        "the last one is {} old; process {} writes one every {}",
        words::duration(silent),
        last.pid,
        words::duration(alive::EVERY)
    );
    let next = "is `backupd` running? Its messages say why it is not; until it is, nothing is \
                backed up on time";
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
            let title = format!("the log of {job} has a gap");
            let cause = gap
                .map(|time| format!("what happened at {time:.0} is not in the captured log"))
                .unwrap_or_default();
            let next = format!(
                "`backup run {job} --type full`: moments before the gap and from the new backup on \
                 can be restored"
            );
            Some(Observation::new(gap.is_some(), title).because(cause, next))
        }
        Condition::LogLag(limit) => {
            let point = known.log?.recovery_point?;
            let lag = words::between(point, now);
            let title = format!("the captured log of {job} is behind");
            let cause = format!("the last moment that is stored is {} ago", words::duration(lag));
            let next = format!(
                "is `backup logs follow {job}` running? `backup logs status {job}` shows where it \
                 is"
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
    let retry = format!("`backup retry {}`, when that is mended", last.id);
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
        (Some(_), _) => "the last one began",
        (None, Some(_)) => "there is none; the first try was",
        (None, None) => "there is none, and nobody has tried; it is watched since",
    };
    let where_else = if known.is_out_of_reach {
        "; its repository cannot be reached, which may have others"
    } else {
        ""
    };
    Some(
        Observation::new(age > limit.length(), format!("{job} has no backup of the last {limit}"))
            .because(
                format!("{what} {} ago{where_else}", words::duration(age)),
                format!("`backup run {job}`; is its timer still there?"),
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
    let cause = format!("{}, where {} is usual", words::duration(length), words::duration(usual));
    let next = format!("`backup analyze {}` shows which stage took how long", last.id);
    Some(
        Observation::new(holds, format!("the backup of {job} takes long"))
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
    let cause = format!("{}, and the one before had {}", words::size(new), words::size(old));
    let next = format!("`backup diff {} latest` shows what changed", short(before));
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
    Some(Observation::new(holds, format!("{job} could lose more than it may")).because(
        format!("if it were lost now, the last {lost} would be; at most {limit} may be"),
        format!(
            "`backup status {job}`; capture its log (`backup logs follow {job}`) or back it up \
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
                format!("`backup check -r {name} --read-data`, then `backup repair -r {name}`");
            done(
                known.verified.as_ref()?,
                format!("verification of repository {name} failed"),
                next,
            )
        }
        Condition::CopyFailed => {
            let next = "`backup audit --operation copy` shows the commands; run it again when that \
                        is mended";
            done(known.copied.as_ref()?, format!("copying from repository {name} failed"), next)
        }
        Condition::CopyLag(limit) => {
            let (last, newest) = (known.last_copy?, known.last_success?);
            let lag = words::between(last, newest);
            let cause =
                format!("the last copy is {} older than the last backup", words::duration(lag));
            let next =
                format!("`backup copy --all --from {name} --to COPY`; is its timer still there?");
            Some(
                Observation::new(
                    lag > limit.length(),
                    format!("the copy of repository {name} is behind"),
                )
                .because(cause, next),
            )
        }
        _ => None,
    }
}

fn done(done: &Done, title: String, next: impl Into<String>) -> Option<Observation> {
    let why = if done.error.is_empty() { "see its output" } else { done.error.as_str() };
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
            (free < share.0, format!("{:.0}% of repository {name} is left", free * 100.0))
        }
        Condition::StorageFull(limit) => {
            // That it does not grow is known too.
            let holds = storage.lasts.is_some_and(|lasts| lasts < limit.length());
            let lasts = storage.lasts.map_or_else(|| "a long time".to_owned(), words::duration);
            (holds, format!("repository {name} is full in {lasts}"))
        }
        _ => return None,
    };
    let cause = format!("{} of {} are left", words::size(storage.left), words::size(storage.whole));
    Some(Observation::new(holds, title).because(
        cause,
        "`backup cleanup --all` and `backup prune`, a larger quota, or `backup archive`",
    ))
}
