//! How often, how long, and with what delays.

use std::time::Duration;

use backup_core::sink::{SinkError, SinkResult};
use tokio::time::Instant;

/// How a [`RetrySink`](crate::RetrySink) tries again.
///
/// The first delay is doubled with every failure in a row up to the largest one; each is shortened
/// by a random part of up to one half, so that many clients do not come back at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Delay after the first failure.
    pub first_delay: Duration,
    /// Largest delay.
    pub max_delay: Duration,
    /// No attempt begins when failures in a row have taken longer than this, delays included. Time
    /// counts from the first of them (a large object on a slow link takes long before anything
    /// fails, and deserves its second attempt), and begins anew when contents, lists and deletions
    /// get on. An attempt that is under way is not cut off: how long a single request may take is
    /// for the sink beneath to know.
    pub deadline: Duration,
    /// An attempt counts with no more than this, however long it took: after such a time without a
    /// byte moved, the sink beneath would have ended it, so that the rest of the time it got on.
    pub longest_standstill: Duration,
}

impl Default for RetryPolicy {
    /// Delays from 100 milliseconds to 10 seconds, for 5 minutes; a minute of every attempt counts.
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(10),
            deadline: Duration::from_secs(5 * 60),
            longest_standstill: Duration::from_secs(60),
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
    /// When the attempt began that is under way.
    began: Instant,
    /// How long failures have lasted; `None` before the first.
    failing: Option<Duration>,
    next_delay: Duration,
}

impl Attempts {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, began: Instant::now(), failing: None, next_delay: policy.first_delay }
    }

    /// Waits until it is time for another attempt, or gives the error back if there is to be none.
    pub(super) async fn again(&mut self, error: SinkError) -> SinkResult<()> {
        if !error.is_retryable() {
            return Err(error);
        }
        let delay = self.next_delay.min(self.policy.max_delay);
        self.next_delay = delay.saturating_mul(2);
        let delay = delay - delay.mul_f64(rand::random_range(0.0..0.5));
        let failing = match self.failing {
            None => delay,
            Some(so_far) => {
                let attempt = self.began.elapsed().min(self.policy.longest_standstill);
                so_far.saturating_add(attempt).saturating_add(delay)
            }
        };
        if failing > self.policy.deadline {
            return Err(error);
        }
        self.failing = Some(failing);
        tokio::time::sleep(delay).await;
        self.began = Instant::now();
        Ok(())
    }

    /// Something was achieved: time and delays start again.
    pub(super) fn got_on(&mut self) {
        *self = Self::new(self.policy);
    }
}
