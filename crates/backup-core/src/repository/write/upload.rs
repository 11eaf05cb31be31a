//! Uploading packs and verifying what was written. Only verified packs reach the index.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rand::RngExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::index_writer::IndexWriter;
use super::pack_builder::{FinishedPack, PackMemory};
use super::settings::WriteSettings;
use crate::error::{Error, Result};
use crate::format::BlobKind;
use crate::id::PackId;
use crate::repository::cpu::panicked;
use crate::repository::{IndexedRepository, Repository, layout};
use crate::sink::{Key, Payload, PutMode, SinkError, SinkErrorKind, SinkOps};

/// Buffers of stored packs, for the next ones: fresh memory would have to be cleared by the system,
/// page by page.
#[derive(Debug, Clone, Default)]
struct PackBuffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl PackBuffers {
    /// The buffer that fits best: one that is large enough, or none.
    fn with(&self, permit: OwnedSemaphorePermit, size: usize) -> PackMemory {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle
            .iter()
            .position(|buffer| buffer.capacity() >= size && buffer.capacity() < size * 4);
        let buffer = fits.map(|at| idle.swap_remove(at)).unwrap_or_default();
        PackMemory { permit, buffer }
    }

    /// Takes the memory back if nobody else holds on to it.
    fn put(&self, bytes: Bytes) {
        if let Ok(unique) = bytes.try_into_mut() {
            let mut buffer = Vec::from(unique);
            buffer.clear();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

struct CloseOnDrop(Arc<Semaphore>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Memory is shared out in pieces of this size.
const SHARE: usize = 1 << 20;

fn shares(size: usize) -> usize {
    size.div_ceil(SHARE).max(1)
}

fn shares_u32(size: usize) -> u32 {
    u32::try_from(shares(size)).unwrap_or(u32::MAX)
}

/// What the uploads of one run came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Uploads {
    /// Stored and verified packs, with their sizes in bytes.
    pub(super) stored: HashMap<PackId, u64>,
    pub(super) index_objects: u64,
    pub(super) sampled_packs: u64,
}

/// Bytes of packs, for progress.
#[derive(Debug, Default)]
pub(crate) struct UploadedBytes {
    submitted: AtomicU64,
    stored: AtomicU64,
}

impl UploadedBytes {
    /// Bytes of all packs that were handed over for upload.
    pub(crate) fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed)
    }

    /// Bytes of packs that are stored and verified.
    pub(crate) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }
}

/// Handle to the task that uploads.
#[derive(Debug, Clone)]
pub(super) struct Uploader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Option<mpsc::Sender<FinishedPack>>>,
    memory: Arc<Semaphore>,
    buffers: PackBuffers,
    bytes: Arc<UploadedBytes>,
    task: Mutex<Option<JoinHandle<Result<Uploads>>>>,
    /// The first failure, for those who only want to know whether to go on.
    failure: Arc<Mutex<Option<String>>>,
}

impl Uploader {
    pub(super) fn start(repository: &IndexedRepository, settings: &WriteSettings) -> Self {
        let uploads =
            settings.uploads_for(repository.repository().sink().capabilities().concurrency);
        // For all open packs (data and one of trees) and all uploads but the first: while that one
        // runs, an open pack less is filled. The queue itself holds nothing more.
        let packs = settings.open_packs.max(1) + uploads - 1;
        let memory = Arc::new(Semaphore::new(
            packs * shares(settings.data_pack_size()) + shares(settings.tree_pack_size()),
        ));
        let (sender, queue) = mpsc::channel(1);
        let failure = Arc::new(Mutex::new(None));
        let (buffers, bytes) = (PackBuffers::default(), Arc::<UploadedBytes>::default());
        let run = Run {
            repository: repository.repository().clone(),
            index: IndexWriter::new(repository, settings.index_interval),
            verify_sample: settings.sample(),
            uploads,
            buffers: buffers.clone(),
            bytes: Arc::clone(&bytes),
            totals: Uploads::default(),
        };
        let (closed, first) = (Arc::clone(&memory), Arc::clone(&failure));
        let task = tokio::spawn(async move {
            let mut queue = queue;
            // However this task ends: whoever waits for memory then would wait for ever.
            let _closing = CloseOnDrop(closed);
            let result = run.drive(&mut queue).await;
            if let Err(error) = &result {
                // Before the queue is dropped, so that nobody sees the consequence before the
                // cause.
                *first.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.chain());
            }
            result
        });
        Self(Arc::new(Shared {
            queue: Mutex::new(Some(sender)),
            memory,
            buffers,
            bytes,
            task: Mutex::new(Some(task)),
            failure,
        }))
    }

    /// Fails if an upload has failed: there is no sense in computing on.
    pub(super) fn check(&self) -> Result<()> {
        match &*self.0.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(_) => Err(Error::internal(UPLOAD_FAILED)),
        }
    }

    /// Memory for a pack of `size` bytes, if it is there now.
    pub(super) fn try_memory(&self, size: usize) -> Option<PackMemory> {
        let permit = Arc::clone(&self.0.memory).try_acquire_many_owned(shares_u32(size)).ok()?;
        Some(self.0.buffers.with(permit, size))
    }

    /// Waits until there is memory for a pack of `size` bytes.
    pub(super) fn memory(&self, size: usize, handle: &Handle) -> Result<PackMemory> {
        let waiting = Arc::clone(&self.0.memory).acquire_many_owned(shares_u32(size));
        let permit = handle.block_on(waiting).map_err(|_| Error::internal(UPLOAD_FAILED))?;
        Ok(self.0.buffers.with(permit, size))
    }

    /// Bytes that were handed over and stored until now.
    pub(super) fn bytes(&self) -> &UploadedBytes {
        &self.0.bytes
    }

    /// Hands over a pack; waits while the queue is full.
    pub(super) fn submit_blocking(&self, pack: FinishedPack) -> Result<()> {
        self.0.bytes.submitted.fetch_add(pack.bytes.len() as u64, Ordering::Relaxed);
        let sender = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = sender.is_some_and(|sender| sender.blocking_send(pack).is_ok());
        if sent { Ok(()) } else { Err(Error::internal(UPLOAD_FAILED)) }
    }

    /// Waits for all uploads and the index.
    pub(super) async fn finish(&self) -> Result<Uploads> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        match task {
            Some(task) => task.await.map_err(panicked)?,
            None => Err(Error::internal("the writer was finished twice")),
        }
    }

    /// Takes no more packs. What is on its way is stored, verified and put into the index, so that
    /// the next run finds it; returns when nothing of this run touches the repository any more.
    pub(super) async fn abort(&self) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Workers that wait for memory give up.
        self.0.memory.close();
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // The run has failed already; that saving its remains failed too would tell nothing
            // new.
            _ = task.await;
        }
    }

    /// The error that made uploading stop, if one did and nobody has been told yet.
    pub(super) async fn failure(&self) -> Option<Error> {
        self.check().err()?;
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        task?.await.map_err(panicked).flatten().err()
    }
}

/// Only ever seen inside: [`Uploader::failure`] has the real reason.
const UPLOAD_FAILED: &str = "uploading has stopped";

struct Run {
    repository: Repository,
    index: IndexWriter,
    verify_sample: f64,
    uploads: usize,
    buffers: PackBuffers,
    bytes: Arc<UploadedBytes>,
    totals: Uploads,
}

/// A pack that is stored and verified.
struct Verified {
    pack: PackId,
    len: u64,
    blobs: Vec<crate::format::PackedBlob>,
    sampled: bool,
}

impl Run {
    async fn drive(mut self, queue: &mut mpsc::Receiver<FinishedPack>) -> Result<Uploads> {
        let mut running = JoinSet::new();
        let result = self.upload_all(queue, &mut running).await;
        if result.is_err() {
            // The run fails with this error. What else is on its way is saved for the next run, if
            // that can be done.
            while let Some(done) = running.join_next().await {
                if let Ok(Ok(pack)) = done {
                    _ = self.verified(pack).await;
                }
            }
            _ = self.index.flush().await;
        }
        result?;
        self.totals.index_objects = self.index.written();
        Ok(self.totals)
    }

    async fn upload_all(
        &mut self,
        queue: &mut mpsc::Receiver<FinishedPack>,
        running: &mut JoinSet<Result<Verified>>,
    ) -> Result<()> {
        let mut open = true;
        while open || !running.is_empty() {
            tokio::select! {
                pack = queue.recv(), if open && running.len() < self.uploads => match pack {
                    Some(pack) => {
                        let sample = rand::rng().random_bool(self.verify_sample);
                        running.spawn(store(self.repository.clone(), pack, sample, self.buffers.clone()));
                    }
                    None => open = false,
                },
                Some(done) = running.join_next(), if !running.is_empty() => {
                    self.verified(done.map_err(panicked)??).await?;
                }
            }
        }
        self.index.flush().await
    }

    async fn verified(&mut self, pack: Verified) -> Result<()> {
        self.totals.stored.insert(pack.pack, pack.len);
        self.bytes.stored.fetch_add(pack.len, Ordering::Relaxed);
        self.totals.sampled_packs += u64::from(pack.sampled);
        self.index.add(pack.pack, pack.blobs).await
    }
}

async fn store(
    repository: Repository,
    pack: FinishedPack,
    sample: bool,
    buffers: PackBuffers,
) -> Result<Verified> {
    let key = layout::pack(&pack.id);
    let len = pack.bytes.len() as u64;
    let payload = Payload::from(pack.bytes.clone());
    // Trees are read by every later run and every look into the repository; what files hold is read
    // by restores.
    let is_cold = pack.blobs.iter().all(|blob| blob.kind == BlobKind::Data);
    let payload = if is_cold { payload.cold() } else { payload };
    let outcome = repository.sink().put(&key, payload, PutMode::Overwrite).await?;
    // The bytes are stored: their memory may be used for the next pack.
    buffers.put(pack.bytes);
    drop(pack.permit);
    let mut sampled = false;
    if let Some(sum) = outcome.sha256 {
        if sum != *pack.id.as_bytes() {
            return Err(Error::damaged(format!(
                "{key}: the stored checksum differs from the checksum that was sent"
            )));
        }
    } else {
        let stored = stored_size(&repository, &key).await?;
        if stored != len {
            return Err(Error::damaged(format!(
                "{key} was stored with {stored} instead of {len} bytes"
            )));
        }
        if sample {
            sampled = read_back(&repository, pack.id, len).await?;
        }
    }
    Ok(Verified { pack: pack.id, len, blobs: pack.blobs, sampled })
}

/// The size of a pack in the store. Those who may not read packs may still list them.
pub(super) async fn stored_size(repository: &Repository, key: &Key) -> Result<u64> {
    match repository.sink().head(key).await {
        Ok(meta) => Ok(meta.size),
        Err(error) if error.kind() == SinkErrorKind::PermissionDenied => {
            let listed = repository.sink().list_all(&layout::packs_beside(key)).await?;
            let meta = listed.into_iter().find(|meta| meta.key == *key);
            Ok(meta
                .ok_or_else(|| Error::damaged(format!("{key} is missing after it was stored")))?
                .size)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads a pack and compares it with its name; says whether these credentials may do so. No more at
/// a time than is worth a request: it comes on top of all packs that are being filled.
async fn read_back(repository: &Repository, id: PackId, len: u64) -> Result<bool> {
    use futures::TryStreamExt;
    use sha2::{Digest, Sha256};
    let (key, sink) = (layout::pack(&id), repository.sink());
    let most = sink.capabilities().read_size.max(1);
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < len {
        let end = len.min(at + most);
        let read = async {
            let mut stream = sink.get(&key, Some(at..end)).await?;
            while let Some(bytes) = stream.try_next().await? {
                hash.update(&bytes);
            }
            Ok::<_, SinkError>(())
        };
        match read.await {
            // These credentials may not, or it is in the archive already: its size was compared.
            Err(error)
                if matches!(
                    error.kind(),
                    SinkErrorKind::PermissionDenied | SinkErrorKind::Archived
                ) =>
            {
                return Ok(false);
            }
            // It is shorter than it was said to be: the hash will tell.
            Err(error) if error.kind() == SinkErrorKind::Invalid => break,
            read => read?,
        }
        at = end;
    }
    if PackId::from_bytes(hash.finalize().into()) == id {
        return Ok(true);
    }
    Err(Error::damaged(format!("{key}: the bytes read back differ from the bytes written"))
        .with_hint("check the disk and choose another place for backups: the storage is faulty"))
}
