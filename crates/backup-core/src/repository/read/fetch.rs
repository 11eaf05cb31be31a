//! Many blobs at once, in the order in which they are stored: every pack is read once, in few large
//! ranges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt;

use super::blob::BlobReader;
use super::decode::{Decoded, decode_with};
use crate::context::Context;
use crate::error::Error;
use crate::format::{BlobKind, PackedBlob};
use crate::id::{BlobId, PackId};
use crate::repository::cpu::{CpuPool, panicked};
use crate::source::SourceError;

/// So much of what a sink likes to read at a time is rather read in vain than skipped by another
/// request.
const GAP: u64 = 64;
/// Requests are for less than the sink likes if otherwise there were fewer than can be under way at
/// a time, but not for less than this.
const LEAST: u64 = 4 << 20;
/// Fewer are under way if otherwise it were more bytes than these, unless processors would have to
/// wait.
const UNDER_WAY: u64 = 144 << 20;

/// Blobs of one pack that are read with one request.
#[derive(Debug)]
struct Batch {
    pack: PackId,
    start: u64,
    end: u64,
    /// Index in the caller's list, and place in the pack.
    blobs: Vec<(usize, PackedBlob)>,
}

/// What is to be read, and how.
#[derive(Debug)]
struct Plan {
    batches: Vec<Batch>,
    /// So many at a time.
    at_a_time: usize,
    /// Those that are not in the index.
    unknown: Vec<usize>,
}

/// Groups blobs into requests for as much as the sink likes to read at a time, or for single blobs
/// that are larger; for less, if there were not enough for all that can be made at a time.
fn plan(reader: &BlobReader, blobs: &[BlobId]) -> Plan {
    let mut located = Vec::with_capacity(blobs.len());
    let mut unknown = Vec::new();
    for (at, id) in blobs.iter().enumerate() {
        match reader.locate(BlobKind::Data, id) {
            Ok(location) => located.push((location.pack, location.blob, at)),
            Err(_) => unknown.push(at),
        }
    }
    located.sort_unstable_by_key(|(pack, blob, at)| (*pack, blob.offset, *at));
    let total: u64 = located.iter().map(|(_, blob, _)| u64::from(blob.len)).sum();
    let repository = reader.repository().repository();
    let (threads, sink) = (repository.cpu().threads() + 1, repository.sink().capabilities());
    let concurrency = threads.max(sink.concurrency);
    let most = sink.read_size.min((total / concurrency as u64).max(LEAST));
    let at_a_time =
        usize::try_from(UNDER_WAY / most.max(1)).unwrap_or(usize::MAX).clamp(threads, concurrency);
    let mut batches: Vec<Batch> = Vec::new();
    for (pack, blob, at) in located {
        let (start, end) = (u64::from(blob.offset), u64::from(blob.offset) + u64::from(blob.len));
        match batches.last_mut() {
            Some(last)
                if last.pack == pack
                    && start <= last.end + most / GAP
                    && end - last.start <= most =>
            {
                last.end = last.end.max(end);
                last.blobs.push((at, blob));
            }
            _ => batches.push(Batch { pack, start, end, blobs: vec![(at, blob)] }),
        }
    }
    Plan { batches, at_a_time, unknown }
}

impl BlobReader {
    /// Reads data blobs and calls `handle` with the index of each in `blobs` and its content, or
    /// with why it cannot be had; see [`SnapshotReader::fetch`](super::SnapshotReader::fetch).
    pub(crate) async fn try_fetch<F>(
        &self,
        cx: &Context,
        blobs: &[BlobId],
        handle: F,
    ) -> Result<(), SourceError>
    where
        F: Fn(usize, Result<&[u8], Error>) -> Result<(), SourceError> + Send + Sync + 'static,
    {
        self.fetch_decoded(cx, blobs, move |at, decoded| {
            handle(at, decoded.map(|decoded| decoded.plain))
        })
        .await
    }

    /// Like [`Self::try_fetch`], for callers that also want the forms in between.
    pub(crate) async fn fetch_decoded<F>(
        &self,
        cx: &Context,
        blobs: &[BlobId],
        handle: F,
    ) -> Result<(), SourceError>
    where
        F: Fn(usize, Result<Decoded<'_>, Error>) -> Result<(), SourceError> + Send + Sync + 'static,
    {
        let handle = Arc::new(handle);
        let Plan { batches, at_a_time, unknown } = plan(self, blobs);
        for at in unknown {
            let sound = Arc::clone(&handle);
            let take = move |decoded: Decoded<'_>| sound(at, Ok(decoded));
            match self.decoded(BlobKind::Data, &blobs[at], take).await {
                Ok(handled) => handled?,
                Err(error) if error.is_damage() => handle(at, Err(error))?,
                Err(error) => return Err(error.into()),
            }
        }
        // After the first error nothing new is begun, but what is under way is waited for: `handle`
        // is never called again once this has returned.
        let failed = AtomicBool::new(false);
        let mut running = futures::stream::iter(batches)
            .take_while(|_| std::future::ready(!failed.load(Ordering::Relaxed)))
            .map(|batch| {
                let handle = Arc::clone(&handle);
                async move {
                    cx.check_cancelled()?;
                    match self.range(&batch.pack, batch.start..batch.end).await {
                        Ok(bytes) => self.decode_batch(batch, bytes, handle).await,
                        Err(error) if error.is_damage() => self.one_by_one(batch, handle).await,
                        Err(error) => Err(error.into()),
                    }
                }
            })
            .buffer_unordered(at_a_time);
        let mut result = Ok(());
        while let Some(done) = running.next().await {
            if done.is_err() {
                failed.store(true, Ordering::Relaxed);
                result = result.and(done);
            }
        }
        result
    }

    async fn decode_batch<F>(
        &self,
        batch: Batch,
        bytes: Bytes,
        handle: Arc<F>,
    ) -> Result<(), SourceError>
    where
        F: Fn(usize, Result<Decoded<'_>, Error>) -> Result<(), SourceError> + Send + Sync + 'static,
    {
        let repository = self.repository().repository();
        let key = Arc::clone(repository.key());
        let permit = repository.cpu().permit().await?;
        let sound = Arc::clone(&handle);
        let work = move || {
            let mut damaged = Vec::new();
            for (at, blob) in batch.blobs {
                let from =
                    usize::try_from(u64::from(blob.offset) - batch.start).unwrap_or(usize::MAX);
                decode_with(&key, &blob, &bytes[from..from + blob.len as usize], |decoded| {
                    match decoded {
                        Ok(decoded) => sound(at, Ok(decoded)),
                        Err(_) => {
                            damaged.push((at, blob));
                            Ok(())
                        }
                    }
                })?;
            }
            Ok::<_, SourceError>(Batch { blobs: damaged, ..batch })
        };
        let damaged = CpuPool::spawn(permit, work).await.map_err(panicked)??;
        self.one_by_one(damaged, handle).await
    }

    /// Something of a range is damaged or gone: every blob is tried by itself, and then its other
    /// copies.
    async fn one_by_one<F>(&self, batch: Batch, handle: Arc<F>) -> Result<(), SourceError>
    where
        F: Fn(usize, Result<Decoded<'_>, Error>) -> Result<(), SourceError> + Send + Sync + 'static,
    {
        for (at, blob) in batch.blobs {
            let sound = Arc::clone(&handle);
            match self
                .decoded(BlobKind::Data, &blob.id, move |decoded| sound(at, Ok(decoded)))
                .await
            {
                Ok(handled) => handled?,
                Err(error) if error.is_damage() => {
                    handle(at, Err(error.context(format!("pack {}", batch.pack.short()))))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The content of a file as a stream, in order, with one blob read ahead.
    pub(crate) fn stream(
        &self,
        content: Vec<BlobId>,
    ) -> futures::stream::BoxStream<'static, Result<Bytes, Error>> {
        let reader = self.clone();
        futures::stream::iter(content)
            .map(move |id| {
                let reader = reader.clone();
                async move { reader.blob(BlobKind::Data, &id).await.map(Bytes::from) }
            })
            .buffered(2)
            .boxed()
    }
}
