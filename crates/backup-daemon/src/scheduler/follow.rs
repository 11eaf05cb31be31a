//! What goes on all the time: when it is begun again.

use std::time::Duration;

/// After a failure it is begun again after this, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// … but no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// What went on for so long had begun well.
const WELL: Duration = Duration::from_secs(60);

/// How it went so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Supervised {
    failures: u32,
    not_before: Duration,
}

impl Supervised {
    /// Whether it may be begun.
    pub(super) fn may_begin(&self, steady: Duration) -> bool {
        steady >= self.not_before
    }

    /// Whether what has gone on since `began` goes on well.
    pub(super) fn is_well(began: Duration, steady: Duration) -> bool {
        steady.saturating_sub(began) >= WELL
    }

    /// It ended by itself: how long until it is begun again.
    pub(super) fn failed(&mut self, began: Duration, steady: Duration) -> Duration {
        self.failures =
            if Self::is_well(began, steady) { 0 } else { self.failures.saturating_add(1) };
        let factor = 2_u32.saturating_pow(self.failures.saturating_sub(1));
        let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
        self.not_before = steady + pause;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_it_fails_at_once() {
        let mut supervised = Supervised::default();
        let second = Duration::from_secs(1);
        let pauses: Vec<u64> =
            (0..10).map(|at| supervised.failed(second * at, second * at).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(!supervised.may_begin(second * 308) && supervised.may_begin(second * 309));
        assert_eq!(
            supervised.failed(second * 400, second * 500).as_secs(),
            2,
            "it had gone on well"
        );
    }
}
