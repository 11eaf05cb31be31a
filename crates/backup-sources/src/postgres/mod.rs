//! The PostgreSQL source: clusters from 13 on.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`PostgresSource`]: the source itself |
//! | `options.rs` | [`PostgresOptions`]: what it can be told; connection strings |
//! | `lsn.rs` | [`Lsn`]: places in the log |
//! | `layout.rs` | where things lie in a snapshot, names of segments |
//! | `cluster.rs` | which cluster this is |
//! | `backup/` | physical backups |
//! | `conf/` | configuration files: settings, and files that they include |
//! | `changed.rs` | which pages changed, as the log tells it |
//! | `delta.rs` | what changed of a relation's file, and what becomes of it together with earlier backups |
//! | `wal/` | the log: capturing it, finding moments in it |
//! | `directory.rs` | [`PostgresDirectory`]: restoring without a server |
//! | `restore_options.rs` | settings of a restored data directory |
//! | `restore/` | writing a data directory that gets to a moment by itself |
//! | `scratch/` | [`Scratch`]: a server of our own on a restored copy |
//! | `probe.rs` | what stands in the way of a backup |
//! | `estimates.rs` | numbers of rows by the server's estimates |
//! | `digest.rs` | digests of tables, to compare copies |
//! | `page.rs` | checksums of pages |
//! | `wire/` | connections for replication and for SQL |
//! | `session.rs` | [`PostgresSession`]: such a connection for others |
//! | `logical/` | [`LogicalSource`]: databases by SQL instead |
//! | `surroundings.rs` | the environment of servers that are started |
//! | `identifier.rs` | names as SQL writes them |
//! | `error.rs` | from the server's errors to ours |

mod backup;
mod changed;
mod cluster;
mod conf;
mod delta;
mod digest;
mod directory;
mod error;
mod estimates;
mod identifier;
mod layout;
mod logical;
mod lsn;
mod options;
mod page;
mod probe;
mod restore;
mod restore_options;
mod scratch;
mod session;
mod surroundings;
mod wal;
mod wire;

use std::fmt;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::{Position, Timeline};
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Digest, LogReader, Probe, RestoreReport, RestoreRequest,
    SelectedPart, Selection, Source, SourceCapabilities, SourceError, SourceErrorKind,
    SourceIdentity, SourceResult,
};

pub use backup::synthetic_full;
pub use directory::PostgresDirectory;
pub use logical::{Comparison, LogicalOptions, LogicalSource, Renames, restore_to_server};
pub use lsn::Lsn;
pub use options::{
    ClientEnvironment, ConnectionOptions, Host, Keepalive, Methods, PostgresOptions, ServerRole,
    TlsMode, TlsVersions, hosts_of,
};
pub use restore::promote;
pub use restore_options::{RecoveryTarget, RestoredConfiguration};
pub use scratch::{Scratch, ScratchOptions};
pub use session::PostgresSession;
pub use wal::{SlotHealth, SlotState, WalFile, fetch_wal, system_id_of};

use cluster::Cluster;
use layout::Layout;

/// A PostgreSQL cluster.
#[derive(Debug, Clone)]
pub struct PostgresSource {
    cluster: Cluster,
    options: PostgresOptions,
}

impl PostgresSource {
    /// Connects to what `options` name.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if the address makes no sense, the credentials are refused or
    /// it is another cluster than [`PostgresOptions::system_id`] says,
    /// [`SourceErrorKind::Unavailable`] if no server can be reached.
    pub async fn connect(options: PostgresOptions) -> SourceResult<Self> {
        let cluster = Cluster::find(&options).await?;
        Ok(Self { cluster, options })
    }

    /// The same, but what it restores stops somewhere else.
    #[must_use]
    pub fn recovering(mut self, recovery: RecoveryTarget) -> Self {
        self.options.recovery = recovery;
        self
    }

    /// The identifier that all servers of the cluster share.
    #[must_use]
    pub fn system_id(&self) -> u64 {
        self.cluster.system_id
    }

    /// How the replication slot is that capturing the log keeps; `None` if there is none (yet).
    ///
    /// # Errors
    /// [`SourceErrorKind::Unavailable`] and [`SourceErrorKind::Invalid`] if the server cannot be
    /// asked.
    pub async fn slot_health(&self, cx: &Context) -> SourceResult<Option<SlotHealth>> {
        match &self.options.slot {
            Some(name) => unless_cancelled(cx, wal::health(&self.options, name)).await,
            None => Ok(None),
        }
    }
}

impl fmt::Display for PostgresSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL cluster {}", self.cluster.system_id)
    }
}

/// Runs `work` until the caller cancels.
async fn unless_cancelled<T>(
    cx: &Context,
    work: impl Future<Output = SourceResult<T>>,
) -> SourceResult<T> {
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => Err(SourceError::cancelled()),
        done = work => done,
    }
}

/// A data directory makes sense as a whole only.
fn require_whole(selection: &Selection) -> SourceResult<()> {
    if selection.is_all() {
        return Ok(());
    }
    let error =
        SourceError::new(SourceErrorKind::Unsupported, "a data directory is backed up as a whole");
    Err(error.with_hint("leave the selection out"))
}

#[async_trait]
impl Source for PostgresSource {
    fn kind(&self) -> &'static str {
        cluster::KIND
    }

    /// By the identifier that the cluster got when it was made: hosts come and go.
    fn identity(&self) -> SourceIdentity {
        let host = self.options.hosts.first().map(|host| host.name.clone()).unwrap_or_default();
        let paths = vec![Layout::of(self.cluster.system_id).cluster().display().into_owned()];
        SourceIdentity {
            kind: self.kind().to_owned(),
            id: self.cluster.system_id.to_string(),
            host,
            paths,
        }
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities {
            incremental: self.cluster.refusal.is_none(),
            log_capture: self.cluster.refusal.is_none(),
        }
    }

    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        unless_cancelled(cx, probe::probe(cx, &self.cluster, &self.options)).await
    }

    async fn selected(
        &self,
        _cx: &Context,
        selection: &Selection,
    ) -> SourceResult<Vec<SelectedPart>> {
        require_whole(selection)?;
        Ok(vec![SelectedPart::whole("the whole cluster")])
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        require_whole(&request.selection)?;
        if let Some(refusal) = &self.cluster.refusal {
            let text = format!("the data directory cannot be read: {}", refusal.finding);
            let error = SourceError::new(SourceErrorKind::Unsupported, text);
            return Err(error.with_hint(refusal.remedy.clone()));
        }
        Ok(backup::open(cx, &self.cluster, &self.options.reporting_to(&cx.events), request))
    }

    async fn open_log(
        &self,
        cx: &Context,
        from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        let options = self.options.reporting_to(&cx.events);
        unless_cancelled(cx, wal::open(cx, &self.cluster, &options, from)).await
    }

    async fn require_lineage(&self, cx: &Context, known: &Timeline) -> SourceResult<()> {
        unless_cancelled(cx, wal::require_lineage(&self.cluster, &self.options, known)).await
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        restore::restore(cx, &self.options, request, snapshot).await
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        let options = self.options.reporting_to(&cx.events);
        unless_cancelled(cx, digest::digest(cx, &options, selection)).await
    }
}
