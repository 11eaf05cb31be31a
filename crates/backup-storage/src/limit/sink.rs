//! Any sink at a pace.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use backup_core::sink::{
    Custody, Key, ObjectMeta, Payload, Prefix, PutMode, PutOutcome, Sink, SinkCapabilities,
    SinkResult, Upload,
};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::{Pace, SLICE};
use crate::settings::Rate;

/// Gives another sink's contents to it, and takes them from it, at a limited pace.
///
/// A put or a part is handed on when the time that it would take has passed; a content is delivered
/// in small slices.
pub struct LimitSink<S: ?Sized> {
    inner: Arc<S>,
    upload: Option<Arc<Pace>>,
    download: Option<Arc<Pace>>,
}

impl<S: Sink + ?Sized> LimitSink<S> {
    /// Paces another sink; `None` for no limit.
    #[must_use]
    pub fn new(inner: Arc<S>, upload: Option<Rate>, download: Option<Rate>) -> Self {
        let pace = |rate: Option<Rate>| rate.map(|rate| Arc::new(Pace::new(rate)));
        Self { inner, upload: pace(upload), download: pace(download) }
    }
}

async fn pass(pace: Option<&Arc<Pace>>, bytes: usize) {
    if let Some(pace) = pace {
        pace.pass(bytes).await;
    }
}

impl<S: Sink + ?Sized> fmt::Debug for LimitSink<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimitSink({:?})", self.inner)
    }
}

impl<S: Sink + ?Sized> fmt::Display for LimitSink<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Sink + ?Sized> Sink for LimitSink<S> {
    fn capabilities(&self) -> SinkCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        pass(self.upload.as_ref(), payload.len()).await;
        self.inner.put(key, payload, mode).await
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        let inner = self.inner.upload(key).await?;
        Ok(Box::new(LimitUpload { inner, pace: self.upload.clone() }))
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        let content = self.inner.get(key, range).await?;
        let Some(pace) = self.download.clone() else {
            return Ok(content);
        };
        let slices =
            content.map_ok(|piece| stream::iter(slices(piece).into_iter().map(Ok))).try_flatten();
        let paced = slices.and_then(move |slice| {
            let pace = Arc::clone(&pace);
            async move {
                pace.pass(slice.len()).await;
                Ok(slice)
            }
        });
        Ok(paced.boxed())
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        self.inner.head(key).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        self.inner.delete(keys)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        self.inner.custody()
    }
}

/// Cuts a piece without copying it.
fn slices(mut piece: Bytes) -> Vec<Bytes> {
    let mut slices = Vec::with_capacity(piece.len() / SLICE + 1);
    while piece.len() > SLICE {
        slices.push(piece.split_to(SLICE));
    }
    slices.push(piece);
    slices
}

#[derive(Debug)]
struct LimitUpload {
    inner: Box<dyn Upload>,
    pace: Option<Arc<Pace>>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for LimitUpload {
    async fn put_part(&mut self, part: Bytes) -> SinkResult<()> {
        pass(self.pace.as_ref(), part.len()).await;
        self.inner.put_part(part).await
    }

    async fn complete(self: Box<Self>) -> SinkResult<PutOutcome> {
        self.inner.complete().await
    }

    async fn abort(self: Box<Self>) -> SinkResult<()> {
        self.inner.abort().await
    }
}
