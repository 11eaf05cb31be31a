//! The names of a directory: opening it, and reading and sorting them.

use std::ffi::CStr;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use backup_core::event::Warning;
use backup_core::source::{EntryPath, Metadata};
use rustix::fs::{Mode, OFlags, RawDir, Stat, fstat, openat};
use rustix::io::Errno;

use super::filter::Cover;
use super::metadata::{Place, XattrReader, from_stat};
use super::scan::Rules;
use super::sys;
use super::watch::Calls;

/// The warning about an entry that another one has replaced.
const REPLACED: &str = "was replaced while the backup ran";

/// A directory to be listed.
#[derive(Debug, Clone)]
pub(super) struct Dir {
    pub(super) path: EntryPath,
    pub(super) cover: Cover,
    /// Device and inode, so that nothing else is listed that has taken its place.
    pub(super) id: (u64, u64),
    /// Device of the given path that the walk came from.
    pub(super) root_device: u64,
}

/// The sorted names of a directory, of which those before `next` have been looked at.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) dir: Dir,
    /// All names, each with a terminating NUL.
    arena: Vec<u8>,
    /// Where each name begins and how long it is, in the order of the names.
    spans: Vec<(usize, u16)>,
    pub(super) next: usize,
}

impl Listing {
    /// Number of names.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn name(&self, index: usize) -> &CStr {
        let (start, length) = self.spans[index];
        CStr::from_bytes_with_nul(&self.arena[start..=start + usize::from(length)])
            .unwrap_or_default()
    }

    fn holds(&self, name: &[u8]) -> bool {
        self.spans.binary_search_by(|span| part(&self.arena, *span).cmp(name)).is_ok()
    }

    /// Returns `true` if the directory, which is open as `fd`, holds the file of `marker`: `NAME`, or
    /// `NAME:HEADER` for a file that begins with HEADER.
    pub(super) fn is_marked(&self, fd: &OwnedFd, marker: &str) -> bool {
        let name = marker_name(marker);
        let header = marker.get(name.len() + 1..).unwrap_or_default().as_bytes();
        self.holds(name.as_bytes()) && (header.is_empty() || begins_with(fd, name, header))
    }
}

/// The name of the file of a marker `NAME` or `NAME:HEADER`.
pub(super) fn marker_name(marker: &str) -> &str {
    marker.split_once(':').map_or(marker, |(name, _)| name)
}

/// Returns `true` if the regular file `name` in `dir` can be read and begins with `header`.
fn begins_with(dir: &OwnedFd, name: &str, header: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(fd) = openat(dir, name, flags, Mode::empty()) else {
        return false;
    };
    let mut start = vec![0; header.len()];
    File::from(fd).read_exact_at(&mut start, 0).is_ok() && start == header
}

fn part(arena: &[u8], (start, length): (usize, u16)) -> &[u8] {
    &arena[start..start + usize::from(length)]
}

/// Opens the directory that was seen, to list more of it.
pub(super) fn open(dir: &Dir) -> Result<OwnedFd, Warning> {
    let (fd, stat) = open_any(dir)?;
    if (stat.st_dev, stat.st_ino) == dir.id {
        Ok(fd)
    } else {
        Err(sys::vanished(&dir.path, REPLACED))
    }
}

/// An open directory, and its metadata if it took the place of the one that was seen.
type Opened = Result<(OwnedFd, Option<Metadata>), Warning>;

/// Opens a directory to list it. Another one that has taken its place since it was looked at is
/// listed instead, with its own metadata: at every moment, one of the two was there.
pub(super) fn open_again(dir: &mut Dir, rules: &Rules) -> Opened {
    let (fd, stat) = open_any(dir)?;
    if (stat.st_dev, stat.st_ino) == dir.id {
        return Ok((fd, None));
    }
    dir.id = (stat.st_dev, stat.st_ino);
    let failed = |errno| sys::read_warning(errno, "read the metadata of", &dir.path);
    let mut metadata =
        from_stat(&stat, &rules.names).ok_or_else(|| sys::vanished(&dir.path, REPLACED))?;
    if !rules.count_only {
        let xattrs = XattrReader::default().read(Place::Fd(fd.as_fd())).map_err(failed)?;
        metadata.xattrs = xattrs.0;
    }
    Ok((fd, Some(metadata)))
}

fn open_any(dir: &Dir) -> Result<(OwnedFd, Stat), Warning> {
    let failed = |errno| sys::read_warning(errno, "list the directory", &dir.path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let fd = match sys::open(&dir.path, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => sys::open(&dir.path, flags),
        other => other,
    }
    .map_err(failed)?;
    let stat = fstat(&fd).map_err(failed)?;
    Ok((fd, stat))
}

/// Reads and sorts the names of a directory; also returns the error that ended it early.
pub(super) fn list(dir: Dir, fd: &OwnedFd, calls: &Calls) -> (Listing, Option<Errno>) {
    let mut listing = Listing { dir, arena: Vec::new(), spans: Vec::new(), next: 0 };
    let mut buffer = Vec::<u8>::with_capacity(32 << 10);
    let buffer: &mut [MaybeUninit<u8>] = buffer.spare_capacity_mut();
    let mut raw = RawDir::new(fd, buffer);
    let mut failure = None;
    while let Some(entry) = raw.next() {
        calls.next();
        match entry {
            Ok(entry) => {
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    let length = name.count_bytes().try_into().unwrap_or(u16::MAX);
                    listing.spans.push((listing.arena.len(), length));
                    listing.arena.extend_from_slice(name.to_bytes_with_nul());
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => {
                failure = Some(errno);
                break;
            }
        }
    }
    let Listing { arena, spans, .. } = &mut listing;
    spans.sort_unstable_by(|a, b| part(arena, *a).cmp(part(arena, *b)));
    (listing, failure)
}
