//! What is counted as it happens.

use std::time::Duration;

use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::engine::{TaskEvent, Work};

/// Bounds of the times that requests take, in seconds.
const TIMES: [f64; 7] = [0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

/// What is counted. A counter that could not be made counts nothing.
pub(crate) struct Counters {
    registry: Registry,
    requests: Option<IntCounterVec>,
    times: Option<Histogram>,
    ended: Option<IntCounterVec>,
    missed: Option<IntCounter>,
    not_recorded: Option<IntCounter>,
}

/// Names, labels and meanings of the counters, for the documentation.
pub(super) const ALL: [(&str, &str, &str); 5] = [
    ("backupd_http_requests_total", "`route`, `code`", REQUESTS),
    ("backupd_http_request_duration_seconds", "(a histogram)", TIMES_HELP),
    ("backupd_tasks_ended_total", "`work`, `result`", ENDED),
    ("backupd_events_missed_total", "", MISSED),
    ("backupd_audit_failures_total", "", NOT_RECORDED),
];
const REQUESTS: &str = "Answered requests, by path template and status code.";
const TIMES_HELP: &str = "Duration of requests.";
const ENDED: &str = "Finished operations, by result: success, warnings, cancelled, failure.";
const MISSED: &str = "Events that arrived too fast to be counted.";
const NOT_RECORDED: &str = "Changes that could not be recorded in the audit log.";

impl Counters {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let many = |(name, _, help): (&str, &str, &str), labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels).ok()?;
            registry.register(Box::new(counter.clone())).ok()?;
            Some(counter)
        };
        let one = |(name, _, help): (&str, &str, &str)| {
            let counter = IntCounter::new(name, help).ok()?;
            registry.register(Box::new(counter.clone())).ok()?;
            Some(counter)
        };
        let requests = many(ALL[0], &["route", "code"]);
        let times =
            Histogram::with_opts(HistogramOpts::new(ALL[1].0, ALL[1].2).buckets(TIMES.to_vec()))
                .ok();
        let times = times.filter(|times| registry.register(Box::new(times.clone())).is_ok());
        let (ended, missed, not_recorded) =
            (many(ALL[2], &["work", "result"]), one(ALL[3]), one(ALL[4]));
        Self { registry, requests, times, ended, missed, not_recorded }
    }

    /// A request was answered; `route` is the template of a path, of which there are few.
    pub(crate) fn answered(&self, route: &str, status: u16, took: Duration) {
        if let Some(requests) = &self.requests {
            requests.with_label_values(&[route, &status.to_string()]).inc();
        }
        if let Some(times) = &self.times {
            times.observe(took.as_secs_f64());
        }
    }

    /// The audit log could not be told.
    pub(crate) fn not_recorded(&self) {
        if let Some(counter) = &self.not_recorded {
            counter.inc();
        }
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Counts what tasks come to, until the server ends.
    pub(super) async fn listen(
        &self,
        mut events: Receiver<TaskEvent>,
        shutdown: CancellationToken,
    ) {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = shutdown.cancelled() => return,
            };
            match event {
                Ok(TaskEvent::Ended(ended)) => {
                    if let Some(counter) = &self.ended {
                        counter
                            .with_label_values(&[kind(&ended.work), result(ended.exit_code)])
                            .inc();
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(number)) => {
                    if let Some(counter) = &self.missed {
                        counter.inc_by(number);
                    }
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// What a piece of work is, as a label.
pub(super) fn kind(work: &Work) -> &'static str {
    match work {
        Work::Backup { .. } => "backup",
        Work::Follow { .. } => "follow",
        Work::Restore(_) => "restore",
        Work::Verify { .. } => "verify",
        Work::Cleanup => "cleanup",
        Work::Check { .. } => "check",
        Work::Prune { .. } => "prune",
        Work::Copy(_) => "copy",
        Work::Archive(_) => "archive",
        Work::Compact { .. } => "compact",
        Work::Alerts => "alerts",
        Work::Report { .. } => "report",
    }
}

/// What came of it, by the exit code of the program.
pub(super) fn result(code: Option<u8>) -> &'static str {
    match code {
        Some(0) => "success",
        Some(3) => "warnings",
        Some(130) => "cancelled",
        _ => "failure",
    }
}
