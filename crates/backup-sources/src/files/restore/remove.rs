//! Removing entries that the snapshot lacks. Everything in a directory is judged by itself: a
//! directory goes only if everything in it does.

use std::os::fd::OwnedFd;

use backup_core::event::WarningKind;
use backup_core::source::{EntryPath, SourceResult};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::absent::{Doubt, key};
use super::site::describe;
use super::target::Mount;
use super::{Job, target};

/// Removes the entry at `path` with everything in it, as far as the record of the backup and the
/// request allow; without `really` only counts. `inherited` are doubts about everything in its
/// directory. `false` if it stays, at least in part.
pub(super) fn remove(
    job: &Job,
    path: &EntryPath,
    inherited: Doubt,
    really: bool,
) -> SourceResult<bool> {
    job.target.forget(path);
    let opened = job.target.parent(path).and_then(|parent| {
        let mount = Mount::of(&parent, b"")?;
        Ok((parent, mount))
    });
    match opened {
        Ok((parent, mount)) => Removing { job, mount, really }.entry(&parent, path, inherited),
        Err(errno) => failed(job, path, errno),
    }
}

fn failed(job: &Job, path: &EntryPath, errno: Errno) -> SourceResult<bool> {
    job.fail(path, job.target.error(errno, "remove", path))?;
    Ok(false)
}

/// Entries of other file systems stay.
pub(super) const MOUNTED: &str = "not removed: another file system is mounted there";

struct Removing<'a> {
    job: &'a Job,
    /// The mount of the directory that removing began in: other file systems are left alone.
    mount: Mount,
    really: bool,
}

impl Removing<'_> {
    /// Removes one entry; `false` if it stays.
    fn entry(&self, parent: &OwnedFd, path: &EntryPath, inherited: Doubt) -> SourceResult<bool> {
        let Job { tally, absence, target, .. } = self.job;
        self.job.check_cancelled()?;
        self.job.calls.next();
        let stat = match statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(true),
            Err(errno) => return failed(self.job, path, errno),
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match Mount::of(parent, path.name()) {
            Ok(mount) if mount == self.mount => {}
            Ok(_) => {
                tally.warn(WarningKind::Other, path.to_string(), MOUNTED);
                return Ok(false);
            }
            Err(errno) => return failed(self.job, path, errno),
        }
        let doubt = absence.doubt(path, &stat).and(inherited);
        if !absence.allows(doubt) {
            tally.keep(doubt);
            return Ok(false);
        }
        let shown = target.show(path);
        let before = tally.begin_removal();
        // Planned entries of an unplanned directory go.
        if is_dir && !self.content(parent, path, doubt)? {
            return Ok(false);
        }
        if !absence.is_planned(path, &shown) {
            return Ok(false);
        }
        if self.really {
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            if let Err(errno) = unlinkat(parent, path.name(), flags) {
                return failed(self.job, path, errno);
            }
        }
        if !self.really {
            tally.plan_removal(key(path));
        }
        tally.end_removal(&before, describe(&stat), shown, is_dir, self.really);
        Ok(true)
    }

    /// Removes everything in a directory; `false` if anything stays.
    fn content(&self, parent: &OwnedFd, path: &EntryPath, doubt: Doubt) -> SourceResult<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(parent, path.name(), flags, Mode::empty())
            .and_then(|dir| Ok((fstat(&dir)?.st_mode, target::names(&dir)?, dir)));
        let (mode, mut names, dir) = match opened {
            Ok(opened) => opened,
            Err(errno) => return failed(self.job, path, errno),
        };
        names.sort_unstable();
        let is_opened_up = self.really && mode & 0o300 != 0o300;
        if is_opened_up {
            // Its owner may forbid himself to write; if this fails, removing reports the reason.
            let _tried = fchmod(&dir, Mode::RWXU);
        }
        let doubt = doubt.and(self.job.absence.doubt_of_content(path, &names));
        let mut all = true;
        for name in &names {
            all &= self.entry(&dir, &path.join(name), doubt)?;
        }
        if is_opened_up && !all {
            let _tried = fchmod(&dir, Mode::from_raw_mode(mode & 0o7777));
        }
        Ok(all)
    }
}
