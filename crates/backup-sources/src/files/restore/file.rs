//! One file: which of its blocks differ, writing those, and finishing it.

mod read_back;
mod settle;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backup_core::error::Error;
use backup_core::format::size_fault;
use backup_core::id::BlobId;
use backup_core::source::{EntryPath, Metadata, SourceError, SourceResult};
use rustix::fs::{
    AtFlags, Mode as Permissions, OFlags, Stat, fchmod, fstat, ftruncate, openat, unlinkat,
};
use rustix::io::Errno;

use super::Job;
use super::blocks::{Layout, Piece, errno_of, write_sparse};
use super::metadata::{self, Report};
use super::site::Existing;
use crate::files::watch::Calls;

/// How files are opened to be compared. Should a pipe have taken the place of one, opening it must
/// not wait.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file to be restored.
#[derive(Debug)]
pub(super) struct FileTask {
    path: EntryPath,
    metadata: Metadata,
    content: Vec<BlobId>,
    /// The regular file that exists already.
    found: Option<Existing>,
    /// Pieces that are still to be written.
    remaining: AtomicUsize,
    finished: AtomicBool,
    /// Whether all of it was there already, which comparing has shown.
    unchanged: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Arc<File>>,
    /// Whether the file is there, old or new.
    exists: bool,
    /// Whether it was there before and is changed in place.
    in_place: bool,
    /// Whether it was there before and was removed to be written anew.
    replaced: bool,
    /// Whether it was opened to be written.
    opened: bool,
    /// Sum of the lengths of its blobs.
    size: u64,
    /// Why it cannot be restored.
    lost: Option<String>,
    /// Why the target refused it.
    failed: Option<String>,
}

impl FileTask {
    pub(super) fn new(
        path: EntryPath,
        metadata: Metadata,
        content: Vec<BlobId>,
        found: Option<Existing>,
    ) -> Self {
        Self {
            path,
            metadata,
            content,
            found,
            remaining: AtomicUsize::new(0),
            finished: AtomicBool::new(false),
            unchanged: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Number of blobs.
    pub(super) fn blobs(&self) -> usize {
        self.content.len()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Acquire)
    }

    pub(super) fn is_lost(&self) -> bool {
        let state = self.state();
        state.lost.is_some() || state.failed.is_some()
    }

    pub(super) fn path(&self) -> &EntryPath {
        &self.path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, job: &Job, doing: &'static str) -> impl Fn(Errno) -> SourceError {
        move |errno| job.target.error(errno, doing, &self.path)
    }

    /// Says what must be written. Files for which that is nothing are finished on the spot. With
    /// `dry_run` nothing is changed.
    pub(super) fn prepare(
        &self,
        job: &Job,
        dry_run: bool,
        buffer: &mut Vec<u8>,
        calls: &Calls,
    ) -> SourceResult<Vec<Piece>> {
        job.check_cancelled()?;
        let layout = match Layout::of(job, &self.content) {
            Ok(layout) => layout,
            Err(error) if error.is_damage() => {
                self.lose(&error);
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(message) = size_fault(self.metadata.size, layout.size) {
            self.lose(&Error::damaged(format!("the file {message}")));
            return Ok(Vec::new());
        }
        self.state().size = layout.size;
        job.tally.total_bytes.fetch_add(layout.size, Relaxed);
        let pieces = match self.found {
            None => Some(layout.pieces),
            Some(found) => self.compare(job, &found, layout, dry_run, buffer, calls)?,
        };
        let Some(pieces) = pieces else {
            job.tally.files_unchanged.fetch_add(1, Relaxed);
            job.tally.done(1, 0);
            self.unchanged.store(true, Relaxed);
            self.finished.store(true, Release);
            return Ok(Vec::new());
        };
        if dry_run {
            job.tally.files_written.fetch_add(1, Relaxed);
            let bytes = pieces
                .iter()
                .map(|piece| job.snapshot.blob_len(&piece.blob).map_or(0, u64::from))
                .sum();
            job.tally.written_bytes.fetch_add(bytes, Relaxed);
            if self.found.is_some() {
                job.tally.plan_change("file", job.target.show(&self.path));
            }
            job.tally.done(1, bytes);
            return Ok(Vec::new());
        }
        self.remaining.store(pieces.len(), Release);
        if pieces.is_empty() {
            let (file, _new) = self.open(job, false)?;
            self.finish(job, &file)?;
        }
        Ok(pieces)
    }

    /// Compares what is there block by block. `None` if it is all right; then only metadata is
    /// mended.
    fn compare(
        &self,
        job: &Job,
        found: &Existing,
        layout: Layout,
        dry_run: bool,
        buffer: &mut Vec<u8>,
        calls: &Calls,
    ) -> SourceResult<Option<Vec<Piece>>> {
        let failed = self.error(job, "compare");
        let parent = job.target.parent(&self.path).map_err(&failed)?;
        let replace = || {
            self.state().replaced = true;
            let unlink = || unlinkat(&parent, self.path.name(), AtFlags::empty());
            if dry_run { Ok(()) } else { unlink().map_err(&failed) }
        };
        let file = match openat(&parent, self.path.name(), READ, Permissions::empty()) {
            Ok(fd) => File::from(fd),
            // Cannot be read, so cannot be compared; a new file takes its place.
            Err(Errno::ACCESS) => return replace().map(|()| Some(layout.pieces)),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = fstat(&file).map_err(&failed)?;
        if !Existing::of(&stat).is_same_file(found) {
            return Err(failed(Errno::STALE));
        }
        let (different, equal) = self.differences(job, &layout, &file, buffer, calls)?;
        job.tally.done(0, equal);
        let unchanged = different.is_empty() && stat.st_size.max(0) as u64 == layout.size;
        let shared = stat.st_nlink > 1;
        if unchanged && (!shared || metadata::same(&stat, &self.metadata)) {
            if !dry_run {
                self.apply_metadata(job, &file);
            }
            return Ok(None);
        }
        // Writing to a file with other names would change those too. Everything is written anew.
        if shared || !self.make_writable(&parent, &file, &stat, dry_run).map_err(&failed)? {
            job.tally.undone(equal);
            return replace().map(|()| Some(layout.pieces));
        }
        let mut state = self.state();
        (state.exists, state.in_place) = (true, true);
        Ok(Some(different))
    }

    /// The pieces that `file` does not hold, and how many bytes it does hold.
    fn differences(
        &self,
        job: &Job,
        layout: &Layout,
        file: &File,
        buffer: &mut Vec<u8>,
        calls: &Calls,
    ) -> SourceResult<(Vec<Piece>, u64)> {
        let found = layout.differences(file, buffer, || {
            calls.next();
            job.cx.cancel.is_cancelled()
        });
        job.check_cancelled()?;
        found.map_err(|error| self.error(job, "read")(errno_of(&error)))
    }

    /// Prepares an existing file for being written; `false` if a new one must take its place.
    fn make_writable(
        &self,
        parent: &OwnedFd,
        file: &File,
        stat: &Stat,
        dry_run: bool,
    ) -> Result<bool, Errno> {
        if dry_run {
            return Ok(true);
        }
        // While it is written, nobody may read what only the new owner or mode would allow.
        let now = stat.st_mode & 0o7777;
        let meanwhile = now & self.metadata.mode & 0o777 | 0o600;
        if now != meanwhile && fchmod(file, Permissions::from_raw_mode(meanwhile)).is_err() {
            return Ok(false);
        }
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(parent, self.path.name(), flags, Permissions::empty()) {
            Ok(_) => Ok(true),
            // A program that is running, or somebody else's file.
            Err(Errno::TXTBSY | Errno::ACCESS | Errno::PERM) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Writes one piece, and finishes the file if it was the last. Says whether the file stays
    /// open.
    pub(super) fn write(&self, job: &Job, offset: u64, bytes: &[u8]) -> SourceResult<bool> {
        job.check_cancelled()?;
        if self.is_lost() {
            return Ok(false);
        }
        let several = self.remaining.load(Acquire) > 1;
        let calls = job.watch.begin(&self.path);
        let (file, new) = self.open(job, several)?;
        let sparse = job.request.sparse && !self.state().in_place;
        let result = if sparse {
            write_sparse(&file, offset, bytes)
        } else {
            file.write_all_at(bytes, offset)
        };
        result.map_err(|error| self.error(job, "write")(errno_of(&error)))?;
        // Finishing it may write all of it back in one call, which takes long.
        drop(calls);
        let length = bytes.len() as u64;
        job.tally.written_bytes.fetch_add(length, Relaxed);
        job.tally.done(0, length);
        if self.remaining.fetch_sub(1, AcqRel) == 1 {
            self.finish(job, &file)?;
            return Ok(false);
        }
        Ok(new)
    }

    /// The open file, and whether it was opened just now and stays open.
    fn open(&self, job: &Job, keep: bool) -> SourceResult<(Arc<File>, bool)> {
        let mut state = self.state();
        if let Some(file) = &state.open {
            return Ok((Arc::clone(file), false));
        }
        let failed = self.error(job, "write");
        let parent = job.target.parent(&self.path).map_err(&failed)?;
        let mut flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        flags |= if state.exists { OFlags::NONBLOCK } else { OFlags::CREATE | OFlags::EXCL };
        let mode = Permissions::RUSR | Permissions::WUSR;
        let file =
            Arc::new(File::from(openat(&parent, self.path.name(), flags, mode).map_err(failed)?));
        (state.exists, state.opened) = (true, true);
        if keep {
            state.open = Some(Arc::clone(&file));
        }
        Ok((file, keep))
    }

    /// Closes the file for now; it is opened again when needed.
    pub(super) fn close(&self) {
        self.state().open = None;
    }

    /// Notes that the target refuses it: no more of it is written.
    ///
    /// # Errors
    /// The error itself if it concerns more than this file.
    pub(super) fn fail(&self, job: &Job, error: SourceError) -> SourceResult<()> {
        let reason = error.chain();
        let mut state = self.state();
        if state.failed.is_none() {
            job.fail(&self.path, error)?;
            state.failed = Some(reason);
        }
        state.open = None;
        Ok(())
    }

    /// Notes that a blob of it cannot be had: no more of it is written.
    pub(super) fn lose(&self, error: &Error) {
        let mut state = self.state();
        if state.lost.is_none() {
            state.lost = Some(error.chain());
        }
    }

    /// Everything is written: makes the size right and sets the metadata, which says that the file
    /// is complete.
    fn finish(&self, job: &Job, file: &File) -> SourceResult<()> {
        let (size, in_place) = {
            let mut state = self.state();
            state.open = None;
            (state.size, state.in_place)
        };
        if in_place || job.request.sparse {
            ftruncate(file, size).map_err(self.error(job, "write"))?;
        }
        self.apply_metadata(job, file);
        job.tally.files_written.fetch_add(1, Relaxed);
        job.tally.done(1, 0);
        self.finished.store(true, Release);
        Ok(())
    }

    fn apply_metadata(&self, job: &Job, file: &File) {
        metadata::apply(file, &self.metadata, Report { tally: Some(&job.tally), path: &self.path });
    }
}
