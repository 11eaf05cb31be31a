//! Deleting many keys. What is gone already counts as deleted, so repeating it does no harm.

use std::collections::HashMap;
use std::sync::Arc;

use backup_core::sink::{Effect, Key, Operation, Sink, SinkOps, SinkResult};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::doubt;
use super::policy::{Attempts, RetryPolicy};

/// Keys that are handed on together: what the stores take in one request.
const TOGETHER: usize = 1000;

pub(super) fn delete<S: Sink + ?Sized>(
    inner: Arc<S>,
    policy: RetryPolicy,
    keys: BoxStream<'static, Key>,
) -> impl Stream<Item = SinkResult<Key>> + Send + 'static {
    keys.ready_chunks(TOGETHER)
        .then(move |keys| delete_some(Arc::clone(&inner), policy, keys))
        .flat_map(stream::iter)
}

async fn delete_some<S: Sink + ?Sized>(
    inner: Arc<S>,
    policy: RetryPolicy,
    keys: Vec<Key>,
) -> Vec<SinkResult<Key>> {
    let mut attempts = Attempts::new(policy);
    let mut answers = Vec::with_capacity(keys.len());
    let mut left: HashMap<Key, usize> = HashMap::new();
    for key in &keys {
        *left.entry(key.clone()).or_default() += 1;
    }
    let mut failed = None;
    let mut results = inner.delete(stream::iter(keys).boxed());
    while let Some(result) = results.next().await {
        match result {
            Ok(key) => {
                match left.get_mut(&key) {
                    Some(1) => _ = left.remove(&key),
                    Some(count) => *count -= 1,
                    None => {}
                }
                answers.push(Ok(key));
                attempts.got_on();
            }
            // An error does not say in a form to rely on which key it is about. That shows in what
            // is left.
            Err(error) => failed = Some(error),
        }
    }
    let doubtful = failed.as_ref().is_some_and(|error| error.effect() == Effect::Unknown);
    if let Some(error) = failed {
        // What is left gets its second attempt in any case, if only to learn the error of each key.
        attempts.again(error).await.ok();
    }
    for (key, count) in left {
        for _ in 0..count {
            let deleted = delete_one(&*inner, &mut attempts, &key, doubtful).await;
            answers.push(deleted.map(|()| key.clone()));
        }
    }
    answers
}

/// Deletes a key for which a first attempt has failed.
async fn delete_one<S: Sink + ?Sized>(
    inner: &S,
    attempts: &mut Attempts,
    key: &Key,
    mut doubtful: bool,
) -> SinkResult<()> {
    loop {
        match inner.delete_one(key).await {
            Ok(()) => {
                attempts.got_on();
                return Ok(());
            }
            Err(error) => {
                doubtful |= error.effect() == Effect::Unknown;
                attempts
                    .again(error)
                    .await
                    .map_err(|error| doubt(error, Operation::Delete, key, doubtful))?;
            }
        }
    }
}
