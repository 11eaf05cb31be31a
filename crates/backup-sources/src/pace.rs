//! A limit on bytes per second, shared by everything that reads or writes for one run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets bytes pass at most at its rate, in whole batches: the next one waits for what the last ones
/// took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace(Option<Arc<Limit>>);

#[derive(Debug)]
struct Limit {
    bytes_per_second: u64,
    /// When the next batch may pass.
    free: Mutex<Option<Instant>>,
}

impl Pace {
    /// No limit without a number.
    pub(crate) fn of(bytes_per_second: Option<u64>) -> Self {
        Self(
            bytes_per_second.map(|rate| {
                Arc::new(Limit { bytes_per_second: rate.max(1), free: Mutex::default() })
            }),
        )
    }

    /// Waits until `bytes` more may pass.
    pub(crate) async fn pass(&self, bytes: usize) {
        let Some(limit) = &self.0 else { return };
        tokio::time::sleep_until(limit.reserve(bytes, Instant::now())).await;
    }
}

impl Limit {
    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let micros = (bytes as u64).saturating_mul(1_000_000) / self.bytes_per_second;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = free.map_or(now, |free| free.max(now));
        *free = Some(begin + Duration::from_micros(micros));
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_wait_for_what_the_last_ones_took() {
        let limit = Limit { bytes_per_second: 1000, free: Mutex::default() };
        let now = Instant::now();
        assert_eq!(limit.reserve(500, now), now);
        assert_eq!(limit.reserve(2000, now), now + Duration::from_millis(500));
        assert_eq!(limit.reserve(1, now), now + Duration::from_millis(2500));
        let later = now + Duration::from_secs(60);
        assert_eq!(limit.reserve(1, later), later);
    }
}
