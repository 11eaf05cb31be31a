//! The input of a report.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backup_core::maintenance::Anchor;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::audit::Record;
use crate::config::Config;
use crate::disk::Medium;
use crate::notify::Channels;
use crate::runs::Run;

/// The input of a report: the caller collects it, and the report itself reads nothing.
#[derive(Debug)]
pub struct Given<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Its channels.
    pub channels: &'a Channels,
    /// The beginning of the period.
    pub from: Timestamp,
    /// The end of the period.
    pub to: Timestamp,
    /// The time zone whose days count.
    pub zone: TimeZone,
    /// The host that it is made on.
    pub host: String,
    /// Backups and restores that began in the period, in any order.
    pub runs: Vec<Run>,
    /// When the last success before the period began, by job.
    pub before: BTreeMap<String, Timestamp>,
    /// The records of the audit log in the period.
    pub records: Vec<Record>,
    /// The state of the audit log.
    pub audit: AuditGiven,
    /// The state of the repositories, by their names in the configuration.
    pub repositories: BTreeMap<String, RepositoryGiven>,
}

/// The state of the audit log.
#[derive(Debug, Clone, Default)]
pub struct AuditGiven {
    /// The chain is intact; none if a repository with its anchors could not be read.
    pub is_whole: Option<bool>,
    /// The time from which on no record is missing or expired.
    pub since: Option<Timestamp>,
    /// The number of the last record that a repository confirms.
    pub confirmed: Option<u64>,
}

/// The state of a repository.
#[derive(Debug, Clone, Default)]
pub struct RepositoryGiven {
    /// Its address, without secrets, as runs record it.
    pub place: String,
    /// The identity in its config; none if it could not be opened.
    pub id: Option<String>,
    /// Where it lies.
    pub medium: Medium,
    /// Where its pass phrase comes from.
    pub key: KeyGiven,
    /// Its snapshots, without those of logs; none if they could not be read.
    pub snapshots: Option<Vec<SnapshotGiven>>,
    /// Bytes that lie in it; none if it could not be read.
    pub used: Option<u64>,
    /// Bytes that are left.
    pub left: Option<u64>,
    /// How far the audit log had got, as the repository has it.
    pub anchors: Vec<Anchor>,
    /// The spans of time of which every moment can be restored, by job with a captured log.
    pub restorable: BTreeMap<String, Vec<(Timestamp, Timestamp)>>,
}

/// Where a pass phrase comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyGiven {
    /// The configuration names no origin.
    #[default]
    Unnamed,
    /// A file, and where it lies.
    File(PathBuf, Medium),
    /// An environment variable.
    Variable(String),
    /// A command.
    Command,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotGiven {
    /// Its name in this repository.
    pub id: String,
    /// Its name in the repository that it was first made in: copies have the same.
    pub origin: String,
    /// The job that made it.
    pub job: String,
    /// The moment that it stands for.
    pub time: Timestamp,
}

impl SnapshotGiven {
    /// Its name as people use it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}
