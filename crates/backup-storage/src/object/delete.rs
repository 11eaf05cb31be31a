//! Deleting, in bulk where the store can.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use backup_core::sink::{Key, Operation, SinkError, SinkErrorKind, SinkResult};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;

use super::{Kind, Parts, Store};

/// What S3 takes in one request.
const TOGETHER: usize = 1000;

pub(super) fn delete(
    parts: Arc<Parts>,
    keys: BoxStream<'static, Key>,
) -> BoxStream<'static, SinkResult<Key>> {
    keys.ready_chunks(TOGETHER)
        .map(move |keys| {
            let parts = Arc::clone(&parts);
            async move { delete_some(&parts, keys).await }
        })
        .buffered(2)
        .flat_map(stream::iter)
        .boxed()
}

/// One answer for each of the keys.
async fn delete_some(parts: &Arc<Parts>, keys: Vec<Key>) -> Vec<SinkResult<Key>> {
    if parts.kind != Kind::S3 || keys.len() == 1 {
        return one_by_one(parts, keys).await;
    }
    // Stores refuse a request that names a key twice, and so does the contract of one answer per
    // key.
    let mut count: HashMap<Key, usize> = HashMap::new();
    for key in keys {
        *count.entry(key).or_default() += 1;
    }
    let names: Vec<Key> = count.keys().cloned().collect();
    let answers = bulk(parts, &names).await;
    if answers.iter().any(|answer| {
        answer.as_ref().is_err_and(|error| error.kind() == SinkErrorKind::Unsupported)
    }) {
        let all = count.into_iter().flat_map(|(key, count)| vec![key; count]).collect();
        return one_by_one(parts, all).await;
    }
    let mut all = Vec::with_capacity(names.len());
    for (key, answer) in names.iter().zip(answers) {
        let again = count.get(key).copied().unwrap_or(1) - 1;
        let repeated: Vec<_> = (0..again)
            .map(|_| match &answer {
                Ok(key) => Ok(key.clone()),
                Err(error) => Err(SinkError::new(error.kind(), Operation::Delete, key)
                    .with_source(error.to_string())),
            })
            .collect();
        all.push(answer);
        all.extend(repeated);
    }
    all
}

/// Answers in the order of the keys.
async fn bulk(parts: &Parts, keys: &[Key]) -> Vec<SinkResult<Key>> {
    let mut paths = Vec::with_capacity(keys.len());
    for key in keys {
        match parts.path(key, Operation::Delete) {
            Ok(path) => paths.push(path),
            Err(error) => return vec![Err(error)],
        }
    }
    let asked = stream::iter(paths.into_iter().map(Ok)).boxed();
    let mut results: VecDeque<_> =
        parts.store.delete_stream(asked).collect::<Vec<_>>().await.into();
    if results.len() == keys.len() {
        return keys.iter().zip(results).map(|(key, result)| answer(parts, key, result)).collect();
    }
    // The request as a whole has failed.
    let failed = results.pop_back().and_then(Result::err);
    let error = |key: &Key| match &failed {
        Some(error) => parts.error(error, Operation::Delete, key),
        None => SinkError::new(SinkErrorKind::Unavailable, Operation::Delete, key)
            .with_source("no answer"),
    };
    keys.iter().map(|key| Err(error(key))).collect()
}

async fn one_by_one(parts: &Arc<Parts>, keys: Vec<Key>) -> Vec<SinkResult<Key>> {
    stream::iter(keys)
        .map(|key| {
            let parts = Arc::clone(parts);
            async move {
                let path = parts.path(&key, Operation::Delete)?;
                let result = delete_one(&*parts.one_by_one, path).await;
                answer(&parts, &key, result)
            }
        })
        .buffer_unordered(parts.gate.most())
        .collect()
        .await
}

pub(super) async fn delete_one(store: &dyn Store, path: Path) -> object_store::Result<Path> {
    let mut results = store.delete_stream(stream::iter([Ok(path.clone())]).boxed());
    results.next().await.unwrap_or(Ok(path))
}

/// What is not there counts as deleted.
fn answer(parts: &Parts, key: &Key, result: object_store::Result<Path>) -> SinkResult<Key> {
    match result.map_err(|error| parts.error(&error, Operation::Delete, key)) {
        Err(error) if error.kind() != SinkErrorKind::NotFound => Err(error),
        _ => Ok(key.clone()),
    }
}
