//! Names of jobs in arguments: a misspelt name is an error, not an empty result.

use std::collections::BTreeSet;

use backup_control::jobs;
use backup_core::repository::SnapshotList;

use crate::command_error::{CommandError, CommandResult};
use crate::session::Session;

/// The jobs of some repositories' snapshots.
#[derive(Debug, Default)]
pub(crate) struct JobNames {
    names: BTreeSet<String>,
    /// True if a snapshot could not be read, which may be one of any job.
    is_incomplete: bool,
}

impl JobNames {
    /// Adds the jobs of the snapshots of one repository.
    pub(crate) fn add(&mut self, list: &SnapshotList) {
        let jobs = list.snapshots.iter().filter_map(|info| info.snapshot.tag("job"));
        self.names.extend(jobs.map(str::to_owned));
        self.is_incomplete |= !list.damaged.is_empty();
    }

    /// Requires that `job`, if one is named, is a job of the configuration or of a snapshot.
    /// Without any known job, any name is accepted: it may be a job before its first run.
    ///
    /// # Errors
    /// [`unknown`] with exit code 2.
    pub(crate) fn require(&self, session: &Session, job: Option<&str>) -> CommandResult<()> {
        let Some(job) = job.filter(|job| !self.is_incomplete && !self.names.contains(*job)) else {
            return Ok(());
        };
        let loaded = session.config()?;
        let configured = loaded.iter().flat_map(|loaded| loaded.config.jobs.keys());
        let known: BTreeSet<&str> = configured.chain(&self.names).map(String::as_str).collect();
        if known.is_empty() || known.contains(job) {
            return Ok(());
        }
        Err(unknown(job, known))
    }
}

impl Session {
    /// Requires that `job` is a job of the configuration or of a snapshot of one repository.
    pub(crate) fn require_job(&self, list: &SnapshotList, job: Option<&str>) -> CommandResult<()> {
        let mut names = JobNames::default();
        names.add(list);
        names.require(self, job)
    }

    /// Requires that the configuration, if there is one, has `job`: for verbs to which a job is the
    /// name of a repository.
    pub(crate) fn require_configured(&self, job: Option<&str>) -> CommandResult<()> {
        JobNames::default().require(self, job)
    }
}

/// The error for a name that no job has; its hint names the most similar of `known`.
pub(crate) fn unknown<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> CommandError {
    let known: Vec<&str> = known.into_iter().collect();
    jobs::unknown(name, &known).into()
}
