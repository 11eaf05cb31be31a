//! Where things are kept that can be had again.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// The directory for things that can be had again: `BACKUP_CACHE_DIR`, else `backup` in the user's
/// cache directory. `None` if the user has no place.
#[must_use]
pub fn dir(env: &Environment) -> Option<PathBuf> {
    if let Some(dir) = env.get("BACKUP_CACHE_DIR") {
        return Some(PathBuf::from(dir));
    }
    let user = match (env.get("XDG_CACHE_HOME"), env.get("HOME")) {
        (Some(dir), _) => PathBuf::from(dir),
        (None, Some(home)) => Path::new(home).join(".cache"),
        (None, None) => return None,
    };
    // A relative one would be another one from every directory.
    user.is_absolute().then(|| user.join("backup"))
}

/// Makes the directory if it is not there, for this user only.
///
/// # Errors
/// Those of the file system.
pub fn create(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Opens a file for reading and writing, and creates it and its directory if needed. Returns `true`
/// if the file is now locked, until it is dropped or the process ends; `false` if another process
/// holds the lock.
///
/// # Errors
/// Errors of the file system, also if it does not support locks.
pub(crate) fn lock(path: &Path) -> io::Result<(File, bool)> {
    if let Some(dir) = path.parent() {
        create(dir)?;
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok((file, true)),
        Err(TryLockError::WouldBlock) => Ok((file, false)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn variable_before_cache_directory_before_home() {
        let of = |variables: &[(&str, &str)]| dir(&variables.iter().copied().collect());
        let (own, xdg, home) =
            (("BACKUP_CACHE_DIR", "/c"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h"));
        assert_eq!(of(&[own, xdg, home]), Some("/c".into()));
        assert_eq!(of(&[xdg, home]), Some("/x/backup".into()));
        assert_eq!(of(&[home]), Some("/h/.cache/backup".into()));
        assert_eq!(of(&[("HOME", "h")]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn is_for_its_user_only() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a/b");
        create(&dir).unwrap();
        create(&dir).unwrap();
        assert_eq!(std::fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
