//! Snapshots made of RDB files: those that a server has saved, and those of `redis-cli --rdb`.
//!
//! A snapshot of a file has the layout of one that was read from a server. It stands for no place in
//! a replication stream: a file may name one, and nothing proves that it was followed.

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupKind, BackupReader, BackupRequest, Digest, EntryPath, IMPORTED, LogReader, Probe,
    RestoreReport, RestoreRequest, Selection, Source, SourceCapabilities, SourceError,
    SourceErrorKind, SourceIdentity, SourceResult,
};
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::sync::mpsc::channel;

use super::backup::{Channel, Description, copy_of, objects, server_version, warn};
use super::error::malformed;
use super::layout::{Layout, TOP};
use super::rdb::{Parser, Pieces, RdbError, Record, Survey, survey};
use super::reader::{self, Done, Feed, WAITING};
use super::require_whole;
use crate::foreign::{self, Form, Opened};

/// Bytes that are read at a time.
const PIECE: usize = 128 << 10;

/// An RDB file, and the stream of snapshots that it joins.
#[derive(Debug, Clone)]
pub struct RdbOptions {
    /// The file.
    pub path: PathBuf,
    /// Refuse a file that is not compressed with gzip. One that is compressed is always recognised.
    pub must_be_gzip: bool,
    /// The source whose snapshots the file joins: one server of Redis or Valkey.
    pub identity: SourceIdentity,
    /// The time of the file; `None` for the one that stands in it, or else its last change.
    pub time: Option<Timestamp>,
}

/// Origin of the time of an RDB file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RdbTime {
    /// The caller.
    Given,
    /// The server has written it into the file.
    Server,
    /// The last change of the file.
    File,
}

/// An RDB file, as a source.
pub struct RdbFile {
    options: RdbOptions,
    layout: Layout,
    time: Timestamp,
    origin: RdbTime,
    /// The file, opened; none once it was read.
    opened: Mutex<Option<Opened>>,
}

impl RdbFile {
    /// Opens a file and reads its beginning.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] if it is no RDB file, [`SourceErrorKind::Unsupported`] if the
    /// version of its format is not known.
    pub async fn open(options: RdbOptions) -> SourceResult<Self> {
        let opening = tokio::task::spawn_blocking(move || Self::read(options));
        opening.await.map_err(|_| malformed("dump: its reader ended unexpectedly"))?
    }

    fn read(options: RdbOptions) -> SourceResult<Self> {
        const WANTED: &str = "an RDB file of Redis or Valkey";
        let path = &options.path;
        let layout = layout_of(&options.identity)?;
        // Read twice: its beginning, then all of it.
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
            let text = format!("{} is not a regular file", path.display());
            return Err(SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("write the RDB file to a disk, and import it from there"));
        }
        let opened = foreign::open(path)?;
        if opened.form != Form::Rdb {
            return Err(foreign::refused(path, opened.form, WANTED));
        }
        if options.must_be_gzip && !opened.is_gzip {
            return Err(foreign::not_gzip(path));
        }
        let written = written(opened).map_err(|error| unsuited(error, &options))?;
        let (time, origin) = match (options.time, written) {
            (Some(time), _) => (time, RdbTime::Given),
            (None, Some(time)) => (time, RdbTime::Server),
            (None, None) => (foreign::changed(path)?, RdbTime::File),
        };
        let opened = Mutex::new(Some(foreign::open(path)?));
        Ok(Self { layout, time, origin, opened, options })
    }

    /// The moment that the snapshot will stand for, and how it is known.
    #[must_use]
    pub fn time(&self) -> (Timestamp, RdbTime) {
        (self.time, self.origin)
    }
}

/// An error that names the file, with a way for versions that are not read.
fn unsuited(error: RdbError, options: &RdbOptions) -> SourceError {
    let shown = options.path.display();
    match error {
        RdbError::Unknown(what) => {
            let text = format!("the file {shown} has {what}");
            SourceError::new(SourceErrorKind::Unsupported, text).with_hint(
                "load it into a server of its version, and back up that server with `backup run`",
            )
        }
        other => other.into_source().context(format!("the file {shown}")),
    }
}

/// The time at which the server has written the file, from the remarks at its beginning.
fn written(opened: Opened) -> Result<Option<Timestamp>, RdbError> {
    let mut parser = Parser::new(File(opened.bytes));
    loop {
        match parser.next()? {
            Some(Record::Remark(name, value)) if name == b"ctime" => {
                let seconds = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                return Ok(seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()));
            }
            Some(Record::Remark(..)) => {}
            _ => return Ok(None),
        }
    }
}

/// A server has a directory of its own in snapshots; a cluster has one for each master.
fn layout_of(identity: &SourceIdentity) -> SourceResult<Layout> {
    let path = identity.paths.first().and_then(|path| EntryPath::new(&**path));
    let path = path.ok_or_else(|| malformed("identity of a Redis source"))?;
    match path.segments().count() {
        2 if path.segments().next() == Some(TOP.as_bytes()) => Ok(Layout::at(path)),
        _ => {
            let text = "the source is a cluster, and an RDB file is of one of its nodes";
            Err(SourceError::new(SourceErrorKind::Unsupported, text)
                .with_hint("import the file under a job of its own"))
        }
    }
}

/// A file for a thread that waits for it.
struct File(Box<dyn Read + Send>);

impl File {
    fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let mut buffer = BytesMut::zeroed(PIECE);
        loop {
            match self.0.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(0) => return Ok(None),
                Ok(read) => {
                    buffer.truncate(read);
                    return Ok(Some(buffer.freeze()));
                }
            }
        }
    }
}

impl Pieces for File {
    fn next(&mut self) -> Result<Option<Bytes>, RdbError> {
        self.piece().map_err(|error| RdbError::Source(unreadable(error)))
    }
}

fn unreadable(error: io::Error) -> SourceError {
    let kind = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            SourceErrorKind::Mismatch
        }
        _ => SourceErrorKind::Io,
    };
    SourceError::new(kind, "cannot read the RDB file").with_source(error)
}

/// Reads everything: the file goes into the snapshot as it is, without gzip.
async fn full(
    cx: Context,
    feed: Feed,
    opened: Opened,
    (layout, time): (Layout, Timestamp),
) -> SourceResult<Done> {
    let content = feed.begin(layout.dump(), time).await?;
    let (to_survey, pieces) = channel(WAITING);
    let surveying = tokio::task::spawn_blocking(move || survey(Channel(pieces), |_| true));
    let passing = async {
        let mut file = File(opened.bytes);
        loop {
            let step = tokio::task::spawn_blocking(move || (file.piece(), file));
            let gone = |_| malformed("dump: its reader ended unexpectedly");
            let (piece, rest) = step.await.map_err(gone)?;
            file = rest;
            let Some(piece) = piece.map_err(unreadable)? else { return SourceResult::Ok(()) };
            // A survey that has found damage does not listen any more.
            if to_survey.send(Ok(piece.clone())).await.is_err() {
                return Ok(());
            }
            // A content that is given up is surveyed all the same.
            _ = content.send(Ok(piece)).await;
        }
    };
    let passed = passing.await;
    drop(to_survey);
    let found = surveying.await.map_err(|_| malformed("dump: its reader ended unexpectedly"))?;
    let dump = match passed.and_then(|()| found.map_err(RdbError::into_source)) {
        Ok(dump) => dump,
        Err(error) => {
            // The reader of the content must not take its end for complete.
            _ = content.send(Err(copy_of(&error))).await;
            return Err(error);
        }
    };
    drop(content);
    warn(&cx, &dump);
    let description = Description {
        replication_id: String::new(),
        offset: 0,
        time,
        scanned_from: None,
        modules: None,
        member: None,
        dump,
    };
    let json =
        serde_json::to_vec_pretty(&description).map_err(|_| malformed("description of a dump"))?;
    feed.whole(layout.description(), time, json).await?;
    let dump = description.dump;
    Ok(Done {
        started: time,
        time,
        position: None,
        log: None,
        kind: Some(BackupKind::Full),
        server_version: server_version(&dump),
        objects: objects(&dump.databases),
        counted: dump.unknown.is_none(),
        remarks: remarks(&dump),
        scanned: false,
        tags: vec![IMPORTED.to_owned()],
    })
}

fn remarks(dump: &Survey) -> Vec<String> {
    let server =
        server_version(dump).unwrap_or_else(|| "a server of an unknown version".to_owned());
    let origin = format!("Imported from an RDB file, made by {server}.");
    let log = "No captured log continues it: later moments need a later snapshot.";
    vec![origin, log.to_owned()]
}

impl fmt::Debug for RdbFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RdbFile").field("path", &self.options.path).finish_non_exhaustive()
    }
}

impl fmt::Display for RdbFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the RDB file {}", self.options.path.display())
    }
}

fn unsupported() -> SourceError {
    SourceError::new(SourceErrorKind::Unsupported, "an RDB file does not support this operation")
}

#[async_trait]
impl Source for RdbFile {
    fn kind(&self) -> &'static str {
        "redis"
    }

    /// The server whose snapshots the file joins.
    fn identity(&self) -> SourceIdentity {
        self.options.identity.clone()
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
        require_whole(&request.selection)?;
        let opened = self.opened.lock().ok().and_then(|mut opened| opened.take());
        let opened = match opened {
            Some(opened) => opened,
            None => foreign::open(&self.options.path)?,
        };
        let (own, place) = (cx.clone(), (self.layout.clone(), self.time));
        Ok(reader::reader(cx, None, async move |feed: Feed| full(own, feed, opened, place).await))
    }

    async fn open_log(
        &self,
        _cx: &Context,
        _from: Option<&Position>,
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
