//! System calls that need a second thought: paths longer than the kernel takes, and errors in our
//! terms.

use std::os::fd::OwnedFd;

use backup_core::event::{Warning, WarningKind};
use backup_core::source::{EntryPath, SourceError, SourceErrorKind};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// Longest path the kernel takes, without the terminating NUL.
pub(super) const PATH_MAX: usize = 4095;

/// Opens the absolute `path` as it is, without following a link in its last component.
pub(super) fn open(path: &EntryPath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let bytes = path.as_bytes();
    if bytes.len() <= PATH_MAX {
        return openat(CWD, bytes, flags, Mode::empty());
    }
    let (dir, rest) = descend(bytes)?;
    openat(dir, rest, flags, Mode::empty())
}

/// Opens the directory that holds `path`, following links on the way there.
pub(super) fn open_parent(path: &EntryPath) -> Result<OwnedFd, Errno> {
    let parent = path.parent().unwrap_or_else(EntryPath::root);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (dir, rest) = descend(parent.as_bytes())?;
    if rest.is_empty() { Ok(dir) } else { openat(dir, rest, flags, Mode::empty()) }
}

/// Opens as many directories on the way as it takes until the rest is short enough.
fn descend(path: &[u8]) -> Result<(OwnedFd, &[u8]), Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = openat(CWD, "/", step, Mode::empty())?;
    let mut rest = path.get(1..).unwrap_or_default();
    while rest.len() > PATH_MAX {
        let cut = rest[..PATH_MAX].iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
        dir = openat(&dir, &rest[..cut], step, Mode::empty())?;
        rest = &rest[cut + 1..];
    }
    Ok((dir, rest))
}

/// Whether something is at `path`, a link being something.
pub(super) fn exists(path: &EntryPath) -> Result<(), Errno> {
    open(path, OFlags::PATH).map(drop)
}

/// An error of reading `path`.
pub(super) fn read_error(errno: Errno, doing: &str, path: &EntryPath) -> SourceError {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => SourceErrorKind::NotFound,
        Errno::ACCESS | Errno::PERM => SourceErrorKind::PermissionDenied,
        _ => SourceErrorKind::Io,
    };
    SourceError::new(kind, format!("cannot {doing} {path}"))
        .with_source(std::io::Error::from(errno))
}

/// A warning about an entry that could not be listed or looked at.
pub(super) fn read_warning(errno: Errno, doing: &str, path: &EntryPath) -> Warning {
    match errno {
        Errno::NOENT | Errno::NOTDIR => vanished(path, "vanished while the backup ran"),
        // The path was resolved a moment ago: a link stands where the entry was.
        Errno::LOOP => vanished(path, "was replaced while the backup ran"),
        errno => warning(
            WarningKind::Unreadable,
            path,
            format!("cannot {doing}: {}", std::io::Error::from(errno)),
        ),
    }
}

/// A warning about an entry that is gone.
pub(super) fn vanished(path: &EntryPath, message: &str) -> Warning {
    warning(WarningKind::Vanished, path, message.to_owned())
}

/// A warning about `path`.
pub(super) fn warning(kind: WarningKind, path: &EntryPath, message: String) -> Warning {
    Warning { kind, path: path.to_string(), message }
}
