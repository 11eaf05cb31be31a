//! Removing what the snapshot does not have.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

use backup_core::source::{EntryPath, SourceResult};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::{Job, target};

/// Removes the entry at `path` with everything in it; without `really` only counts. `false` if
/// another file system is mounted there or below: that is never touched.
pub(super) fn remove(job: &Job, path: &EntryPath, really: bool) -> SourceResult<bool> {
    job.target.forget(path);
    let before = job.tally.removed.load(Relaxed);
    let result = job.target.parent(path).and_then(|parent| {
        let device = fstat(&parent)?.st_dev;
        Removal { job, device, really }.entry(&parent, path.name())
    });
    match result {
        Ok(is_dir) => {
            if !really {
                let inside = job.tally.removed.load(Relaxed).saturating_sub(before + 1);
                job.tally.plan_removal(job.target.show(path), is_dir.then_some(inside));
            }
            Ok(true)
        }
        Err(Errno::XDEV) => Ok(false),
        Err(Errno::CANCELED) => Ok(job.check_cancelled().map(|()| true)?),
        Err(errno) => Err(job.target.error(errno, "remove", path)),
    }
}

struct Removal<'a> {
    job: &'a Job,
    device: u64,
    really: bool,
}

impl Removal<'_> {
    /// Removes one entry; true if it is a directory.
    fn entry(&self, parent: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
        if self.job.cx.cancel.is_cancelled() {
            return Err(Errno::CANCELED);
        }
        self.job.calls.next();
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir {
            if stat.st_dev != self.device {
                return Err(Errno::XDEV);
            }
            self.content(parent, name)?;
        }
        if self.really {
            unlinkat(parent, name, if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() })?;
        }
        self.job.tally.removed.fetch_add(1, Relaxed);
        Ok(is_dir)
    }

    fn content(&self, parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(parent, name, flags, Mode::empty())?;
        let stat = fstat(&dir)?;
        if self.really && stat.st_mode & 0o300 != 0o300 {
            // Its owner may forbid himself to write; if this fails, removing will say why.
            let _tried = fchmod(&dir, Mode::RWXU);
        }
        target::names(&dir)?.iter().try_for_each(|name| self.entry(&dir, name).map(|_| ()))
    }
}
