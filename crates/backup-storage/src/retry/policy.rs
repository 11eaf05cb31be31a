//! How often, how long, and with what delays.

use std::time::Duration;

use backup_core::sink::{SinkError, SinkResult};
use tokio::time::Instant;

/// How a [`RetrySink`](crate::RetrySink) tries again.
///
/// The first delay is doubled with every failure in a row up to the largest one; each is shortened by a random part of
/// up to one half, so that many clients do not come back at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Delay after the first failure.
    pub first_delay: Duration,
    /// Largest delay.
    pub max_delay: Duration,
    /// No attempt begins later than this after the operation began; for contents and lists, after they last got on. An
    /// attempt that is under way is not cut off: how long a single request may take is for the sink beneath to know.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    /// Delays from 100 milliseconds to 10 seconds, for 5 minutes.
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(10),
            deadline: Duration::from_secs(5 * 60),
        }
    }
}

/// Tries a request that can be repeated without harm.
pub(crate) async fn repeat<T, F: Future<Output = SinkResult<T>>>(
    policy: RetryPolicy,
    request: impl Fn() -> F,
) -> SinkResult<T> {
    let mut attempts = Attempts::new(policy);
    loop {
        match request().await {
            Ok(value) => return Ok(value),
            Err(error) => attempts.again(error).await?,
        }
    }
}

/// The attempts of one operation.
#[derive(Debug)]
pub(super) struct Attempts {
    policy: RetryPolicy,
    since: Instant,
    next_delay: Duration,
}

impl Attempts {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, since: Instant::now(), next_delay: policy.first_delay }
    }

    /// Waits until it is time for another attempt, or gives the error back if there is to be none.
    pub(super) async fn again(&mut self, error: SinkError) -> SinkResult<()> {
        if !error.is_retryable() {
            return Err(error);
        }
        let delay = self.next_delay.min(self.policy.max_delay);
        self.next_delay = delay.saturating_mul(2);
        let delay = delay - delay.mul_f64(rand::random_range(0.0..0.5));
        if self.since.elapsed().saturating_add(delay) > self.policy.deadline {
            return Err(error);
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// Something was achieved: time and delays start again.
    pub(super) fn got_on(&mut self) {
        *self = Self::new(self.policy);
    }
}
