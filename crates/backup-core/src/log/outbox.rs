//! What was captured and is not stored yet: in memory, or in a directory (the spool) that outlives
//! this process.
//!
//! Both are bounded. Whoever captures waits when the outbox is full: the source keeps the rest, as
//! long as it can.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::lane::Lane;
use super::position::Mark;
use super::slice::Slice;
use super::{Position, Tick};
use crate::crypto::MasterKey;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::cpu::panicked;

/// A directory for slices that cannot be stored at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolOptions {
    /// The directory; every stream of every repository has one of its own below it, which one
    /// process uses at a time.
    pub dir: PathBuf,
    /// How many bytes may wait there.
    pub max_bytes: u64,
}

/// A sealed slice on its way.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) end: Position,
    pub(super) last: Option<Tick>,
    state: Option<String>,
    size: u64,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Memory(Bytes),
    File(PathBuf),
}

/// Slices in the order in which they were captured.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
    capacity: u64,
    spool: Option<Spool>,
}

/// The directory of one stream. Nobody else uses it while the lock is open.
#[derive(Debug)]
struct Spool {
    dir: PathBuf,
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: u64,
    next_file: u64,
}

impl Waiting {
    /// A slice as it is to be stored.
    pub(super) fn new(slice: &Slice, pack: Vec<u8>) -> Self {
        Self {
            end: slice.end(),
            last: slice.header.ticks.last().copied(),
            state: slice.header.state.clone(),
            size: pack.len() as u64,
            content: Content::Memory(pack.into()),
        }
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The pack.
    pub(super) async fn pack(&self) -> Result<Bytes> {
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.clone()),
            Content::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || {
                    std::fs::read(&path).map_err(|error| broken(&path, error))
                });
                Ok(read.await.map_err(panicked)??.into())
            }
        }
    }
}

impl Outbox {
    /// An outbox of so many bytes in memory or, if there is a spool, in there. What an earlier
    /// process has left there comes first.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if another process uses the spool.
    pub(super) async fn open(
        lane: &Lane,
        memory: u64,
        spool: Option<&SpoolOptions>,
    ) -> Result<Self> {
        let Some(spool) = spool else {
            return Ok(Self {
                state: Mutex::default(),
                changed: Notify::new(),
                capacity: memory,
                spool: None,
            });
        };
        let repository = lane.repository();
        let (dir, key) =
            (spool.dir.join(&repository.config().id).join(lane.stream()), repository.key().clone());
        let open = move || {
            let lock = lock(&dir)?;
            let state = State::from_dir(&dir, &key)?;
            Ok::<_, Error>((state, Spool { dir, _lock: lock }))
        };
        let (state, dir) = tokio::task::spawn_blocking(open).await.map_err(panicked)??;
        Ok(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            capacity: spool.max_bytes,
            spool: Some(dir),
        })
    }

    /// Whether what is put here outlives this process.
    pub(super) fn is_durable(&self) -> bool {
        self.spool.is_some()
    }

    /// Puts a slice at the end; waits for room. Durable when this returns, if the outbox is.
    pub(super) async fn put(&self, waiting: Waiting) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            if self.has_room(waiting.size) {
                break;
            }
            changed.await;
        }
        let stored = match &self.spool {
            None => waiting,
            Some(Spool { dir, .. }) => {
                let path = dir.join(format!("{:016x}", self.lock().take_number()));
                let pack = waiting.pack().await?;
                let writing = path.clone();
                let write = move || write(&writing, &pack).map_err(|error| broken(&writing, error));
                tokio::task::spawn_blocking(write).await.map_err(panicked)??;
                Waiting { content: Content::File(path), ..waiting }
            }
        };
        let mut state = self.lock();
        state.bytes += stored.size;
        state.waiting.push_back(stored);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// The oldest slice; waits until there is one. It stays until [`Self::remove_first`].
    pub(super) async fn first(&self) -> Waiting {
        loop {
            let changed = self.changed.notified();
            if let Some(first) = self.lock().waiting.front() {
                return first.clone();
            }
            changed.await;
        }
    }

    /// The oldest slice is stored.
    pub(super) async fn remove_first(&self) -> Result<()> {
        let removed = self.lock().waiting.pop_front();
        if let Some(removed) = removed {
            self.lock().bytes -= removed.size;
            if let Content::File(path) = removed.content {
                let remove =
                    move || std::fs::remove_file(&path).map_err(|error| broken(&path, error));
                tokio::task::spawn_blocking(remove).await.map_err(panicked)??;
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Returns `true` if the outbox holds no slice.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Returns when nothing waits any more.
    pub(super) async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            if self.lock().waiting.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Where the last slice ends.
    pub(super) fn end(&self) -> Option<Mark> {
        self.lock()
            .waiting
            .back()
            .map(|waiting| Mark { at: waiting.end.clone(), state: waiting.state.clone() })
    }

    /// A slice of any size fits into an outbox that is empty.
    pub(super) fn has_room(&self, size: u64) -> bool {
        let state = self.lock();
        state.waiting.is_empty() || state.bytes + size <= self.capacity
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_number(&mut self) -> u64 {
        let number = self.next_file;
        self.next_file += 1;
        number
    }

    /// Files that were being written when a process died were not acknowledged: they are removed.
    fn from_dir(dir: &Path, key: &MasterKey) -> Result<Self> {
        let failed = |error| broken(dir, error);
        let mut files: Vec<(u64, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some(name) if is_part(name) => {
                    std::fs::remove_file(&path).map_err(failed)?;
                }
                Some(name) => files.extend(
                    u64::from_str_radix(name, 16).ok().map(|number| (number, path.clone())),
                ),
                None => {}
            }
        }
        files.sort_unstable();
        let mut state =
            Self { next_file: files.last().map_or(0, |(number, _)| number + 1), ..Self::default() };
        for (_, path) in files {
            let pack = std::fs::read(&path).map_err(|error| broken(&path, error))?;
            let slice = Slice::open(&pack, key).map_err(|error| {
                let is_damage = error.is_damage();
                let error = error.context(path.display());
                if !is_damage {
                    return error;
                }
                error.with_hint(
                    "move the file out of the spool: it is a damaged slice that waits to be stored",
                )
            })?;
            let size = pack.len() as u64;
            state.bytes += size;
            state
                .waiting
                .push_back(Waiting { content: Content::File(path), ..Waiting::new(&slice, pack) });
        }
        Ok(state)
    }
}

/// True for the unfinished file of a slice, as [`write`] names it. Others are never removed.
fn is_part(name: &str) -> bool {
    name.strip_suffix(".part").is_some_and(|number| {
        number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Makes the directory, and takes it for this process.
fn lock(dir: &Path) -> Result<File> {
    let failed = |error| broken(dir, error);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let file = File::options().create(true).append(true).open(dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Busy,
            format!("another process uses the spool {}", dir.display()),
        )
        .with_hint("run only one process for each log: the other one captures the same log")),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Writes a file that is there whole and for good, or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create_new(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn broken(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ErrorKind::StorageFull
        }
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("cannot use the spool path {}", path.display())).with_source(error)
}
