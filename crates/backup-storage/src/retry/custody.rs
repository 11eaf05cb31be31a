//! Locks and archives: every request can be repeated without harm.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backup_core::sink::{Availability, Custody, Key, SinkResult, ThawSpeed};
use jiff::Timestamp;

use super::policy::{RetryPolicy, repeat};

#[derive(Debug)]
pub(super) struct RetryCustody {
    inner: Arc<dyn Custody>,
    policy: RetryPolicy,
}

impl RetryCustody {
    pub(super) fn new(inner: Arc<dyn Custody>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Custody for RetryCustody {
    fn lock_period(&self) -> Option<Duration> {
        self.inner.lock_period()
    }

    async fn locked_until(&self, key: &Key) -> SinkResult<Option<Timestamp>> {
        repeat(self.policy, || self.inner.locked_until(key)).await
    }

    async fn lock_until(&self, key: &Key, until: Timestamp) -> SinkResult<()> {
        repeat(self.policy, || self.inner.lock_until(key, until)).await
    }

    async fn availability(&self, key: &Key) -> SinkResult<Availability> {
        repeat(self.policy, || self.inner.availability(key)).await
    }

    async fn thaw(&self, key: &Key, days: u32, speed: ThawSpeed) -> SinkResult<()> {
        repeat(self.policy, || self.inner.thaw(key, days, speed)).await
    }

    async fn clear_unfinished(&self, before: Timestamp) -> SinkResult<u64> {
        repeat(self.policy, || self.inner.clear_unfinished(before)).await
    }
}
