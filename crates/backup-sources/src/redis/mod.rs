//! The Redis source: Redis from 6.0 on, and Valkey.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`RedisSource`]: the source itself |
//! | `options.rs` | [`RedisOptions`]: what it can be told; addresses |
//! | `layout.rs` | where things lie in a snapshot |
//! | `sentinel.rs` | [`Sentinels`]: the servers of a group, and which of them is the master |
//! | `server.rs` | what a server says of itself |
//! | `probe.rs` | what stands in the way |
//! | `rights.rs` | the right to be a replica, checked without a dump |
//! | `backup.rs` | snapshots |
//! | `request.rs` | requests of a dump: as a replica, or key by key |
//! | `reader.rs` | a backup that is read by a task of its own |
//! | `scan.rs` | reading key by key, where a server keeps PSYNC to itself |
//! | `import.rs` | [`RdbFile`]: RDB files as a source |
//! | `since.rs` | incremental and differential snapshots |
//! | `cluster/` | clusters: who has what, snapshots of all masters |
//! | `stream.rs` | the stream of commands, cut into whole events |
//! | `follow.rs` | reading it, and saying that we are alive |
//! | `capture.rs` | following it for the log lane |
//! | `directory.rs` | [`RedisDirectory`]: restoring where there is no server |
//! | `restore/` | writing a snapshot to a server or to a directory |
//! | `digest.rs` | digests of databases, to compare copies |
//! | `rdb/` | dumps, read while they come |
//! | `wire/` | connections to a server |
//! | `compare.rs` | [`Comparison`]: a snapshot beside a server |
//! | `error.rs` | from the server's errors to ours |

mod backup;
mod capture;
mod cluster;
mod compare;
mod digest;
mod directory;
mod error;
mod follow;
mod import;
mod layout;
mod options;
mod probe;
mod rdb;
mod reader;
mod request;
mod restore;
mod rights;
mod scan;
mod sentinel;
mod server;
mod since;
mod stream;
mod wire;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupKind, BackupReader, BackupRequest, Digest, EntryPath, LogReader, Probe, RestoreReport,
    RestoreRequest, SelectedPart, Selection, Source, SourceCapabilities, SourceError,
    SourceErrorKind, SourceIdentity, SourceResult,
};

pub use compare::Comparison;
pub use directory::RedisDirectory;
pub use import::{RdbFile, RdbOptions, RdbTime};
pub use options::{Engine, RedisOptions, RestoreOptions, SentinelLogin, SnapshotReading, Ttl, Way};
pub use restore::{FoundKey, FoundKeys, find_keys};

pub use sentinel::Sentinels;

use layout::Layout;
use server::Server;

/// A server of Redis or Valkey, or the cluster that it is a node of.
#[derive(Debug, Clone)]
pub struct RedisSource {
    server: Server,
    options: RedisOptions,
    layout: Layout,
}

impl RedisSource {
    /// Connects to what `options` name.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if the address makes no sense or the credentials are refused,
    /// [`SourceErrorKind::Unavailable`] if the server cannot be reached or is not ready.
    pub async fn connect(options: RedisOptions) -> SourceResult<Self> {
        let server = Server::find(&sentinel::reading(&options).await?).await?;
        let layout = Layout::of(&name(&options));
        Ok(Self { server, options, layout })
    }

    /// The same, but it restores in another way.
    #[must_use]
    pub fn restoring(mut self, restore: RestoreOptions) -> Self {
        self.options.restore = restore;
        self
    }

    fn is_cluster(&self) -> bool {
        self.server.info.is_cluster()
    }

    /// The databases of the server or of all nodes, as far as `part` covers them.
    async fn databases(
        &self,
        cx: &Context,
        part: &digest::Part,
    ) -> SourceResult<BTreeMap<u32, rdb::DatabaseSurvey>> {
        unless_cancelled(cx, async {
            if self.is_cluster() {
                let version = self.server.version.as_ref();
                return Box::pin(cluster::databases(&self.options, version, part)).await;
            }
            let options = sentinel::reading(&self.options).await?;
            Box::pin(digest::databases(&options, part)).await
        })
        .await
    }

    /// Compares a snapshot with the server, without a restore.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unsupported`] if the snapshot has commands behind its dump; those of
    /// reading either side.
    pub async fn compare(
        &self,
        cx: &Context,
        snapshot: &SnapshotReader,
        selection: &Selection,
    ) -> SourceResult<Comparison> {
        let options = sentinel::reading(&self.options).await?;
        let doing = |error: error::WireError| error.into_source("cannot read the server's time");
        let mut client = wire::Endpoint::of(&options).ask().await.map_err(doing)?;
        let now = restore::target_time(cx, &mut client).await?;
        let (stored, found) =
            (digest::Part::comparable(selection, now), digest::Part::comparable(selection, now));
        let there = restore::stored(cx, snapshot, &stored).await?;
        let here = self.databases(cx, &found).await?;
        Ok(Comparison::of(cx, (&there, &here), (&stored, &found)))
    }

    /// Whether there may be a stream of commands.
    fn require_stream(&self) -> SourceResult<()> {
        if self.options.reader != Some(SnapshotReading::Scan) {
            return Ok(());
        }
        let text = "a server that is read key by key has no replication stream to capture";
        Err(SourceError::new(SourceErrorKind::Unsupported, text)
            .with_hint("set `reader` to `replica`"))
    }
}

fn name(options: &RedisOptions) -> String {
    options.name.clone().unwrap_or_else(|| options.address())
}

impl fmt::Display for RedisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_cluster() { "cluster" } else { "server" };
        match &self.server.version {
            Some(version) => write!(f, "{:?} {what} {}", version.vendor, name(&self.options)),
            None => write!(f, "Redis {what} {}", name(&self.options)),
        }
    }
}

/// The identity of a server by the name in the configuration, or by its address: for snapshots that
/// join those of a server that cannot be reached.
#[must_use]
pub fn identity_of(name: &str) -> SourceIdentity {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let paths = vec![Layout::of(name).node().display().into_owned()];
    SourceIdentity { kind: "redis".to_owned(), id: name.to_owned(), host: host.to_owned(), paths }
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

/// A server sends everything that it has.
fn require_whole(selection: &Selection) -> SourceResult<()> {
    if selection.is_all() {
        return Ok(());
    }
    let error = SourceError::new(SourceErrorKind::Unsupported, "a server is backed up as a whole");
    Err(error.with_hint("leave the selection out, and select when restoring"))
}

#[async_trait]
impl Source for RedisSource {
    fn kind(&self) -> &'static str {
        "redis"
    }

    /// By its name or address: what the server calls itself changes with every start.
    fn identity(&self) -> SourceIdentity {
        let top = EntryPath::root().join(layout::TOP.as_bytes());
        let path = if self.is_cluster() { top } else { self.layout.node() };
        let paths = vec![path.display().into_owned()];
        SourceIdentity {
            kind: self.kind().to_owned(),
            id: name(&self.options),
            host: self.options.host.clone(),
            paths,
        }
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: true, log_capture: true }
    }

    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        unless_cancelled(cx, async {
            probe::probe(cx, &sentinel::reading(&self.options).await?).await
        })
        .await
    }

    async fn selected(
        &self,
        cx: &Context,
        selection: &Selection,
    ) -> SourceResult<Vec<SelectedPart>> {
        require_whole(selection)?;
        if self.is_cluster() {
            return Ok(vec![SelectedPart::whole("the whole cluster")]);
        }
        let finding = async { Server::find(&sentinel::reading(&self.options).await?).await };
        let server = unless_cancelled(cx, finding).await?;
        if !server.info.is_known() {
            return Ok(vec![SelectedPart::whole("the whole server")]);
        }
        let part = |(number, keys)| SelectedPart {
            name: format!("db{number}"),
            objects: Some(keys),
            unit: "keys",
        };
        Ok(server.info.keys().into_iter().map(part).collect())
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        require_whole(&request.selection)?;
        let (own, layout) = (cx.clone(), self.layout.clone());
        let options = self.options.reporting_to(&cx.events);
        let is_scan = self.options.reader == Some(SnapshotReading::Scan);
        let parent =
            request.parent.clone().filter(|_| request.kind != BackupKind::Full && !is_scan);
        let clock = self.server.clock;
        if self.is_cluster() {
            let version = self.server.version.clone();
            return Ok(reader::reader(cx, clock, async move |feed: reader::Feed| match &parent {
                Some(parent) => {
                    cluster::since(&own, &options, version.as_ref(), parent, &feed).await
                }
                None => cluster::full(&own, &options, version.as_ref(), &feed).await,
            }));
        }
        Ok(reader::reader(cx, clock, async move |feed: reader::Feed| {
            let options = sentinel::reading(&options).await?;
            match &parent {
                Some(parent) => since::since(&own, &options, &layout, parent, &feed).await,
                None => backup::full(&own, &options, &layout, &feed, Some(BackupKind::Full)).await,
            }
        }))
    }

    async fn open_log(
        &self,
        cx: &Context,
        from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        self.require_stream()?;
        if self.is_cluster() {
            if let Some(from) = from {
                return Err(follow::gap(format!(
                    "the offsets of the masters at {from} are unknown"
                )));
            }
            return unless_cancelled(
                cx,
                cluster::open(cx, &self.options, self.server.version.as_ref(), None),
            )
            .await;
        }
        unless_cancelled(cx, async {
            let options = sentinel::reading(&self.options).await?;
            capture::open(cx, &options, &self.layout, from).await
        })
        .await
    }

    async fn resume_log(
        &self,
        cx: &Context,
        from: &Position,
        state: &str,
    ) -> SourceResult<Box<dyn LogReader>> {
        self.require_stream()?;
        if !self.is_cluster() {
            return Err(follow::gap(
                "the log is that of a cluster, but this is a single server".to_owned(),
            ));
        }
        let opening =
            cluster::open(cx, &self.options, self.server.version.as_ref(), Some((from, state)));
        unless_cancelled(cx, opening).await
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        Box::pin(restore::restore(cx, &self.options, request, snapshot)).await
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        let found = self.databases(cx, &digest::Part::of(selection)).await?;
        Ok(Digest { objects: backup::objects(&found) })
    }
}
