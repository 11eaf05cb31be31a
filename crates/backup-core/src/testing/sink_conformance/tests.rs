//! Good sinks pass; sinks with one defect each are found out.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::*;
use crate::sink::{
    Key, ObjectMeta, Operation, Payload, Prefix, PutMode, PutOutcome, SinkCapabilities, SinkError,
    SinkErrorKind, SinkOps, SinkResult, Upload,
};
use crate::testing::{FaultySink, MemorySink, RecordingSink};

#[tokio::test]
async fn memory() {
    let make = async || {
        let sink = MemorySink::new();
        SinkHandles::new(sink.clone(), sink)
    };
    sink_conformance(make, SinkDifferences::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrappers_over_memory() {
    let make = async || {
        let sink = MemorySink::new();
        let recording = RecordingSink::new(Arc::new(FaultySink::new(Arc::new(sink.clone()))));
        let faulty = FaultySink::new(Arc::new(RecordingSink::new(Arc::new(sink))));
        SinkHandles::new(recording, faulty)
    };
    sink_conformance(make, SinkDifferences::default()).await;
}

/// What is wrong with a sink, and the check that finds it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Defect {
    CreateReplaces,
    CreateLooksFirst,
    SegmentsAreLost,
    PutIsSeenInParts,
    UploadIsSeenEarly,
    DroppedUploadStays,
    RangesAreClipped,
    RangesAreOffByOne,
    MissingIsEmpty,
    MissingIsUncertain,
    ListsEndAt1000,
    ListsRepeat,
    PrefixesAreText,
    DeletingWhatIsMissingFails,
    DeletionsAreForgotten,
    AnswersAreMissing,
    NamesAreFolded,
}

const DEFECTS: [(Defect, &str); 17] = [
    (Defect::CreateReplaces, "create_leaves_what_exists"),
    (Defect::CreateLooksFirst, "of_many_rivals_one_wins"),
    (Defect::SegmentsAreLost, "segments_are_joined_in_order"),
    (Defect::PutIsSeenInParts, "a_dropped_put_is_done_or_not_done"),
    (Defect::UploadIsSeenEarly, "an_upload_is_visible_when_complete"),
    (Defect::DroppedUploadStays, "a_dropped_upload_leaves_nothing"),
    (Defect::RangesAreClipped, "a_range_outside_is_invalid"),
    (Defect::RangesAreOffByOne, "ranges_are_exact"),
    (Defect::MissingIsEmpty, "what_one_handle_writes_the_other_sees"),
    (Defect::MissingIsUncertain, "what_one_handle_writes_the_other_sees"),
    (Defect::ListsEndAt1000, "a_list_has_every_object_once"),
    (Defect::ListsRepeat, "a_list_has_every_object_once"),
    (Defect::PrefixesAreText, "a_prefix_ends_at_a_slash"),
    (Defect::DeletingWhatIsMissingFails, "streams_outlive_their_sink"),
    (Defect::DeletionsAreForgotten, "what_one_handle_writes_the_other_sees"),
    (Defect::AnswersAreMissing, "every_deletion_has_its_answer"),
    (Defect::NamesAreFolded, "odd_names_are_names"),
];

#[derive(Debug, Clone)]
struct Defective {
    inner: MemorySink,
    defect: Defect,
}

impl fmt::Display for Defective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.defect)
    }
}

impl Defective {
    fn has(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn name(&self, key: &Key) -> Key {
        if self.has(Defect::NamesAreFolded) {
            Key::new(key.as_str().to_ascii_lowercase()).unwrap()
        } else {
            key.clone()
        }
    }
}

#[async_trait]
impl Sink for Defective {
    fn capabilities(&self) -> SinkCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        let mut mode = mode;
        if self.has(Defect::CreateReplaces) {
            mode = PutMode::Overwrite;
        }
        if self.has(Defect::CreateLooksFirst)
            && mode == PutMode::Create
            && !self.inner.exists(key).await?
        {
            mode = PutMode::Overwrite;
        }
        let mut segments = payload.segments().to_vec();
        if self.has(Defect::SegmentsAreLost) {
            segments.truncate(4000);
        }
        let bytes = segments.concat();
        if self.has(Defect::PutIsSeenInParts) && mode == PutMode::Overwrite {
            self.inner.put_bytes(key, bytes[..bytes.len() / 2].to_vec()).await?;
            tokio::task::yield_now().await;
        }
        self.inner.put(&self.name(key), bytes.into(), mode).await
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        if self.has(Defect::DroppedUploadStays) || self.has(Defect::UploadIsSeenEarly) {
            let upload =
                Defector { sink: self.clone(), key: key.clone(), parts: Vec::new(), done: false };
            return Ok(Box::new(upload));
        }
        self.inner.upload(key).await
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        let size = self.inner.head(key).await.map_or(0, |meta| meta.size);
        let range = range.map(|range| match self.defect {
            Defect::RangesAreClipped => {
                range.start.min(size)..range.end.min(size).max(range.start.min(size))
            }
            Defect::RangesAreOffByOne if range.end < size => range.start..range.end + 1,
            _ => range,
        });
        match self.inner.get(&self.name(key), range).await {
            Err(error) if error.kind() == SinkErrorKind::NotFound => match self.defect {
                Defect::MissingIsEmpty => Ok(stream::empty().boxed()),
                Defect::MissingIsUncertain => {
                    Err(SinkError::new(error.kind(), Operation::Get, key))
                }
                _ => Err(error),
            },
            other => other,
        }
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        let meta = self.inner.head(&self.name(key)).await?;
        Ok(ObjectMeta { key: key.clone(), ..meta })
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        let defect = self.defect;
        let text = prefix.to_string();
        let all = match defect {
            Defect::PrefixesAreText => self.inner.list(&Prefix::root()),
            _ => self.inner.list(prefix),
        };
        let list = async move {
            let mut all: Vec<_> = all.collect().await;
            match defect {
                Defect::ListsEndAt1000 => all.truncate(1000),
                Defect::PrefixesAreText => {
                    all.retain(|meta| meta.as_ref().unwrap().key.as_str().starts_with(&text));
                }
                Defect::ListsRepeat if all.len() > 1000 => {
                    let again = all[7].as_ref().unwrap().clone();
                    all.push(Ok(again));
                }
                _ => {}
            }
            stream::iter(all)
        };
        stream::once(list).flatten().boxed()
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        let sink = self.clone();
        match self.defect {
            Defect::DeletingWhatIsMissingFails => keys
                .then(move |key| {
                    let sink = sink.clone();
                    async move {
                        sink.inner.head(&key).await?;
                        sink.inner.delete_one(&key).await.map(|()| key)
                    }
                })
                .boxed(),
            Defect::DeletionsAreForgotten => keys.map(Ok).boxed(),
            Defect::AnswersAreMissing => self
                .inner
                .delete(keys)
                .enumerate()
                .filter(|(n, _)| std::future::ready(n % 1000 != 300))
                .map(|(_, answer)| answer)
                .boxed(),
            _ => {
                let keys = keys.map(move |key| sink.name(&key));
                self.inner.delete(keys.boxed())
            }
        }
    }
}

#[derive(Debug)]
struct Defector {
    sink: Defective,
    key: Key,
    parts: Vec<Bytes>,
    done: bool,
}

impl Defector {
    fn spill(&self) {
        let (sink, key, bytes) = (self.sink.inner.clone(), self.key.clone(), self.parts.concat());
        tokio::spawn(async move { sink.put_bytes(&key, bytes).await });
    }
}

#[async_trait]
impl Upload for Defector {
    async fn put_part(&mut self, part: Bytes) -> SinkResult<()> {
        self.parts.push(part);
        if self.sink.has(Defect::UploadIsSeenEarly) {
            self.sink.inner.put_bytes(&self.key, self.parts.concat()).await?;
        }
        Ok(())
    }

    async fn complete(mut self: Box<Self>) -> SinkResult<PutOutcome> {
        self.done = true;
        self.sink.inner.put_bytes(&self.key, self.parts.concat()).await
    }

    async fn abort(mut self: Box<Self>) -> SinkResult<()> {
        self.done = true;
        Ok(())
    }
}

impl Drop for Defector {
    fn drop(&mut self) {
        if !self.done && self.sink.has(Defect::DroppedUploadStays) {
            self.spill();
        }
    }
}

/// The message with which the suite refuses a sink.
fn verdict(defect: Defect) -> String {
    let suite = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(sink_conformance(
            async || {
                let sink = Defective { inner: MemorySink::new(), defect };
                SinkHandles::new(sink.clone(), sink)
            },
            SinkDifferences::default(),
        ));
    };
    match std::thread::spawn(suite).join() {
        Ok(()) => "nothing".to_owned(),
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
    }
}

#[test]
fn every_defect_is_found() {
    for (defect, check) in DEFECTS {
        let verdict = verdict(defect);
        assert!(verdict.contains(check), "{defect:?}: {verdict}");
    }
}
