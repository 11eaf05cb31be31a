//! The directory that holds everything, and the directories below it: made on demand, durable
//! before they are used.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Where objects are written before they get their name. Stock restic tolerates unknown directories
/// beside its own.
pub(super) const TEMP_DIR: &str = "x-tmp";

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The opened root directory. Everything below is addressed relative to its descriptor.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) fd: OwnedFd,
    /// The path as the user gave it, made absolute; for messages.
    pub(super) name: String,
    pub(super) fsync: bool,
    /// Whether leftovers of dead processes have been looked for.
    pub(super) swept: AtomicBool,
    dirs: Mutex<Dirs>,
}

/// Directories that exist and survive a loss of power, so that no put has to ask again.
#[derive(Debug, Default)]
struct Dirs {
    known: HashSet<Box<str>>,
    /// Directories whose sub-directories have been taken into `known`.
    listed: HashSet<Box<str>>,
}

/// The directory part of a key; empty for the root.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The root itself has an empty path, which the system does not know.
pub(super) fn or_dot(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

/// Syncs a directory: what was made or renamed in it survives a loss of power.
pub(super) fn sync(dir: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::fsync(dir) {
        // Some file systems cannot sync directories and say so; there is nothing more to be done
        // there.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno),
    }
}

impl Root {
    pub(super) fn open(path: &std::path::Path, name: String) -> Result<Self, Errno> {
        Ok(Self {
            fd: rustix::fs::openat(CWD, path, DIR_FLAGS, Mode::empty())?,
            name,
            fsync: true,
            swept: AtomicBool::new(false),
            dirs: Mutex::default(),
        })
    }

    pub(super) fn open_dir(&self, dir: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.fd, or_dot(dir), DIR_FLAGS, Mode::empty())
    }

    pub(super) fn sync_dir(&self, dir: &str) -> io::Result<()> {
        if self.fsync {
            if dir.is_empty() {
                sync(&self.fd)?;
            } else {
                sync(&self.open_dir(dir)?)?;
            }
        }
        Ok(())
    }

    /// Makes sure that `dir` exists and survives a loss of power.
    ///
    /// A directory that is there already may have been made by another process this very moment,
    /// and its parent may not be synced yet. So whatever is used for the first time has its parent
    /// synced; all sub-directories that a parent has by then count as used, which makes it one sync
    /// for the 256 directories below `data`.
    pub(super) fn ensure_dir(&self, dir: &str) -> io::Result<()> {
        if dir.is_empty() || self.dirs().known.contains(dir) {
            return Ok(());
        }
        let parent = parent(dir);
        self.ensure_dir(parent)?;
        let siblings =
            if self.dirs().listed.contains(parent) { Vec::new() } else { self.sub_dirs(parent)? };
        match rustix::fs::mkdirat(&self.fd, dir, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.sync_dir(parent)?;
        let mut dirs = self.dirs();
        dirs.known.extend(siblings);
        dirs.known.insert(dir.into());
        dirs.listed.insert(parent.into());
        Ok(())
    }

    /// Somebody has removed a directory that was known.
    pub(super) fn forget_dirs(&self) {
        *self.dirs() = Dirs::default();
    }

    fn sub_dirs(&self, dir: &str) -> io::Result<Vec<Box<str>>> {
        let mut found = Vec::new();
        for entry in Dir::new(self.open_dir(dir)?)? {
            let entry = entry?;
            if entry.file_type() != FileType::Directory {
                continue;
            }
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) if dir.is_empty() => found.push(name.into()),
                Ok(name) => found.push(format!("{dir}/{name}").into()),
            }
        }
        Ok(found)
    }

    fn dirs(&self) -> MutexGuard<'_, Dirs> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_once_and_known_afterwards() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("data/00")).unwrap();
        let root = Root::open(place.path(), String::new()).unwrap();
        root.ensure_dir("data/01").unwrap();
        assert!(place.path().join("data/01").is_dir());
        for known in ["data", "data/00", "data/01"] {
            assert!(root.dirs().known.contains(known), "{known}");
        }
        assert!(!root.dirs().known.contains("data/."));
    }
}
