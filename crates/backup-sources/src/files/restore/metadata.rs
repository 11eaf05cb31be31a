//! Owner, attributes, mode and times, in this order: changing the owner clears set-uid bits,
//! attributes can be written only while the mode allows writing, and everything changes times. What
//! is right already is left alone, so that an unchanged file stays unchanged for the next backup.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use backup_core::source::{EntryPath, Metadata, NodeKind, Xattr};
use jiff::Timestamp;
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat,
    fchmod, fchown, fremovexattr, fsetxattr, fstat, futimens, lremovexattr, lsetxattr, openat,
    statat, utimensat,
};
use rustix::io::Errno;

use super::tally::{Part, Tally};
use crate::files::metadata::{Place, XattrReader, is_clamped};

/// Seconds since 1970 that every file system holds: from 1980, when times of FAT begin, to 2038.
const COMMON_TIMES: std::ops::RangeInclusive<i64> = 315_532_800..=0x7fff_ffff;
/// File systems round times to this many seconds at most.
const GRANULARITY: u64 = 2;

/// Whether mode, owner and modification time of what `stat` describes are as in `want`.
pub(super) fn same(stat: &Stat, want: &Metadata) -> bool {
    same_owner(stat, want) && stat.st_mode & 0o7777 == want.mode && same_time(stat, want)
}

fn same_owner(stat: &Stat, want: &Metadata) -> bool {
    (stat.st_uid, stat.st_gid) == (want.uid, want.gid)
}

fn same_time(stat: &Stat, want: &Metadata) -> bool {
    let time = timespec(want.mtime);
    (stat.st_mtime, stat.st_mtime_nsec as i64) == (time.tv_sec, time.tv_nsec)
}

/// Where trouble is reported; nowhere for directories that were not asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report<'a> {
    pub(super) tally: Option<&'a Tally>,
    pub(super) path: &'a EntryPath,
}

impl Report<'_> {
    fn check(&self, part: Part, result: Result<(), Errno>) {
        if let (Err(errno), Some(tally)) = (result, self.tally) {
            tally.trouble(part, self.path, errno);
        }
    }
}

/// Gives the open file or directory `fd` the metadata `want`.
pub(super) fn apply(fd: impl AsFd, want: &Metadata, report: Report<'_>) {
    let fd = fd.as_fd();
    let Ok(stat) = fstat(fd) else {
        return report.check(Part::Mode, Err(Errno::IO));
    };
    let mut mode_known = true;
    if !same_owner(&stat, want) {
        mode_known = false;
        let result = own(want, |user, group| fchown(fd, user, group));
        report.check(Part::Owner, result);
    }
    let changed = attributes(
        Place::Fd(fd),
        &want.xattrs,
        |xattr, name| fsetxattr(fd, name, &xattr.value, XattrFlags::empty()),
        |name| fremovexattr(fd, name),
        report,
    );
    mode_known &= !changed;
    if !mode_known || stat.st_mode & 0o7777 != want.mode {
        report.check(Part::Mode, fchmod(fd, Mode::from_raw_mode(want.mode)));
    }
    set_times(want, || fstat(fd), |times| futimens(fd, times), report);
}

/// Gives the entry `name` in `dir`, which is neither a file nor a directory, the metadata `want`.
pub(super) fn apply_at(dir: &OwnedFd, name: &[u8], want: &Metadata, report: Report<'_>) {
    let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return report.check(Part::Mode, Err(Errno::NOENT));
    };
    let owned = same_owner(&stat, want);
    if !owned {
        let result =
            own(want, |user, group| chownat(dir, name, user, group, AtFlags::SYMLINK_NOFOLLOW));
        report.check(Part::Owner, result);
    }
    // Attributes of such entries are rare (they need privileges), and the system reaches them by
    // path only.
    let path = proc_path(dir.as_raw_fd(), name);
    attributes(
        Place::Path(&path),
        &want.xattrs,
        |xattr, name| lsetxattr(&path, name, &xattr.value, XattrFlags::empty()),
        |name| lremovexattr(&path, name),
        report,
    );
    let has_mode = !matches!(want.kind, NodeKind::Symlink { .. });
    if has_mode && (!owned || stat.st_mode & 0o7777 != want.mode) {
        report.check(Part::Mode, chmod_at(dir, name, want.mode));
    }
    let stat = || statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    set_times(want, stat, |times| utimensat(dir, name, times, AtFlags::SYMLINK_NOFOLLOW), report);
}

/// Sets the times unless they are right, and reports those that come back otherwise.
fn set_times(
    want: &Metadata,
    stat: impl Fn() -> Result<Stat, Errno>,
    set: impl Fn(&Timestamps) -> Result<(), Errno>,
    report: Report<'_>,
) {
    if is_clamped(want) {
        report.check(Part::Years, Err(Errno::RANGE));
    }
    if stat().is_ok_and(|stat| same_time(&stat, want)) {
        return;
    }
    let done = set(&times(want));
    // File systems replace times of years that they do not hold without an error.
    let is_changed = || {
        let seconds = timespec(want.mtime).tv_sec;
        !COMMON_TIMES.contains(&seconds)
            && stat().is_ok_and(|stat| stat.st_mtime.abs_diff(seconds) > GRANULARITY)
    };
    let done = if done.is_ok() && is_changed() { Err(Errno::OVERFLOW) } else { done };
    report.check(Part::Times, done);
}

/// Sets the mode through an open handle: changing it by name would follow a link that has taken the
/// entry's place.
pub(super) fn chmod_at(dir: &OwnedFd, name: &[u8], mode: u32) -> Result<(), Errno> {
    let fd = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::from_raw_mode(mode))
}

fn proc_path(dir: i32, name: &[u8]) -> CString {
    let mut path = format!("/proc/self/fd/{dir}/").into_bytes();
    path.extend_from_slice(name);
    CString::new(path).unwrap_or_default()
}

/// Sets owner and group; who may not give files away may still set a group of theirs.
fn own(
    want: &Metadata,
    set: impl Fn(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(want.uid), Gid::from_raw(want.gid));
    match set(Some(user), Some(group)) {
        Err(Errno::PERM) => {
            if rustix::process::geteuid() == user {
                return Err(Errno::PERM);
            }
            set(None, Some(group)).and(Err(Errno::PERM))
        }
        other => other,
    }
}

/// Makes the attributes those in `want`; says whether any was changed.
fn attributes(
    place: Place<'_>,
    want: &[Xattr],
    set: impl Fn(&Xattr, &CStr) -> Result<(), Errno>,
    remove: impl Fn(&CStr) -> Result<(), Errno>,
    report: Report<'_>,
) -> bool {
    let have = match XattrReader::default().read(place) {
        Ok((have, _unreadable)) => have,
        Err(_) if want.is_empty() => return false,
        Err(errno) => {
            report.check(Part::Attributes, Err(errno));
            return false;
        }
    };
    let mut changed = false;
    for xattr in want.iter().filter(|xattr| !have.contains(xattr)) {
        changed = true;
        let name = CString::new(xattr.name.as_bytes());
        let result = name.map_err(|_nul| Errno::INVAL).and_then(|name| set(xattr, &name));
        report.check(Part::Attributes, result);
    }
    let wanted = |name: &str| want.iter().any(|xattr| *xattr.name == *name);
    for xattr in have.iter().filter(|xattr| is_ours_to_remove(&xattr.name) && !wanted(&xattr.name))
    {
        changed = true;
        let name = CString::new(xattr.name.as_bytes());
        let result = name.map_err(|_nul| Errno::INVAL).and_then(|name| remove(&name));
        report.check(Part::Attributes, result);
    }
    changed
}

/// Attributes that a restore removes where the snapshot does not have them. Labels that the system
/// gives every new file (SELinux, integrity measurement) are not among them.
fn is_ours_to_remove(name: &str) -> bool {
    name.starts_with("user.")
        || name.starts_with("system.posix_acl_")
        || name == "security.capability"
}

fn times(want: &Metadata) -> Timestamps {
    Timestamps { last_access: timespec(want.atime), last_modification: timespec(want.mtime) }
}

fn timespec(time: Timestamp) -> Timespec {
    // `as_second` rounds towards zero; the system counts nanoseconds upwards from the second
    // before.
    let (seconds, nanoseconds) = (time.as_second(), i64::from(time.subsec_nanosecond()));
    if nanoseconds < 0 {
        Timespec { tv_sec: seconds - 1, tv_nsec: nanoseconds + 1_000_000_000 }
    } else {
        Timespec { tv_sec: seconds, tv_nsec: nanoseconds }
    }
}

#[cfg(test)]
mod tests {
    use backup_core::event::{Events, Progress};

    use super::*;

    #[test]
    fn times_before_the_epoch() {
        let time = timespec(Timestamp::new(-1, -500_000_000).unwrap());
        assert_eq!((time.tv_sec, time.tv_nsec), (-2, 500_000_000));
        let time = timespec(Timestamp::new(5, 7).unwrap());
        assert_eq!((time.tv_sec, time.tv_nsec), (5, 7));
    }

    /// The reports of setting `seconds` where the file system stores `stored` in their place.
    fn reports(seconds: i64, stored: i64) -> u64 {
        let want = Metadata::stream(Timestamp::from_second(seconds).unwrap());
        let (tally, path) = (Tally::new(Events::silent(), Progress::default()), EntryPath::root());
        let stat = rustix::fs::stat("/").unwrap();
        let now = std::cell::Cell::new(1);
        let set = |_: &Timestamps| {
            now.set(stored);
            Ok(())
        };
        let look = || {
            let mut stat = stat;
            (stat.st_mtime, stat.st_mtime_nsec) = (now.get(), 0);
            Ok(stat)
        };
        set_times(&want, look, set, Report { tally: Some(&tally), path: &path });
        tally.finish().warnings
    }

    #[test]
    fn time_that_the_file_system_replaced_is_reported() {
        // The limits of ext4 with small and with large inodes, and a year 2500.
        assert_eq!(reports(16_725_225_600, 0x7fff_ffff), 1);
        assert_eq!(reports(16_725_225_600, 15_032_385_535), 1);
        assert_eq!(reports(-10_000_000_000, -0x8000_0000), 1);
        assert_eq!(reports(16_725_225_600, 16_725_225_600), 0);
        assert_eq!(reports(16_725_225_601, 16_725_225_600), 0, "rounded");
        assert_eq!(reports(1_000_000_001, 1_000_000_000), 0);
        let last = Timestamp::MAX.as_second();
        assert_eq!(reports(last, last), 0);
    }

    #[test]
    fn time_that_a_snapshot_cannot_hold_is_reported() {
        let want = Metadata::stream(Timestamp::MAX);
        let (tally, path) = (Tally::new(Events::silent(), Progress::default()), EntryPath::root());
        let report = Report { tally: Some(&tally), path: &path };
        let time = timespec(want.mtime);
        let mut stat = rustix::fs::stat("/").unwrap();
        (stat.st_mtime, stat.st_mtime_nsec) = (time.tv_sec, time.tv_nsec.unsigned_abs());
        let look = || Ok(stat);
        set_times(&want, look, |_| panic!("the time is right"), report);
        assert_eq!(tally.finish().warnings, 1);
    }
}
