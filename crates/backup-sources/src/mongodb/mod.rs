//! The MongoDB source: replica sets and standalone servers from 4.4 on.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`MongoSource`]: the source itself |
//! | `options.rs` | [`MongoOptions`]: what it can be told |
//! | `rename.rs` | [`Renames`]: restoring under other names |
//! | `position.rs` | [`Position`]: moments of a replica set's history |
//! | `address.rs` | options of connection strings |
//! | `client.rs` | the driver's client for an address |
//! | `members.rs` | members and their last heartbeats |
//! | `unreachable.rs` | causes for which a member cannot be used |
//! | `member.rs` | the member that is read, and another one in its place |
//! | `server.rs` | connecting, choosing a member, what kind of deployment it is |
//! | `probe.rs` | what stands in the way of a backup |
//! | `catalog.rs` | which collections, views and indexes there are |
//! | `within.rs` | the databases that a backup is limited to |
//! | `namespace.rs` | names, names of files, selections |
//! | `lineage.rs` | the branch of a replica set in captured logs |
//! | `layout.rs` | where things lie in a snapshot |
//! | `state.rs` | `catalog.bson`: what the dump's own files have no place for |
//! | `scan/` | reading: the backup reader, collections, the oplog |
//! | `tail.rs` | [`OplogTail`]: reading the oplog without a gap |
//! | `history.rs` | [`OplogWindow`]: what the oplog has |
//! | `capture.rs` | following the oplog for the log lane |
//! | `scope.rs` | what pieces of the oplog are about |
//! | `watch.rs` | whether the oplog is long enough for who follows it |
//! | `entries.rs` | the oplog that is folded into a dump: its own, and what was captured since |
//! | `reading.rs` | the documents of one file of a dump |
//! | `dump.rs` | reading a dump inside a snapshot |
//! | `fold/` | bringing a dump to one exact moment by its oplog |
//! | `requests.rs` | commands and cursors, each wait for which is limited |
//! | `restore/` | writing a snapshot to a server |
//! | `expected/` | what a restore must have written, found a second time |
//! | `import/` | [`MongoDump`]: old dumps of mongodump as a source |
//! | `export.rs` | [`export()`]: writing a snapshot as a dump for stock tools |
//! | `archive.rs` | [`export_archive()`]: the same as one file |
//! | `output.rs` | files of an export, compressed or not |
//! | `synthetic/` | [`synthetic_full()`]: a full snapshot made of an earlier one and its oplog |
//! | `ordered.rs` | putting the documents of capped collections in order |
//! | `digest.rs` | digests of collections, to compare copies |
//! | `compare.rs` | [`compare()`]: what a snapshot holds beside what a server does |
//! | `raw/` | BSON as bytes |
//! | `parsed.rs` | documents as values, with a limit on their depth |
//! | `extjson.rs` | canonical extended JSON |
//! | `user.rs` | the user of a connection |
//! | `naming.rs` | readers whose errors name that user |
//! | `error.rs` | from the driver's errors to ours |
//!
//! A snapshot holds, below `/mongodb/<replica set>`, what stock mongodump writes
//! (`dump/<database>/<collection>.bson` and `.metadata.json`, `dump/oplog.bson`) and
//! `catalog.bson`. If the collections were not all read at one moment, only the fold of the oplog
//! makes them fit together; stock `mongorestore --oplogReplay` does the same unless something was
//! created, dropped or renamed meanwhile. Incremental and differential snapshots hold the dump that
//! they build on and the oplog since (`since/<last entry before>.bson`); those of type `log` hold
//! the captured oplog as well (`oplog/<first entry>-<set>.bson`).

mod address;
mod archive;
mod capture;
mod catalog;
mod client;
mod compare;
mod digest;
mod dump;
mod entries;
mod error;
mod expected;
mod export;
mod extjson;
mod fold;
mod history;
mod import;
mod layout;
mod lineage;
mod member;
mod members;
mod namespace;
mod naming;
mod options;
mod ordered;
mod output;
mod parsed;
mod position;
mod probe;
mod raw;
mod reading;
mod rename;
mod requests;
mod restore;
mod scan;
mod scope;
mod server;
mod state;
mod synthetic;
mod tail;
mod unreachable;
mod user;
mod watch;
mod within;

use std::fmt;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Digest, LogReader, Probe, RestoreReport, RestoreRequest,
    SelectedPart, Selection, Source, SourceCapabilities, SourceIdentity, SourceResult,
};

pub use archive::export_archive;
pub use compare::{CompareRequest, Comparison, compare};
pub use export::{ExportReport, ExportRequest, export, export_with_log};
#[cfg(feature = "testing")]
pub use fold::FoldFault;
pub use history::OplogWindow;
pub use import::{DumpOptions, MongoDump, TimeOrigin};
pub use options::{
    Adjustments, DEFAULT_MEMBER_TIMEOUT, MongoOptions, Replay, SnapshotReads, WriteConcern,
};
pub use position::{LogPosition, Position};
pub use rename::Renames;
pub use synthetic::synthetic_full;
pub use tail::{OplogBatch, OplogTail, Tick};
pub use within::selection_in;

use layout::Layout;
use naming::Naming;
use server::{Purpose, Server, Topology, unless_cancelled};
use within::Within;

/// A MongoDB deployment.
#[derive(Debug, Clone)]
pub struct MongoSource {
    server: Server,
    options: MongoOptions,
}

/// The identity of a replica set by its name, or of a standalone server by `host:port`: for
/// snapshots that join those of a server that cannot be reached.
#[must_use]
pub fn identity_of(name: &str) -> SourceIdentity {
    let set = if name.contains(':') { "standalone".to_owned() } else { namespace::file_stem(name) };
    let paths = vec![layout::Layout::named(&set).set().display().into_owned()];
    let (id, host) = (name.to_owned(), name.to_owned());
    SourceIdentity { kind: "mongodb".to_owned(), id, host, paths }
}

impl MongoSource {
    /// Connects to what `options` name.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`](backup_core::source::SourceErrorKind::Invalid) if the address
    /// makes no sense or the credentials are refused,
    /// [`SourceErrorKind::Unavailable`](backup_core::source::SourceErrorKind::Unavailable) if no
    /// server can be reached. None of them repeats the address.
    pub async fn connect(options: MongoOptions) -> SourceResult<Self> {
        let server = Server::connect(&options, Purpose::Reading).await?;
        Ok(Self { server, options })
    }

    /// The branch of this source's captured logs: 32 hexadecimal digits that no other replica set
    /// has. Empty without a replica set, and if the user may not list the collections of `admin`.
    #[must_use]
    pub fn branch(&self) -> &str {
        &self.server.branch
    }

    /// The newest entry of the oplog that a majority has: where following it may begin.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unsupported`](backup_core::source::SourceErrorKind::Unsupported) without
    /// a replica set; otherwise what the server says.
    pub async fn newest_entry(&self, cx: &Context) -> SourceResult<LogPosition> {
        self.server.refuse_without_oplog()?;
        self.server.named(unless_cancelled(cx, history::newest(&self.server)).await)
    }

    /// Follows the oplog from behind `from`.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unsupported`](backup_core::source::SourceErrorKind::Unsupported) without
    /// a replica set.
    pub fn follow(&self, from: LogPosition) -> SourceResult<OplogTail> {
        self.server.refuse_without_oplog()?;
        Ok(OplogTail::after(&self.server, &self.options, from))
    }

    /// The part of a selection that a backup reads.
    async fn within(
        &self,
        cx: &Context,
        server: &Server,
        selection: &Selection,
    ) -> SourceResult<Within> {
        server.named(Within::new(cx, server, self.options.database.as_deref(), selection).await)
    }

    /// How far back the oplog reaches; `None` if it is empty.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unsupported`](backup_core::source::SourceErrorKind::Unsupported) without
    /// a replica set; otherwise what the server says.
    pub async fn oplog_window(&self, cx: &Context) -> SourceResult<Option<OplogWindow>> {
        self.server.refuse_without_oplog()?;
        self.server.named(unless_cancelled(cx, OplogWindow::of(&self.server)).await)
    }
}

impl fmt::Display for MongoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server.topology {
            Topology::ReplicaSet { name } => write!(f, "MongoDB replica set {name}"),
            Topology::Standalone => write!(f, "MongoDB server {}", self.server.host),
            Topology::Sharded => f.write_str("MongoDB sharded cluster"),
        }
    }
}

#[async_trait]
impl Source for MongoSource {
    fn kind(&self) -> &'static str {
        "mongodb"
    }

    /// The replica set's name. Sets of one name are told apart by the branch of their logs
    /// (`lineage.rs`).
    fn identity(&self) -> SourceIdentity {
        let (id, host) = match &self.server.topology {
            Topology::ReplicaSet { name } => (name.clone(), name.clone()),
            Topology::Standalone => (self.server.address(), self.server.address()),
            Topology::Sharded => ("sharded".to_owned(), self.server.address()),
        };
        let paths = vec![Layout::of(&self.server).set().display().into_owned()];
        SourceIdentity { kind: self.kind().to_owned(), id, host, paths }
    }

    /// Replica sets have an oplog: it says what has changed, and it can be followed.
    fn capabilities(&self) -> SourceCapabilities {
        let has_oplog = self.server.is_replica_set();
        SourceCapabilities { incremental: has_oplog, log_capture: has_oplog }
    }

    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        let probing = probe::probe(cx, &self.server, self.options.log_interval);
        self.server.named(unless_cancelled(cx, probing).await)
    }

    async fn selected(
        &self,
        cx: &Context,
        selection: &Selection,
    ) -> SourceResult<Vec<SelectedPart>> {
        self.server.refuse_sharded()?;
        let within = self.within(cx, &self.server.reporting_to(cx), selection).await?;
        let filter = namespace::Filter::new(&within.selection)?;
        let covered = catalog::covered(cx, &self.server, &filter).await?.collections;
        // The documents of a time series are in another collection, which counts.
        let counted = covered.into_iter().filter(|one| one.kind != catalog::Kind::TimeSeries);
        Ok(SelectedPart::count(counted.map(|one| one.namespace.db), "collections"))
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        let server = self.server.reporting_to(cx);
        let layout = Layout::of(&server);
        server.refuse_sharded()?;
        let within = self.within(cx, &server, &request.selection).await?;
        let request = BackupRequest { selection: within.selection.clone(), ..request.clone() };
        let reader = scan::open(cx, &server, layout, &request, &self.options).await;
        let reader = Naming::new(server.named(reader)?, &server).within(within);
        let clock = unless_cancelled(cx, async { Ok(probe::clock_ahead(cx, &server).await) });
        Ok(Box::new(reader.with_clock(clock.await?)))
    }

    async fn open_log(
        &self,
        cx: &Context,
        from: Option<&backup_core::log::Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        let server = self.server.reporting_to(cx);
        let layout = Layout::of(&server);
        let reader = capture::open(cx, &server, layout, &self.options, from).await;
        Ok(Box::new(Naming::new(server.named(reader)?, &server)))
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        // Another target has nothing of this source's credentials and certificates.
        let options = match &request.target {
            None => self.options.clone(),
            Some(address) => {
                let (waits, member_timeout) =
                    (self.options.waits.clone(), self.options.member_timeout);
                MongoOptions { waits, member_timeout, ..MongoOptions::new(address.clone()) }
            }
        };
        let options = MongoOptions { waits: options.waits.reporting_to(&cx.events), ..options };
        let server = unless_cancelled(cx, Server::connect(&options, Purpose::Writing)).await?;
        let restored = Box::pin(restore::restore(cx, &server, &self.options, request, snapshot));
        server.named(restored.await)
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        let server = self.server.reporting_to(cx);
        let selection = &self.within(cx, &server, selection).await?.selection;
        server.named(unless_cancelled(cx, digest::digest(cx, &server, selection)).await)
    }
}
