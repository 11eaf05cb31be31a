//! The catalog: what this machine remembers of its runs. Nothing in it is needed to restore
//! anything, and no backup fails because of it: whoever cannot use it says so and goes on.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Catalog`]: what every catalog can do; [`Shared`]: what machines that share one agree on; [`open`] |
//! | `home.rs` | [`Home`]: where the catalog is |
//! | `error.rs` | [`Error`]: what goes wrong |
//! | `history.rs` | [`History`]: the backups of jobs that alert rules compare |
//! | `filter.rs` | what all databases have in common: the values of a row, what a filter means |
//! | `future.rs` | runs that are dated after the present |
//! | `sqlite.rs` | the catalog in a file |
//! | `schema.rs` | its tables, version by version |
//! | `before.rs` | copies of the file from before its tables were changed |
//! | `rows.rs` | runs as its rows |
//! | `postgres/` | the catalog in a database of PostgreSQL |
//! | `conformance.rs` | what every catalog must do (feature `testing`) |
//! | `tests.rs` | what SQLite does besides |

mod before;
#[doc(hidden)]
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod error;
mod filter;
mod future;
mod history;
mod home;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

pub use error::{Error, Result};
pub use history::{History, NEWEST};
pub use home::Home;
#[cfg(feature = "postgres")]
pub use postgres::Server;

pub(crate) use home::check;

use crate::runs::{Holder, Run, RunId};

/// Version of the tables in a file: its `user_version`.
pub const FILE_VERSION: u32 = schema::VERSION;
/// Version of the tables in PostgreSQL: `backup_catalog.version`.
#[cfg(feature = "postgres")]
pub const SERVER_VERSION: u32 = postgres::VERSION;
/// Version of the tables in PostgreSQL, which this program was built without.
#[cfg(not(feature = "postgres"))]
pub const SERVER_VERSION: u32 = 1;

/// A catalog that several tasks use.
pub type SharedCatalog = Arc<dyn Catalog>;

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
    /// Only runs of whole jobs: without backups of parts.
    pub whole: bool,
    /// The oldest come first, and are those within the limit.
    pub oldest_first: bool,
    /// At most so many: the newest.
    pub limit: Option<u32>,
}

/// What is remembered of runs. Safe for several processes at once, those of other machines too if
/// it is [shared](Catalog::shared).
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// Adds a run; of very many, the oldest go.
    ///
    /// # Errors
    /// [`Error::Known`] if it has a run with this name; those of the database.
    async fn add(&self, run: &Run) -> Result<()>;

    /// Replaces the record of a run that has not ended, or whose end is presumed; the record of
    /// one that has ended stays unchanged.
    ///
    /// # Errors
    /// Those of the database.
    async fn update(&self, run: &Run) -> Result<()>;

    /// Changes the address of the repository of a run, as after the repository was moved.
    ///
    /// # Errors
    /// Those of the database.
    async fn relocate(&self, run: &RunId, repository: &str) -> Result<()>;

    /// The runs that are meant, newest first.
    ///
    /// # Errors
    /// Those of the database.
    async fn runs(&self, filter: &RunFilter) -> Result<Found>;

    /// The backups of jobs that alert rules compare, newest first, without backups of parts.
    ///
    /// # Errors
    /// As for [`runs`](Self::runs).
    async fn history(&self, of: &History) -> Result<Found>;

    /// The jobs that were ever backed up into a repository, or were to be, by name.
    ///
    /// # Errors
    /// Those of the database.
    async fn jobs(&self, repository: &str) -> Result<Vec<String>>;

    /// The runs whose names begin so, at most two: whoever asks for one only wants to know whether
    /// there are more.
    ///
    /// # Errors
    /// Those of the database.
    async fn named(&self, beginning: &str) -> Result<Vec<Run>>;

    /// What machines that share it agree on; none if it is of this machine alone, whose system
    /// tells the living from the dead.
    fn shared(&self) -> Option<&dyn Shared> {
        None
    }
}

/// What machines that share a catalog agree on. Times are those of the database: no clock of a
/// machine is compared with another's.
#[async_trait]
pub trait Shared: Debug + Send + Sync {
    /// Shows that a run goes on.
    ///
    /// # Errors
    /// Those of the database.
    async fn beat(&self, run: &RunId) -> Result<()>;

    /// The runs that have not ended, and have shown nothing for [`SILENCE`].
    ///
    /// # Errors
    /// Those of the database.
    async fn silent(&self) -> Result<Vec<RunId>>;

    /// Takes the right to what `key` stands for, for [`FLIGHT`] and for the process of `run`; else
    /// says who has it. `dead` are runs whose processes have died, which therefore have it no more.
    ///
    /// # Errors
    /// Those of the database.
    async fn take_flight(&self, key: &str, run: &Run, dead: &[String]) -> Result<Option<Holder>>;

    /// Keeps it for as long again; false if `run` does not have it any more.
    ///
    /// # Errors
    /// Those of the database.
    async fn keep_flight(&self, key: &str, run: &RunId) -> Result<bool>;

    /// Gives it back.
    ///
    /// # Errors
    /// Those of the database.
    async fn end_flight(&self, key: &str, run: &RunId) -> Result<()>;
}

/// How often a run shows that it goes on.
pub const BEAT: Duration = Duration::from_secs(60);
/// How long a run that nobody hears of is taken for one that goes on.
pub const SILENCE: Duration = Duration::from_secs(30 * 60);
/// How long the right to execute a job lasts, unless it is kept.
pub const FLIGHT: Duration = Duration::from_secs(90);

/// An opened catalog.
#[derive(Debug)]
pub struct Opened {
    /// The catalog.
    pub catalog: SharedCatalog,
    /// Where a damaged one was put, in whose place a new one was made.
    pub put_aside: Option<PathBuf>,
}

/// Opens the catalog. One in a directory is made if it is not there, copied and brought to
/// [`FILE_VERSION`] if it is older, and put aside if it is damaged; one of a server is connected to when it is asked for something.
///
/// # Errors
/// [`Error::Newer`], [`Error::Place`], [`Error::Busy`], and those of the database.
pub async fn open(home: &Home, now: Timestamp) -> Result<Opened> {
    match home {
        Home::Directory(dir) => {
            let dir = dir.clone();
            let (catalog, put_aside) =
                tokio::task::spawn_blocking(move || sqlite::open(&dir, now, sqlite::AT_THE_DOOR))
                    .await??;
            Ok(Opened { catalog: Arc::new(catalog), put_aside })
        }
        #[cfg(feature = "postgres")]
        Home::Server(server) => Ok(Opened {
            catalog: Arc::new(postgres::Postgres::new(server.clone())),
            put_aside: None,
        }),
    }
}
