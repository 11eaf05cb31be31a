//! One JSON object per event and line, with a schema version.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backup_core::event::{Event, Reporter};
use serde::Serialize;

use crate::ui::{SCHEMA_VERSION, Ui};

/// Running totals of a stage are printed at most once in this time; everything else is printed as
/// it comes.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Prints events.
pub(super) struct JsonReporter {
    ui: Arc<Ui>,
    /// Of several that go on at the same time.
    job: Option<String>,
    last_progress: Mutex<Option<Instant>>,
}

impl JsonReporter {
    pub(super) fn new(ui: Arc<Ui>, job: Option<String>) -> Self {
        Self { ui, job, last_progress: Mutex::default() }
    }

    fn is_due(&self, event: &Event) -> bool {
        let mut last = self.last_progress.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StageStarted { .. } => *last = Some(Instant::now()),
            Event::Progress { .. } if last.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) => {
                return false;
            }
            Event::Progress { .. } => *last = Some(Instant::now()),
            _ => {}
        }
        true
    }
}

#[derive(Serialize)]
struct Line<'a> {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    #[serde(flatten)]
    event: &'a Event,
}

impl Reporter for JsonReporter {
    fn report(&self, event: &Event) {
        if self.is_due(event) {
            self.ui.event(&Line {
                schema_version: SCHEMA_VERSION,
                job: self.job.as_deref(),
                event,
            });
        }
    }
}
