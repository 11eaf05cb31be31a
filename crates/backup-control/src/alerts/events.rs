//! Rules about events, which notify once: restores, and backups that succeed.

use jiff::Timestamp;

use super::{Condition, Facts};
use crate::config::AlertConfig;
use crate::error::Result;
use crate::notify::{Kind, Message};
use crate::runs::{Run, State};
use crate::words;

/// The messages of a rule about events. Those count that happened after `since`, which is a time
/// for each address of a repository. `host` is the name of this machine.
///
/// # Errors
/// As [`observe`](super::observe).
pub fn tell(
    name: &str,
    rule: &AlertConfig,
    facts: &Facts,
    since: impl Fn(&str) -> Timestamp,
    host: &str,
) -> Result<Vec<Message>> {
    let only = crate::notify::patterns(&rule.only)?;
    let is_meant = |run: &&Run| rule.only.is_empty() || only.is_match(&run.job);
    let is_new =
        |run: &&Run| happened(&rule.condition, run).is_some_and(|at| at > since(&run.repository));
    let runs: Box<dyn Iterator<Item = &Run>> = match rule.condition {
        Condition::Success => Box::new(facts.jobs.values().flat_map(|job| &job.runs)),
        _ => Box::new(facts.restores.iter()),
    };
    let new = runs.filter(is_meant).filter(is_new);
    Ok(new.map(|run| message(name, rule, run, host)).collect())
}

/// The time of the event that a rule is about; none if the run has not come to it.
fn happened(condition: &Condition, run: &Run) -> Option<Timestamp> {
    match condition {
        Condition::RestoreStarted => Some(run.started),
        Condition::RestoreFinished | Condition::Success if run.state.is_success() => run.finished,
        Condition::RestoreFailed if run.state == State::Failed => run.finished,
        _ => None,
    }
}

fn message(name: &str, rule: &AlertConfig, run: &Run, host: &str) -> Message {
    let Texts { title, cause, next } = texts(&rule.condition, run);
    Message {
        id: format!("{name}/{}", run.id),
        incident: format!("{host}/{name}/{}", run.id),
        kind: Kind::Notice,
        severity: rule.severity,
        title,
        place: format!("job {}, repository {}, host {}", run.job, run.repository, run.host),
        cause,
        next,
        job: Some(run.job.clone()),
        time: happened(&rule.condition, run).unwrap_or(run.started),
        details: [("run".to_owned(), run.id.to_string())].into(),
        html: None,
    }
}

struct Texts {
    title: String,
    cause: String,
    next: String,
}

fn texts(condition: &Condition, run: &Run) -> Texts {
    let Run { job, user, evidence, .. } = run;
    let snapshot = evidence.snapshot.as_deref().and_then(|id| id.get(..8)).unwrap_or("unknown");
    let end = run.finished.unwrap_or(run.started);
    let took = words::duration(words::between(run.started, end));
    let (bytes, new) = (words::size(evidence.bytes), words::size(evidence.new_bytes));
    // A restore may fail before its snapshot and its target are known.
    let job = if job.is_empty() { "a snapshot" } else { job };
    let target = match evidence.subject.as_str() {
        "" => format!("snapshot {snapshot}"),
        subject => format!("snapshot {snapshot} to {subject}"),
    };
    match condition {
        Condition::RestoreStarted => Texts {
            title: format!("{user} restores {job}"),
            cause: target,
            next: "none, if the restore is intended".to_owned(),
        },
        Condition::RestoreFinished => Texts {
            title: format!("the restore of {job} by {user} finished"),
            cause: format!("{target}: {bytes}, {new} of them written, in {took}"),
            next: String::new(),
        },
        Condition::RestoreFailed => {
            let failure = evidence.failure.as_ref();
            let why = failure.map_or("no cause is recorded", |failure| failure.message.as_str());
            let log = format!("run `backup logs run {}` to see its messages", run.id);
            let hint = failure.and_then(|failure| failure.hint.as_ref());
            Texts {
                title: format!("the restore of {job} by {user} failed"),
                cause: format!("{target}, after {took}: {why}"),
                next: hint.map_or_else(|| log.clone(), |hint| format!("{hint}; {log}")),
            }
        }
        _ => Texts {
            title: format!("the backup of {job} succeeded"),
            cause: format!("{bytes}, {new} of them new, in {took}"),
            next: String::new(),
        },
    }
}
