//! The documents of one collection.
//!
//! Collections are addressed by UUID, so that a rename does not matter. Whatever disturbs the scan (a rename, a drop, a
//! cursor that was killed, a moment too far back) is taken up: at a fixed moment the scan goes on behind the documents
//! that were yielded; otherwise it starts again, and the fold of the oplog settles documents that were yielded twice.

use std::sync::Arc;
use std::time::Duration;

use ::mongodb::error::Error;
use ::mongodb::raw_batch_cursor::RawBatchCursor;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{Document, RawDocumentBuf, doc};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream;

use super::{Outcome, Pieces, Scan, Ticket};
use crate::mongodb::catalog::{Collection, uuid_bson};
use crate::mongodb::digest::Sum;
use crate::mongodb::error::{Doing, Explain as _, code, code_of, convert, is_denied, is_transient, malformed};
use crate::mongodb::position::Position;
use crate::mongodb::raw::append_batch;
use crate::mongodb::server::unless_cancelled;

/// How often in a row a scan is taken up without any progress.
const ATTEMPTS: u32 = 8;
/// First wait before taking it up; each further one is longer by as much.
const PAUSE: Duration = Duration::from_millis(250);

/// What documents are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mongodb) enum Purpose {
    /// To be stored: disturbances are survived.
    Backup,
    /// To be compared: a collection that vanishes is an error.
    Compare,
}

/// The documents of `collection`, one after another as in a file of mongodump.
pub(in crate::mongodb) fn content(scan: &Arc<Scan>, collection: Collection, purpose: Purpose) -> Pieces {
    let reading = Reading {
        ticket: scan.ticket(),
        snapshot: scan.snapshot.filter(|_| !collection.is_capped()),
        scan: Arc::clone(scan),
        collection,
        purpose,
        by_name: false,
        cursor: None,
        yielded: 0,
        failures: 0,
        sum: Sum::default(),
    };
    stream::try_unfold(Some(reading), |state| async {
        let Some(mut reading) = state else { return Ok(None) };
        match reading.next().await? {
            Some(bytes) => Ok(Some((bytes, Some(reading)))),
            None => Ok(None),
        }
    })
    .boxed()
}

struct Reading {
    scan: Arc<Scan>,
    collection: Collection,
    purpose: Purpose,
    /// The moment of history that is read.
    snapshot: Option<Position>,
    /// The rights do not allow to read by UUID.
    by_name: bool,
    cursor: Option<RawBatchCursor>,
    /// Documents since the last start.
    yielded: u64,
    failures: u32,
    sum: Sum,
    #[expect(dead_code, reason = "says, by being dropped, that nothing more is read")]
    ticket: Ticket,
}

impl Reading {
    async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        let cx = self.scan.cx.clone();
        loop {
            let step = unless_cancelled(&cx, async { Ok(self.step().await) }).await?;
            match step {
                Ok(Some(batch)) => {
                    let batch = self.take(&batch)?;
                    if !batch.is_empty() {
                        return Ok(Some(batch));
                    }
                }
                Ok(None) => {
                    self.finish().await?;
                    return Ok(None);
                }
                Err(error) => {
                    self.cursor = None;
                    if !self.survive(&error).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next batch of the server.
    async fn step(&mut self) -> Result<Option<::mongodb::raw_batch_cursor::RawBatch>, Error> {
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            none => none.insert(open(&self.scan, &self.collection, self.snapshot, self.by_name, self.yielded).await?),
        };
        cursor.next().await.transpose()
    }

    fn take(&mut self, batch: &::mongodb::raw_batch_cursor::RawBatch) -> SourceResult<Bytes> {
        let documents = batch.doc_slices().map_err(|error| malformed("a batch of the server").with_source(error))?;
        let mut out = BytesMut::with_capacity(documents.as_bytes().len());
        let count = append_batch(documents.as_bytes(), &mut out)?;
        self.yielded += count;
        if count > 0 {
            self.failures = 0;
        }
        let out = out.freeze();
        if self.snapshot.is_some() && self.purpose == Purpose::Backup {
            self.sum.add_all(&out)?;
        }
        Ok(out)
    }

    /// Makes of an error what the scan can live with; false if the collection is gone.
    async fn survive(&mut self, error: &Error) -> SourceResult<bool> {
        let doing = format!("reading {}", self.collection.namespace);
        let fatal = || Err(convert(error, Doing::Reading, &doing));
        self.failures += 1;
        if self.failures > ATTEMPTS {
            return fatal();
        }
        if is_denied(error) && !self.by_name {
            self.by_name = true;
            self.restart();
            return Ok(true);
        }
        match code_of(error) {
            Some(code::NAMESPACE_NOT_FOUND | code::INVALID_NAMESPACE | code::COLLECTION_UUID_MISMATCH) => {
                self.scan.disturb();
                if self.purpose == Purpose::Compare || !self.scan.server.is_replica_set() {
                    return fatal();
                }
                // By UUID it is gone for good, and the oplog says so. By name, there may be another one now.
                if self.by_name { fatal() } else { Ok(false) }
            }
            Some(code::SNAPSHOT_TOO_OLD | code::SNAPSHOT_UNAVAILABLE) if self.snapshot.is_some() => {
                self.scan.disturb();
                self.snapshot = None;
                self.restart();
                Ok(true)
            }
            Some(
                code::QUERY_PLAN_KILLED
                | code::CAPPED_POSITION_LOST
                | code::CURSOR_NOT_FOUND
                | code::CURSOR_KILLED
                | code::NAMESPACE_EXISTS,
            ) => self.take_up().await,
            _ if is_transient(error) => self.take_up().await,
            _ => fatal(),
        }
    }

    /// Begins again, or goes on at the same place if that is known.
    async fn take_up(&mut self) -> SourceResult<bool> {
        if self.snapshot.is_none() {
            if !self.scan.server.is_replica_set() && self.purpose == Purpose::Backup && self.yielded > 0 {
                return Err(SourceError::new(
                    SourceErrorKind::Unavailable,
                    format!("reading {} was interrupted", self.collection.namespace),
                )
                .with_hint(
                    "a standalone server has no oplog that would settle what is read twice: run the backup again",
                ));
            }
            self.restart();
        }
        tokio::time::sleep(PAUSE * self.failures).await;
        Ok(true)
    }

    /// Begins from the first document. What was yielded comes again: nothing that compares or counts can be right now.
    fn restart(&mut self) {
        if self.yielded > 0 {
            self.scan.disturb();
            self.scan.note(&self.collection.namespace, Outcome::Repeated);
        }
        self.yielded = 0;
        self.sum = Sum::default();
    }

    async fn finish(&mut self) -> SourceResult<()> {
        self.cursor = None;
        if self.by_name {
            self.same_name().await?;
        }
        if self.snapshot.is_some() && self.purpose == Purpose::Backup {
            let digest = self.sum.finish(&self.collection);
            self.scan.note(&self.collection.namespace, Outcome::Exact(digest));
        }
        Ok(())
    }

    /// By name, another collection may have been read from some moment on.
    async fn same_name(&mut self) -> SourceResult<()> {
        let namespace = &self.collection.namespace;
        let command = doc! { "listCollections": 1, "filter": { "name": &namespace.name } };
        let found = self.scan.server.list(&namespace.db, command).await.reading("listing collections")?;
        let uuid = found.first().and_then(|entry| entry.get_document("info").ok()?.get("uuid"));
        if crate::mongodb::catalog::uuid_of(uuid) == self.collection.uuid {
            return Ok(());
        }
        Err(SourceError::new(
            SourceErrorKind::Unavailable,
            format!("{namespace} was renamed, dropped or replaced while it was read"),
        )
        .with_hint("with the built-in role `backup` collections are read by UUID, and this does not matter"))
    }
}

async fn open(
    scan: &Scan,
    collection: &Collection,
    snapshot: Option<Position>,
    by_name: bool,
    skip: u64,
) -> Result<RawBatchCursor, Error> {
    let server = &scan.server;
    let mut command = Document::new();
    match (&collection.uuid, by_name) {
        (Some(uuid), false) => _ = command.insert("find", uuid_bson(uuid)),
        (uuid, _) => {
            command.insert("find", &collection.namespace.name);
            if let (Some(uuid), true) = (uuid, server.at_least(6, 0)) {
                command.insert("collectionUUID", uuid_bson(uuid));
            }
        }
    }
    // Named, because a future server may refuse to scan a whole collection unasked.
    command.insert("hint", doc! { "$natural": 1 });
    if let Some(at) = snapshot {
        let concern = doc! { "level": "snapshot", "atClusterTime": bson::Timestamp::from(at) };
        command.insert("readConcern", concern);
        // The same moment, order and member: what was yielded is what comes first.
        if skip > 0 {
            command.insert("skip", i64::try_from(skip).unwrap_or(i64::MAX));
        }
    } else {
        command.insert("readConcern", doc! { "level": server.read_concern() });
    }
    server.batches(&collection.namespace.db, RawDocumentBuf::try_from(&command)?).await
}
