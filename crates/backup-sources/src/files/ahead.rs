//! Listing directories before their turn comes.
//!
//! The walk goes depth first and takes one [`Slot`] after the other. Where listing is fast, it does
//! the work of a slot itself: handing it to another thread would cost more than it brings. Where
//! listing is slow, [`Ahead`] gives the slots that come next to blocking threads, as many at a time
//! as the window allows, and the walk finds them done.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use tokio::runtime::Handle;

use super::listing::{Dir, Listing};
use super::scan::{self, Rules, Scan};

/// Mean time of a listing from which on others are listed ahead.
const SLOW: Duration = Duration::from_micros(400);

/// What a slot has to do.
#[derive(Debug)]
pub(super) enum Work {
    /// List a directory.
    Begin(Dir),
    /// Look at the next names of a directory.
    Resume(Listing),
}

/// Work that is done once, by whoever comes first, for the one who takes it.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug)]
enum State {
    Todo(Work),
    Running,
    Done(SourceResult<Scan>),
    Taken,
}

impl Slot {
    pub(super) fn new(work: Work) -> Self {
        Self { state: Mutex::new(State::Todo(work)), done: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work unless somebody else does.
    fn run(&self, rules: &Rules) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Running) {
            State::Todo(work) => {
                drop(state);
                let finish = Finish(self);
                let result = work.run(rules);
                *self.lock() = State::Done(result);
                drop(finish);
            }
            other => *state = other,
        }
    }

    /// The result; does the work if nobody has begun it. Called once.
    fn take(&self, rules: &Rules) -> SourceResult<Scan> {
        self.run(rules);
        let mut state = self.lock();
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Done(result) => return result,
                State::Taken => return Err(lost()),
                other => *state = other,
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_todo(&self) -> bool {
        matches!(*self.lock(), State::Todo(_))
    }
}

/// Wakes the taker, also when the work has panicked: it must not wait for ever.
struct Finish<'a>(&'a Slot);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if matches!(*state, State::Running) {
            *state = State::Done(Err(lost()));
        }
        drop(state);
        self.0.done.notify_all();
    }
}

fn lost() -> SourceError {
    SourceError::new(SourceErrorKind::Io, "the worker that lists directories ended unexpectedly")
}

impl Work {
    fn run(self, rules: &Rules) -> SourceResult<Scan> {
        match self {
            Self::Begin(dir) => scan::begin(dir, rules),
            Self::Resume(listing) => scan::resume(listing, rules),
        }
    }
}

/// Decides what is listed ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    rules: Arc<Rules>,
    runtime: Handle,
    /// How many slots may be running or done and not yet taken.
    window: usize,
    running: Vec<Arc<Slot>>,
    mean: Duration,
    slow: Duration,
}

impl Ahead {
    pub(super) fn new(rules: Arc<Rules>, runtime: Handle) -> Self {
        let window = rules.options.scan_concurrency.max(1);
        Self { rules, runtime, window, running: Vec::new(), mean: Duration::ZERO, slow: SLOW }
    }

    /// Takes listing for slow when it takes `slow` on average.
    #[cfg(test)]
    pub(super) fn slow_from(&mut self, slow: Duration) {
        self.slow = slow;
    }

    /// The result of `slot`.
    pub(super) fn take(&mut self, slot: &Arc<Slot>) -> SourceResult<Scan> {
        if let Some(at) = self.running.iter().position(|other| Arc::ptr_eq(other, slot)) {
            self.running.swap_remove(at);
            return slot.take(&self.rules);
        }
        let began = Instant::now();
        let result = slot.take(&self.rules);
        self.mean = (self.mean * 7 + began.elapsed()) / 8;
        result
    }

    /// Whether more slots should be begun.
    pub(super) fn wants_more(&self) -> bool {
        self.mean >= self.slow && self.running.len() < self.window
    }

    /// Begins `slot` on another thread.
    pub(super) fn begin(&mut self, slot: Arc<Slot>) {
        if slot.is_todo() {
            self.running.push(Arc::clone(&slot));
            let rules = Arc::clone(&self.rules);
            self.runtime.spawn_blocking(move || slot.run(&rules));
        }
    }
}
