//! What goes wrong with a catalog.

use std::io;
use std::path::{Path, PathBuf};

use backup_core::format::newer;
use rusqlite::ErrorCode;

use super::sqlite;
use crate::state;

/// Result of an operation of a catalog.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cause that only has to be told.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What goes wrong with a catalog. Addresses stand as they may be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not clear where it is.
    #[error("cannot determine the location of the catalog")]
    Unclear(#[source] crate::error::Error),
    /// A newer version of this program has written it.
    #[error("the catalog {catalog} was {}", newer(.version, .known))]
    Newer {
        /// Its file or address.
        catalog: String,
        /// Version of its tables.
        version: i64,
        /// The newest version of tables that this program reads.
        known: i64,
    },
    /// Its directory cannot be used.
    #[error("cannot use {}", .0.display())]
    Place(PathBuf, #[source] io::Error),
    /// Another process has stood in its door for too long.
    #[error("another process does not release the lock on {}", .0.display())]
    Busy(PathBuf),
    /// The database in a file failed.
    #[error("the catalog {} failed", .0.display())]
    Database(PathBuf, #[source] rusqlite::Error),
    /// The server of a shared one cannot be reached, or does not let us in.
    #[error("the catalog {catalog} cannot be reached")]
    Unreachable {
        /// Its address.
        catalog: String,
        /// What can be done about it.
        hint: String,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// The server of a shared one refuses what it was asked for.
    #[error("the catalog {catalog} failed")]
    Server {
        /// Its address.
        catalog: String,
        /// What can be done about it.
        hint: String,
        /// What it says.
        #[source]
        cause: Cause,
    },
    /// A name that stands for another run already.
    #[error("the catalog {0} already has another run with this name")]
    Known(String),
    /// A bug in this program.
    #[error("a thread of the catalog failed")]
    Internal(#[from] tokio::task::JoinError),
}

impl Error {
    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unclear(error) => {
                error.hint().unwrap_or("check `[catalog]` and BACKUP_CATALOG").to_owned()
            }
            Self::Newer { .. } => {
                "use that version, or choose another catalog with BACKUP_STATE_DIR \
                               or `[catalog]`"
                    .to_owned()
            }
            Self::Place(path, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                match state::owner(path) {
                    Some(owner) => {
                        format!(
                            "change its owner from {owner} to this user, or set BACKUP_STATE_DIR \
                             to another directory"
                        )
                    }
                    None => {
                        "set BACKUP_STATE_DIR to a directory that this user may write to".to_owned()
                    }
                }
            }
            Self::Place(..) => {
                "set BACKUP_STATE_DIR to a directory that this user may write to".to_owned()
            }
            Self::Busy(path) => format!("find the process with `fuser {}`", path.display()),
            Self::Database(_, error) if sqlite::is_damage(error) => {
                "run the command again: it moves the damaged catalog aside and creates a new one; \
                 repositories do not depend on it"
                    .to_owned()
            }
            Self::Database(file, error) => database_hint(file, error),
            Self::Unreachable { hint, .. } | Self::Server { hint, .. } => hint.clone(),
            Self::Known(_) | Self::Internal(_) => "report this as a bug".to_owned(),
        }
    }
}

/// The remedy for an error of a database file that is not damaged.
fn database_hint(file: &Path, error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free space on the disk of the catalog".to_owned(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("find the process that holds the catalog with `fuser {}`", file.display())
        }
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied,
        ) => "check that this user may write to the catalog, and that its disk works".to_owned(),
        _ => "report this as a bug".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_cause() {
        let hint = |code: i32| {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            Error::Database("/state/catalog.db".into(), error).hint()
        };
        assert!(hint(rusqlite::ffi::SQLITE_FULL).contains("free space"));
        assert!(hint(rusqlite::ffi::SQLITE_BUSY).contains("fuser /state/catalog.db"));
        assert!(hint(rusqlite::ffi::SQLITE_READONLY).contains("may write"));
        assert_eq!(hint(rusqlite::ffi::SQLITE_CONSTRAINT), "report this as a bug");
    }
}
