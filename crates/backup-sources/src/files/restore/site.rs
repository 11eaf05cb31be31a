//! What is at the target already, and making room: the rules of [`IfExists`].

use std::sync::Arc;

use backup_core::source::{EntryPath, IfExists, SourceError, SourceErrorKind, SourceResult};
use rustix::fs::{
    AtFlags, FileType, Mode as Permissions, OFlags, Stat, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use super::absent::Doubt;
use super::{Job, exists, metadata, remove, target};

/// A regular file in the target: its identity and permissions. Tens of thousands are held at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Existing {
    device: u64,
    inode: u64,
    /// Type and permissions.
    pub(super) mode: u32,
}

impl Existing {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino, mode: stat.st_mode }
    }

    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// What a walk through the snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// To find what stands in the way.
    Check,
    /// To say what would be done.
    DryRun,
    /// To do it.
    Write,
}

/// What is known about a directory of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has looked yet; it may turn out not to be needed.
    Unknown,
    /// It is new: nothing is in it.
    Fresh,
    /// It was there.
    Existing,
}

/// The target, seen by a walk through the snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) job: &'a Arc<Job>,
    pub(super) mode: Mode,
}

impl Site<'_> {
    /// Makes sure that the directory `path` exists; `parent` is the state of the one it is in. It
    /// may be made writable unless it keeps its mode.
    pub(super) fn make_dir(
        &self,
        path: &EntryPath,
        parent: State,
        keeps_mode: bool,
    ) -> SourceResult<State> {
        let found = if parent == State::Fresh { None } else { self.look(path)? };
        if let Some(stat) = found {
            if is_dir(&stat) {
                if self.mode == Mode::Write && !keeps_mode {
                    self.open_up(path, &stat)?;
                }
                return Ok(State::Existing);
            }
            let shown = self.job.target.show(path);
            if self.job.is_above(path) {
                // The backup followed links above the paths that it was given, too.
                return match self.job.target.dir(path) {
                    Ok(_) => Ok(State::Existing),
                    Err(_) => Err(in_the_way_above(&shown, &stat)),
                };
            }
            if self.job.request.if_exists != IfExists::Replace {
                return Err(in_the_way(format!(
                    "{shown} exists and is not a directory, but is one in the snapshot"
                )));
            }
            self.unlink(path, &stat)?;
        }
        if self.mode == Mode::Write {
            let failed = |errno| self.job.target.error(errno, "create the directory", path);
            let parent = self.job.target.parent(path).map_err(failed)?;
            mkdirat(&parent, path.name(), Permissions::RWXU).map_err(failed)?;
        }
        Ok(State::Fresh)
    }

    /// Lets the owner of an existing directory write into it; it gets its mode from the snapshot at
    /// the end.
    fn open_up(&self, path: &EntryPath, stat: &Stat) -> SourceResult<()> {
        let user = rustix::process::geteuid();
        if stat.st_mode & 0o700 == 0o700 || user.is_root() || stat.st_uid != user.as_raw() {
            return Ok(());
        }
        let failed = |errno| self.job.target.error(errno, "write into", path);
        let parent = self.job.target.parent(path).map_err(failed)?;
        metadata::chmod_at(&parent, path.name(), stat.st_mode & 0o7777 | 0o700).map_err(failed)
    }

    /// What is at `path`.
    pub(super) fn look(&self, path: &EntryPath) -> SourceResult<Option<Stat>> {
        let failed = |errno| self.job.target.error(errno, "stat", path);
        let parent = self.job.target.parent(path).map_err(failed)?;
        match statat(&parent, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Removes the entry at `path` to make room: `stat` describes it, and it is not a directory.
    pub(super) fn unlink(&self, path: &EntryPath, stat: &Stat) -> SourceResult<()> {
        match self.mode {
            Mode::Check => return Ok(()),
            Mode::DryRun => {
                self.job.tally.plan_change(describe(stat), self.job.target.show(path));
                return Ok(());
            }
            Mode::Write => {}
        }
        let failed = |errno| self.job.target.error(errno, "remove", path);
        let parent = self.job.target.parent(path).map_err(failed)?;
        unlinkat(&parent, path.name(), AtFlags::empty()).map_err(failed)
    }

    /// Decides about what exists where something else than a directory is to be: returns it if it
    /// may be reused.
    pub(super) fn admit(
        &self,
        path: &EntryPath,
        found: Option<Stat>,
    ) -> SourceResult<Option<Stat>> {
        let Some(stat) = found else { return Ok(None) };
        let shown = self.job.target.show(path);
        match self.job.request.if_exists {
            IfExists::Fail => Err(exists(format!("{shown} exists already"))),
            IfExists::Merge if is_dir(&stat) => Err(in_the_way(format!(
                "{shown} exists and is a directory, but is not one in the snapshot"
            ))),
            IfExists::Replace if is_dir(&stat) => {
                self.make_room(path)?;
                Ok(None)
            }
            IfExists::Merge | IfExists::Replace => Ok(Some(stat)),
        }
    }

    /// Removes the entry at `path`, which the snapshot lacks, as far as that is requested; `false` if
    /// it stays. `inherited` are doubts about everything in its directory.
    pub(super) fn remove(&self, path: &EntryPath, inherited: Doubt) -> SourceResult<bool> {
        remove::remove(self.job, path, inherited, self.mode == Mode::Write)
    }

    /// Removes the directory at `path`, in whose place the snapshot holds something else: with
    /// everything in it if that is requested, else only if it is empty.
    fn make_room(&self, path: &EntryPath) -> SourceResult<()> {
        let failed = |errno| self.job.target.error(errno, "remove", path);
        let dir = self.job.target.dir(path).map_err(failed)?;
        let is_gone = if self.job.absence.deletes() {
            drop(dir);
            self.remove(path, Doubt::default())?
        } else {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let readable = openat(&dir, ".", flags, Permissions::empty()).map_err(failed)?;
            let is_empty = target::names(&readable).map_err(failed)?.is_empty();
            if is_empty && self.mode == Mode::Write {
                self.job.target.forget(path);
                let parent = self.job.target.parent(path).map_err(failed)?;
                unlinkat(&parent, path.name(), AtFlags::REMOVEDIR).map_err(failed)?;
            } else if is_empty && self.mode == Mode::DryRun {
                self.job.tally.plan_change("directory", self.job.target.show(path));
            }
            is_empty
        };
        if is_gone {
            return Ok(());
        }
        let shown = self.job.target.show(path);
        let message = format!(
            "{shown} exists and is a directory with content, but is not one in the snapshot"
        );
        Err(SourceError::new(SourceErrorKind::TargetExists, message).with_hint(
            "move the directory away; --delete removes content that the backup saw to be absent",
        ))
    }
}

fn in_the_way(message: String) -> SourceError {
    SourceError::new(SourceErrorKind::TargetExists, message)
        .with_hint("move the existing entry away, or use --if-exists replace to replace it")
}

/// The refusal to touch an entry above the paths that the snapshot was made of.
fn in_the_way_above(shown: &str, stat: &Stat) -> SourceError {
    let what = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        "is a symbolic link that is not followed"
    } else {
        "is not a directory"
    };
    let message = format!("{shown} lies above the restored paths and {what}");
    SourceError::new(SourceErrorKind::TargetExists, message).with_hint(
        "restore to a new directory with --target, or correct this path by hand; in place, links \
         are followed if root, this user or the owner of the directory owns them",
    )
}

/// The kind of an entry, for plans.
pub(super) fn describe(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::RegularFile => "file",
        FileType::BlockDevice | FileType::CharacterDevice => "device",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::Unknown => "entry",
    }
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
