//! A clock that goes faster than time does, so that tests of the program need no days.

use backup_core::clock::{Clock, SystemClock};
use jiff::Timestamp;

/// Goes so many times as fast, from some moment on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accelerated {
    pub(crate) factor: i32,
    pub(crate) from: Timestamp,
}

impl Clock for Accelerated {
    fn now(&self) -> Timestamp {
        let passed = SystemClock.now().duration_since(self.from);
        let shown =
            passed.checked_mul(self.factor).and_then(|shown| self.from.checked_add(shown).ok());
        shown.unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_faster() {
        let from = SystemClock.now() - jiff::SignedDuration::from_secs(100);
        let shown = Accelerated { factor: 60, from }.now().duration_since(from).as_secs();
        assert!((6000..7200).contains(&shown), "{shown}");
    }
}
