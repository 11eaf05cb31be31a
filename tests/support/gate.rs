//! A sink that stops whoever uses it at a chosen request, until it is let go.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backup_core::sink::{
    Custody, Key, ObjectMeta, Operation, Payload, Prefix, PutMode, PutOutcome, Sink,
    SinkCapabilities, SinkResult, Upload,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::Notify;

/// The request at which to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) operation: Operation,
    /// First segment of the key.
    pub(crate) top: &'static str,
    /// How many such requests pass before.
    pub(crate) skip: usize,
    /// Whether the request is done when it stops: who waits does not know that yet.
    pub(crate) done: bool,
}

/// See the module documentation. Clones are handles on the same gate.
#[derive(Clone)]
pub(crate) struct Gate {
    inner: Arc<dyn Sink>,
    stop: Arc<Mutex<Option<Stop>>>,
    stopped: Arc<Notify>,
    go: Arc<Notify>,
    waiting: Arc<AtomicBool>,
    published: Arc<Mutex<Option<Key>>>,
}

impl Gate {
    pub(crate) fn new(inner: Arc<dyn Sink>) -> Self {
        Self {
            inner,
            stop: Arc::default(),
            stopped: Arc::default(),
            go: Arc::default(),
            waiting: Arc::default(),
            published: Arc::default(),
        }
    }

    /// Stops whoever comes to this request next.
    pub(crate) fn close(&self, stop: Stop) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
    }

    /// Lets go who has stopped, up to this request.
    pub(crate) fn go_on_to(&self, stop: Stop) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
        self.let_go();
    }

    /// The snapshot that was put, or about to be put, since the gate was closed.
    pub(crate) fn published(&self) -> Option<Key> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until somebody has stopped.
    pub(crate) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Lets go who has stopped, and everybody from now on.
    pub(crate) fn open(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.let_go();
    }

    /// Only if somebody waits: else the next one would not stop.
    fn let_go(&self) {
        if self.waiting.swap(false, Ordering::SeqCst) {
            self.go.notify_one();
        }
    }

    /// Whether this is the request.
    fn is_here(&self, operation: Operation, key: &str) -> Option<Stop> {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = stop.as_mut().filter(|stop| {
            stop.operation == operation && key.split('/').next() == Some(stop.top)
        })?;
        if meant.skip > 0 {
            meant.skip -= 1;
            return None;
        }
        stop.take()
    }

    async fn wait(&self) {
        self.waiting.store(true, Ordering::SeqCst);
        self.stopped.notify_one();
        self.go.notified().await;
    }

    /// Does something, and stops before or after it if this is the request.
    async fn pass<T>(
        &self,
        operation: Operation,
        key: &str,
        request: impl Future<Output = T>,
    ) -> T {
        let stop = self.is_here(operation, key);
        if stop.is_some_and(|stop| !stop.done) {
            self.wait().await;
        }
        let result = request.await;
        if stop.is_some_and(|stop| stop.done) {
            self.wait().await;
        }
        result
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({:?})", self.inner)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Sink for Gate {
    fn capabilities(&self) -> SinkCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        if key.as_str().starts_with("snapshots/") {
            *self.published.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        }
        self.pass(Operation::Put, key.as_str(), self.inner.put(key, payload, mode)).await
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        self.inner.upload(key).await
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        self.pass(Operation::Get, key.as_str(), self.inner.get(key, range)).await
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        self.inner.head(key).await
    }

    /// What is listed is what is there when it is let go, or, if it stops when done, what was there
    /// before.
    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        let (gate, prefix) = (self.clone(), prefix.clone());
        stream::once(async move {
            let all = gate.inner.list(&prefix).collect::<Vec<_>>();
            stream::iter(gate.pass(Operation::List, prefix.as_str(), all).await)
        })
        .flatten()
        .boxed()
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        let gate = self.clone();
        keys.then(move |key| {
            let gate = gate.clone();
            async move {
                let name = key.as_str().to_owned();
                let deleting = gate.inner.delete(stream::iter([key]).boxed()).collect::<Vec<_>>();
                stream::iter(gate.pass(Operation::Delete, &name, deleting).await)
            }
        })
        .flatten()
        .boxed()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        self.inner.custody()
    }
}
