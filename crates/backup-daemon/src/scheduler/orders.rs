//! From work to the arguments of the program and what it uses.

use std::time::Duration;

use backup_control::config::{Config, JobType, LoadedConfig, Window};
use backup_control::schedule::{Duty, Planned, Uses};

use crate::engine::{Refusal, RestoreOrder, Work};

/// What somebody asks for goes before what is scheduled.
const ASKED_FOR: i32 = 50;
/// The types of snapshots that can be asked for.
const KINDS: [&str; 3] = ["full", "incremental", "differential"];

/// What is needed to do a piece of work.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) work: Work,
    pub(super) args: Vec<String>,
    pub(super) uses: Uses,
    pub(super) priority: i32,
    pub(super) deadline: Option<Duration>,
    pub(super) window: Option<Window>,
}

/// Makes orders by a configuration.
#[derive(Debug)]
pub(super) struct Orders {
    loaded: LoadedConfig,
}

impl Orders {
    pub(super) fn new(loaded: LoadedConfig) -> Self {
        Self { loaded }
    }

    fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// The order of a task.
    pub(super) fn planned(&self, planned: &Planned) -> Order {
        let work = work(&planned.duty);
        let mut words = match &planned.duty {
            Duty::Verify { job } => self.verify_newest(job),
            Duty::Report { since, to } => report(since, to),
            _ => self.words(&work).unwrap_or_default(),
        };
        if let Duty::Backup { outside_window: true, .. } = planned.duty {
            words.insert(1, "--outside-window".to_owned());
        }
        Order {
            work,
            args: self.complete(words),
            uses: planned.uses.clone(),
            priority: planned.priority,
            deadline: planned.deadline,
            window: planned.window,
        }
    }

    /// The order of what somebody asks for.
    pub(super) fn asked(&self, work: Work, usual_deadline: Duration) -> Result<Order, Refusal> {
        let words = self.words(&work)?;
        let config = self.config();
        let (uses, deadline) = match &work {
            Work::Backup { job, .. } => (Uses::of_backup(job, config), self.deadline_of(job).or(Some(usual_deadline))),
            // Half a restore is worse than a slow one.
            Work::Restore(order) => (self.uses_of_snapshot(&order.what), None),
            Work::Verify { snapshot } => (self.uses_of_snapshot(snapshot), Some(usual_deadline)),
            Work::Cleanup => {
                (Uses::of_repositories(config.jobs.values().map(|job| &job.repository)), Some(usual_deadline))
            }
            Work::Check { repository } => (Uses::of_repositories(repository), Some(usual_deadline)),
            Work::Alerts | Work::Report { .. } => (Uses::aside(), Some(usual_deadline)),
            Work::Follow { .. } => (Uses::aside(), None),
        };
        Ok(Order { work, args: self.complete(words), uses, priority: ASKED_FOR, deadline, window: None })
    }

    fn deadline_of(&self, name: &str) -> Option<Duration> {
        let config = self.config();
        let of_job = config.jobs.get(name).and_then(|job| job.deadline.as_ref());
        let of_group = config.groups.get(name).and_then(|group| group.deadline.as_ref());
        of_job.or(of_group).map(backup_control::units::Time::length)
    }

    fn uses_of_snapshot(&self, snapshot: &str) -> Uses {
        let job = snapshot.split_once(':').map_or(snapshot, |(job, _)| job);
        let repositories = self.config().jobs.get(job).map(|job| &job.repository);
        Uses::of_repositories(repositories)
    }

    fn complete(&self, words: Vec<String>) -> Vec<String> {
        let head = ["--json", "--no-progress", "--config"].map(str::to_owned);
        let file = self.loaded.file.to_string_lossy().into_owned();
        head.into_iter().chain([file]).chain(words).collect()
    }

    /// The words of the command line. Values stand behind `=` or `--`, so that none is taken for an option.
    fn words(&self, work: &Work) -> Result<Vec<String>, Refusal> {
        match work {
            Work::Backup { job, kind, tier } => self.backup(job, kind.as_deref(), tier.as_deref()),
            Work::Follow { job } => {
                let has_log = self.config().jobs.get(job).is_some_and(|job| job.logs.is_some());
                if !has_log {
                    return Err(Refusal::Unknown(format!("job {job} whose log could be followed")));
                }
                Ok(["logs", "follow", "--", job].map(str::to_owned).to_vec())
            }
            Work::Restore(order) => self.restore(order),
            Work::Verify { snapshot } => match snapshot.split_once(':') {
                Some((job, "latest")) if self.config().jobs.contains_key(job) => Ok(self.verify_newest(job)),
                Some((job, "latest")) => Err(Refusal::Unknown(format!("job {job}"))),
                _ => Ok(["verify", "--", snapshot].map(str::to_owned).to_vec()),
            },
            Work::Cleanup => Ok(["cleanup", "--all", "--yes"].map(str::to_owned).to_vec()),
            Work::Check { repository } => self.check(repository.as_deref()),
            Work::Alerts => Ok(["alerts", "check"].map(str::to_owned).to_vec()),
            Work::Report { since } => {
                let to = &self.config().schedule.report_to;
                if to.is_empty() {
                    let text = "nobody would get the report: name channels in `schedule.report_to`";
                    return Err(Refusal::Refused(text.to_owned()));
                }
                Ok(report(since, to))
            }
        }
    }

    fn backup(&self, job: &str, kind: Option<&str>, tier: Option<&str>) -> Result<Vec<String>, Refusal> {
        let config = self.config();
        if !config.jobs.contains_key(job) && !config.groups.contains_key(job) {
            return Err(Refusal::Unknown(format!("job or group {job}")));
        }
        if let Some(kind) = kind.filter(|kind| !KINDS.contains(kind)) {
            return Err(Refusal::Refused(format!(
                "there are no snapshots of type {kind}: choose {}",
                KINDS.join(", ")
            )));
        }
        let mut words = vec!["run".to_owned()];
        words.extend(kind.map(|kind| format!("--type={kind}")));
        words.extend(tier.map(|tier| format!("--tier={tier}")));
        words.extend(["--".to_owned(), job.to_owned()]);
        Ok(words)
    }

    fn restore(&self, order: &RestoreOrder) -> Result<Vec<String>, Refusal> {
        if order.target.contains("://") {
            let text = "a target is a directory, or a name in the configuration: an address may hold a password";
            return Err(Refusal::Refused(text.to_owned()));
        }
        if order.target.starts_with('.') {
            return Err(Refusal::Refused("the directory of a target begins at the root".to_owned()));
        }
        let config = self.config();
        let mut words = vec!["restore".to_owned(), format!("--target={}", order.target)];
        words.extend(order.at.as_ref().map(|at| format!("--at={at}")));
        words.extend(order.dry_run.then(|| "--dry-run".to_owned()));
        let of_job = order.what.split_once(':').filter(|(_, which)| *which == "latest").map(|(job, _)| job);
        let of_log = config.jobs.contains_key(&order.what).then_some(order.what.as_str());
        match of_job.or(of_log) {
            Some(job) => {
                let Some(known) = config.jobs.get(job) else { return Err(Refusal::Unknown(format!("job {job}"))) };
                words.extend([format!("--job={job}"), format!("--repo={}", known.repository)]);
                let newest = order.at.is_none().then(|| ["--".to_owned(), "latest".to_owned()]);
                words.extend(newest.into_iter().flatten());
            }
            None => words.extend(["--".to_owned(), order.what.clone()]),
        }
        Ok(words)
    }

    fn verify_newest(&self, job: &str) -> Vec<String> {
        let repository = self.config().jobs.get(job).map(|job| format!("--repo={}", job.repository));
        let words = ["verify".to_owned(), format!("--job={job}")];
        words.into_iter().chain(repository).chain(["--".to_owned(), "latest".to_owned()]).collect()
    }

    fn check(&self, repository: Option<&str>) -> Result<Vec<String>, Refusal> {
        let known = &self.config().repositories;
        let name = match (repository, known.len()) {
            (Some(name), _) if known.contains_key(name) => name,
            (Some(name), _) => return Err(Refusal::Unknown(format!("repository {name}"))),
            (None, 1) => known.keys().next().map(String::as_str).unwrap_or_default(),
            (None, _) => return Err(Refusal::Refused("say which repository: there are several, or none".to_owned())),
        };
        Ok(vec!["check".to_owned(), format!("--repo={name}")])
    }
}

fn report(since: &str, to: &[String]) -> Vec<String> {
    let words = ["report".to_owned(), format!("--since={since}")];
    words.into_iter().chain(to.iter().map(|channel| format!("--send={channel}"))).collect()
}

/// What a task does, as the API calls it.
fn work(duty: &Duty) -> Work {
    match duty {
        Duty::Backup { job, kind, tier, .. } => {
            let kind = kind.map(|kind| match kind {
                JobType::Full => "full",
                JobType::Incremental => "incremental",
                JobType::Differential => "differential",
            });
            Work::Backup { job: job.clone(), kind: kind.map(str::to_owned), tier: tier.clone() }
        }
        Duty::Follow { job } => Work::Follow { job: job.clone() },
        Duty::Verify { job } => Work::Verify { snapshot: format!("{job}:latest") },
        Duty::Cleanup => Work::Cleanup,
        Duty::Check { repository } => Work::Check { repository: Some(repository.clone()) },
        Duty::Alerts => Work::Alerts,
        Duty::Report { since, .. } => Work::Report { since: since.clone() },
    }
}
