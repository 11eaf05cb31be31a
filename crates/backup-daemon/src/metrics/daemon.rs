//! The daemon: its tasks, what goes on, and alerts.

use std::collections::BTreeMap;

use backup_control::alerts::{Alert, Phase};
use backup_control::words::between;
use jiff::Timestamp;
use prometheus::Result;
use serde_json::Value;

use super::board::{Board, time, yes};
use super::counters::{kind, result};
use super::gauges::{
    ALERT, ALERT_SILENCED, CONFIGURATION_VALID, HEALTHY, INFO, LOOKED_AT_TASKS, RESTORE_PROGRESS,
    RUNNING, TASK_DURATION, TASK_NEXT, TASK_PAUSED, TASK_SUCCESS, WAITING,
};
use crate::api::Reads;
use crate::engine::{CONFIGURATION, Engine, Work};

/// Kinds of work, so that what does not go on is 0 and not absent.
const KINDS: [&str; 12] = [
    "alerts", "archive", "backup", "check", "cleanup", "compact", "copy", "follow", "prune",
    "report", "restore", "verify",
];

pub(super) fn measure(
    board: &Board,
    engine: &dyn Engine,
    alerts: &[(Alert, bool)],
    reads: &Reads,
    now: Timestamp,
) -> Result<()> {
    board.set(&INFO, &[env!("CARGO_PKG_VERSION"), &reads.machine.host], 1.0)?;
    let health = engine.health();
    board.set(&HEALTHY, &[], yes(health.is_alive(now) && health.troubles.is_empty()))?;
    let is_broken = health.troubles.contains_key(CONFIGURATION);
    board.set(&CONFIGURATION_VALID, &[], yes(!is_broken))?;
    board.set(&LOOKED_AT_TASKS, &[], time(health.looked))?;
    for (alert, is_silenced) in alerts {
        let (rule, subject, severity) =
            (alert.rule.as_str(), alert.subject.as_str(), alert.severity.as_str());
        board.set(&ALERT, &[rule, subject, severity], yes(alert.phase == Phase::Firing))?;
        board.set(&ALERT_SILENCED, &[rule, subject], yes(*is_silenced))?;
    }
    tasks(board, engine)?;
    running(board, engine)
}

fn tasks(board: &Board, engine: &dyn Engine) -> Result<()> {
    for task in engine.tasks() {
        let labels = [task.name.as_str()];
        board.set(&TASK_NEXT, &labels, task.next.map(time))?;
        board.set(&TASK_PAUSED, &labels, yes(task.paused))?;
        if let Some(last) = task.last {
            let is_done = matches!(result(last.exit_code), "success" | "warnings");
            board.set(&TASK_SUCCESS, &labels, yes(is_done))?;
            board.set(&TASK_DURATION, &labels, between(last.began, last.ended).as_secs_f64())?;
        }
    }
    Ok(())
}

fn running(board: &Board, engine: &dyn Engine) -> Result<()> {
    let mut counts: BTreeMap<&str, (u32, u32)> =
        KINDS.into_iter().map(|kind| (kind, (0, 0))).collect();
    for running in engine.running() {
        let count = counts.entry(kind(&running.work)).or_default();
        match running.since {
            Some(_) => count.0 += 1,
            None => count.1 += 1,
        }
        if let (Work::Restore(order), Some(_)) = (&running.work, running.since) {
            let done = running.progress.as_ref().and_then(share).unwrap_or(0.0);
            board.set(&RESTORE_PROGRESS, &[&running.id, &order.what], done)?;
        }
    }
    for (kind, (goes_on, waits)) in counts {
        board.set(&RUNNING, &[kind], f64::from(goes_on))?;
        board.set(&WAITING, &[kind], f64::from(waits))?;
    }
    Ok(())
}

/// How much is done, by a line of progress of the program; by bytes, or else by items.
fn share(progress: &Value) -> Option<f64> {
    let of = |done: &str, total: &str| {
        let (done, total) = (progress.get(done)?.as_f64()?, progress.get(total)?.as_f64()?);
        (total > 0.0).then(|| (done / total).clamp(0.0, 1.0))
    };
    of("done_bytes", "total_bytes").or_else(|| of("done_items", "total_items"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_progress() {
        let share = |json: &str| share(&serde_json::from_str(json).unwrap());
        assert_eq!(
            share(r#"{"done_bytes":25,"total_bytes":100,"done_items":1,"total_items":2}"#),
            Some(0.25)
        );
        assert_eq!(
            share(r#"{"done_bytes":5,"total_bytes":0,"done_items":1,"total_items":2}"#),
            Some(0.5)
        );
        assert_eq!(
            share(r#"{"done_bytes":500,"total_bytes":100}"#),
            Some(1.0),
            "more than was expected"
        );
        assert_eq!(share(r#"{"stage":"plan"}"#), None);
    }
}
