//! The MongoDB source: replica sets and standalone servers from 4.4 on.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`MongoSource`]: the source itself |
//! | `options.rs` | [`MongoOptions`]: what it can be told |
//! | `rename.rs` | [`Renames`]: restoring under other names |
//! | `position.rs` | [`Position`]: moments of a replica set's history |
//! | `server.rs` | connecting, choosing a member, what kind of deployment it is |
//! | `probe.rs` | what stands in the way of a backup |
//! | `catalog.rs` | which collections, views and indexes there are |
//! | `namespace.rs` | names, names of files, selections |
//! | `layout.rs` | where things lie in a snapshot |
//! | `state.rs` | `catalog.bson`: what the dump's own files have no place for |
//! | `scan/` | reading: the backup reader, collections, the oplog |
//! | `dump.rs` | reading a dump inside a snapshot |
//! | `fold/` | bringing a dump to one exact moment by its oplog |
//! | `restore/` | writing a snapshot to a server |
//! | `export.rs` | [`export()`]: writing a snapshot as a dump for stock tools |
//! | `ordered.rs` | putting the documents of capped collections in order |
//! | `digest.rs` | digests of collections, to compare copies |
//! | `raw.rs` | BSON as bytes |
//! | `extjson.rs` | canonical extended JSON |
//! | `error.rs` | from the driver's errors to ours |
//!
//! A snapshot holds, below `/mongodb/<replica set>`, what stock mongodump writes (`dump/<database>/<collection>.bson` and
//! `.metadata.json`, `dump/oplog.bson`) and `catalog.bson`. If the collections were not all read at one moment, only the fold
//! of the oplog makes them fit together; stock `mongorestore --oplogReplay` does the same unless something was created,
//! dropped or renamed meanwhile.

mod catalog;
mod digest;
mod dump;
mod error;
mod export;
mod extjson;
mod fold;
mod layout;
mod namespace;
mod options;
mod ordered;
mod position;
mod probe;
mod raw;
mod rename;
mod restore;
mod scan;
mod server;
mod state;

use std::fmt;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Checkpoint, Digest, LogReader, Probe, RestoreReport, RestoreRequest, Selection,
    Source, SourceCapabilities, SourceError, SourceErrorKind, SourceIdentity, SourceResult,
};

pub use export::{ExportReport, ExportRequest, export};
pub use options::{MongoOptions, SnapshotReads};
pub use position::Position;
pub use rename::Renames;

use layout::Layout;
use server::{Purpose, Server, Topology, unless_cancelled};

/// A MongoDB deployment.
#[derive(Debug, Clone)]
pub struct MongoSource {
    server: Server,
    options: MongoOptions,
}

impl MongoSource {
    /// Connects to what `options` name.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if the address makes no sense or the credentials are refused,
    /// [`SourceErrorKind::Unavailable`] if no server can be reached. None of them repeats the address.
    pub async fn connect(options: MongoOptions) -> SourceResult<Self> {
        let server = Server::connect(&options, Purpose::Reading).await?;
        Ok(Self { server, options })
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

    /// The replica set's name. Not its id: the role `backup` may not read that, and an identity that depends on rights
    /// would change with them.
    fn identity(&self) -> SourceIdentity {
        let (id, host) = match &self.server.topology {
            Topology::ReplicaSet { name } => (name.clone(), name.clone()),
            Topology::Standalone => (self.server.address(), self.server.address()),
            Topology::Sharded => ("sharded".to_owned(), self.server.address()),
        };
        let paths = vec![Layout::of(&self.server).set().display().into_owned()];
        SourceIdentity { kind: self.kind().to_owned(), id, host, paths }
    }

    /// Neither, until the log lane is there: every snapshot is full.
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: false, log_capture: false }
    }

    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        unless_cancelled(cx, probe::probe(&self.server)).await
    }

    async fn open_backup(&self, cx: &Context, request: &BackupRequest) -> SourceResult<Box<dyn BackupReader>> {
        let layout = Layout::of(&self.server);
        scan::open(cx, &self.server, layout, request, self.options.snapshot_reads).await
    }

    async fn open_log(&self, _cx: &Context, _from: &Checkpoint) -> SourceResult<Box<dyn LogReader>> {
        Err(SourceError::new(SourceErrorKind::Unsupported, "continuous capture of the oplog is not there yet"))
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
            Some(address) => MongoOptions::new(address.clone()),
        };
        let server = unless_cancelled(cx, Server::connect(&options, Purpose::Writing)).await?;
        restore::restore(cx, &server, &self.options, request, snapshot).await
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        unless_cancelled(cx, digest::digest(cx, &self.server, selection)).await
    }
}
