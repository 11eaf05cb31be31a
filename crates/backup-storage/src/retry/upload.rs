//! Uploads in parts.

use async_trait::async_trait;
use backup_core::sink::{Effect, PutOutcome, SinkResult, Upload};
use bytes::Bytes;

use super::policy::{Attempts, RetryPolicy};

#[derive(Debug)]
pub(super) struct RetryUpload {
    inner: Box<dyn Upload>,
    policy: RetryPolicy,
}

impl RetryUpload {
    pub(super) fn new(inner: Box<dyn Upload>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for RetryUpload {
    async fn put_part(&mut self, part: Bytes) -> SinkResult<()> {
        let mut attempts = Attempts::new(self.policy);
        loop {
            match self.inner.put_part(part.clone()).await {
                Ok(()) => return Ok(()),
                // Sent again, it could be in the object twice.
                Err(error) if error.effect() == Effect::Unknown => return Err(error),
                Err(error) => attempts.again(error).await?,
            }
        }
    }

    async fn complete(self: Box<Self>) -> SinkResult<PutOutcome> {
        self.inner.complete().await
    }

    async fn abort(self: Box<Self>) -> SinkResult<()> {
        self.inner.abort().await
    }
}
