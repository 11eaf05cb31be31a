//! Jobs, and restores of their snapshots.

use backup_control::alerts::{Facts, JobFacts};
use backup_control::config::{Config, JobConfig};
use backup_control::runs::{Evidence, Run, State};
use backup_control::words::between;
use jiff::Timestamp;
use prometheus::Result;

use super::board::{Board, time, yes};
use super::gauges::{
    AGE, CLOCK_MEASURED, CLOCK_OFFSET, DURATION, EXPOSED, LAST_SUCCESS, LOG_LAG, REDUCTION,
    RESTORE_COMPARED, RESTORE_DURATION, RESTORE_LAST, RESTORE_SUCCESS, RPO, RTO, SIZE, STATUS,
    STORED, SUCCESS_RATIO,
};
use super::looked::{JobLooked, Looked};

/// So many times the usual time after a look, the next is late.
const LATE: f64 = 2.0;
/// The states of [`STATUS`].
const STATES: [&str; 5] = ["none", "running", "verified", "failed", "cancelled"];

pub(super) fn measure(
    board: &Board,
    config: &Config,
    facts: &Facts,
    looked: &Looked,
    now: Timestamp,
) -> Result<()> {
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
    let age = |moment: Timestamp| between(moment, now).as_secs_f64();
    board.set(&LAST_SUCCESS, &[name], success.map(time))?;
    board.set(&AGE, &[name], success.map(age))?;
    let lag =
        looked.and_then(|looked| Some(between(looked.recovery_point?, looked.at).as_secs_f64()));
    board.set(&LOG_LAG, &[name], lag)?;
    // A log is not behind because nobody has looked since; it may be when looks fail.
    let by_log = lag
        .zip(looked)
        .map(|(lag, looked)| lag + (age(looked.at) - LATE * looked.every.as_secs_f64()).max(0.0));
    let exposed = [by_log, success.map(age)].into_iter().flatten().reduce(f64::min);
    board.set(&EXPOSED, &[name], exposed)?;
    board.set(&RPO, &[name], job.rpo.as_ref().map(|rpo| rpo.length().as_secs_f64()))?;
    board.set(&RTO, &[name], job.rto.as_ref().map(|rto| rto.length().as_secs_f64()))
}

fn of_runs(board: &Board, name: &str, runs: &[Run]) -> Result<()> {
    let successes = || runs.iter().filter(|run| run.state.is_success());
    if let Some(last) = successes().next() {
        board.set(&DURATION, &[name], took(last))?;
        board.set(&SIZE, &[name], last.evidence.bytes as f64)?;
        board.set(&STORED, &[name], last.evidence.stored_bytes as f64)?;
        let Evidence { clock_offset_seconds, server_clock_offset_seconds, .. } = last.evidence;
        let offsets = [("store", clock_offset_seconds), ("server", server_clock_offset_seconds)];
        for (clock, offset) in offsets {
            board.set(&CLOCK_OFFSET, &[name, clock], offset.map(|seconds| seconds as f64))?;
        }
        let is_measured = offsets.iter().any(|(_, offset)| offset.is_some());
        board.set(&CLOCK_MEASURED, &[name], is_measured.then(|| time(last.started)))?;
    }
    let (read, stored) = successes().fold((0, 0), |(read, stored): (u64, u64), run| {
        (read.saturating_add(run.evidence.bytes), stored.saturating_add(run.evidence.stored_bytes))
    });
    board.set(&REDUCTION, &[name], (stored > 0).then(|| read as f64 / stored as f64))?;
    let failed = runs.iter().filter(|run| run.state == State::Failed).count();
    let ended = successes().count() + failed;
    board.set(
        &SUCCESS_RATIO,
        &[name],
        (ended > 0).then(|| successes().count() as f64 / ended as f64),
    )
}

/// The restores of a job, newest first.
fn restores<'a>(board: &Board, name: &str, runs: impl Iterator<Item = &'a Run>) -> Result<()> {
    let runs: Vec<&Run> = runs.collect();
    board.set(&RESTORE_LAST, &[name], runs.first().map(|run| time(run.started)))?;
    let success = runs.iter().find(|run| run.state.is_success());
    board.set(&RESTORE_DURATION, &[name], success.and_then(|run| took(run)))?;
    // What had warnings was not all there.
    let is_proof = |run: &&&Run| {
        run.state.is_success() && run.evidence.compared_bytes > 0 && run.evidence.warnings == 0
    };
    let compared = runs.iter().find(is_proof).and_then(|run| run.finished);
    board.set(&RESTORE_COMPARED, &[name], compared.map(time))?;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;

    use super::*;
    use crate::testing::now;

    #[test]
    fn only_a_whole_restore_that_was_compared_is_a_proof() {
        use backup_control::machine::Machine;
        use backup_control::runs::What;
        use backup_control::zone::Zone;

        let machine = Machine::in_zone(Zone::UTC);

        let run = |minutes: i64, state: State, compared: u64, warnings: u64| {
            let began = now() - SignedDuration::from_mins(minutes);
            let mut run = Run::new(What::Restore, "x", "/r", &machine, began);
            (run.state, run.finished) = (state, Some(began + SignedDuration::from_secs(30)));
            (run.evidence.compared_bytes, run.evidence.warnings) = (compared, warnings);
            run
        };
        let proof = run(50, State::Completed, 10, 0);
        let runs = [
            run(10, State::Completed, 0, 0),
            run(20, State::Failed, 10, 0),
            run(30, State::Completed, 10, 1),
            proof.clone(),
            run(60, State::Completed, 10, 0),
        ];
        let board = Board::new().unwrap();
        restores(&board, "x", runs.iter()).unwrap();
        let families = board.gather();
        let family = families.iter().find(|family| family.name() == RESTORE_COMPARED.name).unwrap();
        assert_eq!(family.get_metric()[0].get_gauge().get_value(), time(proof.finished.unwrap()));
        let board = Board::new().unwrap();
        restores(&board, "x", runs[..3].iter()).unwrap();
        assert!(
            board.gather().iter().all(|family| family.name() != RESTORE_COMPARED.name),
            "what is not known is left out"
        );
    }

    #[test]
    fn a_log_is_not_behind_because_nobody_has_looked_since() {
        let now = now();
        let ago = |minutes: i64| now - SignedDuration::from_mins(minutes);
        let exposed = |looked_ago: i64, success_ago: i64| {
            let (board, known) = (
                Board::new().unwrap(),
                JobFacts { last_success: Some(ago(success_ago)), ..JobFacts::default() },
            );
            let looked = JobLooked {
                at: ago(looked_ago),
                every: Duration::from_secs(900),
                last_success: None,
                recovery_point: Some(ago(looked_ago + 1)),
            };
            let job = serde_json::from_str(r#"{"source":"a","repository":"b"}"#).unwrap();
            of_job(&board, "x", &job, &known, Some(&looked), now).unwrap();
            let families = board.gather();
            let family = families.iter().find(|family| family.name() == EXPOSED.name).unwrap();
            family.get_metric()[0].get_gauge().get_value() / 60.0
        };
        assert_eq!(exposed(0, 1000), 1.0);
        assert_eq!(exposed(14, 1000), 1.0, "as it was when somebody looked");
        assert_eq!(exposed(50, 1000), 21.0, "nobody looks any more");
        assert_eq!(exposed(50, 5), 5.0, "a backup is newer");
    }
}
