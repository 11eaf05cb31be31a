//! The target: every path below it is reached from its open directory, one name after the other,
//! and no link among them is followed, except for links above the given paths of a restore in place.
//! Whatever a snapshot holds or the target has become, nothing outside is touched.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backup_core::source::{EntryPath, SourceError, SourceErrorKind, SourceResult};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, fstat, openat, statat, statx, syncfs,
};
use rustix::io::Errno;

/// Directories that are kept open.
const OPEN_DIRS: usize = 128;

/// How directories are opened: only as a place to start from, never through a link.
const STEP: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A mounted file system. Of a part of a file system that is mounted a second time (a bind mount), only
/// the mount differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mount {
    device: (u32, u32),
    /// Number of the mount; 0 where the kernel has none (before Linux 5.8).
    id: u64,
}

impl Mount {
    /// The mount of the entry `name` in a directory; of the directory itself, if it is empty.
    pub(super) fn of(dir: &OwnedFd, name: &[u8]) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = statx(dir, name, flags, wanted)?;
        let has_id = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        let id = if has_id { stat.stx_mnt_id } else { 0 };
        Ok(Self { device: (stat.stx_dev_major, stat.stx_dev_minor), id })
    }
}

/// An open target directory.
#[derive(Debug)]
pub(super) struct Target {
    root: Arc<OwnedFd>,
    shown: PathBuf,
    dirs: Mutex<HashMap<EntryPath, Arc<OwnedFd>>>,
    /// Links above these paths are followed, as the backup followed them.
    roots: Vec<EntryPath>,
}

impl Target {
    /// Opens `dir`, or the root of the file system. Says whether there is nothing in it. If it does
    /// not exist, it is created, or, with `dry_run`, stands for an empty one that nobody may look
    /// into.
    pub(super) fn open(dir: Option<&str>, dry_run: bool) -> SourceResult<(Self, bool)> {
        let Some(dir) = dir else {
            return Ok((Self::at(Path::new("/"))?, false));
        };
        let path = std::path::absolute(dir).map_err(|error| refused(Path::new(dir), error))?;
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                let target = Self::at(&path)?;
                let empty = target.is_empty().map_err(|errno| refused(&path, errno.into()))?;
                Ok((target, empty))
            }
            Ok(_) => Err(SourceError::new(
                SourceErrorKind::Target,
                format!("the target {} is not a directory", path.display()),
            )
            .with_hint("name a directory; it is created if it does not exist")),
            Err(error) if error.kind() == io::ErrorKind::NotFound && dry_run => {
                Ok((Self::at(Path::new("/"))?, true))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let created = DirBuilder::new().recursive(true).mode(0o700).create(&path);
                created.map_err(|error| refused(&path, error))?;
                Ok((Self::at(&path)?, true))
            }
            Err(error) => Err(refused(&path, error)),
        }
    }

    fn at(path: &Path) -> SourceResult<Self> {
        // The way to the target is the user's choice: links in it are followed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            openat(CWD, path, flags, Mode::empty()).map_err(|errno| refused(path, errno.into()))?;
        Ok(Self {
            root: Arc::new(root),
            shown: path.to_path_buf(),
            dirs: Mutex::default(),
            roots: Vec::new(),
        })
    }

    fn is_empty(&self) -> Result<bool, Errno> {
        Ok(names(&self.root)?.is_empty())
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<EntryPath, Arc<OwnedFd>>> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows links above `roots`, the paths that a snapshot restored in place was made of, if the
    /// owner of the link may be trusted: root, this user, or the owner of the directory.
    pub(super) fn follow_links_above(&mut self, roots: &[EntryPath]) {
        self.roots = roots.to_vec();
    }

    /// Opens the directory `path` in `parent`.
    fn step(&self, parent: &OwnedFd, path: &EntryPath) -> Result<OwnedFd, Errno> {
        let is_above = || self.roots.iter().any(|root| root != path && root.starts_with(path));
        match openat(parent, path.name(), STEP, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) if is_above() => follow(parent, path.name()),
            opened => opened,
        }
    }

    /// The directory `path` of the target. `ENOTDIR` if anything but a directory is on the way,
    /// links included, except for links above the given paths.
    pub(super) fn dir(&self, path: &EntryPath) -> Result<Arc<OwnedFd>, Errno> {
        let mut missing = Vec::new();
        let mut at = path.clone();
        let mut fd = loop {
            if let Some(fd) = self.cache().get(&at) {
                break Arc::clone(fd);
            }
            let Some(parent) = at.parent() else {
                break Arc::clone(&self.root);
            };
            missing.push(std::mem::replace(&mut at, parent));
        };
        for path in missing.into_iter().rev() {
            fd = Arc::new(self.step(&fd, &path)?);
            let mut cache = self.cache();
            if cache.len() >= OPEN_DIRS {
                cache.clear();
            }
            cache.insert(path, Arc::clone(&fd));
        }
        Ok(fd)
    }

    /// The directory that holds `path`.
    pub(super) fn parent(&self, path: &EntryPath) -> Result<Arc<OwnedFd>, Errno> {
        self.dir(&path.parent().unwrap_or_else(EntryPath::root))
    }

    /// Forgets open directories at and below `path`, which is going to be removed.
    pub(super) fn forget(&self, path: &EntryPath) {
        self.cache().retain(|dir, _| !dir.starts_with(path));
    }

    /// Makes what was written durable, as far as it lies on the target's own file system; reports
    /// errors of the disk that writing did not.
    pub(super) fn sync(&self) -> SourceResult<()> {
        syncfs(&self.root).map_err(|errno| self.error(errno, "write", &EntryPath::root()))
    }

    /// Where `path` is on this machine, for messages.
    pub(super) fn show(&self, path: &EntryPath) -> String {
        let relative = path.display();
        format!("{}{relative}", self.shown.display().to_string().trim_end_matches('/'))
    }

    /// The error of a failed operation on `path`.
    pub(super) fn error(&self, errno: Errno, doing: &str, path: &EntryPath) -> SourceError {
        let shown = self.show(path);
        let new = |message: String| SourceError::new(SourceErrorKind::Target, message);
        match errno {
            Errno::NOSPC | Errno::DQUOT => new(format!(
                "no space left at the target while writing \
                 {shown}"
            ))
            .with_hint(
                "free some space and run the restore again with --if-exists merge, which keeps \
                 complete files",
            ),
            Errno::ROFS => new(format!("cannot {doing} {shown}: the target is read-only"))
                .with_hint("choose another target with --target"),
            Errno::ACCESS | Errno::PERM => new(format!("cannot {doing} {shown}")).with_hint(
                "run as a user who may write to the target, or choose another target with --target",
            ),
            Errno::NOTDIR | Errno::LOOP => new(format!(
                "cannot {doing} {shown}: a component of its path is a symbolic link or a file"
            ))
            .with_hint(
                "restore to a new directory with --target: nothing is written through links",
            ),
            _ => new(format!("cannot {doing} {shown}")),
        }
        .with_source(io::Error::from(errno))
    }
}

/// Opens the directory that the link `name` leads to.
fn follow(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let link = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(link.st_mode) != FileType::Symlink {
        return Err(Errno::NOTDIR);
    }
    let flags = STEP.difference(OFlags::NOFOLLOW);
    let dir = openat(parent, name, flags, Mode::empty())?;
    // Somebody else's link could lead a restore by root anywhere.
    let trusted = [0, rustix::process::geteuid().as_raw(), fstat(&dir)?.st_uid];
    if trusted.contains(&link.st_uid) { Ok(dir) } else { Err(Errno::LOOP) }
}

/// The names in the open directory `fd`.
pub(super) fn names(fd: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

fn refused(path: &Path, error: io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Target, format!("cannot use the target {}", path.display()))
        .with_source(error)
        .with_hint(
            "choose another target with --target, or run as a user who may write to this one",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn links_are_never_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("d")).unwrap();
        let inside = tempfile::tempdir().unwrap();
        std::fs::create_dir(inside.path().join("real")).unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("link")).unwrap();
        std::os::unix::fs::symlink("real", inside.path().join("near")).unwrap();
        let (target, empty) = Target::open(inside.path().to_str(), false).unwrap();
        assert!(!empty);
        assert!(target.dir(&path("/real")).is_ok());
        for bad in ["/link", "/link/d", "/near"] {
            assert_eq!(target.dir(&path(bad)).unwrap_err(), Errno::NOTDIR, "{bad}");
        }
    }

    #[test]
    fn more_directories_than_are_kept_open() {
        let inside = tempfile::tempdir().unwrap();
        let (target, empty) = Target::open(inside.path().to_str(), false).unwrap();
        assert!(empty);
        for round in 0..2 {
            for index in 0..OPEN_DIRS * 2 {
                let name = format!("d{index}");
                if round == 0 {
                    std::fs::create_dir_all(inside.path().join(&name).join("x")).unwrap();
                }
                target.dir(&path(&format!("/{name}/x"))).unwrap();
            }
        }
        assert!(target.cache().len() <= OPEN_DIRS);
    }

    #[test]
    fn a_missing_target_is_created_unless_trying_out() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        Target::open(new.to_str(), true).unwrap();
        assert!(!new.exists());
        Target::open(new.to_str(), false).unwrap();
        assert!(new.is_dir());
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let error = Target::open(dir.path().join("file").to_str(), false).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Target);
    }
}
