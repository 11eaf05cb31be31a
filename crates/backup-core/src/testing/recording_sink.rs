//! A sink that counts what is done to another one.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::sink::{
    Custody, Key, ObjectMeta, Operation, Payload, Prefix, PutMode, PutOutcome, Sink,
    SinkCapabilities, SinkResult, Upload,
};

/// Counts every operation on another sink, by operation and by the first segment of the key, and
/// keeps a log. Clones are handles on the same counters.
///
/// An operation counts when it begins, bytes count when they are handed over. Each key of a
/// `delete` is an operation; an upload is one, however many parts it has.
#[derive(Clone)]
pub struct RecordingSink {
    inner: Arc<dyn Sink>,
    records: Arc<Mutex<Records>>,
}

#[derive(Default)]
struct Records {
    counts: Counts,
    log: Vec<Recorded>,
}

/// How often something was done, and with how many bytes; see [`RecordingSink`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts(HashMap<(Operation, String), Count>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count {
    operations: u64,
    bytes: u64,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What was done.
    pub operation: Operation,
    /// To which key; for a list, the prefix.
    pub key: String,
    /// How far it had come.
    pub moment: Moment,
}

/// How far an operation had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// It began.
    Begun,
    /// It succeeded: for `get` and `list`, the stream came to its end.
    Done,
    /// It failed.
    Failed,
}

impl Counts {
    /// Operations on keys that are `top` or begin with `top/`, where `top` is one segment. Lists of
    /// everything have an empty one.
    #[must_use]
    pub fn count(&self, operation: Operation, top: &str) -> u64 {
        self.get(operation, top).operations
    }

    /// Operations on all keys.
    #[must_use]
    pub fn total(&self, operation: Operation) -> u64 {
        let of_this = self.0.iter().filter(|((of, _), _)| *of == operation);
        of_this.map(|(_, count)| count.operations).sum()
    }

    /// Bytes read under `top`.
    #[must_use]
    pub fn bytes_read(&self, top: &str) -> u64 {
        self.get(Operation::Get, top).bytes
    }

    /// Bytes written under `top`, by puts and uploads.
    #[must_use]
    pub fn bytes_written(&self, top: &str) -> u64 {
        self.get(Operation::Put, top).bytes + self.get(Operation::Upload, top).bytes
    }

    fn get(&self, operation: Operation, top: &str) -> Count {
        self.0.get(&(operation, top.to_owned())).copied().unwrap_or_default()
    }
}

fn top(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

impl RecordingSink {
    /// Counts what is done to `inner` through this handle.
    #[must_use]
    pub fn new(inner: Arc<dyn Sink>) -> Self {
        Self { inner, records: Arc::default() }
    }

    /// Everything counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// See [`Counts::count`].
    #[must_use]
    pub fn count(&self, operation: Operation, top: &str) -> u64 {
        self.lock().counts.count(operation, top)
    }

    /// See [`Counts::bytes_read`].
    #[must_use]
    pub fn bytes_read(&self, top: &str) -> u64 {
        self.lock().counts.bytes_read(top)
    }

    /// See [`Counts::bytes_written`].
    #[must_use]
    pub fn bytes_written(&self, top: &str) -> u64 {
        self.lock().counts.bytes_written(top)
    }

    /// What was done, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Recorded> {
        self.lock().log.clone()
    }

    /// Counts from 0 again and empties the log.
    pub fn reset(&self) {
        *self.lock() = Records::default();
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, operation: Operation, key: &str, moment: Moment) {
        let mut records = self.lock();
        if moment == Moment::Begun {
            let count = records.counts.0.entry((operation, top(key).to_owned())).or_default();
            count.operations += 1;
        }
        records.log.push(Recorded { operation, key: key.to_owned(), moment });
    }

    fn ended<T>(&self, operation: Operation, key: &str, result: &SinkResult<T>) {
        let moment = if result.is_ok() { Moment::Done } else { Moment::Failed };
        self.record(operation, key, moment);
    }

    fn add_bytes(&self, operation: Operation, key: &str, bytes: usize) {
        let mut records = self.lock();
        let count = records.counts.0.entry((operation, top(key).to_owned())).or_default();
        count.bytes += bytes as u64;
    }

    /// Records the end of a stream: once, whatever follows an error.
    fn watch<T: Send + 'static>(
        &self,
        operation: Operation,
        key: String,
        stream: BoxStream<'static, SinkResult<T>>,
        bytes: fn(&T) -> usize,
    ) -> BoxStream<'static, SinkResult<T>> {
        let state = (self.clone(), key, stream, false);
        stream::unfold(state, move |(sink, key, mut stream, failed)| async move {
            match stream.next().await {
                Some(Ok(item)) => {
                    match bytes(&item) {
                        0 => {}
                        bytes => sink.add_bytes(operation, &key, bytes),
                    }
                    Some((Ok(item), (sink, key, stream, failed)))
                }
                Some(Err(error)) => {
                    if !failed {
                        sink.record(operation, &key, Moment::Failed);
                    }
                    Some((Err(error), (sink, key, stream, true)))
                }
                None => {
                    if !failed {
                        sink.record(operation, &key, Moment::Done);
                    }
                    None
                }
            }
        })
        .boxed()
    }
}

impl fmt::Debug for RecordingSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordingSink({:?})", self.inner)
    }
}

impl fmt::Display for RecordingSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Sink for RecordingSink {
    fn capabilities(&self) -> SinkCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        self.record(Operation::Put, key.as_str(), Moment::Begun);
        self.add_bytes(Operation::Put, key.as_str(), payload.len());
        let result = self.inner.put(key, payload, mode).await;
        self.ended(Operation::Put, key.as_str(), &result);
        result
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        self.record(Operation::Upload, key.as_str(), Moment::Begun);
        match self.inner.upload(key).await {
            Ok(inner) => {
                Ok(Box::new(RecordingUpload { sink: self.clone(), key: key.clone(), inner }))
            }
            Err(error) => {
                self.record(Operation::Upload, key.as_str(), Moment::Failed);
                Err(error)
            }
        }
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        self.record(Operation::Get, key.as_str(), Moment::Begun);
        match self.inner.get(key, range).await {
            Ok(stream) => Ok(self.watch(Operation::Get, key.to_string(), stream, Bytes::len)),
            Err(error) => {
                self.record(Operation::Get, key.as_str(), Moment::Failed);
                Err(error)
            }
        }
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        self.record(Operation::Head, key.as_str(), Moment::Begun);
        let result = self.inner.head(key).await;
        self.ended(Operation::Head, key.as_str(), &result);
        result
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        self.record(Operation::List, prefix.as_str(), Moment::Begun);
        self.watch(Operation::List, prefix.to_string(), self.inner.list(prefix), |_| 0)
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        let (begun, done) = (self.clone(), self.clone());
        let keys =
            keys.inspect(move |key| begun.record(Operation::Delete, key.as_str(), Moment::Begun));
        let results = self.inner.delete(keys.boxed());
        results
            .inspect(move |result| match result {
                Ok(key) => done.record(Operation::Delete, key.as_str(), Moment::Done),
                // The error does not say which key it was.
                Err(_) => done.record(Operation::Delete, "", Moment::Failed),
            })
            .boxed()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        self.inner.custody()
    }
}

#[derive(Debug)]
struct RecordingUpload {
    sink: RecordingSink,
    key: Key,
    inner: Box<dyn Upload>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for RecordingUpload {
    async fn put_part(&mut self, part: Bytes) -> SinkResult<()> {
        self.sink.add_bytes(Operation::Upload, self.key.as_str(), part.len());
        self.inner.put_part(part).await
    }

    async fn complete(self: Box<Self>) -> SinkResult<PutOutcome> {
        let result = self.inner.complete().await;
        self.sink.ended(Operation::Upload, self.key.as_str(), &result);
        result
    }

    async fn abort(self: Box<Self>) -> SinkResult<()> {
        let result = self.inner.abort().await;
        self.sink.record(Operation::Upload, self.key.as_str(), Moment::Failed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::SinkOps;
    use crate::testing::MemorySink;

    #[tokio::test]
    async fn operations_and_bytes_are_counted_by_folder() {
        let sink = RecordingSink::new(Arc::new(MemorySink::new()));
        let key = Key::new("data/00/a").unwrap();
        sink.put_bytes(&key, vec![0; 10]).await.unwrap();
        sink.get_range(&key, 2..5).await.unwrap();
        sink.list_all(&Prefix::root()).await.unwrap();
        sink.delete_one(&key).await.unwrap();
        assert!(sink.get_bytes(&key).await.is_err());
        assert_eq!(sink.count(Operation::Put, "data"), 1);
        assert_eq!(sink.count(Operation::Get, "data"), 2);
        assert_eq!(sink.count(Operation::Get, "index"), 0);
        assert_eq!(sink.count(Operation::List, ""), 1);
        assert_eq!(sink.counts().total(Operation::Delete), 1);
        assert_eq!((sink.bytes_written("data"), sink.bytes_read("data")), (10, 3));
        let of = |operation| {
            let log = sink.log().into_iter();
            log.filter(move |line| line.operation == operation)
                .map(|line| line.moment)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(Operation::Get),
            [Moment::Begun, Moment::Done, Moment::Begun, Moment::Failed]
        );
        assert_eq!(of(Operation::List), [Moment::Begun, Moment::Done]);
        sink.reset();
        assert_eq!(sink.counts(), Counts::default());
    }

    #[tokio::test]
    async fn the_parts_of_an_upload_are_one_operation() {
        let sink = RecordingSink::new(Arc::new(MemorySink::new()));
        let mut upload = sink.upload(&Key::new("data/a").unwrap()).await.unwrap();
        for _ in 0..3 {
            upload.put_part(Bytes::from_static(b"abc")).await.unwrap();
        }
        upload.complete().await.unwrap();
        assert_eq!(sink.count(Operation::Upload, "data"), 1);
        assert_eq!(sink.bytes_written("data"), 9);
    }
}
