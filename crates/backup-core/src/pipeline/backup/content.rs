//! Reading, chunking and storing contents, on worker threads and in async tasks.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::assembler::DirId;
use super::buffers::{BorrowedChunk, Buffers};
use crate::chunker::StreamChunker;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Warning, WarningKind};
use crate::format::{BlobKind, Node};
use crate::id::BlobId;
use crate::pipeline::Meter;
use crate::repository::cpu::{CpuPool, panicked};
use crate::repository::{BlobWriter, Repository};
use crate::source::{
    BlockingContent, Chunking, ContentEnd, EntryPath, Metadata, SkipCause, Skipped, SourceError,
    SourceErrorKind, SourceResult,
};

/// Files up to this size are read in batches, so that handing them over costs little per file.
pub(super) const SMALL: u64 = 512 << 10;
/// Chunks of one content whose results are waited for at a time.
const MAX_PENDING: usize = 32;

/// What reading contents needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) cx: Context,
    pub(super) repository: Repository,
    pub(super) writer: BlobWriter,
    pub(super) meter: Meter,
    pub(super) buffers: Buffers,
    /// Bytes that the snapshot may hold.
    pub(super) max_bytes: Option<u64>,
}

/// A file to be read.
pub(super) struct FileJob {
    pub(super) dir: DirId,
    pub(super) path: EntryPath,
    pub(super) metadata: Metadata,
    pub(super) chunking: Chunking,
    pub(super) existed: bool,
    pub(super) content: Box<dyn BlockingContent>,
}

/// A stream to be read.
pub(super) struct StreamJob {
    pub(super) dir: DirId,
    pub(super) path: EntryPath,
    pub(super) metadata: Metadata,
    pub(super) chunking: Chunking,
    pub(super) existed: bool,
    pub(super) content: BoxStream<'static, SourceResult<Bytes>>,
}

/// What became of a content.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) dir: DirId,
    /// `None`: it could not be read and is left out.
    pub(super) node: Option<Node>,
    pub(super) warning: Option<Warning>,
    /// Whether the parent snapshot has a file at this path.
    pub(super) existed: bool,
    /// The entry, if it is left out.
    pub(super) skipped: Option<Skipped>,
}

impl Finished {
    /// An entry that cannot be read.
    fn left_out(dir: DirId, path: EntryPath, error: &SourceError, existed: bool) -> Self {
        let (kind, cause) = match error.kind() {
            SourceErrorKind::NotFound => (WarningKind::Vanished, SkipCause::Vanished),
            _ => (WarningKind::Unreadable, SkipCause::Unreadable),
        };
        let warning = Warning { kind, path: path.display().into_owned(), message: error.chain() };
        let skipped = Some(Skipped { path, cause });
        Self { dir, node: None, warning: Some(warning), existed, skipped }
    }
}

impl Stage {
    /// Reads small files one after the other on this thread.
    pub(super) fn read_small(&self, jobs: Vec<FileJob>, handle: &Handle) -> Result<Vec<Finished>> {
        let cpu = self.repository.cpu();
        let mut chunker = self.chunker(Chunking::default());
        let mut finished = Vec::with_capacity(jobs.len());
        for job in jobs {
            chunker.restart(job.chunking, job.metadata.size);
            let mut size = 0;
            finished.push(self.read_file(job, &mut chunker, &mut |chunk| {
                let permit = cpu.permit_blocking(handle)?;
                size += chunk.len() as u64;
                if size > SMALL {
                    // It has grown, or nobody knew its size: it may go on for long, and all
                    // processors are to work for it.
                    return Ok(self.store_aside(permit, chunk, handle));
                }
                let stored = self.writer.store(BlobKind::Data, &chunk);
                drop(permit);
                Ok(Chunk::Stored(stored?.id))
            })?);
        }
        self.buffers.put(chunker.into_memory());
        Ok(finished)
    }

    fn chunker(&self, chunking: Chunking) -> StreamChunker<'_> {
        StreamChunker::new(self.repository.gear(), chunking).with_memory(self.buffers.take())
    }

    /// Counts bytes of the snapshot, which must not become too many.
    pub(super) fn count(&self, bytes: u64) -> Result<()> {
        self.meter.add_bytes(bytes);
        self.require_room(self.meter.done_bytes())
    }

    /// Whether a snapshot may hold so many bytes.
    pub(super) fn require_room(&self, bytes: u64) -> Result<()> {
        match self.max_bytes {
            Some(most) if bytes > most => {
                let text = format!("the backup exceeds the allowed {most} bytes");
                Err(Error::new(ErrorKind::TooLarge, text))
            }
            _ => Ok(()),
        }
    }

    /// Reads a large file; its chunks are stored by all worker threads.
    pub(super) fn read_large(&self, job: FileJob, handle: &Handle) -> Result<Finished> {
        let cpu = self.repository.cpu();
        let mut chunker = self.chunker(job.chunking);
        let finished = self.read_file(job, &mut chunker, &mut |chunk| {
            Ok(self.store_aside(cpu.permit_blocking(handle)?, chunk, handle))
        });
        self.buffers.put(chunker.into_memory());
        finished
    }

    /// Stores a chunk on a worker thread.
    fn store_aside(
        &self,
        permit: OwnedSemaphorePermit,
        chunk: BorrowedChunk,
        handle: &Handle,
    ) -> Chunk {
        let writer = self.writer.clone();
        let stored = CpuPool::spawn(permit, move || Ok(writer.store(BlobKind::Data, &chunk)?.id));
        Chunk::Pending(stored, handle.clone())
    }

    fn read_file(
        &self,
        job: FileJob,
        chunker: &mut StreamChunker<'_>,
        store: &mut dyn FnMut(BorrowedChunk) -> Result<Chunk>,
    ) -> Result<Finished> {
        let FileJob { dir, path, metadata, existed, content, .. } = job;
        let mut chunks = Chunks::default();
        let end = self.read_through(content, chunker, &mut |chunk| {
            chunks.size += chunk.len() as u64;
            chunks.push(store(chunk)?)
        });
        let end = match end {
            Ok(end) => end,
            Err(Failure::Entry(error)) => {
                // Its chunks are promised already: another file may rely on them.
                chunks.finish()?;
                return Ok(Finished::left_out(dir, path, &error, existed));
            }
            Err(Failure::Run(error)) => return Err(error),
        };
        let (content, size) = chunks.finish()?;
        let mut warning = None;
        let mut metadata = match end {
            ContentEnd::Stable => metadata,
            ContentEnd::Replaced(metadata) => *metadata,
            ContentEnd::Changed(metadata) => {
                let message =
                    "changed while it was read; the snapshot holds the bytes that were read"
                        .to_owned();
                warning = Some(Warning {
                    kind: WarningKind::Changed,
                    path: path.display().into_owned(),
                    message,
                });
                *metadata
            }
        };
        metadata.size = size;
        self.meter.add_items(1);
        let node = Node { name: path.name().into(), metadata, content, subtree: None };
        Ok(Finished { dir, node: Some(node), warning, existed, skipped: None })
    }

    fn read_through(
        &self,
        content: Box<dyn BlockingContent>,
        chunker: &mut StreamChunker<'_>,
        emit: &mut dyn FnMut(BorrowedChunk) -> Result<()>,
    ) -> Result<ContentEnd, Failure> {
        let mut reader = content.open().map_err(Failure::of)?;
        loop {
            self.cx.check_cancelled().map_err(Failure::Run)?;
            let ended =
                chunker.fill_from(&mut *reader).map_err(|error| Failure::of(error.into()))?;
            if let Some(chunk) = self.buffers.chunk(chunker) {
                self.count(chunk.len() as u64).map_err(Failure::Run)?;
                emit(chunk).map_err(Failure::Run)?;
            }
            if ended {
                return reader.finish().map_err(Failure::of);
            }
        }
    }

    /// Reads a stream in an async task.
    pub(super) async fn read_stream(&self, job: StreamJob) -> Result<Finished> {
        let StreamJob { dir, path, mut metadata, chunking, existed, mut content } = job;
        let mut chunker = self.chunker(chunking);
        let mut pending = VecDeque::new();
        let mut done = StreamResult::default();
        loop {
            self.cx.check_cancelled()?;
            let bytes = match content.next().await.transpose() {
                Ok(bytes) => bytes,
                Err(error) if error.concerns_one_entry() => {
                    // Its chunks are promised already: another file may rely on them.
                    while !pending.is_empty() {
                        done.take(pending.pop_front()).await?;
                    }
                    return Ok(Finished::left_out(dir, path, &error, existed));
                }
                Err(error) => return Err(error.into()),
            };
            let ended = bytes.is_none();
            let bytes = bytes.unwrap_or_default();
            let mut rest = &bytes[..];
            while chunker.push(&mut rest) || ended {
                let Some(chunk) = self.buffers.chunk(&mut chunker) else { break };
                self.count(chunk.len() as u64)?;
                done.size += chunk.len() as u64;
                let permit = self.repository.cpu().permit().await?;
                let writer = self.writer.clone();
                pending.push_back(CpuPool::spawn(permit, move || {
                    Ok(writer.store(BlobKind::Data, &chunk)?.id)
                }));
                if pending.len() > MAX_PENDING {
                    done.take(pending.pop_front()).await?;
                }
            }
            if ended {
                break;
            }
        }
        while !pending.is_empty() {
            done.take(pending.pop_front()).await?;
        }
        self.buffers.put(chunker.into_memory());
        metadata.size = done.size;
        self.meter.add_items(1);
        let node =
            Node { name: path.name().into(), metadata, content: done.content, subtree: None };
        Ok(Finished { dir, node: Some(node), warning: None, existed, skipped: None })
    }
}

#[derive(Default)]
struct StreamResult {
    content: Vec<BlobId>,
    size: u64,
}

impl StreamResult {
    async fn take(&mut self, handle: Option<JoinHandle<Result<BlobId>>>) -> Result<()> {
        if let Some(handle) = handle {
            self.content.push(handle.await.map_err(panicked)??);
        }
        Ok(())
    }
}

/// A chunk that is stored or on its way.
enum Chunk {
    Stored(BlobId),
    Pending(JoinHandle<Result<BlobId>>, Handle),
}

/// The chunks of one file in order: behind one that is on its way, all are.
#[derive(Default)]
struct Chunks {
    content: Vec<BlobId>,
    pending: VecDeque<(JoinHandle<Result<BlobId>>, Handle)>,
    size: u64,
}

impl Chunks {
    fn push(&mut self, chunk: Chunk) -> Result<()> {
        match chunk {
            Chunk::Stored(id) => self.content.push(id),
            Chunk::Pending(task, handle) => {
                self.pending.push_back((task, handle));
                if self.pending.len() > MAX_PENDING {
                    self.settle_first()?;
                }
            }
        }
        Ok(())
    }

    fn settle_first(&mut self) -> Result<()> {
        if let Some((task, handle)) = self.pending.pop_front() {
            self.content.push(handle.block_on(task).map_err(panicked)??);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<BlobId>, u64)> {
        while !self.pending.is_empty() {
            self.settle_first()?;
        }
        Ok((self.content, self.size))
    }
}

/// Whether one entry or the whole run is affected.
enum Failure {
    Entry(SourceError),
    Run(Error),
}

impl Failure {
    fn of(error: SourceError) -> Self {
        if error.concerns_one_entry() { Self::Entry(error) } else { Self::Run(error.into()) }
    }
}
