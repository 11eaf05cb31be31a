//! What is asked for, as the document describes it: pieces of work, and restores.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{ArchiveOrder, CopyOrder, RestoreOrder, Work};

/// One thing that the program `backup` does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum WorkJson {
    /// A backup of one job, or of a group.
    Backup {
        /// The job or group.
        job: String,
        /// `full`, `incremental` or `differential`; none: what the job says.
        #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// The tier of the snapshot; none: what the job says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<String>,
    },
    /// Capturing the log of a job, all the time.
    Follow {
        /// The job.
        job: String,
    },
    /// A restore. Begun by `POST /api/v1/restores`.
    Restore {
        /// The snapshot: an id, `latest`, `JOB:latest`; the job or group, with `at` or as its
        /// newest moment.
        what: String,
        /// The repository that has it; none: that of the job, or the one of the configuration, if
        /// there is only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// The moment, as `backup restore --at` takes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// A directory, or the name of a target of the configuration.
        target: String,
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
    },
    /// Reading a snapshot back.
    Verify {
        /// The snapshot: an id, `latest`, `JOB:latest`.
        snapshot: String,
        /// Its repository; none: that of the job, or the one of the configuration, if there is only
        /// one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
    },
    /// Applying the retention of all jobs, and removing what nothing needs any more. Takes an
    /// admin.
    Cleanup,
    /// Checking a repository.
    Check {
        /// The repository; none: the one of the configuration, if there is only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// How much of the data is read too: a share (`5%`), a part (`1/12`) or an amount (`10G`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<String>,
    },
    /// Removing from a repository what nothing needs. Takes an admin.
    Prune {
        /// The repository; none: the one of the configuration, if there is only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
    },
    /// Copying snapshots from one repository of the configuration into another.
    Copy {
        /// The repository that has the snapshots.
        from: String,
        /// The repository that gets them.
        to: String,
        /// Only those of this job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
    },
    /// Copying old snapshots into a repository that is an archive. With `remove` it takes an admin.
    Archive {
        /// The repository that has the snapshots.
        from: String,
        /// The repository that gets them.
        to: String,
        /// Only those that are older than this, for instance `90d`.
        older_than: String,
        /// Only those of this job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
        /// The storage class of their data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        storage_class: Option<String>,
        /// Whether they are removed where they were.
        #[serde(default)]
        remove: bool,
    },
    /// Making a full snapshot of a captured log and the snapshot before it, without the server.
    Compact {
        /// The job.
        job: String,
    },
    /// Looking for alerts.
    Alerts,
    /// Making the report of some time, and sending it.
    Report {
        /// Of how long a time, for instance `7d`.
        since: String,
    },
}

/// What is restored, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreJson {
    /// The snapshot: an id, `latest`, `JOB:latest`; the job or group, with `at` or as its newest
    /// moment.
    pub(super) what: String,
    /// The repository that has it; none: that of the job, or the one of the configuration, if there
    /// is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) repository: Option<String>,
    /// The moment, as `backup restore --at` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    /// A directory from the root on, where nothing is yet; or, for admins, the name of a target of
    /// the configuration.
    pub(super) target: String,
    /// Only say what would be done.
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
