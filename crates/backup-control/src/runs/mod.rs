//! Runs: what is remembered of every execution of a job, who may execute one, and what becomes of
//! those that died.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Run`]: what is remembered; its states; its identifier |
//! | `evidence.rs` | [`Evidence`]: what came of it, with the times of its stages |
//! | `analysis.rs` | [`analyze()`]: what took how long, beside earlier runs |
//! | `recording.rs` | [`Recording`]: a run that is being recorded, from its beginning to its end |
//! | `closing.rs` | [`close_dead`]: closing runs whose processes no longer run, and the evidence for that |
//! | `elsewhere.rs` | runs in the repository: saved there, or known by their snapshots |
//! | `log.rs` | the messages of a run, in a file of its own |
//! | `flight.rs` | [`Flight`]: one execution of a job at a time on this machine |
//! | `agreed.rs` | [`Agreed`]: and among machines |
//! | `tests.rs` | tests of recordings |
//!
//! ```text
//!  Recording::begin ─▶ log file, locked ─▶ row in the catalog
//!        │ events: times of stages, messages, states
//!        ▼
//!  Recording::end ─▶ row with state and evidence        killed: the lock is free, `close_dead` closes it as failed
//! ```

mod agreed;
mod analysis;
mod closing;
mod elsewhere;
mod evidence;
mod flight;
mod log;
mod recording;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub use agreed::{Agreed, Claim};
pub use analysis::{Analysis, COMPARED, Earlier, StageAnalysis, analyze};
pub use closing::{CloseCause, ClosedRun, ClosedRuns, close_dead};
pub use elsewhere::{Identified, NOTES, Rebuilt, SavedRun, rebuild};
pub use evidence::{Evidence, Failure, StageTime};
pub use flight::{Flight, Holder};
pub use log::{Log, MAX_LOG};
pub use recording::Recording;

/// Name of a run: the second in which it began (UTC) and a random number, so that names sort by
/// time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// The name of a run that begins now.
    #[must_use]
    pub fn new(started: Timestamp) -> Self {
        let second = started.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S");
        Self(format!("{second}-{:06x}", rand::random::<u32>() >> 8))
    }

    /// The name of a run that is known by its snapshot only: always the same.
    pub(crate) fn of_snapshot(started: Timestamp, snapshot: &str) -> Self {
        let second = started.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S");
        Self(format!("{second}-{}", &snapshot[..6.min(snapshot.len())]))
    }

    /// The name that a catalog holds.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A backup.
    Backup,
    /// A restore.
    Restore,
    /// Backups of a group, each of which is a run of its own besides.
    Group,
}

impl What {
    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Group => "group",
        }
    }

    pub(crate) fn stored(text: &str) -> Option<Self> {
        [Self::Backup, Self::Restore, Self::Group].into_iter().find(|what| what.as_str() == text)
    }
}

/// How far a run has got. A backup goes from `running` to `captured` and `uploaded` to `verified`,
/// a restore or a group from `running` to `completed`; all may end as `failed` or `cancelled`
/// instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It goes on.
    Running,
    /// The source was read in full.
    Captured,
    /// Everything that was read is stored, and the store or a read confirmed what was written; the
    /// snapshot is not listed yet.
    Uploaded,
    /// The snapshot is listed; only a backup has this state.
    Verified,
    /// A restore, or all backups of a group, are done.
    Completed,
    /// It could not be done, or its process died.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Running,
        Self::Captured,
        Self::Uploaded,
        Self::Verified,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Captured => "captured",
            Self::Uploaded => "uploaded",
            Self::Verified => "verified",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// As shown to people. A backup whose snapshot is listed is completed: whether its data was read
    /// again is known to the repository, not to the run.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Verified => Self::Completed.as_str(),
            other => other.as_str(),
        }
    }

    pub(crate) fn stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing comes after it.
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Self::Verified | Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether what was asked for was done.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Verified | Self::Completed)
    }
}

/// What is remembered of one execution of a job. No secrets: addresses are stored as they may be
/// shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// What was executed.
    pub what: What,
    /// Of which job, or group.
    pub job: String,
    /// The address of the repository; of a group all of them, separated by commas.
    pub repository: String,
    /// How far it has got.
    pub state: State,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; none while it goes on.
    pub finished: Option<Timestamp>,
    /// The host that it ran on.
    pub host: String,
    /// The user whose process it was.
    pub user: String,
    /// The number of the process.
    pub pid: u32,
    /// What came of it.
    pub evidence: Evidence,
}

impl Run {
    /// A run that begins now in this process.
    #[must_use]
    pub fn new(
        what: What,
        job: &str,
        repository: &str,
        machine: &crate::machine::Machine,
        now: Timestamp,
    ) -> Self {
        Self {
            id: RunId::new(now),
            what,
            job: job.to_owned(),
            repository: repository.to_owned(),
            state: State::Running,
            started: now,
            finished: None,
            host: machine.host.clone(),
            user: machine.user.clone(),
            pid: std::process::id(),
            evidence: Evidence::default(),
        }
    }

    /// True if the run did its work, and for the whole job. A backup of a part is no success of its
    /// job.
    #[must_use]
    pub fn is_success_of_job(&self) -> bool {
        self.state.is_success() && !self.evidence.is_part
    }
}
