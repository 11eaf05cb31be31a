//! Contents of files: opened only when they must be read, and watched for changes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use backup_core::source::{
    BlockingContent, ContentEnd, ContentReader, EntryPath, SourceError, SourceErrorKind,
    SourceResult,
};
use rustix::fs::{Advice, FileType, OFlags, Stat, fadvise, fstat};
use rustix::io::Errno;

use super::metadata::{Place, XattrReader, from_stat};
use super::sys;
use super::users::Names;
use super::watch::{Calls, Watch};

/// From this size on the kernel is told that the file is read from front to back.
const READ_AHEAD_FROM: u64 = 1 << 20;

/// Identity and state of a file, as far as changes show in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Shape {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size.max(0) as u64,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }
}

/// A regular file as the walk saw it. If another one has taken its place when it is opened, that
/// one is read: at every moment, one of the two was there.
#[derive(Debug)]
pub(super) struct FileContent {
    path: EntryPath,
    seen: Shape,
    names: Arc<Names>,
    watch: Arc<Watch>,
}

impl FileContent {
    pub(super) fn new(path: EntryPath, stat: &Stat, names: Arc<Names>, watch: Arc<Watch>) -> Self {
        Self { path, seen: Shape::of(stat), names, watch }
    }
}

impl BlockingContent for FileContent {
    fn open(self: Box<Self>) -> SourceResult<Box<dyn ContentReader>> {
        let calls = self.watch.begin(&self.path);
        let fd = open(&self.path).map_err(|errno| match errno {
            Errno::LOOP | Errno::NXIO | Errno::NODEV => replaced(&self.path),
            errno => sys::read_error(errno, "open", &self.path),
        })?;
        let stat = fstat(&fd).map_err(|errno| sys::read_error(errno, "stat", &self.path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(replaced(&self.path));
        }
        let now = Shape::of(&stat);
        let other = (now.device, now.inode) != (self.seen.device, self.seen.inode);
        let mut content = *self;
        if other {
            content.seen = now;
        }
        if now.size > READ_AHEAD_FROM {
            // Advice only: without it reading is merely slower.
            let _ignored = fadvise(&fd, 0, None, Advice::Sequential);
        }
        calls.pause();
        Ok(Box::new(FileReader { file: File::from(fd), content, other, calls }))
    }
}

/// Opens without leaving a trace in the access time where that is allowed (owner and root only).
fn open(path: &EntryPath) -> Result<OwnedFd, Errno> {
    // Non-blocking: should a pipe have taken the file's place, opening it must not wait for a
    // writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    match sys::open(path, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => sys::open(path, flags),
        other => other,
    }
}

fn replaced(path: &EntryPath) -> SourceError {
    SourceError::new(
        SourceErrorKind::NotFound,
        format!("{path} was replaced by something else while the backup ran"),
    )
}

/// An open file.
#[derive(Debug)]
struct FileReader {
    file: File,
    content: FileContent,
    /// True if the file took the place of the one that the walk saw.
    other: bool,
    calls: Calls,
}

impl Drop for FileReader {
    fn drop(&mut self) {
        // Closing is a call too: the file is dropped before its calls.
        self.calls.pause_ends();
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls.resume(|| self.file.read(buffer))
    }
}

impl ContentReader for FileReader {
    fn finish(self: Box<Self>) -> SourceResult<ContentEnd> {
        let path = &self.content.path;
        let stat = self.calls.resume(|| fstat(&self.file));
        let stat = stat.map_err(|errno| sys::read_error(errno, "stat", path))?;
        let is_stable = Shape::of(&stat) == self.content.seen;
        if is_stable && !self.other {
            return Ok(ContentEnd::Stable);
        }
        let mut metadata = from_stat(&stat, &self.content.names).ok_or_else(|| replaced(path))?;
        let xattrs =
            self.calls.resume(|| XattrReader::default().read(Place::Fd(self.file.as_fd())));
        let (xattrs, _unreadable) = xattrs
            .map_err(|errno| sys::read_error(errno, "read the extended attributes of", path))?;
        metadata.xattrs = xattrs;
        let metadata = Box::new(metadata);
        Ok(if is_stable { ContentEnd::Replaced(metadata) } else { ContentEnd::Changed(metadata) })
    }
}
