//! Inserting the documents of one collection in batches, several at a time.
//!
//! 1000 documents or 4 MB per command and few connections saturate a server (mongo.md section 5). A command whose answer
//! got lost is sent again; what it had inserted already is then a duplicate, and must be the same document.

use std::collections::HashSet;
use std::time::Duration;

use ::mongodb::error::Error;
use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{Bson, Document, RawBson, RawDocumentBuf, doc};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::command::with_documents;
use crate::mongodb::catalog::Collection;
use crate::mongodb::digest::Sum;
use crate::mongodb::error::{Explain as _, code, is_denied, is_transient, malformed};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::raw::{document, has_empty_timestamp};
use crate::mongodb::server::{Server, unless_cancelled};

/// Limits of one command.
const DOCUMENTS: usize = 1000;
const BYTES: usize = 4 << 20;
/// Commands of one collection that are under way at the same time.
const PARALLEL: usize = 3;
/// How often a command is sent again when the connection fails.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Where and how documents are written.
#[derive(Debug, Clone)]
struct Place {
    cx: Context,
    server: Server,
    namespace: Namespace,
    /// Others may be there: equal `_id`s are replaced.
    merge: bool,
    ordered: bool,
    /// Read back what was merged.
    verify: bool,
}

/// What one batch came to.
#[derive(Debug, Default)]
struct Outcome {
    verified: u64,
    inexact: u64,
}

/// What was loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) sum: Sum,
    /// Bytes read back by now.
    pub(super) verified: u64,
    /// Documents that could not be inserted exactly as they are.
    pub(super) inexact: u64,
    /// The collection existed and may hold other documents.
    pub(super) merged: bool,
}

pub(super) struct Loader {
    place: Place,
    batch: Vec<Bytes>,
    bytes: usize,
    running: JoinSet<SourceResult<Outcome>>,
    loaded: Loaded,
}

impl Loader {
    /// A loader for `collection`; `existed` says that it may hold documents already.
    pub(super) fn new(cx: &Context, server: &Server, collection: &Collection, existed: bool, verify: bool) -> Self {
        let place = Place {
            cx: cx.clone(),
            server: server.clone(),
            namespace: super::target::loading_name(&collection.namespace),
            merge: existed,
            ordered: collection.is_capped(),
            verify,
        };
        let loaded = Loaded { sum: Sum::default(), verified: 0, inexact: 0, merged: existed };
        Self { place, batch: Vec::new(), bytes: 0, running: JoinSet::new(), loaded }
    }

    pub(super) async fn insert(&mut self, document: Bytes) -> SourceResult<()> {
        self.loaded.sum.add(&document);
        self.bytes += document.len();
        self.batch.push(document);
        if self.batch.len() >= DOCUMENTS || self.bytes >= BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends what there is; waits if too much is under way.
    pub(super) async fn flush(&mut self) -> SourceResult<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let limit = if self.place.ordered { 1 } else { PARALLEL };
        while self.running.len() >= limit {
            self.join().await?;
        }
        let (batch, place) = (std::mem::take(&mut self.batch), self.place.clone());
        self.bytes = 0;
        self.running.spawn(async move {
            let cx = place.cx.clone();
            unless_cancelled(&cx, place.write(&batch)).await
        });
        Ok(())
    }

    async fn join(&mut self) -> SourceResult<()> {
        if let Some(outcome) = self.running.join_next().await {
            let failed =
                |error| SourceError::new(SourceErrorKind::Target, "a writer ended unexpectedly").with_source(error);
            let Outcome { verified, inexact } = outcome.map_err(failed)??;
            self.loaded.verified += verified;
            self.loaded.inexact += inexact;
        }
        Ok(())
    }

    /// Waits until everything is written.
    pub(super) async fn finish(mut self) -> SourceResult<Loaded> {
        self.flush().await?;
        while !self.running.is_empty() {
            self.join().await?;
        }
        Ok(self.loaded)
    }
}

impl Place {
    async fn write(&self, batch: &[Bytes]) -> SourceResult<Outcome> {
        let mut outcome = Outcome::default();
        let (mut plain, mut odd) = (Vec::with_capacity(batch.len()), Vec::new());
        for bytes in batch {
            let is_odd = has_empty_timestamp(document(bytes)?);
            if is_odd && !self.ordered {
                odd.push(bytes.clone());
            } else {
                plain.push(bytes.clone());
            }
            // The order of a capped collection matters more than an empty timestamp; that it was replaced is said.
            outcome.inexact += u64::from(is_odd && self.ordered);
        }
        for document in odd {
            if !self.insert_exactly(&document).await? {
                plain.push(document);
                outcome.inexact += 1;
            }
        }
        if !plain.is_empty() {
            self.insert(&plain).await?;
        }
        if self.merge && self.verify {
            outcome.verified = self.read_back(batch).await?;
        }
        Ok(outcome)
    }

    /// Runs a command, again if the connection fails.
    async fn run(&self, command: &RawDocumentBuf) -> Result<Document, Error> {
        let mut attempt = 0;
        loop {
            match self.server.write_raw(&self.namespace.db, command.clone()).await {
                Err(error) if is_transient(&error) && attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE * attempt).await;
                }
                other => return other,
            }
        }
    }

    async fn insert(&self, documents: &[Bytes]) -> SourceResult<()> {
        let head = doc! {
            "insert": &self.namespace.name, "ordered": self.ordered, "bypassDocumentValidation": true,
            "writeConcern": { "w": 1 },
        };
        let mut rest = documents;
        loop {
            let reply = self.run(&with_documents(&head, "documents", rest)?).await;
            let reply = reply.writing(format_args!("inserting into {}", self.namespace))?;
            let failures = failures(&reply)?;
            let mut last = None;
            for (index, code, message) in failures {
                let document = rest.get(index).ok_or_else(|| malformed("the answer to an insertion"))?;
                if code != code::DUPLICATE_KEY {
                    return Err(self.refused(code, &message));
                }
                self.settle_duplicate(document).await?;
                last = Some(index);
            }
            // An ordered insertion stops at its first failure.
            match last {
                Some(index) if self.ordered && index + 1 < rest.len() => rest = &rest[index + 1..],
                _ => return Ok(()),
            }
        }
    }

    fn refused(&self, code: i32, message: &str) -> SourceError {
        let text = format!("{}: the server refuses a document: {message} (code {code})", self.namespace);
        SourceError::new(SourceErrorKind::Target, text)
    }

    /// There is a document with this `_id`.
    async fn settle_duplicate(&self, bytes: &Bytes) -> SourceResult<()> {
        let id = id_value(bytes)?;
        if !self.merge {
            let there = self.fetch(vec![id]).await?;
            return if there.iter().any(|there| there == bytes) {
                Ok(())
            } else {
                let text = format!("{}: a document that was restored was changed meanwhile", self.namespace);
                Err(SourceError::new(SourceErrorKind::Target, text)
                    .with_hint("is something else writing to the target?"))
            };
        }
        let mut change = RawDocumentBuf::new();
        let mut query = RawDocumentBuf::new();
        query.append(bson::cstr!("_id"), id);
        change.append(bson::cstr!("q"), query);
        change.append(bson::cstr!("u"), document(bytes)?.to_owned());
        change.append(bson::cstr!("upsert"), true);
        let head =
            doc! { "update": &self.namespace.name, "bypassDocumentValidation": true, "writeConcern": { "w": 1 } };
        let command = with_documents(&head, "updates", &[change.into_bytes().into()])?;
        let reply = self.run(&command).await.writing(format_args!("replacing in {}", self.namespace))?;
        match failures(&reply)?.first() {
            Some((_, code, message)) => Err(self.refused(*code, message)),
            None => Ok(()),
        }
    }

    /// Inserts a document whose empty timestamp must stay empty; false if the rights do not allow it.
    async fn insert_exactly(&self, bytes: &Bytes) -> SourceResult<bool> {
        let mut operation = RawDocumentBuf::new();
        operation.append(bson::cstr!("op"), "i");
        operation.append(bson::cstr!("ns"), self.namespace.to_string());
        operation.append(bson::cstr!("o"), document(bytes)?.to_owned());
        let mut command = with_documents(&doc! {}, "applyOps", &[operation.into_bytes().into()])?;
        command.append(bson::cstr!("bypassDocumentValidation"), true);
        match self.server.write_raw("admin", command).await {
            Ok(_) => Ok(true),
            Err(error) if is_denied(&error) => Ok(false),
            Err(error) => Err(error).writing(format_args!("inserting into {}", self.namespace)),
        }
    }

    /// Documents with these `_id`s, as the primary has them.
    async fn fetch(&self, ids: Vec<RawBson>) -> SourceResult<Vec<Bytes>> {
        use futures::StreamExt as _;
        let mut list = bson::RawArrayBuf::new();
        ids.into_iter().for_each(|id| list.push(id));
        let mut found = Vec::new();
        let mut within = RawDocumentBuf::new();
        within.append(bson::cstr!("$in"), list);
        let mut filter = RawDocumentBuf::new();
        filter.append(bson::cstr!("_id"), within);
        let mut find = RawDocumentBuf::new();
        find.append(bson::cstr!("find"), self.namespace.name.as_str());
        find.append(bson::cstr!("filter"), filter);
        let db = self.server.client.database(&self.namespace.db);
        let reading = || format!("reading {} back", self.namespace);
        let mut batches = db.run_raw_cursor_command(find).batch().await.reading(reading())?;
        while let Some(batch) = batches.next().await.transpose().reading(reading())? {
            let documents =
                batch.doc_slices().map_err(|error| malformed("a batch of the server").with_source(error))?;
            for document in documents {
                let document =
                    document.ok().and_then(|value| value.as_document()).ok_or_else(|| malformed("a batch"))?;
                found.push(Bytes::copy_from_slice(document.as_bytes()));
            }
        }
        Ok(found)
    }

    /// Compares what was merged; returns the bytes.
    async fn read_back(&self, batch: &[Bytes]) -> SourceResult<u64> {
        let ids = batch.iter().map(id_value).collect::<SourceResult<Vec<_>>>()?;
        let there: HashSet<Bytes> = self.fetch(ids).await?.into_iter().collect();
        for document in batch {
            if !there.contains(document) {
                let text = format!("{}: a document at the target is not what the snapshot holds", self.namespace);
                return Err(SourceError::new(SourceErrorKind::Mismatch, text)
                    .with_hint("is something else writing to the target?"));
            }
        }
        Ok(batch.iter().map(|document| document.len() as u64).sum())
    }
}

fn id_value(bytes: &Bytes) -> SourceResult<RawBson> {
    let id = document(bytes)?.get("_id").ok().flatten().ok_or_else(|| malformed("a document: it has no _id"))?;
    Ok(RawBson::from(id))
}

/// Index, code and message of everything that the server refused.
fn failures(reply: &Document) -> SourceResult<Vec<(usize, i32, String)>> {
    let Ok(errors) = reply.get_array("writeErrors") else { return Ok(Vec::new()) };
    let failure = |error: &Bson| {
        let error = error.as_document()?;
        let index = usize::try_from(error.get_i32("index").ok()?).ok()?;
        let message = error.get_str("errmsg").unwrap_or_default();
        Some((index, error.get_i32("code").ok()?, message.chars().take(300).collect()))
    };
    errors.iter().map(failure).collect::<Option<_>>().ok_or_else(|| malformed("the answer to a write"))
}
