//! The values that rules compare, of jobs and repositories.

use std::collections::BTreeMap;
use std::time::Duration;

use backup_core::maintenance::StorageReport;
use jiff::Timestamp;

use super::{Affected, Scope, SizeFacts, SlotFacts, Suppression};
use crate::alive::Alive;
use crate::audit::{self, Audit, Filter, Record, Status};
use crate::catalog::{self, Catalog, History, RunFilter};
use crate::config::{Broken, Config, SourceKind};
use crate::runs::Run;

/// Restores that count: the newest.
const RESTORES: u32 = 25;
/// Records that are looked at: the newest.
const RECORDS: usize = 20_000;

/// What is known at a moment.
#[derive(Debug, Default)]
pub struct Facts {
    /// Of jobs, by name.
    pub jobs: BTreeMap<String, JobFacts>,
    /// Of repositories, by their names in the configuration.
    pub repositories: BTreeMap<String, RepositoryFacts>,
    /// The newest restores, newest first.
    pub restores: Vec<Run>,
    /// The last sign of life of the daemon of this machine. Unknown if nobody has looked; none if
    /// there is no daemon, or it ended as it should.
    pub daemon: Option<Option<Alive>>,
    /// The note of the daemon that its configuration file is broken. Unknown without a daemon; none
    /// if the file is valid.
    pub configuration: Option<Option<Broken>>,
    /// Silences and pauses in force. Unknown if they were not read.
    pub suppressions: Option<Vec<Suppression>>,
    /// True if they cover the whole configuration, false for the part that a command changed.
    pub is_whole: bool,
}

/// What is known of a job.
#[derive(Debug, Default)]
pub struct JobFacts {
    /// The name of its repository.
    pub repository: String,
    /// Address of its repository as runs hold it.
    pub address: String,
    /// Whether each snapshot holds the whole source. Of a database, only full ones do.
    pub always_whole: bool,
    /// Its newest backups that this machine remembers, newest first, without backups of parts.
    pub runs: Vec<Run>,
    /// Successes before those, of types that are seldom made, newest first.
    pub older_successes: Vec<Run>,
    /// When its last success began; none if there is none. A backup of a part is no success.
    pub last_success: Option<Timestamp>,
    /// What could be lost at most, by the configuration.
    pub rpo: Option<Duration>,
    /// Whether its repository was looked into: else what is old here may be newer there.
    pub is_looked_at: bool,
    /// Whether that was tried in vain: then what is old here counts.
    pub is_out_of_reach: bool,
    /// When the first run of it that is remembered began.
    pub first_run: Option<Timestamp>,
    /// First evaluation of rules about it; none if that is this one.
    pub watched_since: Option<Timestamp>,
    /// Of its log; none if it has none, or nobody has looked.
    pub log: Option<LogFacts>,
    /// Of its replication slot; none if it has none, or nobody has asked.
    pub slot: Option<SlotFacts>,
    /// The last cleanup of its snapshots on this machine; none if there was none.
    pub cleaned: Option<Done>,
    /// Size of its last complete backup and the one to compare it with, by the rule that does.
    pub sizes: BTreeMap<String, SizeFacts>,
}

/// What is known of a captured log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogFacts {
    /// The last moment that can be restored.
    pub recovery_point: Option<Timestamp>,
    /// The time of a gap that no full backup came after.
    pub gap: Option<Timestamp>,
}

/// What is known of a repository.
#[derive(Debug, Default)]
pub struct RepositoryFacts {
    /// Its address as runs hold it.
    pub address: String,
    /// Its room; none if nobody has looked.
    pub storage: Option<StorageFacts>,
    /// The clock of this machine, compared with the repository; none if it was not compared.
    pub clock: Option<backup_core::repository::Present>,
    /// The last verification or check.
    pub verified: Option<Done>,
    /// The last copy out of it or archiving.
    pub copied: Option<Done>,
    /// When the last copy that succeeded was over.
    pub last_copy: Option<Timestamp>,
    /// When the last backup into it succeeded.
    pub last_success: Option<Timestamp>,
}

/// The room of a repository, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct StorageFacts {
    /// What is used of the quota, or of the disk.
    pub used: u64,
    /// What there is in all.
    pub whole: u64,
    /// What is left: of the quota or the disk, whichever is less.
    pub left: u64,
    /// For how long that will do.
    pub lasts: Option<Duration>,
}

/// Something that was done, as the audit log has it.
#[derive(Debug, Clone)]
pub struct Done {
    /// When.
    pub time: Timestamp,
    /// Whether it came to what it was to come to.
    pub is_success: bool,
    /// Which verb.
    pub operation: String,
    /// Target of a copy.
    pub to: Option<String>,
    /// Why it failed.
    pub error: String,
}

impl Facts {
    /// The values that the catalog and the audit log of this machine hold for a configuration: one
    /// query for all jobs, one for restores, and one reading of the log. In a catalog that machines
    /// share, only runs of this one, `host`, count: jobs of others may have the same names.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn remembered(
        config: &Config,
        scope: &Scope,
        catalog: &dyn Catalog,
        audit: Audit,
        host: &str,
    ) -> catalog::Result<Self> {
        let host = catalog.shared().map(|_| host.to_owned());
        let jobs = jobs(config, config.jobs.keys(), scope, catalog, host.clone()).await?;
        let restores = restores(None, catalog, host).await?;
        let mut facts = Self { is_whole: true, jobs, restores, ..Self::default() };
        let records = tokio::task::spawn_blocking(move || done(&audit)).await?;
        facts.jobs.iter_mut().for_each(|(name, job)| job.cleaned = last_cleanup(&records, name));
        for (name, address) in &scope.repositories {
            let of_jobs = facts.jobs.values().filter(|job| job.repository == *name);
            let mut known = RepositoryFacts {
                address: address.clone(),
                last_success: of_jobs.filter_map(|job| job.last_success).max(),
                ..RepositoryFacts::default()
            };
            known.remember(&records);
            facts.repositories.insert(name.clone(), known);
        }
        Ok(facts)
    }

    /// The same for the jobs and repositories that a command has changed: one query for all jobs,
    /// one for the restores of each, one for each repository.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn of_affected(
        affected: &Affected,
        config: &Config,
        scope: &Scope,
        catalog: &dyn Catalog,
        audit: Audit,
        host: &str,
    ) -> catalog::Result<Self> {
        let host = catalog.shared().map(|_| host.to_owned());
        let meant = affected.jobs.iter();
        let jobs = jobs(config, meant, scope, catalog, host.clone()).await?;
        let mut facts = Self { jobs, ..Self::default() };
        for job in &affected.jobs {
            facts.restores.extend(restores(Some(job), catalog, host.clone()).await?);
        }
        let named = scope.repositories.iter();
        let named: Vec<_> =
            named.filter(|(_, address)| affected.repositories.contains(*address)).collect();
        if named.is_empty() {
            return Ok(facts);
        }
        let records = tokio::task::spawn_blocking(move || done(&audit)).await?;
        for (name, address) in named {
            let last = RunFilter {
                repository: Some(address.clone()),
                successful: true,
                backups: true,
                whole: true,
                limit: Some(1),
                host: host.clone(),
                ..RunFilter::default()
            };
            let mut known = RepositoryFacts {
                address: address.clone(),
                last_success: catalog.runs(&last).await?.runs.first().map(|run| run.started),
                ..RepositoryFacts::default()
            };
            known.remember(&records);
            facts.repositories.insert(name.clone(), known);
        }
        Ok(facts)
    }
}

/// The facts of these jobs of a configuration: one query.
async fn jobs(
    config: &Config,
    names: impl Iterator<Item = &String>,
    scope: &Scope,
    catalog: &dyn Catalog,
    host: Option<String>,
) -> catalog::Result<BTreeMap<String, JobFacts>> {
    let named = names.filter_map(|name| Some((name.clone(), scope.of_job(name)?.to_owned())));
    let of = History { jobs: named.collect(), host, until: None };
    let mut runs = BTreeMap::<String, Vec<Run>>::new();
    if !of.jobs.is_empty() {
        for run in catalog.history(&of).await?.runs {
            runs.entry(run.job.clone()).or_default().push(run);
        }
    }
    let facts = of.jobs.into_iter().filter_map(|(name, address)| {
        let known = JobFacts::of(config, &name, address, runs.remove(&name).unwrap_or_default())?;
        Some((name, known))
    });
    Ok(facts.collect())
}

/// The newest restores, of one job or of all.
async fn restores(
    job: Option<&String>,
    catalog: &dyn Catalog,
    host: Option<String>,
) -> catalog::Result<Vec<Run>> {
    let newest = RunFilter {
        job: job.cloned(),
        restores: true,
        host,
        limit: Some(RESTORES),
        ..RunFilter::default()
    };
    Ok(catalog.runs(&newest).await?.runs)
}

impl JobFacts {
    /// The facts of a job of the configuration, with its history, newest first.
    fn of(config: &Config, name: &str, address: String, mut runs: Vec<Run>) -> Option<Self> {
        let job = config.jobs.get(name)?;
        let older = runs.split_off(runs.len().min(catalog::NEWEST));
        let first_run = older.last().or(runs.last()).map(|run| run.started);
        let source = config.sources.get(&job.source);
        let known = Self {
            repository: job.repository.clone(),
            address,
            always_whole: source.is_some_and(|source| source.kind == SourceKind::Files),
            runs,
            older_successes: older.into_iter().filter(|run| run.state.is_success()).collect(),
            rpo: job.rpo.as_ref().map(crate::units::Time::length),
            first_run,
            ..Self::default()
        };
        let last_success = known.successes().next().map(|run| run.started);
        Some(Self { last_success, ..known })
    }

    /// Its successes, newest first.
    pub(super) fn successes(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.runs.iter().chain(&self.older_successes).filter(|run| run.state.is_success())
    }

    /// Its backups that hold the whole source, oldest first.
    pub(super) fn complete(&self) -> Vec<&Run> {
        let is_whole =
            |run: &&Run| self.always_whole || run.evidence.kind.as_deref() == Some("full");
        self.successes().filter(is_whole).rev().collect()
    }
}

/// Records of verification, copies and cleanups that were not cancelled, oldest first. An
/// unreadable log is reported by its writer.
fn done(audit: &Audit) -> Vec<Record> {
    let mut records = audit
        .read(&Filter { limit: Some(RECORDS), ..Filter::default() })
        .unwrap_or_default()
        .records;
    records.retain(|record| {
        let operations = ["verify", "check", "copy", "archive", "cleanup"];
        let is_meant = operations.contains(&record.operation.as_str());
        is_meant && !matches!(record.status, Status::Cancelled | Status::Declined | Status::Started)
    });
    records
}

impl Facts {
    /// Takes over what was found by looking into repositories earlier than all else.
    pub fn take_over(&mut self, looked: Self) {
        for (name, from) in looked.repositories {
            if let Some(known) = self.repositories.get_mut(&name) {
                (known.storage, known.clock) = (from.storage, from.clock);
                known.last_success = known.last_success.max(from.last_success);
            }
        }
        for (name, from) in looked.jobs {
            if let Some(known) = self.jobs.get_mut(&name) {
                known.last_success = known.last_success.max(from.last_success);
                (known.log, known.slot) = (from.log, from.slot);
                (known.is_looked_at, known.is_out_of_reach) =
                    (from.is_looked_at, from.is_out_of_reach);
            }
        }
    }
}

impl RepositoryFacts {
    fn remember(&mut self, records: &[Record]) {
        let address = self.address.clone();
        let of = |operations: [&str; 2]| -> Vec<&Record> {
            let is_meant = |record: &&Record| {
                operations.contains(&record.operation.as_str())
                    && record.details.get("repository") == Some(&address)
            };
            records.iter().filter(is_meant).collect()
        };
        self.verified = audit::standing(of(["verify", "check"])).map(Done::of);
        let copies = of(["copy", "archive"]);
        self.copied = last_of_each(&copies, "to");
        self.last_copy = copies
            .iter()
            .rev()
            .find(|record| Done::of(record).is_success)
            .map(|record| record.timestamp);
    }
}

/// The last cleanup of a job. One that was stopped for other jobs counts as a success.
pub(super) fn last_cleanup(records: &[Record], job: &str) -> Option<Done> {
    let names = |record: &Record, detail: &str| {
        let jobs = record.details.get(detail)?;
        Some(jobs.split_whitespace().any(|name| name == job))
    };
    let is_meant = |record: &&Record| {
        record.operation == "cleanup" && names(record, "jobs").unwrap_or_default()
    };
    let last = records.iter().rfind(is_meant)?;
    let is_of_others = names(last, "stopped") == Some(false);
    let done = Done::of(last);
    Some(Done { is_success: done.is_success || is_of_others, ..done })
}

/// The last of each kind: the newest that failed, else the newest. What succeeds with less, or
/// elsewhere, mends nothing.
fn last_of_each(records: &[&Record], detail: &str) -> Option<Done> {
    let mut last = BTreeMap::new();
    for record in records {
        last.insert((&record.operation, record.details.get(detail)), Done::of(record));
    }
    last.into_values().max_by_key(|done| (!done.is_success, done.time))
}

impl Done {
    fn of(record: &Record) -> Self {
        Self {
            time: record.timestamp,
            is_success: matches!(record.status, Status::Success | Status::Warnings),
            operation: record.operation.clone(),
            to: record.details.get("to").cloned(),
            error: record.details.get("error").cloned().unwrap_or_default(),
        }
    }
}

impl StorageFacts {
    /// The room of a repository that has a quota, or a disk of its own; none if nobody knows how
    /// much there is.
    #[must_use]
    pub fn of(report: &StorageReport, quota: Option<u64>) -> Option<Self> {
        let used = report.total.bytes;
        let (whole, left) = match (quota, report.free_bytes) {
            (Some(quota), free) => {
                (quota, quota.saturating_sub(used).min(free.unwrap_or(u64::MAX)))
            }
            // What else lies on the disk is nothing that could be used.
            (None, Some(free)) => (used + free, free),
            (None, None) => return None,
        };
        const DAY: u64 = 86_400;
        let lasts =
            report.days_until(left).map(|days| Duration::from_secs(days.saturating_mul(DAY)));
        Some(Self { used, whole, left, lasts })
    }
}
