//! The file of the alert state: read and written under a lock.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backup_core::format::NEWER_HINT;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sizes::Sizes;
use super::{Alert, Silence};
use crate::{cache, state};

/// How long to wait for the lock of another process.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two attempts to take the lock.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// An error of the alert state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file or its directory cannot be used.
    #[error("cannot use {}", .0.display())]
    Place(PathBuf, #[source] io::Error),
    /// Another process holds it for too long.
    #[error("another process does not release the lock on {}", .0.display())]
    Busy(PathBuf),
}

impl Error {
    /// The remedy, if there is one for users.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let Self::Place(_, error) = self else { return None };
        (error.kind() == io::ErrorKind::Unsupported).then_some(NEWER_HINT)
    }
}

/// First and last evaluation of rules.
pub(super) type Evaluations = (Timestamp, Timestamp);

/// The content of the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Stored {
    pub(super) alerts: Vec<Alert>,
    pub(super) silences: Vec<Silence>,
    /// Earlier evaluations of jobs, by address of the repository and by job.
    pub(super) jobs: BTreeMap<String, BTreeMap<String, JobMemory>>,
    /// Evaluations of rules about events, by rule and by address of the repository; the empty
    /// address stands for repositories outside of the configuration.
    pub(super) events: BTreeMap<String, BTreeMap<String, Evaluations>>,
    /// Earlier form, which is taken over: evaluations of events by configuration file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) looks: BTreeMap<String, Evaluations>,
    /// Earlier form, which is taken over: idle replication slots by configuration file and job.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) unread: BTreeMap<String, BTreeMap<String, Timestamp>>,
}

/// What earlier evaluations of a job found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct JobMemory {
    /// First evaluation of rules about the job.
    pub(super) watched: Timestamp,
    /// Last evaluation.
    pub(super) seen: Timestamp,
    /// First evaluation that found its replication slot idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unread: Option<Timestamp>,
    /// Accepted sizes, by rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) sizes: BTreeMap<String, Sizes>,
}

impl JobMemory {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { watched: now, seen: now, unread: None, sizes: BTreeMap::new() }
    }
}

/// The file, while this process holds its lock.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    lock: Option<File>,
    /// Where an unreadable file was moved to.
    pub(super) put_aside: Option<PathBuf>,
}

impl Store {
    /// Opens the file in the state directory `dir`, which is created if it does not exist, and
    /// waits for the lock. An unreadable file is moved aside, one of a newer program is refused.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) fn open(dir: &Path) -> Result<(Self, Stored), Error> {
        let path = dir.join("alerts.json");
        let failed = |error| Error::Place(path.clone(), error);
        cache::create(dir).map_err(failed)?;
        let lock = lock(&dir.join("alerts.lock"), &path)?;
        let read = std::fs::read(&path);
        if let Ok(json) = &read {
            // It is not damaged: it stays for the program that wrote it.
            state::require_known(json).map_err(failed)?;
        }
        let (stored, put_aside) = match read.map(|json| serde_json::from_slice(&json)) {
            Ok(Ok(stored)) => (stored, None),
            Ok(Err(_)) => {
                let aside = dir.join("alerts.damaged.json");
                std::fs::rename(&path, &aside).map_err(failed)?;
                (Stored::default(), Some(aside))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Stored::default(), None),
            Err(error) => return Err(failed(error)),
        };
        Ok((Self { path, lock: Some(lock), put_aside }, stored))
    }

    /// Releases the lock; nothing can be written any more.
    pub(super) fn release(&mut self) {
        self.lock = None;
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// [`Error::Place`]
    pub(super) fn write(&self, stored: &Stored) -> Result<(), Error> {
        let failed = |error| Error::Place(self.path.clone(), error);
        let json = serde_json::to_vec_pretty(stored).map_err(|error| failed(error.into()))?;
        let new = self.path.with_extension("new");
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let mut file = file.map_err(failed)?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&new, &self.path).map_err(failed)
    }
}

fn lock(path: &Path, state: &Path) -> Result<File, Error> {
    let failed = |error| Error::Place(state.to_path_buf(), error);
    let lock = File::options().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    let since = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if since.elapsed() > LOCK_TIMEOUT => {
                return Err(Error::Busy(state.to_path_buf()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
        }
    }
}
