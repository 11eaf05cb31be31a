//! The directory that everything of a scratch server lies in. Whoever made it holds a lock on a
//! file in it, which ends with the process: one whose lock can be had was left by somebody who was
//! killed, and is removed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::path::{Path, PathBuf};

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use rustix::fs::{FlockOperation, flock};

use super::server;

/// How such a directory is called.
const NAME: &str = "backup-scratch-";
/// The file that is locked.
const LOCK: &str = "lock";
/// Others may remove a directory that is not locked yet.
const TRIES: u32 = 10;

#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
    is_gone: bool,
}

fn failed(path: &Path, error: std::io::Error) -> SourceError {
    let text = format!("cannot use the scratch directory {}", path.display());
    SourceError::new(SourceErrorKind::Target, text)
        .with_source(error)
        .with_hint("name a directory that you may write to with --scratch")
}

impl Room {
    /// Makes one below `parent`. If a server is to run as another user, that one may go through it.
    pub(super) fn make(parent: &Path, owner: Option<(u32, u32)>) -> SourceResult<Self> {
        let parent = fs::canonicalize(parent).map_err(|error| failed(parent, error))?;
        let mode = if owner.is_some() { 0o711 } else { 0o700 };
        for _ in 0..TRIES {
            let made = tempfile::Builder::new().prefix(NAME).tempdir_in(&parent);
            let path = made.map_err(|error| failed(&parent, error))?.keep();
            let Some(lock) = locked(&path, true).map_err(|error| failed(&path, error))? else {
                continue;
            };
            let room = Self { path, _lock: lock, is_gone: false };
            // The mask of the process may have taken some of it away.
            fs::set_permissions(&room.path, Permissions::from_mode(mode))
                .map_err(|error| failed(&room.path, error))?;
            return Ok(room);
        }
        Err(SourceError::new(
            SourceErrorKind::Target,
            format!("cannot create a scratch directory in {}", parent.display()),
        ))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it that nobody but the server's user may enter.
    pub(super) fn directory(&self, path: &Path, owner: Option<(u32, u32)>) -> SourceResult<()> {
        DirBuilder::new().mode(0o700).create(path).map_err(|error| failed(path, error))?;
        match owner {
            Some((user, group)) => {
                chown(path, Some(user), Some(group)).map_err(|error| failed(path, error))
            }
            None => Ok(()),
        }
    }

    /// Removes a directory in it, if it is there.
    pub(super) async fn remove(&self, name: &str) -> SourceResult<()> {
        remove(self.path.join(name)).await
    }

    /// Removes it with all that is in it.
    pub(super) async fn close(mut self) -> SourceResult<()> {
        self.is_gone = true;
        remove(self.path.clone()).await
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.is_gone {
            // Nobody can be told; whoever makes the next one tries again.
            _ = fs::remove_dir_all(&self.path);
        }
    }
}

async fn remove(path: PathBuf) -> SourceResult<()> {
    let shown = path.display().to_string();
    let done = tokio::task::spawn_blocking(move || fs::remove_dir_all(path))
        .await
        .map_err(std::io::Error::other);
    match done.and_then(|done| done) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let text = format!("cannot remove the scratch copy in {shown}");
            Err(SourceError::new(SourceErrorKind::Target, text)
                .with_source(error)
                .with_hint("remove the scratch copy by hand"))
        }
        _ => Ok(()),
    }
}

/// The lock of a room, unless somebody has it, or has removed the room meanwhile.
fn locked(room: &Path, make: bool) -> std::io::Result<Option<File>> {
    let path = room.join(LOCK);
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .create(make)
        .truncate(false)
        .mode(0o600)
        .open(&path)
    {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Ok(None),
        locked => locked?,
    }
    let same = fs::metadata(&path)
        .is_ok_and(|there| file.metadata().is_ok_and(|own| own.ino() == there.ino()));
    Ok(same.then_some(file))
}

/// Ends and removes what others have left who were killed.
pub(super) async fn remove_left(parent: &Path) {
    let parent = parent.to_path_buf();
    // What cannot be removed is in nobody's way.
    _ = tokio::task::spawn_blocking(move || {
        let ours = rustix::process::geteuid().as_raw();
        for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
            let is_one = entry.file_name().to_string_lossy().starts_with(NAME);
            let about = entry.path().symlink_metadata();
            // Anybody may make one of that name where all may write: then it is not ours to look
            // into.
            if !is_one || !about.is_ok_and(|about| about.is_dir() && about.uid() == ours) {
                continue;
            }
            match locked(&entry.path(), false) {
                Ok(Some(_lock)) => {
                    server::halt(&entry.path().join("data"));
                    _ = fs::remove_dir_all(entry.path());
                }
                // Somebody was killed before there was a lock: only an empty one is removed.
                _ => _ = fs::remove_dir(entry.path()),
            }
        }
    })
    .await;
}

/// Bytes that may be written where a directory is.
pub(super) fn free(directory: &Path) -> SourceResult<u64> {
    let about = rustix::fs::statvfs(directory).map_err(|error| failed(directory, error.into()))?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_left_is_removed_and_what_is_used_stays() {
        let parent = tempfile::tempdir().unwrap();
        let used = Room::make(parent.path(), None).unwrap();
        let left = parent.path().join(format!("{NAME}1-0"));
        fs::create_dir_all(left.join("data/base")).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let begun = parent.path().join(format!("{NAME}2-0"));
        fs::create_dir(&begun).unwrap();
        let foreign = parent.path().join(format!("{NAME}3-0"));
        fs::create_dir_all(foreign.join("something")).unwrap();
        remove_left(parent.path()).await;
        assert!(used.path().exists() && foreign.exists() && !left.exists() && !begun.exists());
        let path = used.path().to_path_buf();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        drop(used);
        assert!(!path.exists());
        let room = Room::make(parent.path(), None).unwrap();
        let path = room.path().to_path_buf();
        room.close().await.unwrap();
        assert!(!path.exists());
        assert!(free(parent.path()).unwrap() > 0);
    }
}
