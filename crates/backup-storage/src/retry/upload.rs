//! Uploads in parts.

use async_trait::async_trait;
use backup_core::sink::{
    Effect, Key, Operation, PutOutcome, SinkError, SinkErrorKind, SinkResult, Upload,
};
use bytes::Bytes;

use super::policy::{Attempts, RetryPolicy};

#[derive(Debug)]
pub(super) struct RetryUpload {
    inner: Box<dyn Upload>,
    key: Key,
    policy: RetryPolicy,
    /// A part has failed, or was given up while it was sent. Without it the rest must not become an
    /// object.
    broken: bool,
}

impl RetryUpload {
    pub(super) fn new(inner: Box<dyn Upload>, key: Key, policy: RetryPolicy) -> Self {
        Self { inner, key, policy, broken: false }
    }

    fn check(&self) -> SinkResult<()> {
        if self.broken {
            return Err(SinkError::new(SinkErrorKind::Other, Operation::Upload, &self.key)
                .with_source("a part of the object was not sent"));
        }
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for RetryUpload {
    async fn put_part(&mut self, part: Bytes) -> SinkResult<()> {
        self.check()?;
        self.broken = true;
        let mut attempts = Attempts::new(self.policy);
        loop {
            match self.inner.put_part(part.clone()).await {
                Ok(()) => {
                    self.broken = false;
                    return Ok(());
                }
                // Sent again, it could be in the object twice.
                Err(error) if error.effect() == Effect::Unknown => return Err(error),
                Err(error) => attempts.again(error).await?,
            }
        }
    }

    async fn complete(self: Box<Self>) -> SinkResult<PutOutcome> {
        self.check()?;
        self.inner.complete().await
    }

    async fn abort(self: Box<Self>) -> SinkResult<()> {
        self.inner.abort().await
    }
}
