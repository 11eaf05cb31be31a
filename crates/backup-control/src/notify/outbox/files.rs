//! The files of the outbox.
//!
//! ```text
//!  outbox/KEY.json          waits; KEY is a digest of the channel and the message's identifier
//!  outbox/sent/KEY          was sent; empty, its time is when
//!  outbox/failed/KEY.json   was given up
//!  outbox/lock              held for a moment by whoever changes what is there
//!  outbox/locks/…           held by whoever delivers through a channel
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::entry::Entry;
use crate::notify::message::digest;
use crate::{cache, state};

/// For so long, and so many, messages are remembered that were sent.
const MEMORY: Duration = Duration::from_secs(30 * 86_400);
const MAX_SENT: usize = 10_000;
/// So many are kept that were given up: the newest.
const MAX_FAILED: usize = 1000;

/// Nobody changes it for longer than moments.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const LOCK_TRIES: u32 = 1000;
/// Files that are not finished by now never will be.
const LEFTOVER: Duration = Duration::from_secs(86_400);

/// The directories.
#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
}

/// What is in a directory of entries.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) entries: Vec<Entry>,
    /// Files that are no entries.
    pub(super) unreadable: Vec<PathBuf>,
    /// Files of a newer version of this program, and the reason in words.
    pub(super) newer: Vec<(PathBuf, String)>,
}

impl Files {
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let files = Self { dir: state_dir.join("outbox") };
        for dir in
            [files.dir.clone(), files.sent_dir(), files.failed_dir(), files.dir.join("locks")]
        {
            cache::create(&dir)?;
        }
        Ok(files)
    }

    fn sent_dir(&self) -> PathBuf {
        self.dir.join("sent")
    }

    pub(super) fn failed_dir(&self) -> PathBuf {
        self.dir.join("failed")
    }

    fn waiting(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.json"))
    }

    fn failed(&self, key: &str) -> PathBuf {
        self.failed_dir().join(format!("{key}.json"))
    }

    pub(super) fn is_sent(&self, key: &str) -> bool {
        self.sent_dir().join(key).exists()
    }

    /// Whether a message waits, was sent or was given up.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.is_sent(key) || self.waiting(key).exists() || self.failed(key).exists()
    }

    /// Keeps everybody else from changing what is there, until it is dropped.
    pub(super) fn lock(&self) -> io::Result<File> {
        let file = lock_file(&self.dir.join("lock"))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds the lock"))
    }

    /// The right to deliver through a channel, unless somebody has it.
    pub(super) fn try_lock(&self, channel: &str) -> io::Result<Option<File>> {
        let file = lock_file(&self.dir.join("locks").join(digest(&[channel])))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What waits.
    pub(super) fn list_waiting(&self) -> io::Result<Listed> {
        list(&self.dir)
    }

    /// What was given up.
    pub(super) fn list_failed(&self) -> io::Result<Listed> {
        let mut listed = list(&self.failed_dir())?;
        // Messages that were given up are not sent by another program either.
        listed.unreadable.extend(listed.newer.drain(..).map(|(path, _)| path));
        listed.unreadable.sort();
        Ok(listed)
    }

    /// Writes an entry that waits, also in the place of an earlier state of it.
    pub(super) fn write(&self, entry: &Entry) -> io::Result<()> {
        write(&self.waiting(&entry.key()), &serde_json::to_vec(entry).map_err(io::Error::other)?)
    }

    /// It was sent. Dying between the two steps does no harm: who finds both takes the second.
    pub(super) fn record_sent(&self, key: &str, now: Timestamp) -> io::Result<()> {
        let path = self.sent_dir().join(key);
        write(&path, b"")?;
        File::options().write(true).open(&path)?.set_modified(SystemTime::from(now))?;
        // Who let it wait again may have died before it was removed there.
        self.remove_failed(key)?;
        self.remove_waiting(key)
    }

    pub(super) fn remove_waiting(&self, key: &str) -> io::Result<()> {
        remove(&self.waiting(key))
    }

    /// It is given up.
    pub(super) fn record_failed(&self, entry: &Entry) -> io::Result<()> {
        let key = entry.key();
        write(&self.failed(&key), &serde_json::to_vec(entry).map_err(io::Error::other)?)?;
        self.remove_waiting(&key)?;
        keep_newest(&self.failed_dir(), MAX_FAILED, None)
    }

    /// What was given up waits again.
    pub(super) fn renew(&self, entry: Entry) -> io::Result<()> {
        let key = entry.key();
        self.write(&entry.renewed())?;
        remove(&self.failed(&key))
    }

    pub(super) fn remove_failed(&self, key: &str) -> io::Result<()> {
        remove(&self.failed(key))
    }

    /// Puts a file aside that is no entry.
    pub(super) fn put_aside(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        fs::rename(path, self.failed_dir().join(name))
    }

    /// Forgets what was sent long ago, and removes what dead processes have left.
    pub(super) fn tidy(&self, now: Timestamp) -> io::Result<()> {
        let now = SystemTime::from(now);
        keep_newest(&self.sent_dir(), MAX_SENT, now.checked_sub(MEMORY))?;
        for dir in [&self.dir, &self.failed_dir()] {
            for found in fs::read_dir(dir)? {
                let path = found?.path();
                let is_part = path.extension().is_some_and(|extension| extension == "part");
                let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
                if is_part
                    && modified
                        .is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age > LEFTOVER))
                {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn list(dir: &Path) -> io::Result<Listed> {
    let mut listed = Listed::default();
    for found in fs::read_dir(dir)? {
        let path = found?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            // Somebody else has just sent it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if let Err(error) = state::require_known(&bytes) {
            listed.newer.push((path, error.to_string()));
            continue;
        }
        match serde_json::from_slice::<Entry>(&bytes) {
            Ok(entry) => listed.entries.push(entry),
            Err(_) => listed.unreadable.push(path),
        }
    }
    // Those that fail again and again must not keep others from their turn.
    listed.entries.sort_by_cached_key(|entry| (entry.tries, entry.message.time, entry.key()));
    listed.unreadable.sort();
    listed.newer.sort();
    Ok(listed)
}

/// Writes a file that is there whole and for good, or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension(format!("{:016x}.part", rand::random::<u64>()));
    let written = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    written().inspect_err(|_| _ = fs::remove_file(&part))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes all but the newest files, and those that are older than `since`.
fn keep_newest(dir: &Path, most: usize, since: Option<SystemTime>) -> io::Result<()> {
    let mut files = Vec::new();
    for found in fs::read_dir(dir)? {
        let found = found?;
        // Somebody else may remove the same.
        let Ok(modified) = found.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        files.push((modified, found.path()));
    }
    files.sort_unstable();
    let surplus = files.len().saturating_sub(most);
    for (at, (modified, path)) in files.iter().enumerate() {
        if at < surplus || since.is_some_and(|since| *modified < since) {
            remove(path)?;
        }
    }
    Ok(())
}
