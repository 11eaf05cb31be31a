//! A sink that fails according to plan.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`FaultySink`]: failing operations of another sink |
//! | `plan.rs` | [`Fault`], [`FaultRule`]: which operation fails, and how |
//! | `streams.rs` | contents and lists that fail, end or change half way |

mod plan;
mod streams;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

pub use plan::{Fault, FaultRule};

use crate::sink::{
    Custody, Key, ObjectMeta, Operation, Payload, Prefix, PutMode, PutOutcome, Sink,
    SinkCapabilities, SinkOps, SinkResult, Upload,
};

/// Lets operations of another sink fail by rules. Clones are handles on the same rules.
///
/// Operations are: each `put`, `get`, `head` and `list`; each key of a `delete`; the beginning,
/// each part and the end of an upload. A sweep that lets everything fail once:
///
/// ```
/// # use std::sync::Arc;
/// # use backup_core::sink::{Key, SinkErrorKind, SinkOps};
/// # use backup_core::testing::{Fault, FaultySink, MemorySink};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// for n in 0.. {
///     let sink = FaultySink::new(Arc::new(MemorySink::new()));
///     sink.fail_nth(n, Fault::After(SinkErrorKind::Unavailable));
///     let run = sink.put_bytes(&Key::new("config").unwrap(), vec![1]).await;
///     if sink.fired() == 0 {
///         break; // The run is over before the n-th operation.
///     }
///     assert!(run.is_err());
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct FaultySink {
    inner: Arc<dyn Sink>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    rules: Vec<FaultRule>,
    operations: u64,
    fired: u64,
}

impl FaultySink {
    /// Nothing fails until a rule is added.
    #[must_use]
    pub fn new(inner: Arc<dyn Sink>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Adds a rule. If several apply to one operation, the one that was added first wins.
    pub fn add(&self, rule: FaultRule) {
        self.lock().rules.push(rule);
    }

    /// Forgets all rules and counters; then lets the `n`-th operation from here on fail, counted
    /// from 0, among those that the fault is possible for.
    pub fn fail_nth(&self, n: u64, fault: Fault) {
        *self.lock() = Plan { rules: vec![FaultRule::new(fault).after(n)], ..Plan::default() };
    }

    /// Forgets all rules and counters: nothing fails any more.
    pub fn heal(&self) {
        *self.lock() = Plan::default();
    }

    /// How many faults have happened.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.lock().fired
    }

    /// How many operations were begun.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut plan = self.lock();
        plan.operations += 1;
        let mut chosen = None;
        for rule in &mut plan.rules {
            let fault = rule.decide(operation, key);
            chosen = chosen.or(fault);
        }
        plan.fired += u64::from(chosen.is_some());
        chosen
    }

    /// Begins an operation: fails, waits, or says what is to fail later.
    async fn begin(&self, operation: Operation, key: &str) -> SinkResult<Option<Fault>> {
        match self.decide(operation, key) {
            Some(Fault::Before(kind)) => Err(plan::error(kind, operation, key).without_effect()),
            Some(Fault::BeforeUnknown(kind)) => Err(plan::error(kind, operation, key)),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            fault => Ok(fault),
        }
    }

    /// Ends an operation that was done.
    fn end<T>(
        fault: Option<Fault>,
        operation: Operation,
        key: &str,
        result: SinkResult<T>,
    ) -> SinkResult<T> {
        match fault {
            Some(Fault::After(kind)) => Err(plan::error(kind, operation, key)),
            _ => result,
        }
    }

    async fn delete_key(self, key: Key) -> SinkResult<Key> {
        let fault = self.begin(Operation::Delete, key.as_str()).await?;
        self.inner.delete_one(&key).await?;
        Self::end(fault, Operation::Delete, key.as_str(), Ok(())).map(|()| key)
    }
}

impl fmt::Debug for FaultySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultySink({:?})", self.inner)
    }
}

impl fmt::Display for FaultySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Sink for FaultySink {
    fn capabilities(&self) -> SinkCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        let fault = self.begin(Operation::Put, key.as_str()).await?;
        let result = self.inner.put(key, payload, mode).await;
        Self::end(fault, Operation::Put, key.as_str(), result)
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        let fault = self.begin(Operation::Upload, key.as_str()).await?;
        let upload = self.inner.upload(key).await.map(|inner| FaultyUpload {
            sink: self.clone(),
            key: key.clone(),
            inner,
        });
        Self::end(fault, Operation::Upload, key.as_str(), upload)
            .map(|upload| Box::new(upload) as _)
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        let fault = self.begin(Operation::Get, key.as_str()).await?;
        let content = self.inner.get(key, range).await;
        let content = Self::end(fault, Operation::Get, key.as_str(), content)?;
        match fault {
            None => Ok(content),
            Some(fault) => streams::faulty_content(fault, key.as_str(), content).await,
        }
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        let fault = self.begin(Operation::Head, key.as_str()).await?;
        let result = self.inner.head(key).await;
        Self::end(fault, Operation::Head, key.as_str(), result)
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        let (sink, prefix) = (self.clone(), prefix.clone());
        let list = async move {
            match sink.begin(Operation::List, prefix.as_str()).await {
                Ok(None) => sink.inner.list(&prefix),
                Ok(Some(fault)) => {
                    streams::faulty_list(fault, prefix.as_str(), sink.inner.list(&prefix)).await
                }
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(list).flatten().boxed()
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        let sink = self.clone();
        keys.then(move |key| sink.clone().delete_key(key)).boxed()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        self.inner.custody()
    }
}

#[derive(Debug)]
struct FaultyUpload {
    sink: FaultySink,
    key: Key,
    inner: Box<dyn Upload>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for FaultyUpload {
    async fn put_part(&mut self, part: Bytes) -> SinkResult<()> {
        let fault = self.sink.begin(Operation::Upload, self.key.as_str()).await?;
        let result = self.inner.put_part(part).await;
        FaultySink::end(fault, Operation::Upload, self.key.as_str(), result)
    }

    async fn complete(self: Box<Self>) -> SinkResult<PutOutcome> {
        let fault = self.sink.begin(Operation::Upload, self.key.as_str()).await?;
        let result = self.inner.complete().await;
        FaultySink::end(fault, Operation::Upload, self.key.as_str(), result)
    }

    async fn abort(self: Box<Self>) -> SinkResult<()> {
        let fault = self.sink.begin(Operation::Upload, self.key.as_str()).await?;
        let result = self.inner.abort().await;
        FaultySink::end(fault, Operation::Upload, self.key.as_str(), result)
    }
}

#[cfg(test)]
mod tests;
