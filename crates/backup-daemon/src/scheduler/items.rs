//! Pieces of work that wait for their turn or go on.

use std::time::Duration;

use jiff::Timestamp;

use super::follow::Heard;
use super::orders::Order;
use crate::engine::{Ended, Running};

/// Why something is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody wanted that.
    Cancelled,
    /// It took too long.
    Deadline,
    /// The daemon ends: it is owed.
    Ending,
    /// The log is not followed any more, or with other settings.
    Anew,
}

/// How far a piece of work is.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Its turn has not come.
    Waits,
    /// It goes on.
    Runs(Runs),
}

#[derive(Debug, Clone)]
pub(super) struct Runs {
    pub(super) since: Timestamp,
    /// On the steady clock.
    pub(super) began: Duration,
    /// Why it is being stopped, and since when, on the steady clock.
    pub(super) stop: Option<(Why, Duration)>,
    /// Whether it was asked to stop.
    pub(super) asked: bool,
    pub(super) killed: bool,
    pub(super) progress: Option<serde_json::Value>,
    /// The reported state of a followed log.
    pub(super) heard: Heard,
}

/// A piece of work.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) task: Option<String>,
    pub(super) by: String,
    pub(super) order: Order,
    /// Since when it waits, on the steady clock.
    pub(super) waits: Duration,
    /// Whether it was told that it waits.
    pub(super) said_waiting: bool,
    pub(super) stage: Stage,
}

impl Item {
    pub(super) fn runs(&self) -> Option<&Runs> {
        match &self.stage {
            Stage::Waits => None,
            Stage::Runs(runs) => Some(runs),
        }
    }

    pub(super) fn runs_mut(&mut self) -> Option<&mut Runs> {
        match &mut self.stage {
            Stage::Waits => None,
            Stage::Runs(runs) => Some(runs),
        }
    }

    /// Whether it waits for a turn that is counted.
    pub(super) fn waits(&self) -> bool {
        matches!(self.stage, Stage::Waits)
    }

    pub(super) fn shown(&self) -> Running {
        let runs = self.runs();
        Running {
            id: self.id.clone(),
            task: self.task.clone(),
            work: self.order.work.clone(),
            by: self.by.clone(),
            since: runs.map(|runs| runs.since),
            progress: runs.and_then(|runs| runs.progress.clone()),
        }
    }

    pub(super) fn ended(&self, ending: Ending, now: Timestamp) -> Ended {
        Ended {
            id: self.id.clone(),
            task: self.task.clone(),
            work: self.order.work.clone(),
            by: self.by.clone(),
            began: self.runs().map_or(now, |runs| runs.since),
            ended: now,
            exit_code: ending.exit_code,
            error: ending.error,
            said: ending.said,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    pub(super) exit_code: Option<u8>,
    pub(super) error: String,
    /// The last of what it said besides its progress.
    pub(super) said: Vec<serde_json::Value>,
}

impl Ending {
    /// It did not end by itself.
    pub(super) fn failed(error: impl Into<String>) -> Self {
        Self { error: error.into(), ..Self::default() }
    }
}
