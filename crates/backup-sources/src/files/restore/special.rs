//! Everything that has no content of its own: symbolic links, devices, pipes, sockets, and further
//! names of files.

use std::fs::File;
use std::os::fd::OwnedFd;

use backup_core::source::{EntryPath, Metadata, NodeKind, SourceResult};
use rustix::fs::{
    AtFlags, FileType, Mode as Permissions, OFlags, Stat, linkat, mknodat, openat, readlinkat,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::Job;
use super::metadata::{self, Report};
use super::site::{Mode, describe};
use super::tally::Part;
use crate::files::watch::Calls;

/// Restores an entry that is neither a file nor a directory; `found` is what may be there already.
pub(super) fn restore(
    job: &Job,
    mode: Mode,
    path: &EntryPath,
    want: &Metadata,
    found: Option<&Stat>,
) -> SourceResult<()> {
    if mode == Mode::DryRun
        && let Some(stat) = found
    {
        let failed = |errno| job.target.error(errno, "stat", path);
        let parent = job.target.parent(path).map_err(failed)?;
        if !is_same(&parent, path.name(), stat, &want.kind) {
            job.tally.plan_change(describe(stat), job.target.show(path));
        }
    }
    if mode == Mode::Write {
        let failed = |errno| job.target.error(errno, "create", path);
        let parent = job.target.parent(path).map_err(failed)?;
        let kept = found.is_some_and(|stat| is_same(&parent, path.name(), stat, &want.kind));
        if !kept {
            if found.is_some() {
                unlinkat(&parent, path.name(), AtFlags::empty()).map_err(failed)?;
            }
            match create(&parent, path.name(), want) {
                Ok(()) => {}
                // Who may not create devices gets everything else.
                Err(errno @ (Errno::PERM | Errno::ACCESS | Errno::NOTSUP))
                    if is_device(&want.kind) =>
                {
                    job.tally.trouble(Part::Special, path, errno);
                    return Ok(());
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
        metadata::apply_at(&parent, path.name(), want, Report { tally: Some(&job.tally), path });
    }
    job.tally.done(1, 0);
    Ok(())
}

fn is_device(kind: &NodeKind) -> bool {
    matches!(
        kind,
        NodeKind::BlockDevice { .. }
            | NodeKind::CharDevice { .. }
            | NodeKind::Socket
            | NodeKind::Fifo
    )
}

/// Whether what `stat` describes is what `kind` asks for.
fn is_same(parent: &OwnedFd, name: &[u8], stat: &Stat, kind: &NodeKind) -> bool {
    match (FileType::from_raw_mode(stat.st_mode), kind) {
        (FileType::Symlink, NodeKind::Symlink { target }) => {
            readlinkat(parent, name, Vec::new()).is_ok_and(|found| found.as_bytes() == &**target)
        }
        (FileType::BlockDevice, NodeKind::BlockDevice { device })
        | (FileType::CharacterDevice, NodeKind::CharDevice { device }) => stat.st_rdev == *device,
        (FileType::Fifo, NodeKind::Fifo) | (FileType::Socket, NodeKind::Socket) => true,
        _ => false,
    }
}

fn create(parent: &OwnedFd, name: &[u8], want: &Metadata) -> Result<(), Errno> {
    let (file_type, device) = match &want.kind {
        NodeKind::Symlink { target } => return symlinkat(&**target, parent, name),
        NodeKind::BlockDevice { device } => (FileType::BlockDevice, *device),
        NodeKind::CharDevice { device } => (FileType::CharacterDevice, *device),
        NodeKind::Fifo => (FileType::Fifo, 0),
        NodeKind::Socket => (FileType::Socket, 0),
        NodeKind::File | NodeKind::Dir => return Err(Errno::INVAL),
    };
    mknodat(parent, name, file_type, Permissions::RUSR | Permissions::WUSR, device)
}

/// Another name of a file that is restored too.
#[derive(Debug)]
pub(super) struct HardLink {
    pub(super) primary: EntryPath,
    pub(super) path: EntryPath,
    pub(super) metadata: Metadata,
}

impl HardLink {
    /// Makes the link, after the file itself has been written.
    pub(super) fn make(&self, job: &Job, calls: &Calls) -> SourceResult<()> {
        let failed = |errno| job.target.error(errno, "link", &self.path);
        let from = job.target.parent(&self.primary).map_err(failed)?;
        let to = job.target.parent(&self.path).map_err(failed)?;
        let wanted =
            statat(&from, self.primary.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        match statat(&to, self.path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) => {
                return Ok(());
            }
            Ok(_) => unlinkat(&to, self.path.name(), AtFlags::empty()).map_err(failed)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match linkat(&from, self.primary.name(), &to, self.path.name(), AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(
                errno @ (Errno::PERM | Errno::MLINK | Errno::XDEV | Errno::NOTSUP | Errno::NOSYS),
            ) => {
                job.tally.trouble(Part::Link, &self.path, errno);
                calls.wait(|| self.copy(job, &from, &to)).map_err(failed)
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    fn copy(&self, job: &Job, from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let write =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut source = File::from(openat(from, self.primary.name(), read, Permissions::empty())?);
        let mode = Permissions::RUSR | Permissions::WUSR;
        let mut copy = File::from(openat(to, self.path.name(), write, mode)?);
        std::io::copy(&mut source, &mut copy)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        metadata::apply(
            &copy,
            &self.metadata,
            Report { tally: Some(&job.tally), path: &self.path },
        );
        Ok(())
    }
}
