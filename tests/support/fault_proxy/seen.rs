//! What passed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, as they were sent.
    pub(crate) target: String,
    pub(crate) authorization: String,
    /// Whether a fault was applied.
    pub(crate) hit: bool,
}

/// Payload in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    /// Of the first and of the last piece.
    span: Option<(Instant, Instant)>,
    /// What came with the first piece: at the start of the time, not in it.
    head: u64,
}

impl Traffic {
    pub(crate) fn lasted(&self) -> Duration {
        self.span.map_or(Duration::ZERO, |(first, last)| last - first)
    }

    pub(crate) fn bytes_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let bytes = (self.bytes - self.head) as f64;
        bytes / self.lasted().as_secs_f64()
    }

    fn add(&mut self, bytes: usize) {
        let now = Instant::now();
        if self.span.is_none() {
            self.head = bytes as u64;
        }
        self.bytes += bytes as u64;
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
    }
}

#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    requests: Vec<Request>,
    up: Traffic,
    down: Traffic,
}

impl Seen {
    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn request(&self, request: Request) {
        self.all().requests.push(request);
    }

    pub(super) fn up(&self, bytes: usize) {
        self.all().up.add(bytes);
    }

    pub(super) fn down(&self, bytes: usize) {
        self.all().down.add(bytes);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.all().requests.clone()
    }

    pub(super) fn uploaded(&self) -> Traffic {
        self.all().up
    }

    pub(super) fn downloaded(&self) -> Traffic {
        self.all().down
    }

    pub(super) fn forget(&self) {
        *self.all() = All::default();
    }
}
