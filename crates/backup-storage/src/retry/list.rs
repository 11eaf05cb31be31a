//! Lists that start again without yielding anything twice.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use backup_core::sink::{Key, ObjectMeta, Prefix, Sink, SinkResult};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::policy::{Attempts, RetryPolicy};

/// All objects under a prefix.
pub(super) fn list<S: Sink + ?Sized>(
    inner: Arc<S>,
    policy: RetryPolicy,
    prefix: Prefix,
) -> BoxStream<'static, SinkResult<ObjectMeta>> {
    let start = async move {
        List {
            inner,
            prefix,
            attempts: Attempts::new(policy),
            yielded: Yielded::default(),
            stream: None,
        }
    };
    stream::once(start)
        .flat_map(|list| {
            stream::try_unfold(list, |mut list| async move {
                Ok(list.next().await?.map(|meta| (meta, list)))
            })
        })
        .boxed()
}

struct List<S: ?Sized> {
    inner: Arc<S>,
    prefix: Prefix,
    attempts: Attempts,
    yielded: Yielded,
    stream: Option<BoxStream<'static, SinkResult<ObjectMeta>>>,
}

impl<S: Sink + ?Sized> List<S> {
    async fn next(&mut self) -> SinkResult<Option<ObjectMeta>> {
        loop {
            let stream = self.stream.get_or_insert_with(|| self.inner.list(&self.prefix));
            match stream.try_next().await {
                Ok(Some(meta)) => {
                    if self.yielded.insert(&meta.key) {
                        self.attempts.got_on();
                        return Ok(Some(meta));
                    }
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.stream = None;
                    self.attempts.again(error).await?;
                }
            }
        }
    }
}

/// Keys that were yielded, as 128 bits each from two keyed hashes: lists can have millions of them,
/// in any order. That two of 10⁸ keys are taken for one has a chance of less than 10⁻²².
#[derive(Default)]
struct Yielded {
    hashers: (RandomState, RandomState),
    seen: HashSet<(u64, u64)>,
}

impl Yielded {
    /// Whether this is the first time.
    fn insert(&mut self, key: &Key) -> bool {
        self.seen.insert((self.hashers.0.hash_one(key), self.hashers.1.hash_one(key)))
    }
}
