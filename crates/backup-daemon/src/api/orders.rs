//! What is asked for, as the document describes it: pieces of work, and restores.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{ArchiveOrder, CopyOrder, RestoreOrder, Work};

/// An operation of the program `backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum WorkJson {
    /// Back up a job or a group.
    Backup {
        /// Name of the job or group.
        job: String,
        /// `full`, `incremental` or `differential`. Default: the type of the job.
        #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// Tier of the snapshot. Default: the tier of the job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<String>,
    },
    /// Capture the log of a job continuously.
    Follow {
        /// Name of the job.
        job: String,
    },
    /// Restore a snapshot or a moment. To start one, use `POST /api/v1/restores`.
    Restore {
        /// The snapshot: an identifier, `latest`, or `JOB:latest`; or the name of a job or group,
        /// for the moment `at` or the latest one.
        what: String,
        /// Name of the repository of the snapshot. Default: that of the job, or the only one of
        /// the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// The moment to restore, in the format of `backup restore --at`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// A directory, or the name of a target of the configuration.
        target: String,
        /// `true`: only show the plan.
        #[serde(default)]
        dry_run: bool,
    },
    /// Read a snapshot back and verify it.
    Verify {
        /// The snapshot: an identifier, `latest`, or `JOB:latest`.
        snapshot: String,
        /// Name of its repository. Default: that of the job, or the only one of the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
    },
    /// Apply the retention policies of all jobs, and remove unreferenced data. Requires the role
    /// admin.
    Cleanup,
    /// Check a repository.
    Check {
        /// Name of the repository. Default: the only one of the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// Amount of data to read as well: a share (`5%`), a part (`1/12`) or a size (`10G`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<String>,
    },
    /// Remove unreferenced data from a repository. Requires the role admin.
    Prune {
        /// Name of the repository. Default: the only one of the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
    },
    /// Copy snapshots from one repository of the configuration into another.
    Copy {
        /// Name of the source repository.
        from: String,
        /// Name of the target repository.
        to: String,
        /// Only snapshots of this job. Default: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
    },
    /// Copy old snapshots into an archive repository. With `remove`, requires the role admin.
    Archive {
        /// Name of the source repository.
        from: String,
        /// Name of the target repository.
        to: String,
        /// Only snapshots older than this, for instance `90d`.
        older_than: String,
        /// Only snapshots of this job. Default: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
        /// Storage class of the copied data. Default: that of the target repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        storage_class: Option<String>,
        /// `true`: remove the snapshots from the source repository.
        #[serde(default)]
        remove: bool,
    },
    /// Make a full snapshot from a captured log and an earlier snapshot, without the server.
    Compact {
        /// Name of the job.
        job: String,
    },
    /// Evaluate the alert rules.
    Alerts,
    /// Make a report of a period, and send it.
    Report {
        /// Length of the period up to now, for instance `7d`.
        since: String,
    },
}

/// A restore to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreJson {
    /// The snapshot: an identifier, `latest`, or `JOB:latest`; or the name of a job or group, for
    /// the moment `at` or the latest one.
    pub(super) what: String,
    /// Name of the repository of the snapshot. Default: that of the job, or the only one of the
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) repository: Option<String>,
    /// The moment to restore, in the format of `backup restore --at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    /// An absolute directory, new or empty, for operators below `restore_roots`; or, for admins, the
    /// name of a target of the configuration.
    pub(super) target: String,
    /// `true`: only show the plan.
    #[serde(default)]
    pub(super) dry_run: bool,
}

impl From<RestoreJson> for RestoreOrder {
    fn from(RestoreJson { what, repository, at, target, dry_run }: RestoreJson) -> Self {
        Self { what, repository, at, target, dry_run }
    }
}

impl From<Work> for WorkJson {
    fn from(work: Work) -> Self {
        match work {
            Work::Backup { job, kind, tier } => Self::Backup { job, kind, tier },
            Work::Follow { job } => Self::Follow { job },
            Work::Restore(RestoreOrder { what, repository, at, target, dry_run }) => {
                Self::Restore { what, repository, at, target, dry_run }
            }
            Work::Verify { snapshot, repository } => Self::Verify { snapshot, repository },
            Work::Cleanup => Self::Cleanup,
            Work::Check { repository, data } => Self::Check { repository, data },
            Work::Prune { repository } => Self::Prune { repository },
            Work::Copy(CopyOrder { from, to, job }) => Self::Copy { from, to, job },
            Work::Archive(ArchiveOrder { from, to, older_than, job, storage_class, remove }) => {
                Self::Archive { from, to, older_than, job, storage_class, remove }
            }
            Work::Compact { job } => Self::Compact { job },
            Work::Alerts => Self::Alerts,
            Work::Report { since } => Self::Report { since },
        }
    }
}
