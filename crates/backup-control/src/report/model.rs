//! The data of a report.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::Check;
use crate::audit::Status;

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The version of this form.
    pub schema_version: u32,
    /// Where it begins.
    pub from: Timestamp,
    /// Where it ends.
    pub to: Timestamp,
    /// The host that it was made on.
    pub host: String,
    /// Of all jobs.
    pub totals: Totals,
    /// By job, by name.
    pub jobs: Vec<JobReport>,
    /// The restores, oldest first.
    pub restores: Vec<RestoreReport>,
    /// By repository, by name.
    pub repositories: Vec<RepositoryReport>,
    /// What is demanded, and the evidence.
    pub checklist: Vec<Check>,
    /// What else was done or went wrong, oldest first: tests, changes, failures. Of very many, the
    /// newest.
    pub log: Vec<LogEntry>,
    /// Entries that were left out because there are too many.
    pub log_left_out: usize,
    /// What prices are in.
    pub currency: String,
    /// By day, all of the time.
    pub days: Vec<Day>,
}

/// Backups of all jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Backups that ended.
    pub backups: u64,
    /// Those that did what they were to do.
    pub succeeded: u64,
    /// Those that did not.
    pub failed: u64,
    /// Those that somebody stopped; they count neither way.
    pub cancelled: u64,
    /// The share of successes among those that nobody stopped, from 0 to 1.
    pub success_rate: Option<f64>,
    /// Bytes that were stored.
    pub stored_bytes: u64,
    /// What all repositories cost in a month, if all have prices and could be asked.
    pub cost_per_month: Option<f64>,
}

/// A day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Day {
    /// Which.
    pub date: Date,
    /// Backups that succeeded.
    pub succeeded: u64,
    /// Backups that failed.
    pub failed: u64,
    /// Bytes that were stored.
    pub stored_bytes: u64,
}

/// What came of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JobReport {
    /// Its name.
    pub job: String,
    /// The name of its repository.
    pub repository: String,
    /// Backups that ended.
    pub backups: u64,
    /// Those that did what they were to do.
    pub succeeded: u64,
    /// Those that did not.
    pub failed: u64,
    /// The share of successes among those that nobody stopped, from 0 to 1.
    pub success_rate: Option<f64>,
    /// When the last success began.
    pub last_success: Option<Timestamp>,
    /// Why the last failure was one.
    pub last_failure: Option<String>,
    /// How long successes took on average, in seconds.
    pub average_seconds: Option<u64>,
    /// How long the longest took, in seconds.
    pub longest_seconds: Option<u64>,
    /// Bytes of the last success.
    pub bytes: Option<u64>,
    /// How many more than the first success of the time had.
    pub growth_bytes: Option<i64>,
    /// Bytes that were stored.
    pub stored_bytes: u64,
    /// How many times what was read it is of what was stored.
    pub ratio: Option<f64>,
    /// How much may be lost, in seconds.
    pub rpo_seconds: Option<u64>,
    /// The possible data loss at the worst moment of the period, in seconds.
    pub rpo_measured_seconds: Option<u64>,
    /// No earlier backup is known, so that nothing is known of the period before this moment.
    pub rpo_known_since: Option<Timestamp>,
    /// How long a restore may take, in seconds.
    pub rto_seconds: Option<u64>,
    /// The duration of the longest restore of a whole snapshot, in seconds.
    pub rto_measured_seconds: Option<u64>,
    /// Copies of the snapshot of the period with the fewest of them: the source, its repository,
    /// other repositories that hold it. None if the repository could not be read.
    pub copies: Option<u64>,
    /// Each snapshot of the period is in an object store.
    pub is_offsite: bool,
}

/// A restore.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoreReport {
    /// Its name.
    pub run: String,
    /// When it began.
    pub started: Timestamp,
    /// The job whose snapshot it was.
    pub job: String,
    /// Where to.
    pub target: String,
    /// Who did it.
    pub user: String,
    /// What came of it.
    pub state: &'static str,
    /// How long it took, in seconds.
    pub seconds: Option<u64>,
    /// Bytes.
    pub bytes: u64,
    /// The snapshot.
    pub snapshot: Option<String>,
    /// The whole snapshot was restored; none if that was not recorded.
    pub is_whole: Option<bool>,
    /// Entries that are missing or incomplete.
    pub warnings: u64,
    /// Bytes that were read back and compared with the snapshot.
    pub compared_bytes: u64,
}

/// Something that was done or went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// When.
    pub time: Timestamp,
    /// The operation, as the audit log calls it.
    pub operation: String,
    /// Who did it.
    pub user: String,
    /// What came of it.
    pub status: Status,
    /// What it is about: a job or a repository, why it failed, why it was done.
    pub about: String,
}

/// What there is of a repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RepositoryReport {
    /// Its name.
    pub repository: String,
    /// Its address.
    pub place: String,
    /// Bytes that lie in it.
    pub used_bytes: Option<u64>,
    /// Bytes that are left.
    pub left_bytes: Option<u64>,
    /// What that costs in a month.
    pub cost_per_month: Option<f64>,
    /// When it was last verified or checked with success; none if something that was found wrong
    /// was not found sound since.
    pub verified: Option<Timestamp>,
    /// Whether something was found wrong that was not found sound since.
    pub is_damaged: bool,
    /// When it was last copied with success.
    pub copied: Option<Timestamp>,
}
