//! Google Cloud Storage: its locks belong to buckets, and its archives can be read at once.

use std::time::Duration;

use async_trait::async_trait;
use backup_core::sink::{
    Availability, Custody, Key, Operation, SinkError, SinkErrorKind, SinkResult, ThawSpeed,
};
use bytes::Bytes;
use http::Method;
use jiff::Timestamp;

use super::{Raw, unfinished};

/// Unfinished uploads can be cleared; locks of single objects are no part of this interface.
#[derive(Debug)]
pub(in crate::object) struct GcsCustody {
    pub(in crate::object) raw: Raw,
}

impl GcsCustody {
    async fn exists(&self, key: &Key) -> SinkResult<()> {
        match self.raw.send(Method::HEAD, &self.raw.name(key), "", Bytes::new()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.raw.error(&error, Operation::Head, key.as_str())),
        }
    }

    fn unsupported(key: &Key, operation: Operation) -> SinkError {
        SinkError::new(SinkErrorKind::Unsupported, operation, key)
            .with_source("locks of single objects are not supported on Google Cloud Storage")
            .with_hint("set a retention policy on the bucket")
            .without_effect()
    }
}

#[async_trait]
impl Custody for GcsCustody {
    fn lock_period(&self) -> Option<Duration> {
        None
    }

    async fn locked_until(&self, key: &Key) -> SinkResult<Option<Timestamp>> {
        // A bucket's retention policy does not show here, so that "not locked" could be wrong.
        Err(Self::unsupported(key, Operation::Head))
    }

    async fn lock_until(&self, key: &Key, _until: Timestamp) -> SinkResult<()> {
        Err(Self::unsupported(key, Operation::Put))
    }

    async fn availability(&self, key: &Key) -> SinkResult<Availability> {
        self.exists(key).await.map(|()| Availability::Ready)
    }

    async fn thaw(&self, key: &Key, _days: u32, _speed: ThawSpeed) -> SinkResult<()> {
        self.exists(key).await
    }

    async fn clear_unfinished(&self, before: Timestamp) -> SinkResult<u64> {
        unfinished::clear(&self.raw, before).await
    }
}
