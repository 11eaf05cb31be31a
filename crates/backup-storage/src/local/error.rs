//! From the operating system's errors to [`SinkError`].

use std::io;

use backup_core::sink::{Key, Operation, SinkError, SinkErrorKind, SinkResult};
use rustix::io::Errno;

/// What an error means for the caller.
fn kind(error: &io::Error) -> SinkErrorKind {
    if let Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS) = Errno::from_io_error(error) {
        return SinkErrorKind::Unavailable;
    }
    match error.kind() {
        io::ErrorKind::NotFound => SinkErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => SinkErrorKind::AlreadyExists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            SinkErrorKind::PermissionDenied
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SinkErrorKind::StorageFull,
        io::ErrorKind::InvalidFilename
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory => SinkErrorKind::Invalid,
        // Directories of one repository on several file systems: nothing can be renamed from one to
        // the other.
        io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported => SinkErrorKind::Unsupported,
        // Network file systems.
        io::ErrorKind::StaleNetworkFileHandle
        | io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::WouldBlock => SinkErrorKind::Unavailable,
        _ => SinkErrorKind::Other,
    }
}

/// An error of the place itself, before there is a sink.
pub(super) fn at_root(error: impl Into<io::Error>, operation: Operation, path: &str) -> SinkError {
    let error = error.into();
    SinkError::on(kind(&error), operation, path).with_source(error).without_effect()
}

/// An error of reading, which changes nothing. What is not a regular file, or lies below one, is no
/// object.
pub(super) fn reading(error: impl Into<io::Error>, operation: Operation, what: &str) -> SinkError {
    let error = error.into();
    let kind = match Errno::from_io_error(&error) {
        Some(Errno::NOTDIR | Errno::LOOP) => SinkErrorKind::NotFound,
        Some(Errno::IO | Errno::ILSEQ | Errno::BADMSG) => SinkErrorKind::Unreadable,
        _ => kind(&error),
    };
    SinkError::on(kind, operation, what).with_source(error).without_effect()
}

/// An error of writing, with unknown effect.
pub(super) fn writing(error: impl Into<io::Error>, operation: Operation, key: &Key) -> SinkError {
    let error = error.into();
    let kind = match kind(&error) {
        // Not the object but a directory above it is gone: somebody moves things around, or a disk
        // was taken away.
        SinkErrorKind::NotFound => SinkErrorKind::Unavailable,
        kind => kind,
    };
    SinkError::new(kind, operation, key).with_source(error)
}

/// Runs `work` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    operation: Operation,
    what: &str,
    work: impl FnOnce() -> SinkResult<T> + Send + 'static,
) -> SinkResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ended(operation, what, error)),
    }
}

/// The error of a worker that panicked, or that a runtime which shuts down did not let begin.
pub(super) fn ended(operation: Operation, what: &str, error: tokio::task::JoinError) -> SinkError {
    let kind = if error.is_cancelled() { SinkErrorKind::Cancelled } else { SinkErrorKind::Other };
    SinkError::on(kind, operation, what).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_file_system_is_named() {
        let key = Key::new("config").unwrap();
        let error = writing(Errno::ROFS, Operation::Put, &key);
        assert!(error.to_string().ends_with(": the file system is read-only"), "{error}");
        let error = backup_core::error::Error::from(error);
        assert_eq!(error.to_string(), "the storage is read-only");
        assert!(error.hint().unwrap().starts_with("mount the file system read-write"));
        let denied = writing(Errno::ACCESS, Operation::Put, &key);
        assert!(denied.to_string().ends_with(": permission denied"), "{denied}");
    }

    #[test]
    fn every_errno_that_users_meet_has_its_kind() {
        let kind_of = |errno: Errno| kind(&errno.into());
        for (errno, expected) in [
            (Errno::NOSPC, SinkErrorKind::StorageFull),
            (Errno::DQUOT, SinkErrorKind::StorageFull),
            (Errno::ACCESS, SinkErrorKind::PermissionDenied),
            (Errno::PERM, SinkErrorKind::PermissionDenied),
            (Errno::ROFS, SinkErrorKind::PermissionDenied),
            (Errno::NOENT, SinkErrorKind::NotFound),
            (Errno::EXIST, SinkErrorKind::AlreadyExists),
            (Errno::NAMETOOLONG, SinkErrorKind::Invalid),
            (Errno::ISDIR, SinkErrorKind::Invalid),
            (Errno::XDEV, SinkErrorKind::Unsupported),
            (Errno::MFILE, SinkErrorKind::Unavailable),
            (Errno::STALE, SinkErrorKind::Unavailable),
            (Errno::IO, SinkErrorKind::Other),
        ] {
            assert_eq!(kind_of(errno), expected, "{errno:?}");
        }
    }
}
