//! What goes wrong while a log is captured, and what is told of it.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::event::{Event, Events, LogEvent, Reporter};
use backup_core::repository::Repository;

use super::logs::{Capturing, Logged};

/// Keeps what capturers tell.
#[derive(Default)]
pub(crate) struct Told(std::sync::Mutex<Vec<LogEvent>>);

impl Told {
    pub(crate) fn any(&self, fits: impl Fn(&LogEvent) -> bool) -> bool {
        self.0.lock().unwrap().iter().any(fits)
    }
}

impl Reporter for Told {
    fn report(&self, event: &Event) {
        if let Event::Log(event) = event {
            self.0.lock().unwrap().push(event.clone());
        }
    }
}

impl Capturing {
    /// As if the process were killed.
    pub(crate) async fn kill(self) {
        self.task.abort();
        _ = self.task.await;
    }
}

impl Logged {
    pub(crate) fn telling(&self, told: &Arc<Told>) -> Self {
        let reporter: Arc<dyn Reporter> = Arc::clone(told) as _;
        Self { cx: Context { events: Events::to(reporter), ..self.cx.clone() }, ..self.clone() }
    }

    pub(crate) fn through(&self, repository: &Repository) -> Self {
        Self { repository: repository.clone(), ..self.clone() }
    }
}
