//! A bounded number of threads for hashing, compression and encryption, beside the async threads
//! that wait for I/O.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Most computations at a time, on however many cores.
const MAX_THREADS: usize = 32;

/// At most so many computations run at a time; who wants another one waits. That is the
/// back-pressure of every pipeline.
#[derive(Debug, Clone)]
pub(crate) struct CpuPool {
    permits: Arc<Semaphore>,
    threads: usize,
}

impl CpuPool {
    pub(crate) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        Self { permits: Arc::new(Semaphore::new(threads)), threads }
    }

    /// One thread per core that this process may use. The threads are tokio's blocking ones; their
    /// number must exceed this one by the readers of a backup and a few for I/O, so there is a
    /// limit.
    pub(crate) fn with_all_cores() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS))
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` on a worker thread and waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.permit().await?;
        Self::spawn(permit, work).await.map_err(panicked)?
    }

    /// Waits for a free place.
    pub(crate) async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Error::cancelled())
    }

    /// Waits for a free place on a thread that may block.
    pub(crate) fn permit_blocking(&self, handle: &Handle) -> Result<OwnedSemaphorePermit> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) => handle.block_on(self.permit()),
        }
    }

    /// Starts `work` in the place that `permit` stands for.
    pub(crate) fn spawn<T: Send + 'static>(
        permit: OwnedSemaphorePermit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        })
    }
}

/// A worker that panicked is a bug; the run must fail, not hang or succeed.
pub(crate) fn panicked(error: tokio::task::JoinError) -> Error {
    Error::internal("a worker thread failed").with_source(error)
}
