//! Snapshots made of old dumps of mongodump: directories and archives, compressed or not, with the
//! oplog of their time or without.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | [`MongoDump`]: a dump as a source |
//! | `directory.rs` | directories |
//! | `archive.rs` | archives |
//! | `description.rs` | descriptions of collections, of all versions of mongodump |
//! | `json.rs`, `extended.rs` | extended JSON to BSON, with every name in its place |
//! | `buckets.rs` | indexes of time-series collections in the terms of buckets |
//! | `collections.rs` | every collection and view that a snapshot of a dump has |
//! | `contents.rs` | documents, looked through on their way into the snapshot |
//! | `oplog.rs` | the oplog of a dump, folded once before anything is stored |
//! | `reader.rs` | the backup reader |
//!
//! A snapshot of a dump has the layout of one that was read from a server, and is used like one. The
//! snapshot claims no place in a captured log, and without an oplog no single moment.

mod archive;
mod buckets;
mod collections;
mod contents;
mod description;
mod directory;
mod extended;
mod json;
mod oplog;
mod reader;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Digest, EntryPath, LogReader, Probe, RestoreReport,
    RestoreRequest, Selection, Source, SourceCapabilities, SourceError, SourceErrorKind,
    SourceIdentity, SourceResult,
};
use jiff::Timestamp;

pub(super) use archive::{END, new_sum};
pub(super) use buckets::drop_unrecorded;

use super::catalog::{Collection, Kind};
use super::error::malformed;
use super::layout::{Layout, TOP};
use super::namespace::{self, Namespace};
use crate::foreign::{self, Form};
use archive::Archive;
use collections::{collections, special};
use contents::Reading;
use description::made_uuid;
use directory::Directory;
use oplog::{Oplog, Uuids};

/// Most collections that a part of a server is recorded by; with more, databases are recorded.
const MAX_NAMED: usize = 1000;

/// A dump, and the stream of snapshots that it joins.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// The directory or the archive.
    pub path: PathBuf,
    /// Refuse a dump that is not compressed with gzip. One that is compressed is always recognised.
    pub must_be_gzip: bool,
    /// The source whose snapshots the dump joins: a replica set or server of MongoDB.
    pub identity: SourceIdentity,
    /// The time of the dump; `None` for the end of its oplog, or else the newest change of a file.
    pub time: Option<Timestamp>,
}

/// Origin of the time of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeOrigin {
    /// The caller.
    Given,
    /// The last entry of its oplog.
    Oplog,
    /// The newest change of its files.
    Files,
}

/// A dump of mongodump, as a source.
pub struct MongoDump {
    dump: Arc<Dump>,
    identity: SourceIdentity,
    path: PathBuf,
    time: Timestamp,
    origin: TimeOrigin,
}

/// The contents of a dump.
struct Dump {
    files: Files,
    server_version: String,
    tool_version: String,
    collections: Vec<Collection>,
    /// The oplog of its time, if it has one.
    oplog: Option<Oplog>,
    /// Sentences about the dump, recorded with the snapshot.
    remarks: Vec<String>,
}

/// Where documents are read from.
#[derive(Debug)]
enum Files {
    Directory(Directory),
    Archive(Archive),
}

impl Files {
    /// Collections with documents.
    fn data(&self) -> Vec<&Namespace> {
        match self {
            Self::Directory(directory) => directory.data.keys().collect(),
            // The oplog is of no database.
            Self::Archive(archive) => {
                archive.namespaces().filter(|name| !name.db.is_empty()).collect()
            }
        }
    }

    /// True if there are documents of a collection: tools also write nothing under the names of
    /// views.
    fn has_documents(&self, namespace: &Namespace) -> SourceResult<bool> {
        let mut bytes = match self {
            Self::Archive(archive) => archive.bytes(namespace),
            Self::Directory(directory) => match directory.data.get(namespace) {
                Some(file) => file.bytes()?,
                None => return Ok(false),
            },
        };
        let read = bytes.read(&mut [0; 1]);
        let failed = |error| malformed(format!("dump of {namespace}")).with_source(error);
        Ok(read.map_err(failed)? > 0)
    }

    /// The documents of a collection.
    fn documents(&self, namespace: &Namespace) -> SourceResult<Reading> {
        let bytes = match self {
            Self::Archive(archive) => archive.bytes(namespace),
            Self::Directory(directory) => directory
                .data
                .get(namespace)
                .ok_or_else(|| malformed(format!("dump: no documents of {namespace}")))?
                .bytes()?,
        };
        Ok(Reading::new(bytes, namespace.to_string()))
    }

    /// The oplog, if there is one.
    fn oplog(&self) -> SourceResult<Option<Reading>> {
        let bytes = match self {
            Self::Directory(directory) => match &directory.oplog {
                Some(file) => file.bytes()?,
                None => return Ok(None),
            },
            Self::Archive(archive) => {
                match archive.namespaces().find(|name| name.db.is_empty() && name.name == "oplog") {
                    Some(name) => archive.bytes(name),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Reading::new(bytes, "the oplog")))
    }
}

impl MongoDump {
    /// Opens a dump and looks it through as far as that needs no storage: descriptions, the oplog,
    /// of an archive everything.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] and [`SourceErrorKind::Mismatch`] if the file is no dump of
    /// mongodump, is truncated or damaged; [`SourceErrorKind::Unsupported`] if its oplog cannot be
    /// applied.
    pub async fn open(cx: &Context, options: DumpOptions) -> SourceResult<Self> {
        let own = cx.clone();
        let opening = tokio::task::spawn_blocking(move || Self::read(&own, options));
        opening.await.map_err(|_| malformed("dump: its reader ended unexpectedly"))?
    }

    fn read(cx: &Context, options: DumpOptions) -> SourceResult<Self> {
        const WANTED: &str = "a dump of mongodump";
        let DumpOptions { path, must_be_gzip, identity, time } = options;
        let opened = foreign::open(&path)?;
        let files = match opened.form {
            Form::Directory => Files::Directory(Directory::read(cx, &path, must_be_gzip)?),
            Form::MongoArchive if must_be_gzip && !opened.is_gzip => {
                return Err(foreign::not_gzip(&path));
            }
            Form::MongoArchive => Files::Archive(Archive::read(cx, &path, opened)?),
            other => return Err(foreign::refused(&path, other, WANTED)),
        };
        let changed = match &files {
            Files::Directory(directory) => directory.changed,
            Files::Archive(_) => Some(foreign::changed(&path)?),
        };
        let dump = Dump::of(cx, files)?;
        let ended = dump.oplog.as_ref().and_then(Oplog::time);
        let (time, origin) = match (time, ended, changed) {
            (Some(time), ..) => (time, TimeOrigin::Given),
            (None, Some(time), _) => (time, TimeOrigin::Oplog),
            (None, None, Some(time)) => (time, TimeOrigin::Files),
            (None, None, None) => return Err(malformed("dump: it has no time")),
        };
        Ok(Self { dump: Arc::new(dump), identity, path, time, origin })
    }

    /// The moment that the snapshot will stand for, and how it is known.
    #[must_use]
    pub fn time(&self) -> (Timestamp, TimeOrigin) {
        (self.time, self.origin)
    }

    /// The patterns of the collections in the dump: none if it is one of the whole server.
    #[must_use]
    pub fn selection(&self) -> Vec<String> {
        self.dump.part().unwrap_or_default()
    }

    /// True if the dump may hold less than a job with these include patterns selects: it is of some
    /// databases, and the patterns may match in others.
    #[must_use]
    pub fn is_part_of(&self, include: &[String]) -> bool {
        let databases = self.dump.collections.iter().map(|one| &*one.namespace.db).collect();
        !self.dump.is_whole() && !namespace::are_within(include, &databases)
    }

    fn layout(&self) -> SourceResult<Layout> {
        let path = self.identity.paths.first().and_then(|path| EntryPath::new(&**path));
        let set = path.filter(|path| {
            let mut names = path.segments();
            names.next() == Some(TOP.as_bytes()) && names.next().is_some() && names.next().is_none()
        });
        set.map(Layout::at).ok_or_else(|| malformed("identity of a MongoDB source"))
    }
}

impl Dump {
    fn of(cx: &Context, files: Files) -> SourceResult<Self> {
        let (server_version, tool_version) = match &files {
            Files::Directory(directory) => {
                (directory.server_version.clone(), directory.tool_version.clone())
            }
            Files::Archive(archive) => {
                (archive.prelude.server_version.clone(), archive.prelude.tool_version.clone())
            }
        };
        let mut remarks = Vec::new();
        let mut collections = collections(&files, &mut remarks)?;
        let uuids = match files.oplog()? {
            Some(reading) => Uuids::of(cx, reading, &collections)?,
            None => Uuids::default(),
        };
        for collection in &mut collections {
            if collection.kind == Kind::Collection && collection.uuid.is_none() {
                let name = &collection.namespace;
                collection.uuid = Some(uuids.of_name(name)?.unwrap_or_else(|| made_uuid(name)));
            }
        }
        collections.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        let mut dump =
            Self { files, server_version, tool_version, collections, oplog: None, remarks };
        if let Some(reading) = dump.files.oplog()? {
            dump.oplog = Some(Oplog::fold(cx, reading, &dump.state(true))?);
        }
        Ok(dump)
    }

    /// Dumps of a whole server hold the version of its users' form; those of a database do not.
    fn is_whole(&self) -> bool {
        let version = Namespace::new("admin", "system.version");
        self.collections.iter().any(|collection| collection.namespace == version)
    }

    fn part(&self) -> Option<Vec<String>> {
        if self.is_whole() {
            return None;
        }
        let names = self.collections.iter().map(|collection| collection.namespace.visible());
        let names: Vec<String> = match self.collections.len() {
            0..=MAX_NAMED => names.map(|name| Selection::literal(&name.to_string())).collect(),
            _ => names.map(|name| Selection::literal(&name.db)).collect(),
        };
        let names: BTreeSet<String> = names.into_iter().collect();
        Some(names.into_iter().collect())
    }
}

impl fmt::Debug for MongoDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDump").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Display for MongoDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the dump {}", self.path.display())
    }
}

fn unsupported() -> SourceError {
    SourceError::new(SourceErrorKind::Unsupported, "a dump does not support this operation")
}

#[async_trait]
impl Source for MongoDump {
    fn kind(&self) -> &'static str {
        "mongodb"
    }

    /// The server whose snapshots the dump joins.
    fn identity(&self) -> SourceIdentity {
        self.identity.clone()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: false, log_capture: false }
    }

    async fn probe(&self, _cx: &Context) -> SourceResult<Probe> {
        Ok(Probe::default())
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        // The selection was made when the dump was.
        request.selection.record().note_all();
        Ok(Box::new(reader::Reader::new(cx, &self.dump, self.layout()?, self.time)?))
    }

    async fn open_log(
        &self,
        _cx: &Context,
        _from: Option<&log::Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        Err(unsupported())
    }

    async fn restore(
        &self,
        _cx: &Context,
        _request: &RestoreRequest,
        _snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        Err(unsupported())
    }

    async fn digest(&self, _cx: &Context, _selection: &Selection) -> SourceResult<Digest> {
        Err(unsupported())
    }
}
