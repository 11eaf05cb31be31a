//! Running totals of a stage, counted by many threads and reported at most ten times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::event::{Event, Events, Progress, Stage};

/// Time between two reports of progress.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Counters {
    done_items: AtomicU64,
    total_items: AtomicU64,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

/// Counts a stage. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    stage: Stage,
    events: Events,
    counters: Arc<Counters>,
}

/// Reports until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticking(tokio::task::JoinHandle<()>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Meter {
    pub(crate) fn start(stage: Stage, events: &Events) -> Self {
        events.emit(&Event::StageStarted { stage });
        Self { stage, events: events.clone(), counters: Arc::default() }
    }

    /// Reports in the background as long as the result lives.
    pub(crate) fn ticking(&self) -> Ticking {
        let meter = self.clone();
        Ticking(tokio::spawn(async move {
            let mut interval = tokio::time::interval(INTERVAL);
            loop {
                interval.tick().await;
                meter
                    .events
                    .emit(&Event::Progress { stage: meter.stage, progress: meter.progress() });
            }
        }))
    }

    pub(crate) fn add_items(&self, items: u64) {
        self.counters.done_items.fetch_add(items, Ordering::Relaxed);
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.counters.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn done_bytes(&self) -> u64 {
        self.counters.done_bytes.load(Ordering::Relaxed)
    }

    /// Replaces the bytes done and their expected number.
    pub(crate) fn set_bytes(&self, done: u64, total: u64) {
        self.counters.done_bytes.store(done, Ordering::Relaxed);
        self.counters.total_bytes.store(total, Ordering::Relaxed);
    }

    pub(crate) fn expect(&self, items: u64, bytes: u64) {
        self.counters.total_items.store(items, Ordering::Relaxed);
        self.counters.total_bytes.store(bytes, Ordering::Relaxed);
    }

    fn progress(&self) -> Progress {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            done_items: load(&self.counters.done_items),
            total_items: load(&self.counters.total_items),
            done_bytes: load(&self.counters.done_bytes),
            total_bytes: load(&self.counters.total_bytes),
        }
    }

    pub(crate) fn finish(&self) {
        self.events.emit(&Event::StageFinished { stage: self.stage, progress: self.progress() });
    }
}
