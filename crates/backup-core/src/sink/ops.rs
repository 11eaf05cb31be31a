//! Conveniences for every sink.

use std::future::Future;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};

use super::{
    Key, ObjectMeta, Operation, Payload, Prefix, PutMode, PutOutcome, Sink, SinkError,
    SinkErrorKind, SinkResult,
};

/// Largest object that is read as a whole when its size is not known: more than any object but
/// packs has.
const MAX_WHOLE: usize = 160 << 20;
/// No more memory than this is taken before the bytes have come: more than any pack has.
const RESERVED: usize = 160 << 20;

/// Blanket conveniences over [`Sink`]; not to be implemented by hand.
pub trait SinkOps: Sink {
    /// Stores an object, replacing what is there.
    fn put_bytes(
        &self,
        key: &Key,
        bytes: impl Into<Bytes>,
    ) -> impl Future<Output = SinkResult<PutOutcome>> + Send {
        let payload = Payload::from(bytes.into());
        async move { self.put(key, payload, PutMode::Overwrite).await }
    }

    /// Stores an object unless the key exists; says whether it did.
    fn create(
        &self,
        key: &Key,
        bytes: impl Into<Bytes>,
    ) -> impl Future<Output = SinkResult<bool>> + Send {
        let payload = Payload::from(bytes.into());
        async move {
            match self.put(key, payload, PutMode::Create).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == SinkErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            }
        }
    }

    /// Reads a whole object into memory; one of more than 160 MiB is refused as unreadable.
    fn get_bytes(&self, key: &Key) -> impl Future<Output = SinkResult<Bytes>> + Send {
        async move {
            let too_large = || {
                SinkError::new(SinkErrorKind::Unreadable, Operation::Get, key)
                    .with_hint("delete the object: it is larger than any object of its kind")
            };
            let mut len = 0;
            let limited = self.get(key, None).await?.and_then(move |piece| {
                len += piece.len();
                std::future::ready(if len > MAX_WHOLE { Err(too_large()) } else { Ok(piece) })
            });
            collect(limited, 0).await
        }
    }

    /// Reads a whole object that is thought to have so many bytes into memory.
    fn get_expected(
        &self,
        key: &Key,
        expected: u64,
    ) -> impl Future<Output = SinkResult<Bytes>> + Send {
        async move { collect(self.get(key, None).await?, expected).await }
    }

    /// Reads a part of an object into memory.
    fn get_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> impl Future<Output = SinkResult<Bytes>> + Send {
        let expected = range.end.saturating_sub(range.start);
        async move { collect(self.get(key, Some(range)).await?, expected).await }
    }

    /// Whether an object is there.
    fn exists(&self, key: &Key) -> impl Future<Output = SinkResult<bool>> + Send {
        async move {
            match self.head(key).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == SinkErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        }
    }

    /// All objects under a prefix, sorted by key.
    fn list_all(
        &self,
        prefix: &Prefix,
    ) -> impl Future<Output = SinkResult<Vec<ObjectMeta>>> + Send {
        let stream = self.list(prefix);
        async move {
            let mut all: Vec<_> = stream.try_collect().await?;
            all.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(all)
        }
    }

    /// Deletes one object.
    fn delete_one(&self, key: &Key) -> impl Future<Output = SinkResult<()>> + Send {
        let stream = self.delete(futures::stream::iter([key.clone()]).boxed());
        async move { stream.try_for_each(|_| std::future::ready(Ok(()))).await }
    }

    /// Deletes objects, as many as can be; those that are gone already are no error.
    fn delete_all(&self, keys: Vec<Key>) -> impl Future<Output = SinkResult<()>> + Send {
        let mut stream = self.delete(futures::stream::iter(keys).boxed());
        async move {
            let mut first = Ok(());
            while let Some(result) = stream.next().await {
                first = first.and(result.map(drop));
            }
            first
        }
    }
}

impl<S: Sink + ?Sized> SinkOps for S {}

async fn collect(
    stream: impl futures::Stream<Item = SinkResult<Bytes>> + Send,
    expected: u64,
) -> SinkResult<Bytes> {
    let mut stream = std::pin::pin!(stream);
    let Some(first) = stream.next().await.transpose()? else {
        return Ok(Bytes::new());
    };
    let Some(second) = stream.next().await.transpose()? else {
        return Ok(first);
    };
    let expected = usize::try_from(expected).unwrap_or(RESERVED).min(RESERVED);
    let mut all = BytesMut::with_capacity(expected.max(first.len() + second.len()));
    all.extend_from_slice(&first);
    all.extend_from_slice(&second);
    while let Some(next) = stream.next().await.transpose()? {
        all.extend_from_slice(&next);
    }
    Ok(all.freeze())
}
