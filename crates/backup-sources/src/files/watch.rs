//! Noticing file systems that do not answer: a disk, or the server of a mount, that has stopped.
//!
//! A system call on such a file system does not return, and cannot be interrupted. Threads register
//! their calls here. A task looks at them from outside: if one does not return within the time-out,
//! the operation fails, and its threads are left behind.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backup_core::event::Events;
use backup_core::source::{EntryPath, SourceError, SourceErrorKind, SourceResult};
use tokio::time::sleep;

use crate::waits::Waits;

/// Interval of looking at all calls,
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// and at one that takes longer.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(100);

/// Remedy for a file system that is backed up,
const SOURCE_HINT: &str =
    "check its disk, or its server and the network, or raise `timeout` of the source";
/// and for one that is restored to.
const TARGET_HINT: &str = "check its disk, or its server and the network, then restore again with \
                           --if-exists merge";

/// The calls of one operation to file systems.
#[derive(Debug)]
pub(super) struct Watch {
    waits: Waits,
    /// Directory that all paths are relative to.
    below: PathBuf,
    hint: &'static str,
    calls: Mutex<Slots>,
}

/// The calls of all threads. Free places are used again.
#[derive(Debug, Default)]
struct Slots {
    all: Vec<Option<Arc<State>>>,
    free: Vec<usize>,
}

/// The state of the calls of one thread.
#[derive(Debug)]
struct State {
    path: Mutex<EntryPath>,
    /// Odd during a call.
    steps: AtomicU64,
}

/// The calls of one thread, one after the other. Dropping it ends the last one.
#[derive(Debug)]
pub(super) struct Calls {
    watch: Arc<Watch>,
    slot: usize,
    state: Arc<State>,
}

impl Watch {
    /// Calls may take `timeout`; those of over five seconds are reported to `events`.
    pub(super) fn new(timeout: Duration, events: Events) -> Arc<Self> {
        Self::with(PathBuf::from("/"), SOURCE_HINT, timeout, events)
    }

    /// The same for paths below the target of a restore.
    pub(super) fn of_target(below: PathBuf, timeout: Duration, events: Events) -> Arc<Self> {
        Self::with(below, TARGET_HINT, timeout, events)
    }

    fn with(below: PathBuf, hint: &'static str, timeout: Duration, events: Events) -> Arc<Self> {
        Arc::new(Self { waits: Waits::new(timeout, events), below, hint, calls: Mutex::default() })
    }

    /// A call for `path` begins.
    pub(super) fn begin(self: &Arc<Self>, path: &EntryPath) -> Calls {
        let state = Arc::new(State { path: Mutex::new(path.clone()), steps: AtomicU64::new(1) });
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let Slots { all, free } = &mut *calls;
        let slot = free.pop().unwrap_or_else(|| {
            all.push(None);
            all.len() - 1
        });
        all[slot] = Some(Arc::clone(&state));
        drop(calls);
        Calls { watch: Arc::clone(self), slot, state }
    }

    /// Waits for `work` unless one of its calls has not returned for the time-out.
    ///
    /// # Errors
    /// Errors of `work`; [`SourceErrorKind::Unavailable`] after the time-out.
    pub(super) async fn limit<T>(
        self: &Arc<Self>,
        work: impl Future<Output = SourceResult<T>>,
    ) -> SourceResult<T> {
        tokio::select! {
            done = work => done,
            stalled = Arc::clone(self).stalled() => Err(stalled),
        }
    }

    /// Ends with an error if a call has not returned for the time-out.
    pub(super) async fn stalled(self: Arc<Self>) -> SourceError {
        let mut earlier: Vec<(Arc<State>, u64)> = Vec::new();
        loop {
            sleep(LOOK_EVERY).await;
            let now = self.under_way();
            let is_stuck = |(state, steps): &&(Arc<State>, u64)| {
                earlier.iter().any(|(other, then)| Arc::ptr_eq(state, other) && steps == then)
            };
            if let Some((state, steps)) = now.iter().find(is_stuck) {
                let place = self.place(&state.path());
                tokio::select! {
                    biased;
                    () = state.moves_on(*steps) => {}
                    _stalled = self.waits.stalled(&place, None) => {
                        return self.no_answer(&place);
                    }
                }
            }
            earlier = now;
        }
    }

    fn no_answer(&self, place: &str) -> SourceError {
        let seconds = self.waits.timeout().as_secs();
        let text = format!("{place} has not answered for {seconds} seconds");
        SourceError::new(SourceErrorKind::Unavailable, text).with_hint(self.hint)
    }

    fn place(&self, path: &EntryPath) -> String {
        let below = self.below.display().to_string();
        let shown = format!("{}{}", below.trim_end_matches('/'), path.display());
        let shown = if shown.len() > 1 { shown.trim_end_matches('/') } else { &shown };
        format!("the file system of {shown}")
    }

    /// The calls that have not returned.
    fn under_way(&self) -> Vec<(Arc<State>, u64)> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let states = calls.all.iter().flatten();
        let steps = states.map(|state| (state, state.steps.load(Ordering::Relaxed)));
        steps
            .filter(|(_, steps)| steps % 2 == 1)
            .map(|(state, steps)| (Arc::clone(state), steps))
            .collect()
    }
}

impl State {
    fn path(&self) -> EntryPath {
        self.path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends when the call that is number `steps` has returned.
    async fn moves_on(&self, steps: u64) {
        while self.steps.load(Ordering::Relaxed) == steps {
            sleep(LOOK_CLOSELY_EVERY).await;
        }
    }
}

impl Calls {
    /// The call has returned, and the next one begins.
    pub(super) fn next(&self) {
        self.state.steps.fetch_add(2, Ordering::Relaxed);
    }

    /// The call has returned, and one for `path` begins.
    pub(super) fn next_at(&self, path: &EntryPath) {
        path.clone_into(&mut self.state.path.lock().unwrap_or_else(PoisonError::into_inner));
        self.next();
    }

    /// The call has returned.
    pub(super) fn pause(&self) {
        self.turn();
    }

    /// The next call begins after a pause.
    pub(super) fn pause_ends(&self) {
        self.turn();
    }

    /// Waits for something else, between two calls.
    pub(super) fn wait<T>(&self, work: impl FnOnce() -> T) -> T {
        self.turned(work)
    }

    /// Makes a call in a pause.
    pub(super) fn resume<T>(&self, call: impl FnOnce() -> T) -> T {
        self.turned(call)
    }

    fn turned<T>(&self, work: impl FnOnce() -> T) -> T {
        self.turn();
        let result = work();
        self.turn();
        result
    }

    fn turn(&self) {
        self.state.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.next();
        let mut calls = self.watch.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.all[self.slot] = None;
        calls.free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    fn watch() -> Arc<Watch> {
        Watch::new(Duration::from_secs(60), Events::silent())
    }

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn call_that_does_not_return_fails_after_the_timeout() {
        let watch = watch();
        let begun = Instant::now();
        drop(watch.begin(&path("/quick")));
        let _calls = watch.begin(&path("/mnt/nfs/a"));
        let error = watch.stalled().await;
        assert_eq!(
            error.to_string(),
            "the file system of /mnt/nfs/a has not answered for 60 seconds"
        );
        assert!((61..=63).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_return_may_go_on_for_ever() {
        let watch = watch();
        let calls = watch.begin(&path("/slow"));
        let read = watch.begin(&path("/read"));
        read.pause();
        let moving = async {
            for _ in 0..100 {
                sleep(Duration::from_secs(50)).await;
                calls.next();
                read.resume(|| ());
            }
        };
        tokio::select! {
            () = moving => {}
            error = Arc::clone(&watch).stalled() => panic!("{error}"),
        }
        drop(calls);
        read.resume(|| read.wait(|| ()));
        // Between two calls nothing is waited for, however long.
        let later = timeout(Duration::from_secs(1000), Arc::clone(&watch).stalled()).await;
        assert!(later.is_err());
        assert_eq!(watch.begin(&path("/again")).slot, 0, "places are used again");
        drop(read);
    }
}
