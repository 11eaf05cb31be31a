//! From what the system says to [`Metadata`], field by field as restic 0.19 stores it.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use backup_core::event::{Warning, WarningKind};
use backup_core::source::{EntryPath, Metadata, NodeKind, Xattr};
use jiff::Timestamp;
use rustix::fs::{FileType, Stat, fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use super::sys;
use super::users::Names;

/// Metadata of what `stat` describes, without link target and attributes. `None` for types nobody
/// knows.
///
/// Following restic: the access time is the modification time, only files have a size, and
/// directories, pipes and sockets have no link count.
pub(super) fn from_stat(stat: &Stat, names: &Names) -> Option<Metadata> {
    let kind = kind_of(stat)?;
    let is_file = kind == NodeKind::File;
    let has_links = !matches!(kind, NodeKind::Dir | NodeKind::Fifo | NodeKind::Socket);
    let mtime = timestamp(stat.st_mtime, stat.st_mtime_nsec as i64);
    Some(Metadata {
        kind,
        mode: stat.st_mode & 0o7777,
        mtime,
        atime: mtime,
        ctime: timestamp(stat.st_ctime, stat.st_ctime_nsec as i64),
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: names.user(stat.st_uid),
        group: names.group(stat.st_gid),
        inode: stat.st_ino,
        device_id: stat.st_dev,
        links: if has_links { widen(stat.st_nlink) } else { 0 },
        size: if is_file { stat.st_size.max(0) as u64 } else { 0 },
        xattrs: Vec::new(),
    })
}

/// The field's width depends on the processor.
fn widen(links: impl Into<u64>) -> u64 {
    links.into()
}

fn kind_of(stat: &Stat) -> Option<NodeKind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Dir,
        FileType::Symlink => NodeKind::Symlink { target: Box::default() },
        FileType::BlockDevice => NodeKind::BlockDevice { device: stat.st_rdev },
        FileType::CharacterDevice => NodeKind::CharDevice { device: stat.st_rdev },
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::Unknown => return None,
    })
}

/// The first time that snapshots hold: 0000-01-02 in UTC, in year 0 of every time zone. restic cannot
/// read earlier years.
const FIRST_TIME: Timestamp = Timestamp::constant(-62_167_132_800, 0);
/// The last time that snapshots hold, at the end of the year 9999.
const LAST_TIME: Timestamp = Timestamp::MAX;

/// The moment, or the nearest one that a snapshot can hold.
fn timestamp(seconds: i64, nanoseconds: i64) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    let nearest = if seconds < 0 { FIRST_TIME } else { LAST_TIME };
    Timestamp::new(seconds, nanoseconds).map_or(nearest, |time| time.clamp(FIRST_TIME, LAST_TIME))
}

/// True if the modification time is the nearest one to a time that snapshots cannot hold.
pub(super) fn is_clamped(metadata: &Metadata) -> bool {
    metadata.mtime <= FIRST_TIME || metadata.mtime >= LAST_TIME
}

/// Where attributes are read from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// A path whose last component is not followed.
    Path(&'a CStr),
    /// An open file.
    Fd(BorrowedFd<'a>),
}

/// Reads extended attributes; keeps its buffers between calls.
#[derive(Debug, Default)]
pub(super) struct XattrReader {
    list: Vec<u8>,
    value: Vec<u8>,
    path: Vec<u8>,
}

impl XattrReader {
    /// The attributes of `path`, which is `name` in the open directory `dir`, and a warning if not
    /// all can be read.
    ///
    /// Read by path, because the system has no call that takes a directory and a name. Paths that
    /// are too long for it are reached through the open directory.
    pub(super) fn at(
        &mut self,
        path: &EntryPath,
        dir: impl AsFd,
        name: &CStr,
    ) -> (Vec<Xattr>, Option<Warning>) {
        let mut buffer = std::mem::take(&mut self.path);
        buffer.clear();
        if path.as_bytes().len() <= sys::PATH_MAX {
            buffer.extend_from_slice(path.as_bytes());
        } else {
            buffer.extend_from_slice(
                format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).as_bytes(),
            );
            buffer.extend_from_slice(name.to_bytes());
        }
        buffer.push(0);
        let result =
            self.read(Place::Path(CStr::from_bytes_until_nul(&buffer).unwrap_or_default()));
        self.path = buffer;
        let (found, message) = match result {
            Ok((found, failed)) if failed.is_empty() => return (found, None),
            Ok((found, failed)) => {
                (found, format!("cannot read the extended attributes {}", failed.join(", ")))
            }
            Err(errno) => (
                Vec::new(),
                format!("cannot list the extended attributes: {}", std::io::Error::from(errno)),
            ),
        };
        (found, Some(sys::warning(WarningKind::Metadata, path, message)))
    }

    /// The attributes of `place` in the order in which the system lists them, and the names of
    /// those that could not be read. A file system without attributes has none.
    pub(super) fn read(&mut self, place: Place<'_>) -> Result<(Vec<Xattr>, Vec<String>), Errno> {
        let listed = filled(&mut self.list, |buffer| match place {
            Place::Path(path) => llistxattr(path, buffer),
            Place::Fd(fd) => flistxattr(fd, buffer),
        });
        let length = match listed {
            Ok(0) | Err(Errno::NOTSUP | Errno::NODATA) => return Ok((Vec::new(), Vec::new())),
            Ok(length) => length,
            Err(errno) => return Err(errno),
        };
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for raw in self.list[..length].split_inclusive(|b| *b == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(raw) else {
                continue;
            };
            let got = filled(&mut self.value, |buffer| match place {
                Place::Path(path) => lgetxattr(path, name, buffer),
                Place::Fd(fd) => fgetxattr(fd, name, buffer),
            });
            match (name.to_str(), got) {
                (Ok(name), Ok(length)) => {
                    found.push(Xattr { name: name.into(), value: self.value[..length].into() });
                }
                // Removed since it was listed.
                (_, Err(Errno::NODATA)) => {}
                _ => failed.push(name.to_string_lossy().into_owned()),
            }
        }
        Ok((found, failed))
    }
}

/// Calls `read` with a larger buffer until the answer fits, and returns its length. The kernel
/// bounds both lists and values at 64 KiB; some file systems allow larger values.
fn filled(
    buffer: &mut Vec<u8>,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    const SMALL: usize = 1024;
    const LARGEST: usize = 16 << 20;
    if buffer.is_empty() {
        buffer.resize(SMALL, 0);
    }
    loop {
        match read(buffer) {
            Err(Errno::RANGE) if buffer.len() < LARGEST => buffer.resize(buffer.len() * 8, 0),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outside_of_the_years_of_a_snapshot_is_clamped() {
        let stat = rustix::fs::stat("/").unwrap();
        let of = |seconds: i64| {
            let mut stat = stat;
            (stat.st_mtime, stat.st_mtime_nsec) = (seconds, 7);
            let metadata = from_stat(&stat, &Names::default()).unwrap();
            (metadata.mtime.to_string(), is_clamped(&metadata))
        };
        let (first, last) = ("0000-01-02T00:00:00Z", "9999-12-30T22:00:00.999999999Z");
        for (seconds, time, clamped) in [
            (1_000_000_000, "2001-09-09T01:46:40.000000007Z", false),
            (-1, "1969-12-31T23:59:59.000000007Z", false),
            (-62_167_132_800, "0000-01-02T00:00:00.000000007Z", false),
            (-62_167_132_801, first, true),
            (-100_000_000_000, first, true),
            (i64::MIN, first, true),
            (253_402_207_199, "9999-12-30T21:59:59.000000007Z", false),
            (253_402_300_800, last, true),
            (i64::MAX, last, true),
        ] {
            assert_eq!(of(seconds), (time.to_owned(), clamped), "{seconds}");
        }
    }
}
