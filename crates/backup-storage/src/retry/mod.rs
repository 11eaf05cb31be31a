//! The one layer that tries again.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`RetrySink`]: the sink; puts and other single requests |
//! | `policy.rs` | [`RetryPolicy`]: how often, how long; counting attempts |
//! | `content.rs` | contents that go on where they were interrupted |
//! | `list.rs` | lists that start again without yielding anything twice |
//! | `delete.rs` | deleting many keys |
//! | `upload.rs` | uploads in parts |
//! | `custody.rs` | locks and archives |

mod content;
mod custody;
mod delete;
mod list;
mod policy;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use backup_core::sink::{
    Custody, Effect, Key, ObjectMeta, Operation, Payload, Prefix, PutMode, PutOutcome, Sink,
    SinkCapabilities, SinkError, SinkErrorKind, SinkResult, Upload,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

pub use policy::RetryPolicy;

use policy::Attempts;

pub(crate) use policy::repeat;

/// Tries operations of another sink again that fail with [`SinkErrorKind::Unavailable`], after
/// growing, random delays and until a deadline; see [`RetryPolicy`]. Dropping a future ends its
/// retries.
///
/// - A **put** with [`PutMode::Create`] whose response was lost and that then finds its key taken
///   reads the object: if its bytes are the ones that were to be put, the put has succeeded. (Of
///   rivals that put the same bytes, several may thus be told that they won. Whoever needs one
///   winner puts something of his own into the object.)
/// - A **content** that is interrupted goes on where it was; the caller sees one stream. Up to 1
///   MiB are held back first, so that a small object that is replaced meanwhile comes in one
///   version. Large ones must be immutable, as packs are.
/// - A **list** that is interrupted starts again, and yields only what it has not yielded yet.
/// - An **upload**'s part is sent again only if it certainly was not appended; its end is not
///   repeated at all. After an error the upload takes and completes nothing any more; the caller
///   begins another one.
///
/// There is one such layer between a caller and a store, and metrics are taken beneath it. The
/// [resolver](crate::resolver) puts it where it belongs.
pub struct RetrySink<S: ?Sized> {
    inner: Arc<S>,
    policy: RetryPolicy,
}

impl<S: Sink + ?Sized> RetrySink<S> {
    /// Tries operations of `inner` again.
    #[must_use]
    pub fn new(inner: Arc<S>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    /// What is stored under `key`, compared with what was to be stored.
    async fn compare(&self, key: &Key, payload: &Payload) -> SinkResult<Stored> {
        let mut content = match self.get(key, None).await {
            Err(error) if error.kind() == SinkErrorKind::NotFound => return Ok(Stored::Nothing),
            other => other?,
        };
        let mut expected = payload.segments().iter().flat_map(|segment| segment.iter());
        while let Some(piece) = content.try_next().await? {
            if !piece.iter().all(|byte| expected.next() == Some(byte)) {
                return Ok(Stored::Another);
            }
        }
        Ok(match expected.next() {
            None => Stored::Same,
            Some(_) => Stored::Another,
        })
    }
}

enum Stored {
    Same,
    Another,
    Nothing,
}

/// An error after several attempts: if an earlier one may have taken effect, the whole may have.
fn doubt(error: SinkError, operation: Operation, key: &Key, doubtful: bool) -> SinkError {
    if doubtful && error.effect() == Effect::None {
        SinkError::new(error.kind(), operation, key).with_source(error)
    } else {
        error
    }
}

impl<S: Sink + ?Sized> fmt::Debug for RetrySink<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RetrySink({:?})", self.inner)
    }
}

impl<S: Sink + ?Sized> fmt::Display for RetrySink<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Sink + ?Sized> Sink for RetrySink<S> {
    fn capabilities(&self) -> SinkCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        let mut attempts = Attempts::new(self.policy);
        // Whether an attempt whose response was lost may have stored the object.
        let mut doubtful = false;
        loop {
            let mut error = match self.inner.put(key, payload.clone(), mode).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if doubtful && mode == PutMode::Create && error.kind() == SinkErrorKind::AlreadyExists {
                match self.compare(key, &payload).await? {
                    Stored::Same => return Ok(PutOutcome::default()),
                    Stored::Another => return Err(error),
                    // It was deleted since: there is room again.
                    Stored::Nothing => {
                        error = SinkError::new(SinkErrorKind::Unavailable, Operation::Put, key)
                            .with_source(error);
                    }
                }
            }
            doubtful |= error.effect() == Effect::Unknown;
            attempts
                .again(error)
                .await
                .map_err(|error| doubt(error, Operation::Put, key, doubtful))?;
        }
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        let inner = repeat(self.policy, || self.inner.upload(key)).await?;
        Ok(Box::new(upload::RetryUpload::new(inner, key.clone(), self.policy)))
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        content::get(Arc::clone(&self.inner), self.policy, key.clone(), range).await
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        repeat(self.policy, || self.inner.head(key)).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        list::list(Arc::clone(&self.inner), self.policy, prefix.clone())
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        delete::delete(Arc::clone(&self.inner), self.policy, keys).boxed()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        let inner = self.inner.custody()?;
        Some(Arc::new(custody::RetryCustody::new(inner, self.policy)))
    }
}
