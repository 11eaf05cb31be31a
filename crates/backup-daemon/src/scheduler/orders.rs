//! From work to the arguments of the program and what it uses.

use std::path::PathBuf;
use std::time::Duration;

use backup_control::config::{ArchiveConfig, Config, CopyConfig, JobType, Window};
use backup_control::schedule::{Duty, Planned, Uses};

use super::child::UNTIL_EOF;
use crate::engine::{ArchiveOrder, CopyOrder, Refusal, RestoreOrder, Work};

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
    config: Config,
    /// The configuration file of the processes.
    file: PathBuf,
}

impl Orders {
    pub(super) fn new(config: Config, file: PathBuf) -> Self {
        Self { config, file }
    }

    fn config(&self) -> &Config {
        &self.config
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
            Work::Backup { job, .. } => {
                (Uses::of_backup(job, config), self.deadline_of(job).or(Some(usual_deadline)))
            }
            // Half a restore is worse than a slow one.
            Work::Restore(order) => {
                (self.uses_of_snapshot(&order.what, order.repository.as_ref()), None)
            }
            Work::Verify { snapshot, repository } => {
                (self.uses_of_snapshot(snapshot, repository.as_ref()), Some(usual_deadline))
            }
            Work::Cleanup => (
                Uses::of_repositories(config.jobs.values().map(|job| &job.repository)),
                Some(usual_deadline),
            ),
            Work::Check { repository, .. } | Work::Prune { repository } => {
                (Uses::of_repositories(repository), Some(usual_deadline))
            }
            Work::Copy(CopyOrder { from, to, .. })
            | Work::Archive(ArchiveOrder { from, to, .. }) => {
                (Uses::of_repositories([from, to]), Some(usual_deadline))
            }
            Work::Compact { job } => {
                let repository = config.jobs.get(job).map(|job| &job.repository);
                (Uses::of_repositories(repository), Some(usual_deadline))
            }
            Work::Alerts | Work::Report { .. } => (Uses::aside(), Some(usual_deadline)),
            Work::Follow { .. } => (Uses::aside(), None),
        };
        Ok(Order {
            work,
            args: self.complete(words),
            uses,
            priority: ASKED_FOR,
            deadline,
            window: None,
        })
    }

    fn deadline_of(&self, name: &str) -> Option<Duration> {
        let config = self.config();
        let of_job = config.jobs.get(name).and_then(|job| job.deadline.as_ref());
        let of_group = config.groups.get(name).and_then(|group| group.deadline.as_ref());
        of_job.or(of_group).map(backup_control::units::Time::length)
    }

    fn uses_of_snapshot(&self, snapshot: &str, repository: Option<&String>) -> Uses {
        let job = snapshot.split_once(':').map_or(snapshot, |(job, _)| job);
        let of_job = self.config().jobs.get(job).map(|job| &job.repository);
        Uses::of_repositories(repository.or(of_job))
    }

    fn complete(&self, words: Vec<String>) -> Vec<String> {
        let head = ["--json", "--no-progress", "--config"].map(str::to_owned);
        let file = self.file.to_string_lossy().into_owned();
        head.into_iter().chain([file]).chain(words).collect()
    }

    /// The words of the command line. Values stand behind `=` or `--`, so that none is taken for an
    /// option.
    fn words(&self, work: &Work) -> Result<Vec<String>, Refusal> {
        match work {
            Work::Backup { job, kind, tier } => self.backup(job, kind.as_deref(), tier.as_deref()),
            Work::Follow { job } => {
                let has_log = self.config().jobs.get(job).is_some_and(|job| job.logs.is_some());
                if !has_log {
                    return Err(Refusal::Unknown(format!("job {job} with a captured log")));
                }
                // The one before it may have died on another machine, or its end may take a while.
                Ok(["logs", "follow", UNTIL_EOF, "--wait", "--", job].map(str::to_owned).to_vec())
            }
            Work::Restore(order) => restore(order, self.config()),
            Work::Verify { snapshot, repository } => self.verify(snapshot, repository.as_deref()),
            Work::Cleanup => Ok(["cleanup", "--all", "--yes"].map(str::to_owned).to_vec()),
            Work::Check { repository, data } => {
                let of = self.of_one("check", repository.as_deref())?;
                Ok(of
                    .into_iter()
                    .chain(data.as_ref().map(|data| format!("--read-data-subset={data}")))
                    .collect())
            }
            Work::Prune { repository } => {
                let of = self.of_one("prune", repository.as_deref())?;
                Ok(of.into_iter().chain(["--yes".to_owned()]).collect())
            }
            Work::Copy(order) => self.copy(order),
            Work::Archive(order) => self.archive(order),
            Work::Compact { job } => match self.config().jobs.get(job) {
                Some(known) if known.logs.is_some() => {
                    Ok(["logs", "compact", "--", job].map(str::to_owned).to_vec())
                }
                _ => Err(Refusal::Unknown(format!("job {job} with a captured log"))),
            },
            Work::Alerts => Ok(["alerts", "check"].map(str::to_owned).to_vec()),
            Work::Report { since } => {
                let to = &self.config().schedule.report_to;
                if to.is_empty() {
                    let text = "the report has no recipient: name channels in `schedule.report_to`";
                    return Err(Refusal::Refused(text.to_owned()));
                }
                Ok(report(since, to))
            }
        }
    }

    fn backup(
        &self,
        job: &str,
        kind: Option<&str>,
        tier: Option<&str>,
    ) -> Result<Vec<String>, Refusal> {
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

    fn verify(&self, snapshot: &str, repository: Option<&str>) -> Result<Vec<String>, Refusal> {
        match (snapshot.split_once(':'), repository) {
            (Some((job, "latest")), None) if self.config().jobs.contains_key(job) => {
                Ok(self.verify_newest(job))
            }
            (Some((job, "latest")), None) => Err(Refusal::Unknown(format!("job {job}"))),
            _ => {
                let mut words = vec!["verify".to_owned()];
                words.extend(in_repository(repository, self.config())?);
                match snapshot.split_once(':') {
                    Some((job, "latest")) => {
                        words.extend([
                            format!("--job={job}"),
                            "--".to_owned(),
                            "latest".to_owned(),
                        ]);
                    }
                    _ => words.extend(["--".to_owned(), snapshot.to_owned()]),
                }
                Ok(words)
            }
        }
    }

    fn copy(&self, order: &CopyOrder) -> Result<Vec<String>, Refusal> {
        let CopyOrder { from, to, job } = order;
        self.two(from, to)?;
        let which = self.of_job(job.as_deref())?.unwrap_or_else(|| "--all".to_owned());
        Ok(vec!["copy".to_owned(), format!("--from={from}"), format!("--to={to}"), which])
    }

    fn archive(&self, order: &ArchiveOrder) -> Result<Vec<String>, Refusal> {
        let ArchiveOrder { from, to, older_than, job, storage_class, remove } = order;
        self.two(from, to)?;
        let mut words = vec!["archive".to_owned(), format!("--repo={from}"), format!("--to={to}")];
        words.push(format!("--older-than={older_than}"));
        words.extend(self.of_job(job.as_deref())?);
        words.extend(storage_class.as_ref().map(|class| format!("--storage-class={class}")));
        words
            .extend(remove.then(|| ["--remove", "--yes"].map(str::to_owned)).into_iter().flatten());
        Ok(words)
    }

    /// Two repositories of the configuration: an address may hold a password.
    fn two(&self, from: &str, to: &str) -> Result<(), Refusal> {
        let known = &self.config().repositories;
        match [from, to].into_iter().find(|name| !known.contains_key(*name)) {
            Some(unknown) => Err(Refusal::Unknown(format!("repository {unknown}"))),
            None if from == to => {
                Err(Refusal::Refused("a repository cannot be copied into itself".to_owned()))
            }
            None => Ok(()),
        }
    }

    fn of_job(&self, job: Option<&str>) -> Result<Option<String>, Refusal> {
        match job {
            Some(job) if !self.config().jobs.contains_key(job) => {
                Err(Refusal::Unknown(format!("job {job}")))
            }
            job => Ok(job.map(|job| format!("--job={job}"))),
        }
    }

    fn verify_newest(&self, job: &str) -> Vec<String> {
        let repository =
            self.config().jobs.get(job).map(|job| format!("--repo={}", job.repository));
        let words = ["verify".to_owned(), format!("--job={job}")];
        words.into_iter().chain(repository).chain(["--".to_owned(), "latest".to_owned()]).collect()
    }

    /// A verb that is about one repository.
    fn of_one(&self, verb: &str, repository: Option<&str>) -> Result<Vec<String>, Refusal> {
        let known = &self.config().repositories;
        let name = match (repository, known.len()) {
            (Some(name), _) if known.contains_key(name) => name,
            (Some(name), _) => return Err(Refusal::Unknown(format!("repository {name}"))),
            (None, 1) => known.keys().next().map(String::as_str).unwrap_or_default(),
            (None, _) => {
                return Err(Refusal::Refused(
                    "the repository must be named: there are several, or none".to_owned(),
                ));
            }
        };
        Ok(vec![verb.to_owned(), format!("--repo={name}")])
    }
}

/// The words of a restore. Nothing is restored over what exists.
pub(crate) fn restore(order: &RestoreOrder, config: &Config) -> Result<Vec<String>, Refusal> {
    if order.target.contains("://") {
        let text = "the target must be a directory or a name in the configuration: an address \
                    could contain a password";
        return Err(Refusal::Refused(text.to_owned()));
    }
    if order.target.starts_with('.') {
        return Err(Refusal::Refused("the directory of the target must be absolute".to_owned()));
    }
    let more = [
        order.at.as_ref().map(|at| format!("--at={at}")),
        order.dry_run.then(|| "--dry-run".to_owned()),
    ];
    let mut words = vec!["restore".to_owned()];
    if let Some(group) = config.groups.get(&order.what) {
        if order.repository.is_some() {
            return Err(Refusal::Refused(
                "a group takes no `repository`: each of its jobs has its own".to_owned(),
            ));
        }
        if order.target != order.what && !order.target.starts_with('/') {
            let text = "the target of a group must be a directory, or the name of the group for \
                        its configured targets";
            return Err(Refusal::Refused(text.to_owned()));
        }
        // Each member has a place of its own below a directory. The name of the group stands for
        // the targets that it has.
        let place =
            |job: &String| format!("--target={job}={}/{job}", order.target.trim_end_matches('/'));
        if order.target != order.what {
            words.extend(group.jobs.iter().map(place));
        }
        words.extend(more.into_iter().flatten().chain(["--".to_owned(), order.what.clone()]));
        return Ok(words);
    }
    words.push(format!("--target={}", order.target));
    words.extend(more.into_iter().flatten());
    let of_job =
        order.what.split_once(':').filter(|(_, which)| *which == "latest").map(|(job, _)| job);
    let of_log = config.jobs.contains_key(&order.what).then_some(order.what.as_str());
    let Some(job) = of_job.or(of_log) else {
        words.extend(in_repository(order.repository.as_deref(), config)?);
        words.extend(["--".to_owned(), order.what.clone()]);
        return Ok(words);
    };
    let Some(known) = config.jobs.get(job) else {
        return Err(Refusal::Unknown(format!("job {job}")));
    };
    let repository = order.repository.as_deref().unwrap_or(&known.repository);
    words.push(format!("--job={job}"));
    words.extend(in_repository(Some(repository), config)?);
    let newest = order.at.is_none().then(|| ["--".to_owned(), "latest".to_owned()]);
    words.extend(newest.into_iter().flatten());
    Ok(words)
}

/// A repository of the configuration.
fn in_repository(name: Option<&str>, config: &Config) -> Result<Option<String>, Refusal> {
    match name {
        Some(name) if !config.repositories.contains_key(name) => {
            Err(Refusal::Unknown(format!("repository {name}")))
        }
        name => Ok(name.map(|name| format!("--repo={name}"))),
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
        Duty::Verify { job } => {
            Work::Verify { snapshot: format!("{job}:latest"), repository: None }
        }
        Duty::Cleanup => Work::Cleanup,
        Duty::Check { repository, data } => {
            Work::Check { repository: Some(repository.clone()), data: data.clone() }
        }
        Duty::Prune { repository } => Work::Prune { repository: Some(repository.clone()) },
        Duty::Copy(copy) => {
            let CopyConfig { from, to, job, .. } = copy.clone();
            Work::Copy(CopyOrder { from, to, job })
        }
        Duty::Archive(archive) => {
            let ArchiveConfig { from, to, older_than, job, storage_class, remove, .. } =
                archive.clone();
            let (older_than, remove) = (older_than.to_string(), remove == Some(true));
            Work::Archive(ArchiveOrder { from, to, older_than, job, storage_class, remove })
        }
        Duty::Compact { job } => Work::Compact { job: job.clone() },
        Duty::Alerts => Work::Alerts,
        Duty::Report { since, .. } => Work::Report { since: since.clone() },
    }
}
