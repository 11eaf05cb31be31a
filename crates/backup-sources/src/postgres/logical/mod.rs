//! Logical backups of PostgreSQL: definitions by `pg_dump`, rows by COPY, all of a database as one
//! snapshot shows it. For services that keep the data directory to themselves, for single
//! databases, schemas and tables, and to get from one version to another.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`LogicalSource`]: the source itself |
//! | `options.rs` | [`LogicalOptions`]: its settings |
//! | `filter.rs` | which databases, schemas and relations are meant |
//! | `ready.rs` | what is required of a target before parts of a cluster are read |
//! | `rename.rs` | [`Renames`]: restoring under other names |
//! | `catalog.rs` | which relations there are |
//! | `parents.rs` | relations and their parents, without circles |
//! | `closed.rs` | databases that allow no connections |
//! | `layout.rs`, `manifest.rs` | where things lie in a snapshot, and what is said of them |
//! | `session.rs` | sessions with the settings that values are read and written with |
//! | `programs.rs` | finding `pg_dump`, and its arguments |
//! | `running.rs` | running it: limits, output, refusals |
//! | `sql/` | parser of the output of `pg_dump` |
//! | `backup/` | reading |
//! | `restore/` | writing |
//! | `probe.rs` | checks before a backup |
//! | `digest.rs` | digests of the tables of a server |
//! | `compare.rs` | a backup beside a server |
//! | `error.rs` | errors of servers, with hints |

mod backup;
mod catalog;
mod closed;
mod compare;
mod digest;
mod error;
mod filter;
mod layout;
mod manifest;
mod options;
mod parents;
mod probe;
mod programs;
mod ready;
mod rename;
mod restore;
mod running;
mod session;
mod sql;

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Digest, LogReader, Probe, RestoreReport, RestoreRequest,
    SelectedPart, Selection, Source, SourceCapabilities, SourceError, SourceErrorKind,
    SourceIdentity, SourceResult,
};

pub use compare::Comparison;
pub use options::LogicalOptions;
pub use rename::Renames;

use super::cluster::Cluster;
use super::error::of_sql;
use super::options::PostgresOptions;
use super::unless_cancelled;
use super::wire::Sql;
use layout::Place;

/// The databases of a PostgreSQL cluster, read by SQL.
#[derive(Debug, Clone)]
pub struct LogicalSource {
    cluster: Cluster,
    options: LogicalOptions,
}

impl LogicalSource {
    /// The value of [`Source::kind`].
    pub const KIND: &'static str = "postgres-logical";

    /// Connects to the server of `options`.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if the credentials are refused or it is another cluster than
    /// [`PostgresOptions::system_id`] says, [`SourceErrorKind::Unavailable`] if no server can be
    /// reached.
    pub async fn connect(options: LogicalOptions) -> SourceResult<Self> {
        let cluster = Cluster::find_by_sql(&options.connection).await?;
        Ok(Self { cluster, options })
    }

    /// Checks that parts of a cluster of this `version` can be written here, before they are read:
    /// the target takes writes, and databases that `selection` names exist or may be created.
    ///
    /// # Errors
    /// [`SourceErrorKind::Target`] if that is not so; those of connecting.
    pub async fn require_ready(
        &self,
        cx: &Context,
        version: u32,
        selection: &Selection,
    ) -> SourceResult<()> {
        let options = self.options.reporting_to(&cx.events);
        unless_cancelled(cx, ready::require(cx, &options, version, selection)).await
    }

    /// Compares the rows of a logical backup, by the digests that it recorded, with those of the
    /// server, as far as `selection` covers them. Definitions, values of sequences and large objects
    /// are not compared.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unsupported`] for a backup without digests; those of reading either side.
    /// Differences are no error.
    pub async fn compare(
        &self,
        cx: &Context,
        snapshot: &SnapshotReader,
        selection: &Selection,
    ) -> SourceResult<Comparison> {
        let options = self.options.reporting_to(&cx.events);
        unless_cancelled(cx, compare::with_snapshot(cx, &options, snapshot, selection)).await
    }

    /// The same with `copy`, a server on a restored data directory, in place of a backup. Unlogged
    /// tables are not compared either.
    ///
    /// # Errors
    /// Those of reading either side. Differences are no error.
    pub async fn compare_with_copy(
        &self,
        cx: &Context,
        copy: &Self,
        selection: &Selection,
    ) -> SourceResult<Comparison> {
        let options = self.options.reporting_to(&cx.events);
        unless_cancelled(cx, compare::with_copy(cx, &options, &copy.options, selection)).await
    }
}

/// Fails unless programs that read databases of a server of this version are in this directory, or
/// are installed.
pub(super) async fn require_dump(programs: Option<PathBuf>, version: u32) -> SourceResult<()> {
    let options = LogicalOptions { programs, ..LogicalOptions::new(PostgresOptions::default()) };
    programs::Programs::find(&options, version).await.map(|_| ())
}

/// The databases that hold something of users, templates of their own among them; not those that a
/// restore has not completed.
async fn databases(sql: &Sql) -> SourceResult<Vec<String>> {
    // A limit of -2: dropping it was broken off, and nobody can connect any more.
    const ASKING: &str = "SELECT datname::text FROM pg_database WHERE datallowconn AND \
                          datconnlimit <> -2 AND datname NOT IN ('template0', 'template1', \
                          'rdsadmin', 'cloudsqladmin', 'azure_maintenance', 'azure_sys') AND \
                          shobj_description(oid, 'pg_database') IS DISTINCT FROM $1 ORDER BY 1";
    let rows = sql.client.query(ASKING, &[&restore::INCOMPLETE]).await;
    let names = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
    names.map_err(|error| of_sql(&error, "cannot list the databases"))
}

/// Writes a snapshot to the server that `options` name: [`LogicalSource::restore`] where the origin
/// may be gone.
///
/// # Errors
/// [`SourceErrorKind::TargetExists`] if the target has something of it already,
/// [`SourceErrorKind::Target`] if the target refuses, [`SourceErrorKind::Mismatch`] if what was
/// written is not what was backed up.
pub async fn restore_to_server(
    cx: &Context,
    options: &LogicalOptions,
    request: &RestoreRequest,
    snapshot: &SnapshotReader,
) -> SourceResult<RestoreReport> {
    // Another target has nothing of this source's credentials and certificates.
    let connection = match &request.target {
        None => options.connection.clone(),
        Some(address) => {
            let waits = options.connection.waits.clone();
            PostgresOptions { waits, ..PostgresOptions::parse(address)? }
        }
    };
    let connection = connection.reporting_to(&cx.events);
    let options = LogicalOptions { connection, ..options.clone() };
    Box::pin(restore::restore(cx, &options, request, snapshot)).await
}

impl fmt::Display for LogicalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "databases of the PostgreSQL cluster {}", self.cluster.system_id)
    }
}

#[async_trait]
impl Source for LogicalSource {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn identity(&self) -> SourceIdentity {
        let host =
            self.options.connection.hosts.first().map(|host| host.name.clone()).unwrap_or_default();
        let paths = vec![Place::of(self.cluster.system_id).top().display().into_owned()];
        SourceIdentity {
            kind: self.kind().to_owned(),
            id: self.cluster.system_id.to_string(),
            host,
            paths,
        }
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: false, log_capture: false }
    }

    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        unless_cancelled(cx, probe::probe(cx, &self.cluster, &self.options)).await
    }

    async fn selected(
        &self,
        cx: &Context,
        selection: &Selection,
    ) -> SourceResult<Vec<SelectedPart>> {
        unless_cancelled(cx, probe::selected(cx, &self.options, selection)).await
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        let options = self.options.reporting_to(&cx.events);
        unless_cancelled(cx, backup::open(cx, &self.cluster, &options, request)).await
    }

    async fn open_log(
        &self,
        _: &Context,
        _: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        let error = SourceError::new(
            SourceErrorKind::Unsupported,
            "a logical backup has no log to capture",
        );
        Err(error.with_hint("back up the cluster physically"))
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        restore_to_server(cx, &self.options, request, snapshot).await
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        unless_cancelled(cx, digest::digest(cx, &self.options, selection)).await
    }
}
