//! What the API asks of the scheduler, and what both call things.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Everything that happens on a schedule, and everything that goes on all the time.
#[derive(Debug, Clone, Serialize)]
pub struct Task {
    /// Unique, and the same after a restart: `leads/daily`, `leads/logs`, `cleanup`.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// When, as the configuration says; none if it goes on all the time.
    pub schedule: Option<String>,
    /// Its next beginning; none while it goes on all the time or is paused.
    pub next: Option<Timestamp>,
    /// Nothing is begun until it is resumed.
    pub paused: bool,
    /// What came of it last.
    pub last: Option<Ended>,
}

/// One thing that the program `backup` does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Work {
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
    /// A restore.
    Restore(RestoreOrder),
    /// Reading a snapshot back.
    Verify {
        /// The snapshot: an id, `latest`, `JOB:latest`.
        snapshot: String,
        /// Its repository; none: that of the job, or the one of the configuration, if there is only
        /// one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
    },
    /// Applying the retention of all jobs, and removing what nothing needs any more.
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
    /// Removing from a repository what nothing needs.
    Prune {
        /// The repository; none: the one of the configuration, if there is only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
    },
    /// Copying snapshots from one repository into another.
    Copy(CopyOrder),
    /// Copying old snapshots into a repository that is an archive.
    Archive(ArchiveOrder),
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

/// What is copied, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyOrder {
    /// The repository that has the snapshots.
    pub from: String,
    /// The repository that gets them.
    pub to: String,
    /// Only those of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// What is archived, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveOrder {
    /// The repository that has the snapshots.
    pub from: String,
    /// The repository that gets them.
    pub to: String,
    /// Only those that are older than this.
    pub older_than: String,
    /// Only those of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The storage class of their data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Whether they are removed where they were.
    #[serde(default)]
    pub remove: bool,
}

/// What is restored, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreOrder {
    /// The snapshot: an id, `latest`, `JOB:latest`; the job or group, with `at` or as its newest
    /// moment.
    pub what: String,
    /// The repository that has it; none: that of the job, or the one of the configuration, if there
    /// is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The moment, as `backup restore --at` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The directory, or the name of a target of the configuration. An address is refused: it would
    /// hold a secret.
    pub target: String,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// A piece of work that goes on.
#[derive(Debug, Clone, Serialize)]
pub struct Running {
    /// Unique.
    pub id: String,
    /// The task it belongs to; none if somebody asked for it.
    pub task: Option<String>,
    /// What it does.
    pub work: Work,
    /// Who asked for it: `schedule`, or the name of a token.
    pub by: String,
    /// Since when; none while it waits for its turn.
    pub since: Option<Timestamp>,
    /// The last line of progress of the program, as it says it in JSON.
    pub progress: Option<serde_json::Value>,
}

/// A piece of work that is over.
#[derive(Debug, Clone, Serialize)]
pub struct Ended {
    /// Of [`Running`].
    pub id: String,
    /// Of [`Running`].
    pub task: Option<String>,
    /// Of [`Running`].
    pub work: Work,
    /// Of [`Running`].
    pub by: String,
    /// When it began.
    pub began: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// The exit code of the program; none if a signal ended it, or it could not be started.
    pub exit_code: Option<u8>,
    /// What it said was wrong, at most some kilobytes; empty if nothing was.
    pub error: String,
    /// The last of what it said besides its progress, in JSON: warnings, remarks and summaries, at
    /// most some kilobytes.
    pub said: Vec<serde_json::Value>,
}

/// What happens, for whoever listens.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TaskEvent {
    /// Something has begun.
    Began(Running),
    /// It goes on.
    Progress {
        /// Of [`Running`].
        id: String,
        /// The program's words.
        progress: serde_json::Value,
    },
    /// It is over.
    Ended(Ended),
    /// A task was paused or resumed.
    Paused {
        /// Its name.
        task: String,
        /// Or resumed.
        paused: bool,
    },
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing of that name.
    #[error("there is no {0}")]
    Unknown(String),
    /// It cannot be done now, or never.
    #[error("{0}")]
    Refused(String),
    /// The daemon is ending, or too much waits already.
    #[error("{0}")]
    Busy(String),
}

/// The subject of the problem that the configuration file is broken, in [`Health::troubles`].
pub const CONFIGURATION: &str = "configuration";

/// How it is with whatever runs tasks.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// When it last looked at its tasks. It does so at least every ten seconds.
    pub looked: Timestamp,
    /// What is wrong, by what it concerns; empty: nothing.
    pub troubles: BTreeMap<String, String>,
    /// It begins nothing any more.
    pub stopping: bool,
}

impl Health {
    /// Whether it has looked at its tasks lately.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now.duration_since(self.looked)
            < jiff::SignedDuration::try_from(Duration::from_secs(60)).unwrap_or_default()
    }
}

/// Whatever runs tasks. Nothing here waits for a task.
pub trait Engine: Send + Sync {
    /// All tasks, by name.
    fn tasks(&self) -> Vec<Task>;
    /// What goes on or waits for its turn.
    fn running(&self) -> Vec<Running>;
    /// The last pieces of work that are over, the newest first; at most a few hundred are
    /// remembered.
    fn ended(&self) -> Vec<Ended>;
    /// Begins something as soon as its turn comes, for `by`; the id it goes by.
    ///
    /// # Errors
    /// What is not known or not allowed, and whatever is done already (a job runs once at a time).
    fn start(&self, work: Work, by: &str) -> Result<String, Refusal>;
    /// Stops something as Ctrl-C does: at a safe point.
    ///
    /// # Errors
    /// If nothing of that id goes on or waits.
    fn cancel(&self, id: &str) -> Result<(), Refusal>;
    /// Pauses or resumes a task, or all of them. Log capture and the evaluation of alerts are paused
    /// by name only: a server discards its log in the meantime, and alerts report long pauses. A
    /// pause ends after seven days.
    ///
    /// # Errors
    /// If there is no such task.
    fn pause(&self, task: Option<&str>, paused: bool) -> Result<(), Refusal>;
    /// What happens from now on. A listener that is too slow misses something, and is told so.
    fn events(&self) -> broadcast::Receiver<TaskEvent>;
    /// How it is.
    fn health(&self) -> Health;
}
