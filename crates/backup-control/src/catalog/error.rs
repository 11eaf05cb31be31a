//! What goes wrong with a catalog.

use std::io;
use std::path::PathBuf;

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
    #[error("where the catalog is cannot be told")]
    Unclear(#[source] crate::error::Error),
    /// A newer version of this program has written it.
    #[error("the catalog {0} was written by a newer version of this program")]
    Newer(String),
    /// Its directory cannot be used.
    #[error("cannot use {}", .0.display())]
    Place(PathBuf, #[source] io::Error),
    /// Another process has stood in its door for too long.
    #[error("another process holds {} and does not let go of it", .0.display())]
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
    #[error("the catalog {0} knows another run of this name")]
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
                error.hint().unwrap_or("look at `[catalog]` and BACKUP_CATALOG").to_owned()
            }
            Self::Newer(_) => "use that version, or another catalog by BACKUP_STATE_DIR or \
                               `[catalog]`"
                .to_owned(),
            Self::Place(path, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                match state::owner(path) {
                    Some(owner) => {
                        format!(
                            "it belongs to {owner}: give it to this user, or name another \
                             directory in BACKUP_STATE_DIR"
                        )
                    }
                    None => {
                        "name a directory that this user may write in BACKUP_STATE_DIR".to_owned()
                    }
                }
            }
            Self::Place(..) => {
                "name a directory that this user may write in BACKUP_STATE_DIR".to_owned()
            }
            Self::Busy(path) => format!("`fuser {}` names it", path.display()),
            Self::Database(_, error) if sqlite::is_damage(error) => {
                "the next command puts it aside and makes a new one; nothing in a repository \
                 depends on it"
                    .to_owned()
            }
            Self::Database(..) => {
                "is there room on its disk, and does no other program hold it?".to_owned()
            }
            Self::Unreachable { hint, .. } | Self::Server { hint, .. } => hint.clone(),
            Self::Known(_) | Self::Internal(_) => "this is a mistake in the program".to_owned(),
        }
    }
}
