//! What rules see.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::GlobSet;
use jiff::Timestamp;

use super::{About, Condition, Facts, configuration, of_job, of_repository, suppressed};
use crate::alive::{self, Alive};
use crate::config::AlertConfig;
use crate::error::Result;
use crate::units::Time;
use crate::words;

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
    /// Address of the repository that it concerns; none of the daemon.
    pub repository: Option<String>,
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
        let (about, repository, details) = (About::Job, None, BTreeMap::new());
        Self { subject, about, repository, holds, title, cause, next, details }
    }

    pub(super) fn because(self, cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self { cause: cause.into(), next: next.into(), ..self }
    }

    pub(super) fn of(self, subject: &str, about: About, repository: Option<&str>) -> Self {
        let repository = repository.map(str::to_owned);
        Self { subject: subject.to_owned(), about, repository, ..self }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// Evaluates the rule `name`: an observation for each job or repository of which it is known
/// whether the condition holds.
///
/// # Errors
/// A pattern of the rule is none, which is found when a configuration is loaded.
pub fn observe(
    name: &str,
    rule: &AlertConfig,
    facts: &Facts,
    now: Timestamp,
) -> Result<Vec<Observation>> {
    let only = crate::notify::patterns(&rule.only)?;
    let is_meant = |name: &str| rule.only.is_empty() || GlobSet::is_match(&only, name);
    let about = rule.condition.about();
    let mut observed: Vec<_> = match about {
        About::Job => {
            let meant = facts.jobs.iter().filter(|(job, _)| is_meant(job));
            meant
                .filter_map(|(job, known)| {
                    let observed = of_job::observe(name, rule, job, known, now)?;
                    Some(observed.of(job, about, Some(&known.address)))
                })
                .collect()
        }
        About::Repository => {
            let meant = facts.repositories.iter().filter(|(name, _)| is_meant(name));
            meant
                .filter_map(|(repository, known)| {
                    let observed = of_repository::observe(&rule.condition, repository, known)?;
                    Some(observed.of(repository, about, Some(&known.address)))
                })
                .collect()
        }
        About::Daemon if matches!(rule.condition, Condition::Suppressed(_)) => {
            suppressed::observe(&rule.condition, facts.suppressions.as_ref(), now)
                .map(|observed| observed.of(DAEMON, about, None))
                .into_iter()
                .collect()
        }
        About::Daemon => {
            let known = facts.daemon.iter();
            known
                .filter_map(|last| {
                    let observed = of_daemon(&rule.condition, last.as_ref(), now)?;
                    Some(observed.of(DAEMON, about, None))
                })
                .collect()
        }
    };
    observed.extend(configuration::observe(&rule.condition, facts.configuration.as_ref(), now));
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
        "the last beacon is {} old, the limit is {}; process {} writes one every {}",
        words::duration(silent),
        words::duration(longest),
        last.pid,
        words::duration(alive::EVERY)
    );
    let next = "check that `backupd` is running, and read its messages; until it runs, scheduled \
                backups do not start";
    let observed = Observation::new(silent > longest, title).because(cause, next);
    Some(observed.with("version", last.version.as_str()))
}
