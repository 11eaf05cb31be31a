//! What a report is made from.

use std::collections::BTreeMap;

use backup_core::maintenance::Anchor;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::audit::Record;
use crate::config::Config;
use crate::runs::Run;

/// What a report is made from. Whoever makes one finds it out; the report itself asks nobody.
#[derive(Debug)]
pub struct Given<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Where it begins.
    pub from: Timestamp,
    /// Where it ends.
    pub to: Timestamp,
    /// The time zone whose days count.
    pub zone: TimeZone,
    /// The host that it is made on.
    pub host: String,
    /// Backups and restores that began in this time, in any order.
    pub runs: Vec<Run>,
    /// When the last success before this time began, by job.
    pub before: BTreeMap<String, Timestamp>,
    /// What was recorded in this time.
    pub records: Vec<Record>,
    /// Whether the audit log is whole; none if nobody has looked.
    pub audit_is_whole: Option<bool>,
    /// What repositories say of themselves, by their names in the configuration.
    pub repositories: BTreeMap<String, RepositoryGiven>,
}

/// What a repository says of itself.
#[derive(Debug, Clone, Default)]
pub struct RepositoryGiven {
    /// Its address, without secrets, as runs remember it.
    pub place: String,
    /// Whether it is a directory of this machine.
    pub is_local: bool,
    /// Bytes that lie in it; none if it could not be asked.
    pub used: Option<u64>,
    /// Bytes that are left.
    pub left: Option<u64>,
    /// How far the audit log had got, as the repository has it.
    pub anchors: Vec<Anchor>,
    /// The last moment that can be restored, by job.
    pub recovery: BTreeMap<String, Timestamp>,
}
