//! Jobs, and restores of their snapshots.

use backup_control::alerts::{Facts, JobFacts};
use backup_control::config::{Config, JobConfig};
use backup_control::runs::{Run, State};
use backup_control::words::between;
use jiff::Timestamp;
use prometheus::Result;

use super::board::{Board, time, yes};
use super::gauges::{
    AGE, DURATION, EXPOSED, LAST_SUCCESS, LOG_LAG, REDUCTION, RESTORE_DURATION, RESTORE_LAST, RESTORE_SUCCESS, RPO,
    RTO, SIZE, STATUS, STORED, SUCCESS_RATIO,
};
use super::looked::{JobLooked, Looked};

/// The states of [`STATUS`].
const STATES: [&str; 5] = ["none", "running", "verified", "failed", "cancelled"];

pub(super) fn measure(board: &Board, config: &Config, facts: &Facts, looked: &Looked, now: Timestamp) -> Result<()> {
    for (name, job) in &config.jobs {
        let none = JobFacts::default();
        let (known, looked) = (facts.jobs.get(name).unwrap_or(&none), looked.jobs.get(name));
        of_job(board, name, job, known, looked, now)?;
        of_runs(board, name, &known.runs)?;
        restores(board, name, facts.restores.iter().filter(|run| run.job == *name))?;
    }
    Ok(())
}

fn of_job(
    board: &Board,
    name: &str,
    job: &JobConfig,
    known: &JobFacts,
    looked: Option<&JobLooked>,
    now: Timestamp,
) -> Result<()> {
    let state = known.runs.first().map_or("none", |run| state(run.state));
    for other in STATES {
        board.set(&STATUS, &[name, other], yes(state == other))?;
    }
    // Backups of other machines count too.
    let success = known.last_success.max(looked.and_then(|looked| looked.last_success));
    let point = looked.and_then(|looked| looked.recovery_point);
    let age = |moment: Timestamp| between(moment, now).as_secs_f64();
    board.set(&LAST_SUCCESS, &[name], success.map(time))?;
    board.set(&AGE, &[name], success.map(age))?;
    board.set(
        &LOG_LAG,
        &[name],
        looked.and_then(|looked| Some(between(looked.recovery_point?, looked.at).as_secs_f64())),
    )?;
    board.set(&EXPOSED, &[name], point.max(success).map(age))?;
    board.set(&RPO, &[name], job.rpo.as_ref().map(|rpo| rpo.length().as_secs_f64()))?;
    board.set(&RTO, &[name], job.rto.as_ref().map(|rto| rto.length().as_secs_f64()))
}

fn of_runs(board: &Board, name: &str, runs: &[Run]) -> Result<()> {
    let successes = || runs.iter().filter(|run| run.state.is_success());
    if let Some(last) = successes().next() {
        board.set(&DURATION, &[name], took(last))?;
        board.set(&SIZE, &[name], last.evidence.bytes as f64)?;
        board.set(&STORED, &[name], last.evidence.stored_bytes as f64)?;
    }
    let (read, stored) = successes().fold((0, 0), |(read, stored): (u64, u64), run| {
        (read.saturating_add(run.evidence.bytes), stored.saturating_add(run.evidence.stored_bytes))
    });
    board.set(&REDUCTION, &[name], (stored > 0).then(|| read as f64 / stored as f64))?;
    let failed = runs.iter().filter(|run| run.state == State::Failed).count();
    let ended = successes().count() + failed;
    board.set(&SUCCESS_RATIO, &[name], (ended > 0).then(|| successes().count() as f64 / ended as f64))
}

/// The restores of a job, newest first.
fn restores<'a>(board: &Board, name: &str, runs: impl Iterator<Item = &'a Run>) -> Result<()> {
    let runs: Vec<&Run> = runs.collect();
    board.set(&RESTORE_LAST, &[name], runs.first().map(|run| time(run.started)))?;
    let success = runs.iter().find(|run| run.state.is_success());
    board.set(&RESTORE_DURATION, &[name], success.and_then(|run| took(run)))?;
    let ended = runs.iter().find(|run| run.finished.is_some());
    board.set(&RESTORE_SUCCESS, &[name], ended.map(|run| yes(run.state.is_success())))
}

fn took(run: &Run) -> Option<f64> {
    run.finished.map(|finished| between(run.started, finished).as_secs_f64())
}

fn state(state: State) -> &'static str {
    match state {
        State::Running | State::Captured | State::Uploaded => "running",
        State::Verified | State::Completed => "verified",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}
