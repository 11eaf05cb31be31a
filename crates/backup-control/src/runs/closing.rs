//! Closing runs whose processes no longer run.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;

use super::log::End;
use super::{Failure, Log, Run, State, What};
use crate::catalog::{Error, Found, Result, RunFilter, SILENCE, SharedCatalog};
use crate::state;

/// A run that was closed because its process no longer does.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedRun {
    /// The run as it is closed.
    pub run: Run,
    /// The evidence that its process no longer runs.
    pub cause: CloseCause,
}

/// The evidence that the process of a run no longer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// The log of the run records its end, which the catalog lacked.
    EndLogged,
    /// The lock on the log of the run is free, and the log records no end.
    LockFree,
    /// The log of the run is missing, and with it the lock that shows whether its process lives.
    LogMissing,
    /// The process belongs to another machine, and did not report for [`SILENCE`].
    Silent,
}

impl CloseCause {
    /// Returns `true` if the end of the process is presumed, and not known.
    fn is_presumed(self) -> bool {
        matches!(self, Self::LogMissing | Self::Silent)
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndLogged => f.write_str("its log records its end, which the catalog lacked"),
            Self::LockFree => f.write_str("its process ended without recording a result"),
            Self::LogMissing => {
                f.write_str("its log is missing, so its process cannot be observed")
            }
            Self::Silent => {
                write!(f, "its process did not report for {} minutes", SILENCE.as_secs() / 60)
            }
        }
    }
}

/// Runs that [`close_dead`] closed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClosedRuns {
    /// The runs, newest first.
    pub runs: Vec<ClosedRun>,
    /// Rows that cannot be read, and are left out.
    pub unreadable: u64,
}

/// Updates the catalog with results that it could not be given before, and closes the runs whose
/// processes no longer run: with the result that their logs end with, else as failed. Runs of other
/// hosts are closed where a free lock shows their end, as with containers; in a shared catalog,
/// where they did not report for [`SILENCE`].
///
/// # Errors
/// Those of the catalog, and of the files with the messages.
pub async fn close_dead(
    dir: &Path,
    catalog: &SharedCatalog,
    host: &str,
    now: Timestamp,
) -> Result<ClosedRuns> {
    for (file, run) in Log::kept(dir).map_err(|error| Error::Place(dir.to_path_buf(), error))? {
        catalog.update(&run).await?;
        std::fs::remove_file(&file).map_err(|error| Error::Place(file, error))?;
    }
    let filter = RunFilter { unfinished: true, ..RunFilter::default() };
    let Found { runs, unreadable } = catalog.runs(&filter).await?;
    let silent = match catalog.shared() {
        Some(shared) if !runs.is_empty() => shared.silent().await?,
        _ => Vec::new(),
    };
    let failed = |error| Error::Place(dir.to_path_buf(), error);
    let (mut closed, sees_all) = (Vec::new(), state::is_local(dir));
    for mut run in runs {
        let has_log = Log::is_here(dir, &run.id).map_err(failed)?;
        let is_elsewhere = catalog.shared().is_some() && !has_log;
        let lives = match () {
            () if is_elsewhere => !silent.contains(&run.id),
            // The name of a container's host goes with the container.
            () => !(sees_all || run.host == host) || Log::is_alive(dir, &run.id).map_err(failed)?,
        };
        if lives {
            continue;
        }
        let unlogged = match (has_log, is_elsewhere) {
            (true, _) => CloseCause::LockFree,
            (false, true) => CloseCause::Silent,
            (false, false) => CloseCause::LogMissing,
        };
        let end = Log::end_of(dir, &run.id).map_err(failed)?;
        let cause = close(&mut run, end, unlogged, now);
        catalog.update(&run).await?;
        closed.push(ClosedRun { run, cause });
    }
    Ok(ClosedRuns { runs: closed, unreadable })
}

/// Closes a run: as its log ends, or else as failed because of `unlogged`. Returns the cause.
fn close(run: &mut Run, end: Option<End>, unlogged: CloseCause, now: Timestamp) -> CloseCause {
    if let Some(End { state, time, message }) = end {
        run.evidence.failure = message.map(|message| Failure { message, hint: None });
        (run.state, run.finished) = (state, Some(time));
        return CloseCause::EndLogged;
    }
    run.evidence.failure = Some(without_result(run, unlogged));
    run.evidence.is_presumed = unlogged.is_presumed();
    (run.state, run.finished) = (State::Failed, Some(now));
    unlogged
}

/// The failure of a run that recorded no result.
fn without_result(run: &Run, cause: CloseCause) -> Failure {
    let Run { pid, host, state, .. } = run;
    let message = match cause {
        CloseCause::Silent => {
            let minutes = SILENCE.as_secs() / 60;
            format!("process {pid} on {host} did not report for {minutes} minutes")
        }
        CloseCause::LogMissing => format!(
            "the log of the run is missing, so process {pid} on {host} cannot be observed; the \
             last known state is {}",
            state.as_str()
        ),
        CloseCause::EndLogged | CloseCause::LockFree => {
            format!("process {pid} died while the run was {}", state.as_str())
        }
    };
    let hint = match (run.what, &run.evidence.snapshot) {
        (What::Restore | What::Group, _) => None,
        (What::Backup, None) => Some("run the job again: it reuses the stored data"),
        (What::Backup, Some(_)) => {
            Some("check the steps after the backup; the snapshot is complete")
        }
    };
    Failure { message, hint: hint.map(str::to_owned) }
}
