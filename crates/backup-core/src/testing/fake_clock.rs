//! A clock that stands still until it is set.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;

/// A clock that a test sets. Share it with `Arc`: a [`Context`](crate::context::Context) takes one
/// handle, the test keeps the other.
#[derive(Debug)]
pub struct FakeClock(Mutex<Timestamp>);

impl FakeClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Sets the time, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        *self.lock() = now;
    }

    /// Lets time pass; a negative duration turns the clock back.
    ///
    /// # Panics
    /// If the time leaves the range of [`Timestamp`].
    #[track_caller]
    pub fn advance(&self, by: SignedDuration) {
        let mut now = self.lock();
        match now.checked_add(by) {
            Ok(later) => *now = later,
            Err(error) => panic!("the clock cannot be moved by {by}: {error}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        *self.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_only_when_told() {
        let clock = FakeClock::at(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        clock.advance(SignedDuration::from_secs(90));
        assert_eq!(clock.now().as_second(), 90);
        clock.advance(SignedDuration::from_secs(-100));
        assert_eq!(clock.now().as_second(), -10);
        clock.set(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
    }
}
