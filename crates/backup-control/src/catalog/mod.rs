//! The catalog: what this machine remembers of its runs. Nothing in it is needed to restore anything, and no backup fails because
//! of it: whoever cannot use it says so and goes on.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Catalog`]: what every catalog can do; [`open`] |
//! | `sqlite.rs` | the catalog in a file |
//! | `schema.rs` | its tables, version by version |
//! | `rows.rs` | runs as rows |
//! | `tests.rs` | what every catalog must do |

mod rows;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::runs::Run;
use crate::state;

/// A catalog that several tasks use.
pub type SharedCatalog = Arc<dyn Catalog>;

/// Result of an operation of a catalog.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What goes wrong with a catalog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A newer version of this program has written it.
    #[error("the catalog {} was written by a newer version of this program", .0.display())]
    Newer(PathBuf),
    /// Its directory cannot be used.
    #[error("cannot use {}", .0.display())]
    Place(PathBuf, #[source] io::Error),
    /// Another process has stood in its door for too long.
    #[error("another process holds {} and does not let go of it", .0.display())]
    Busy(PathBuf),
    /// The database failed.
    #[error("the catalog {} failed", .0.display())]
    Database(PathBuf, #[source] rusqlite::Error),
    /// A bug in this program.
    #[error("a thread of the catalog failed")]
    Internal(#[from] tokio::task::JoinError),
}

impl Error {
    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Newer(_) => "use that version, or another directory by BACKUP_STATE_DIR".to_owned(),
            Self::Place(path, error) if error.kind() == io::ErrorKind::PermissionDenied => match state::owner(path) {
                Some(owner) => {
                    format!(
                        "it belongs to {owner}: give it to this user, or name another directory in BACKUP_STATE_DIR"
                    )
                }
                None => "name a directory that this user may write in BACKUP_STATE_DIR".to_owned(),
            },
            Self::Place(..) => "name a directory that this user may write in BACKUP_STATE_DIR".to_owned(),
            Self::Busy(path) => format!("`fuser {}` names it", path.display()),
            Self::Database(_, error) if sqlite::is_damage(error) => {
                "the next command puts it aside and makes a new one; nothing in a repository depends on it".to_owned()
            }
            Self::Database(..) => "is there room on its disk, and does no other program hold it?".to_owned(),
            Self::Internal(_) => "this is a mistake in the program".to_owned(),
        }
    }
}

/// Runs that were found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// They.
    pub runs: Vec<Run>,
    /// Rows that cannot be read, and are left out.
    pub unreadable: u64,
}

/// Which runs are meant; without anything, all.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of this job.
    pub job: Option<String>,
    /// Into this repository: its address as it may be shown.
    pub repository: Option<String>,
    /// On this host.
    pub host: Option<String>,
    /// Begun in this time.
    pub within: Option<Range<Timestamp>>,
    /// Only those that have not ended.
    pub unfinished: bool,
    /// Only those that did what they were to do.
    pub successful: bool,
    /// Only those that ended without having done it.
    pub failed: bool,
    /// Only backups.
    pub backups: bool,
    /// Only restores.
    pub restores: bool,
    /// The oldest come first, and are those within the limit.
    pub oldest_first: bool,
    /// At most so many: the newest.
    pub limit: Option<u32>,
}

/// What is remembered of runs. Safe for several processes at once.
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// Adds a run; of very many, the oldest go.
    ///
    /// # Errors
    /// Those of the database.
    async fn add(&self, run: &Run) -> Result<()>;

    /// Replaces what is remembered of a run that has not ended; of one that has, nothing is changed.
    ///
    /// # Errors
    /// Those of the database.
    async fn update(&self, run: &Run) -> Result<()>;

    /// The runs that are meant, newest first.
    ///
    /// # Errors
    /// Those of the database.
    async fn runs(&self, filter: &RunFilter) -> Result<Found>;

    /// The jobs that were ever backed up into a repository, or were to be, by name.
    ///
    /// # Errors
    /// Those of the database.
    async fn jobs(&self, repository: &str) -> Result<Vec<String>>;

    /// The runs whose names begin so, at most two: whoever asks for one only wants to know whether there are more.
    ///
    /// # Errors
    /// Those of the database.
    async fn named(&self, beginning: &str) -> Result<Vec<Run>>;
}

/// An opened catalog.
#[derive(Debug)]
pub struct Opened {
    /// The catalog.
    pub catalog: SharedCatalog,
    /// Where a damaged one was put, in whose place a new one was made.
    pub put_aside: Option<PathBuf>,
}

/// Opens the catalog in the state directory `dir`, making it if it is not there. A damaged one is put aside.
///
/// # Errors
/// [`Error::Newer`], [`Error::Place`], [`Error::Busy`], and those of the database.
pub async fn open(dir: &Path, now: Timestamp) -> Result<Opened> {
    let dir = dir.to_path_buf();
    let (catalog, put_aside) =
        tokio::task::spawn_blocking(move || sqlite::open(&dir, now, sqlite::AT_THE_DOOR)).await??;
    Ok(Opened { catalog: Arc::new(catalog), put_aside })
}
