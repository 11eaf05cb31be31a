//! The documents of one collection.
//!
//! Collections are addressed by UUID, so that a rename does not matter. Whatever disturbs the scan
//! (a rename, a drop, a cursor that was killed or is too old, a moment too far back) is taken up: a
//! scan in natural order goes on behind the last record, one by ranges of `_id` behind the last
//! `_id`. Where that is not possible it starts again, and the fold of the oplog settles documents
//! that were yielded twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::mongodb::error::Error;
use ::mongodb::raw_batch_cursor::RawBatch;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{Document, RawDocumentBuf, doc};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream;

use super::failure::Failure;
use super::ranges::Ranges;
use super::{Pieces, Scan, Ticket};
use crate::mongodb::catalog::{Collection, CollectionUuid, uuid_at, uuid_bson};
use crate::mongodb::digest::Sum;
use crate::mongodb::error::{Doing, Explain as _, code, code_of, convert, is_denied, is_transient};
use crate::mongodb::member::Choice;
use crate::mongodb::position::Position;
use crate::mongodb::raw::{FIRST, append_batch};
use crate::mongodb::requests::{Batches, is_moved};
use crate::mongodb::server::unless_cancelled;

/// How often in a row a scan is taken up without any progress.
const ATTEMPTS: u32 = 8;
/// First wait before taking it up; each further one is longer by as much.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

/// About how many bytes are handed on at a time: few enough to be in the processor's cache when
/// they are used.
const PIECE: usize = 1 << 20;

/// What documents are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mongodb) enum Purpose {
    /// To be stored: disturbances are survived.
    Backup,
    /// To be compared: a collection that vanishes is an error.
    Compare,
}

/// The documents of `collection`, one after another as in a file of mongodump.
pub(in crate::mongodb) fn content(
    scan: &Arc<Scan>,
    collection: Collection,
    purpose: Purpose,
) -> Pieces {
    let reading = Reading {
        ticket: scan.ticket(),
        snapshot: scan.snapshot.filter(|_| !collection.is_capped()),
        scan: Arc::clone(scan),
        collection,
        purpose,
        by_name: false,
        way: Way::Unknown,
        taking: None,
        buffer: BytesMut::new(),
        behind: None,
        yielded: 0,
        failures: 0,
        failing_since: None,
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

/// How the documents come.
enum Way {
    Unknown,
    /// In natural order, with one cursor.
    Natural(Option<Box<Batches>>),
    /// In order of `_id`, with several.
    Ranges(Box<Ranges>),
}

/// What is read: how to ask for it.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) scan: Arc<Scan>,
    pub(super) db: String,
    name: String,
    uuid: Option<CollectionUuid>,
    by_name: bool,
    snapshot: Option<Position>,
}

impl Place {
    /// The beginning of a `find`.
    pub(super) fn find(&self) -> Document {
        let mut command = Document::new();
        match (&self.uuid, self.by_name) {
            (Some(uuid), false) => _ = command.insert("find", uuid_bson(uuid)),
            (uuid, _) => {
                command.insert("find", &self.name);
                if let (Some(uuid), true) = (uuid, self.scan.server.at_least(6, 0)) {
                    command.insert("collectionUUID", uuid_bson(uuid));
                }
            }
        }
        let concern = match self.snapshot {
            Some(at) => doc! { "level": "snapshot", "atClusterTime": bson::Timestamp::from(at) },
            None => doc! { "level": self.scan.server.read_concern() },
        };
        command.insert("readConcern", concern);
        command
    }

    /// Opens a cursor at the member that is read.
    pub(super) async fn batches(&self, command: RawDocumentBuf) -> Result<Batches, Error> {
        let server = &self.scan.server;
        server.batches(&server.member.choice(), &self.db, command).await
    }
}

/// Whether only the cursor is gone, or the way to the server, so that another cursor can go on.
pub(super) fn is_passing(error: &Error) -> bool {
    let of_the_cursor = [
        code::QUERY_PLAN_KILLED,
        code::CAPPED_POSITION_LOST,
        code::CURSOR_NOT_FOUND,
        code::CURSOR_KILLED,
        code::NAMESPACE_EXISTS,
    ];
    is_transient(error)
        || is_moved(error)
        || code_of(error).is_some_and(|code| of_the_cursor.contains(&code))
}

/// A batch of the server, and where the next document of it is.
struct Taking {
    batch: Arc<RawBatch>,
    at: usize,
}

struct Reading {
    scan: Arc<Scan>,
    collection: Collection,
    purpose: Purpose,
    /// The moment of history that is read.
    snapshot: Option<Position>,
    /// The rights do not allow to read by UUID.
    by_name: bool,
    way: Way,
    taking: Option<Taking>,
    /// What is handed on is made here: its memory comes back when it has been used.
    buffer: BytesMut,
    /// Behind which record of which member a scan in natural order goes on.
    behind: Option<(Choice, RawDocumentBuf)>,
    /// Documents since the last start.
    yielded: u64,
    failures: u32,
    failing_since: Option<Instant>,
    sum: Sum,
    #[expect(dead_code, reason = "dropping it signals the end of reading")]
    ticket: Ticket,
}

impl Reading {
    async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        let cx = self.scan.cx.clone();
        loop {
            let step = unless_cancelled(&cx, async { Ok(self.step().await) }).await?;
            match step {
                Ok(Some((batch, count))) if count > 0 => {
                    self.took(&batch, count)?;
                    unless_cancelled(&cx, async {
                        self.scan.pace.pass(batch.len()).await;
                        Ok(())
                    })
                    .await?;
                    return Ok(Some(batch));
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.finish().await?;
                    return Ok(None);
                }
                Err(Failure::Source(error)) => return Err(error),
                Err(Failure::Server(error)) => {
                    if !self.survive(&error).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn place(&self) -> Place {
        Place {
            scan: Arc::clone(&self.scan),
            db: self.collection.namespace.db.clone(),
            name: self.collection.namespace.name.clone(),
            uuid: self.collection.uuid,
            by_name: self.by_name,
            snapshot: self.snapshot,
        }
    }

    /// The next documents, and how many.
    async fn step(&mut self) -> Result<Option<(Bytes, u64)>, Failure> {
        if self.taking.is_none() {
            self.taking = self.batch().await?.map(|batch| Taking { batch, at: FIRST });
        }
        let Some(Taking { batch, at }) = &mut self.taking else { return Ok(None) };
        let documents = batch.doc_slices()?.as_bytes();
        self.buffer.reserve(PIECE.min(documents.len()));
        let count = append_batch(documents, at, PIECE, &mut self.buffer)?;
        if *at + 1 >= documents.len() {
            self.taking = None;
        }
        Ok(Some((self.buffer.split().freeze(), count)))
    }

    /// The next batch of the server.
    async fn batch(&mut self) -> Result<Option<Arc<RawBatch>>, Failure> {
        if matches!(self.way, Way::Unknown) {
            self.way = match Ranges::of(&self.place(), &self.collection).await {
                Some(ranges) => Way::Ranges(Box::new(ranges)),
                None => Way::Natural(None),
            };
        }
        let place = self.place();
        let cursor = match &mut self.way {
            Way::Ranges(ranges) => return Ok(ranges.next().await?),
            Way::Natural(Some(cursor)) => cursor,
            Way::Natural(none) => none.insert(Box::new(open(&place, self.behind.as_ref()).await?)),
            Way::Unknown => return Ok(None),
        };
        let Some(batch) = cursor.next().await? else { return Ok(None) };
        let choice = cursor.choice();
        self.behind = choice.cloned().zip(resume_token(&batch));
        Ok(Some(Arc::new(batch)))
    }

    fn took(&mut self, batch: &[u8], count: u64) -> SourceResult<()> {
        self.yielded += count;
        (self.failures, self.failing_since) = (0, None);
        if self.snapshot.is_some() && self.purpose == Purpose::Backup {
            self.sum.add_all(batch)?;
        } else {
            self.sum.measure_all(batch, count);
        }
        Ok(())
    }

    /// Makes of an error what the scan can live with; false if the collection is gone.
    async fn survive(&mut self, error: &Error) -> SourceResult<bool> {
        let doing = format!("cannot read {}", self.collection.namespace);
        let fatal = || Err(convert(error, Doing::Reading, &doing));
        if is_moved(error) {
            // Record identifiers are a member's own.
            (self.behind, self.failing_since) = (None, None);
            return self.begin_again().await;
        }
        self.failures += 1;
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        // Also by time: looking for a member that does not answer takes as long as a wait.
        if self.failures > ATTEMPTS || since.elapsed() >= self.scan.server.waits.timeout() {
            return fatal();
        }
        if is_denied(error) && !self.by_name {
            self.by_name = true;
            self.restart();
            return Ok(true);
        }
        match code_of(error) {
            Some(
                code::NAMESPACE_NOT_FOUND
                | code::INVALID_NAMESPACE
                | code::COLLECTION_UUID_MISMATCH,
            ) => {
                self.scan.disturb();
                if self.purpose == Purpose::Compare || !self.scan.server.is_replica_set() {
                    return fatal();
                }
                // By UUID it is gone for good, and the oplog says so. By name, there may be another
                // one now.
                if self.by_name { fatal() } else { Ok(false) }
            }
            Some(code::SNAPSHOT_TOO_OLD | code::SNAPSHOT_UNAVAILABLE)
                if self.snapshot.is_some() =>
            {
                self.scan.disturb();
                self.snapshot = None;
                self.restart();
                Ok(true)
            }
            // The record behind which to go on is gone.
            Some(code::KEY_NOT_FOUND) if self.behind.take().is_some() => self.begin_again().await,
            _ if is_passing(error) => self.take_up().await,
            _ => fatal(),
        }
    }

    /// Goes on at the same place if that is known, or begins again.
    async fn take_up(&mut self) -> SourceResult<bool> {
        // Ranges have tried themselves.
        if self.behind.is_none() || matches!(self.way, Way::Ranges(_)) {
            return self.begin_again().await;
        }
        self.way = Way::Natural(None);
        tokio::time::sleep(PAUSE * self.failures).await;
        Ok(true)
    }

    async fn begin_again(&mut self) -> SourceResult<bool> {
        if !self.scan.server.is_replica_set() && self.purpose == Purpose::Backup && self.yielded > 0
        {
            return Err(SourceError::new(
                SourceErrorKind::Unavailable,
                format!("the scan of {} was interrupted", self.collection.namespace),
            )
            .with_hint(
                "run the backup again: a standalone server has no oplog to reconcile documents \
                 that are read twice",
            ));
        }
        self.restart();
        tokio::time::sleep(PAUSE * self.failures).await;
        Ok(true)
    }

    /// Begins from the first document. What was yielded comes again: nothing that compares or
    /// counts can be right now.
    fn restart(&mut self) {
        if self.yielded > 0 {
            self.scan.disturb();
            self.scan.note_restart(&self.collection.namespace);
        }
        self.way = Way::Natural(None);
        self.behind = None;
        self.yielded = 0;
        self.sum = Sum::default();
    }

    async fn finish(&mut self) -> SourceResult<()> {
        self.way = Way::Natural(None);
        if self.by_name {
            self.same_name().await?;
        }
        if self.purpose == Purpose::Backup {
            self.scan.note_end(&self.collection, self.snapshot.is_some(), self.sum);
        }
        Ok(())
    }

    /// By name, another collection may have been read from some moment on.
    async fn same_name(&mut self) -> SourceResult<()> {
        let namespace = &self.collection.namespace;
        if uuid_at(&self.scan.server, namespace).await.reading("cannot list the collections")?
            == self.collection.uuid
        {
            return Ok(());
        }
        Err(SourceError::new(
            SourceErrorKind::Unavailable,
            format!("{namespace} was renamed, dropped or replaced while it was read"),
        )
        .with_hint(
            "grant the built-in role `backup`: collections are then read by UUID, so that this \
             does not matter",
        ))
    }
}

/// The record with which a batch ends, as the server wants to be told.
fn resume_token(batch: &RawBatch) -> Option<RawDocumentBuf> {
    let cursor = batch.as_raw_document().get_document("cursor").ok()?;
    let token = cursor.get_document("postBatchResumeToken").ok()?;
    matches!(token.get("$recordId"), Ok(Some(record)) if record.as_null().is_none())
        .then(|| token.to_owned())
}

/// A cursor in natural order, from the beginning or behind a record of a member.
async fn open(place: &Place, behind: Option<&(Choice, RawDocumentBuf)>) -> Result<Batches, Error> {
    let mut command = place.find();
    // Named, because a future server may refuse to scan a whole collection unasked.
    command.insert("hint", doc! { "$natural": 1 });
    command.insert("$_requestResumeToken", true);
    let mut command = RawDocumentBuf::try_from(&command)?;
    let Some((choice, behind)) = behind else { return place.batches(command).await };
    command.append(bson::cstr!("$_resumeAfter"), behind.clone());
    place.scan.server.batches(choice, &place.db, command).await
}
