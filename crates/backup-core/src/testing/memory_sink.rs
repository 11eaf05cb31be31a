//! A sink in memory, as strict as the contract allows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::clock::SharedClock;
use crate::sink::{
    Custody, Key, ObjectMeta, Operation, Payload, Prefix, PutMode, PutOutcome, Sink,
    SinkCapabilities, SinkError, SinkErrorKind, SinkResult, Upload,
};

/// A sink in memory. Clones are handles on the same place.
///
/// It uses every freedom that the contract leaves: lists come in a different order each time (the
/// same in every run of the program), contents come in several pieces, and other tasks get a turn
/// before each operation takes effect.
#[derive(Clone, Default)]
pub struct MemorySink(Arc<Inner>);

#[derive(Default)]
struct Inner {
    objects: Mutex<BTreeMap<Key, Stored>>,
    /// Operations so far: makes version tags and the order of lists differ.
    serial: AtomicU64,
    /// Dates objects.
    clock: Option<SharedClock>,
    /// The clock is not that of the machine.
    has_own_clock: bool,
    custody: Option<Arc<dyn Custody>>,
}

#[derive(Clone)]
struct Stored {
    bytes: Bytes,
    etag: String,
    written: Option<jiff::Timestamp>,
}

impl MemorySink {
    /// An empty place.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with a clock of its own, which dates its objects.
    #[must_use]
    pub fn on_clock(clock: SharedClock) -> Self {
        Self(Arc::new(Inner { clock: Some(clock), has_own_clock: true, ..Inner::default() }))
    }

    /// An empty store whose objects `clock` dates, with the locks, archives and unfinished uploads of
    /// `custody`.
    #[must_use]
    pub fn with_custody(clock: SharedClock, custody: Arc<dyn Custody>) -> Self {
        let (clock, custody) = (Some(clock), Some(custody));
        Self(Arc::new(Inner { clock, has_own_clock: true, custody, ..Inner::default() }))
    }

    /// An empty disk: `clock`, that of this machine, dates its objects.
    #[must_use]
    pub fn on_disk(clock: SharedClock) -> Self {
        Self(Arc::new(Inner { clock: Some(clock), ..Inner::default() }))
    }

    /// Everything that is stored.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<Key, Bytes> {
        let objects = self.lock();
        objects.iter().map(|(key, stored)| (key.clone(), stored.bytes.clone())).collect()
    }

    /// An independent copy of everything that is stored.
    #[must_use]
    pub fn copy(&self) -> Self {
        let (clock, custody) = (self.0.clock.clone(), self.0.custody.clone());
        let has_own_clock = self.0.has_own_clock;
        let copy = Self(Arc::new(Inner { clock, has_own_clock, custody, ..Inner::default() }));
        copy.lock().clone_from(&self.lock());
        copy
    }

    /// Changes an object behind everybody's back.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn corrupt(&self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.lock();
        let Some(stored) = objects.get_mut(key) else {
            panic!("there is no object {key} to corrupt");
        };
        let mut bytes = stored.bytes.to_vec();
        change(&mut bytes);
        stored.bytes = bytes.into();
    }

    /// Removes an object behind everybody's back.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn remove(&self, key: &Key) {
        assert!(self.lock().remove(key).is_some(), "there is no object {key} to remove");
    }

    /// Size in bytes of all objects under a prefix.
    #[must_use]
    pub fn total_bytes(&self, prefix: &Prefix) -> u64 {
        let objects = self.lock();
        objects
            .iter()
            .filter(|(key, _)| prefix.contains(key))
            .map(|(_, stored)| stored.bytes.len() as u64)
            .sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Stored>> {
        self.0.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_serial(&self) -> u64 {
        self.0.serial.fetch_add(1, Ordering::Relaxed)
    }

    fn store(
        &self,
        operation: Operation,
        key: &Key,
        bytes: Bytes,
        mode: PutMode,
    ) -> SinkResult<PutOutcome> {
        let etag = format!("v{}", self.next_serial());
        let mut objects = self.lock();
        if mode == PutMode::Create && objects.contains_key(key) {
            return Err(
                SinkError::new(SinkErrorKind::AlreadyExists, operation, key).without_effect()
            );
        }
        let written = self.0.clock.as_ref().map(|clock| clock.now());
        let stored = Stored { bytes, etag: etag.clone(), written };
        objects.insert(key.clone(), stored);
        Ok(PutOutcome { sha256: None, etag: Some(etag) })
    }

    fn find(&self, operation: Operation, key: &Key) -> SinkResult<Stored> {
        let objects = self.lock();
        objects
            .get(key)
            .cloned()
            .ok_or_else(|| SinkError::new(SinkErrorKind::NotFound, operation, key).without_effect())
    }

    fn metas(&self, prefix: &Prefix) -> Vec<ObjectMeta> {
        let mut metas: Vec<_> = {
            let objects = self.lock();
            let found = objects.iter().filter(|(key, _)| prefix.contains(key));
            found.map(|(key, stored)| meta(key, stored)).collect()
        };
        metas.shuffle(&mut SmallRng::seed_from_u64(self.next_serial()));
        metas
    }
}

fn meta(key: &Key, stored: &Stored) -> ObjectMeta {
    ObjectMeta {
        key: key.clone(),
        size: stored.bytes.len() as u64,
        last_modified: stored.written,
        etag: Some(stored.etag.clone()),
    }
}

/// Checks a range and cuts it out.
fn cut(key: &Key, bytes: &Bytes, range: Option<Range<u64>>) -> SinkResult<Bytes> {
    let size = bytes.len() as u64;
    let Range { start, end } = range.unwrap_or(0..size);
    if start > end || end > size {
        let message =
            format!("bytes {start} to {end} are outside of the object, which has {size} bytes");
        return Err(SinkError::new(SinkErrorKind::Invalid, Operation::Get, key)
            .with_source(message)
            .without_effect());
    }
    Ok(bytes.slice(start as usize..end as usize))
}

/// Cuts into three uneven pieces: nobody may rely on getting everything in one.
fn pieces(bytes: &Bytes) -> Vec<SinkResult<Bytes>> {
    let (a, b) = (bytes.len() / 7, bytes.len() / 2);
    let all = [bytes.slice(..a), bytes.slice(a..b), bytes.slice(b..)];
    all.into_iter().filter(|piece| !piece.is_empty()).map(Ok).collect()
}

impl fmt::Debug for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemorySink({} objects)", self.lock().len())
    }
}

impl fmt::Display for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            conditional_put: true,
            storage_classes: false,
            retention_locks: false,
            own_clock: self.0.has_own_clock,
            concurrency: 4,
            read_size: 4 << 20,
        }
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        tokio::task::yield_now().await;
        self.store(Operation::Put, key, payload.into_bytes(), mode)
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        tokio::task::yield_now().await;
        Ok(Box::new(MemoryUpload { sink: self.clone(), key: key.clone(), parts: Vec::new() }))
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        tokio::task::yield_now().await;
        let bytes = cut(key, &self.find(Operation::Get, key)?.bytes, range)?;
        Ok(stream::iter(pieces(&bytes)).boxed())
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        tokio::task::yield_now().await;
        Ok(meta(key, &self.find(Operation::Head, key)?))
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        let (sink, prefix) = (self.clone(), prefix.clone());
        stream::once(async move {
            tokio::task::yield_now().await;
            stream::iter(sink.metas(&prefix).into_iter().map(Ok))
        })
        .flatten()
        .boxed()
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        let sink = self.clone();
        keys.then(move |key| {
            let sink = sink.clone();
            async move {
                tokio::task::yield_now().await;
                sink.lock().remove(&key);
                Ok(key)
            }
        })
        .boxed()
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        self.0.custody.clone()
    }
}

#[derive(Debug)]
struct MemoryUpload {
    sink: MemorySink,
    key: Key,
    parts: Vec<Bytes>,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn put_part(&mut self, part: Bytes) -> SinkResult<()> {
        tokio::task::yield_now().await;
        self.parts.push(part);
        Ok(())
    }

    async fn complete(self: Box<Self>) -> SinkResult<PutOutcome> {
        tokio::task::yield_now().await;
        let bytes = Payload::from_segments(self.parts).into_bytes();
        self.sink.store(Operation::Upload, &self.key, bytes, PutMode::Overwrite)
    }

    async fn abort(self: Box<Self>) -> SinkResult<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::SinkOps;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[tokio::test]
    async fn handles_share_one_place_and_copies_do_not() {
        let sink = MemorySink::new();
        let (handle, before) = (sink.clone(), sink.copy());
        sink.put_bytes(&key("data/a"), vec![1, 2, 3]).await.unwrap();
        assert_eq!(handle.get_bytes(&key("data/a")).await.unwrap(), vec![1, 2, 3]);
        assert_eq!(handle.total_bytes(&Prefix::new("data").unwrap()), 3);
        assert!(before.objects().is_empty());
    }

    #[tokio::test]
    async fn damage_is_done_behind_everybodys_back() {
        let sink = MemorySink::new();
        sink.put_bytes(&key("a"), vec![1, 2, 3]).await.unwrap();
        sink.corrupt(&key("a"), |bytes| bytes[1] = 9);
        assert_eq!(sink.get_bytes(&key("a")).await.unwrap(), vec![1, 9, 3]);
        sink.remove(&key("a"));
        assert!(!sink.exists(&key("a")).await.unwrap());
    }

    #[tokio::test]
    async fn lists_come_in_changing_order() {
        let sink = MemorySink::new();
        for n in 0..50 {
            sink.put_bytes(&key(&format!("data/{n}")), vec![0]).await.unwrap();
        }
        let order = |sink: &MemorySink| {
            let list = sink.list(&Prefix::root());
            async move { list.map(|meta| meta.unwrap().key).collect::<Vec<_>>().await }
        };
        let (first, second) = (order(&sink).await, order(&sink).await);
        assert_ne!(first, second);
        assert_eq!(first.len(), 50);
    }
}
