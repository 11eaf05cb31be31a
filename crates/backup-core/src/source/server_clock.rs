//! The clock of a server beside that of this process.

use std::time::Instant;

use jiff::Timestamp;

use crate::context::Context;

/// A time that a server reported, and the moments between which it did, by a clock that nobody
/// sets. A source reads it while it connects, where there is no [`Context`] yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerClock {
    time: Timestamp,
    before: Instant,
    after: Instant,
}

impl ServerClock {
    /// A server reported `time` between `before` and now.
    #[must_use]
    pub fn reported(time: Timestamp, before: Instant) -> Self {
        Self { time, before, after: Instant::now() }
    }

    /// Seconds by which the clock of the server is ahead of that of `cx`; negative if it is behind,
    /// 0 if the reply took longer than they differ.
    #[must_use]
    pub fn ahead_seconds(&self, cx: &Context) -> i64 {
        let (now, here) = (cx.clock.now(), Instant::now());
        let at = |moment| {
            let ago = here.saturating_duration_since(moment);
            now.checked_sub(ago).unwrap_or(Timestamp::MIN)
        };
        self.time.clamp(at(self.before), at(self.after)).duration_until(self.time).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::testing::FakeClock;

    #[test]
    fn offset_is_measured_from_the_nearest_moment_of_the_request() {
        let now: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
        let cx = Context { clock: Arc::new(FakeClock::at(now)), ..Context::silent() };
        let here = Instant::now();
        // Asked 30 s ago, answered 10 s ago: at 11:59:30 and 11:59:50 by the clock of the context.
        let (before, after) = (here - Duration::from_secs(30), here - Duration::from_secs(10));
        for (time, ahead) in [
            ("2026-07-01T11:59:40Z", 0),
            ("2026-07-01T12:59:50.5Z", 3600),
            ("2026-07-01T11:29:29.5Z", -1800),
            ("1970-01-01T00:00:00Z", -1_782_907_170),
        ] {
            let clock = ServerClock { time: time.parse().unwrap(), before, after };
            let measured = clock.ahead_seconds(&cx);
            assert!((measured - ahead).abs() <= 1, "{time}: {measured}");
        }
        let last = ServerClock::reported(Timestamp::MAX, before);
        assert!(last.ahead_seconds(&cx) > 200_000_000_000);
    }
}
