//! What is known of jobs and repositories.

use std::collections::BTreeMap;
use std::time::Duration;

use backup_core::maintenance::StorageReport;
use jiff::Timestamp;

use super::SlotFacts;
use crate::alive::Alive;
use crate::audit::{self, Audit, Filter, Record, Status};
use crate::catalog::{self, Catalog, RunFilter};
use crate::config::{Broken, Config};
use crate::runs::{Run, What};

/// Runs of a job that are looked at.
const RUNS: u32 = 25;
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
    /// Since when rules are held against them; none if that begins now.
    pub watched_since: Option<Timestamp>,
}

/// What is known of a job.
#[derive(Debug, Default)]
pub struct JobFacts {
    /// The name of its repository.
    pub repository: String,
    /// Its newest backups that this machine remembers, newest first.
    pub runs: Vec<Run>,
    /// When its last success began; none if there is none.
    pub last_success: Option<Timestamp>,
    /// What could be lost at most, by the configuration.
    pub rpo: Option<Duration>,
    /// Whether its repository was looked into: else what is old here may be newer there.
    pub is_looked_at: bool,
    /// Whether that was tried in vain: then what is old here counts.
    pub is_out_of_reach: bool,
    /// When the first run of it that is remembered began.
    pub first_run: Option<Timestamp>,
    /// Of its log; none if it has none, or nobody has looked.
    pub log: Option<LogFacts>,
    /// Of its replication slot; none if it has none, or nobody has asked.
    pub slot: Option<SlotFacts>,
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
    /// Its room; none if nobody has looked.
    pub storage: Option<StorageFacts>,
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
    /// Why it failed.
    pub error: String,
}

impl Facts {
    /// What the catalog and the audit log of this machine know. `place` is the address of a
    /// repository as runs remember it, by its name. In a catalog that machines share, only runs of
    /// this one, `host`, count: jobs of others may have the same names.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn remembered(
        config: &Config,
        catalog: &dyn Catalog,
        audit: Audit,
        host: &str,
        place: impl Fn(&str) -> Option<String>,
    ) -> catalog::Result<Self> {
        let mut facts = Self::default();
        let host = catalog.shared().map(|_| host.to_owned());
        for (name, job) in &config.jobs {
            let Some(place) = place(&job.repository) else { continue };
            let of_job = RunFilter {
                job: Some(name.clone()),
                repository: Some(place),
                host: host.clone(),
                backups: true,
                ..RunFilter::default()
            };
            let runs = catalog.runs(&RunFilter { limit: Some(RUNS), ..of_job.clone() }).await?.runs;
            let first = RunFilter { oldest_first: true, limit: Some(1), ..of_job.clone() };
            let last = RunFilter { successful: true, limit: Some(1), ..of_job };
            let last_success = catalog.runs(&last).await?.runs.first().map(|run| run.started);
            let rpo = job.rpo.as_ref().map(crate::units::Time::length);
            let repository = job.repository.clone();
            let first_run = catalog.runs(&first).await?.runs.first().map(|run| run.started);
            let known =
                JobFacts { repository, runs, last_success, rpo, first_run, ..JobFacts::default() };
            facts.jobs.insert(name.clone(), known);
        }
        let newest = RunFilter { limit: Some(RUNS), restores: true, host, ..RunFilter::default() };
        facts.restores = catalog.runs(&newest).await?.runs;
        facts.restores.retain(|run| run.what == What::Restore);
        let records = tokio::task::spawn_blocking(move || done(&audit)).await?;
        for name in config.repositories.keys() {
            let mut known = RepositoryFacts {
                last_success: facts
                    .jobs
                    .values()
                    .filter(|job| job.repository == *name)
                    .filter_map(|job| job.last_success)
                    .max(),
                ..RepositoryFacts::default()
            };
            if let Some(place) = place(name) {
                known.remember(&records, &place);
            }
            facts.repositories.insert(name.clone(), known);
        }
        Ok(facts)
    }
}

/// Records of verification and copies that somebody did not stop, oldest first. A log that cannot
/// be read is said by whoever writes it.
fn done(audit: &Audit) -> Vec<Record> {
    let mut records = audit
        .read(&Filter { limit: Some(RECORDS), ..Filter::default() })
        .unwrap_or_default()
        .records;
    records.retain(|record| {
        let is_meant = matches!(record.operation.as_str(), "verify" | "check" | "copy" | "archive");
        is_meant && !matches!(record.status, Status::Cancelled | Status::Declined | Status::Started)
    });
    records
}

impl Facts {
    /// Takes over what was found by looking into repositories earlier than all else.
    pub fn take_over(&mut self, looked: Self) {
        for (name, from) in looked.repositories {
            if let Some(known) = self.repositories.get_mut(&name) {
                known.storage = from.storage;
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
    fn remember(&mut self, records: &[Record], place: &str) {
        let of = |operations: [&str; 2]| -> Vec<&Record> {
            let is_meant = |record: &&Record| {
                operations.contains(&record.operation.as_str())
                    && record.details.get("repository").is_some_and(|known| known == place)
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
