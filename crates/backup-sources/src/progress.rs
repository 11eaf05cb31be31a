//! Running totals of a stage, counted by any number of tasks and reported at most ten times a
//! second.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use backup_core::event::{Event, Events, Progress, Stage};

/// Shortest time between two progress events, in milliseconds.
const INTERVAL: u64 = 100;

/// One running stage. A stage that fails is dropped without an event.
#[derive(Debug)]
pub(crate) struct StageProgress {
    events: Events,
    stage: Stage,
    began: Instant,
    /// Time of the last progress event, in milliseconds since `began`.
    last_event: AtomicU64,
    expected: Progress,
    done_items: AtomicU64,
    done_bytes: AtomicU64,
}

impl StageProgress {
    /// Begins a stage; `expected` holds its total items and bytes, 0 if unknown.
    pub(crate) fn start(events: &Events, stage: Stage, expected: Progress) -> Self {
        events.emit(&Event::StageStarted { stage });
        Self {
            events: events.clone(),
            stage,
            began: Instant::now(),
            last_event: AtomicU64::new(0),
            expected,
            done_items: AtomicU64::new(0),
            done_bytes: AtomicU64::new(0),
        }
    }

    /// Counts items and bytes that are done.
    pub(crate) fn done(&self, items: u64, bytes: u64) {
        self.done_items.fetch_add(items, Relaxed);
        self.done_bytes.fetch_add(bytes, Relaxed);
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.last_event.load(Relaxed);
        if now.saturating_sub(last) >= INTERVAL
            && self.last_event.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
        {
            self.events.emit(&Event::Progress { stage: self.stage, progress: self.totals() });
        }
    }

    /// Takes back bytes that were counted as done but have to be written after all.
    #[cfg(feature = "files")]
    pub(crate) fn undone(&self, bytes: u64) {
        self.done_bytes.fetch_sub(bytes, Relaxed);
    }

    /// The totals so far.
    pub(crate) fn totals(&self) -> Progress {
        let done_items = self.done_items.load(Relaxed);
        let done_bytes = self.done_bytes.load(Relaxed);
        Progress { done_items, done_bytes, ..self.expected }
    }

    /// Ends the stage and reports its totals.
    pub(crate) fn finish(&self) {
        let progress = self.totals();
        self.events.emit(&Event::StageFinished { stage: self.stage, progress });
    }
}
