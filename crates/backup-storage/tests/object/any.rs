//! What the resolver gives, as a sink of its own type.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use backup_core::sink::{
    Custody, Key, ObjectMeta, Payload, Prefix, PutMode, PutOutcome, Sink, SinkCapabilities,
    SinkResult, Upload,
};
use bytes::Bytes;
use futures::stream::BoxStream;

#[derive(Debug, Clone)]
pub(crate) struct AnySink(pub(crate) Arc<dyn Sink>);

impl fmt::Display for AnySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl Sink for AnySink {
    fn capabilities(&self) -> SinkCapabilities {
        self.0.capabilities()
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        self.0.put(key, payload, mode).await
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        self.0.upload(key).await
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        self.0.get(key, range).await
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        self.0.head(key).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        self.0.delete(keys)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.0.free_bytes()
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        self.0.custody()
    }
}
