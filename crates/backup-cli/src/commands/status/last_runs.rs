//! The newest runs of a job that this machine remembers.

use backup_control::catalog::RunFilter;
use backup_control::runs::{Failure, Run, State};
use jiff::Timestamp;
use serde::Serialize;

use crate::records::{self, Records};
use crate::session::Session;

/// The newest run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LastRun {
    run: String,
    #[serde(skip)]
    pub(super) snapshot: Option<String>,
    pub(super) state: State,
    pub(super) started: Timestamp,
    pub(super) finished: Option<Timestamp>,
    pub(super) warnings: u64,
    /// True if it backed up a part of the job.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_part: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
    /// Seconds by which the store's clock was ahead of that of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clock_offset_seconds: Option<i64>,
}

/// The newest run that is meant, and the newest one of the whole job.
pub(super) async fn last_runs(
    session: &Session,
    records: Option<&Records>,
    filter: &RunFilter,
) -> Result<[Option<LastRun>; 2], ()> {
    let last = newest(session, records, filter).await?;
    let whole = if last.as_ref().is_some_and(|run| run.evidence.is_part) {
        newest(session, records, &RunFilter { whole: true, ..filter.clone() }).await?
    } else {
        last.clone()
    };
    Ok([last, whole].map(|run| run.map(LastRun::from)))
}

/// The newest run that is meant. That it cannot be had was said, and is in the way of nothing else.
pub(super) async fn newest(
    session: &Session,
    records: Option<&Records>,
    filter: &RunFilter,
) -> Result<Option<Run>, ()> {
    let records = records.ok_or(())?;
    match records.catalog.runs(filter).await {
        Ok(found) => Ok(found.runs.into_iter().next()),
        Err(error) => {
            records::warn(session, "cannot read the results of runs", &error.into());
            Err(())
        }
    }
}

impl From<Run> for LastRun {
    fn from(run: Run) -> Self {
        Self {
            run: run.id.to_string(),
            snapshot: run.evidence.snapshot.clone(),
            state: run.state,
            started: run.started,
            finished: run.finished,
            warnings: run.evidence.warnings,
            is_part: run.evidence.is_part,
            failure: run.evidence.failure,
            clock_offset_seconds: run.evidence.clock_offset_seconds,
        }
    }
}
