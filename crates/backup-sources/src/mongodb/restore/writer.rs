//! Writing batches of documents to one collection: insertions, replacements, reading back.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ::mongodb::error::Error;
use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::spec::ElementType;
use bson::{Bson, Document, RawBson, RawDocumentBuf, doc};
use bytes::Bytes;

use super::command::with_documents;
use crate::mongodb::error::{Explain as _, code, is_transient, malformed, without_values};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::options::WriteConcern;
use crate::mongodb::raw::{document, has_empty_timestamp};
use crate::mongodb::server::Server;

/// How often a command is sent again when the connection fails.
const ATTEMPTS: u32 = 5;

const PAUSE: Duration = Duration::from_millis(500);

/// Where and how documents are written.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) cx: Context,
    pub(super) server: Server,
    pub(super) namespace: Namespace,
    /// The name it will have.
    pub(super) shown: Namespace,
    /// Others may be there: equal `_id`s are replaced.
    pub(super) merge: bool,
    pub(super) ordered: bool,
    pub(super) write_concern: WriteConcern,
    /// What is written is read back: at once what was merged.
    pub(super) verify: bool,
}

impl Place {
    /// Returns how many bytes were read back.
    pub(super) async fn write(&self, batch: &[Bytes]) -> SourceResult<u64> {
        let (odd, plain): (Vec<Bytes>, Vec<Bytes>) =
            batch.iter().cloned().partition(|bytes| has_empty_timestamp(bytes));
        // In a capped collection all of them are inserted in their order, and mended where they
        // are.
        let inserted = if self.ordered { batch } else { &plain[..] };
        if !inserted.is_empty() {
            self.insert(inserted).await?;
        }
        for document in odd {
            self.write_exactly(&document).await?;
        }
        if self.merge && self.verify { self.read_back(batch).await } else { Ok(0) }
    }

    /// Runs a command with these documents, again if the connection fails.
    async fn run(
        &self,
        head: &Document,
        field: &str,
        documents: &[Bytes],
    ) -> SourceResult<Result<Document, Error>> {
        let (mut attempt, began) = (0, Instant::now());
        loop {
            let may_repeat = attempt < ATTEMPTS && began.elapsed() < self.server.waits.timeout();
            // Made anew rather than kept: it is as large as the documents.
            let command = with_documents(head, field, documents)?;
            match self.server.write_raw(&self.namespace.db, command).await {
                Err(error) if is_transient(&error) && may_repeat => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE * attempt).await;
                }
                other => return Ok(other),
            }
        }
    }

    async fn insert(&self, documents: &[Bytes]) -> SourceResult<()> {
        let head = doc! {
            "insert": &self.namespace.name, "ordered": self.ordered, "bypassDocumentValidation": true,
            "writeConcern": self.write_concern.document(),
        };
        let mut rest = documents;
        loop {
            let reply = self.run(&head, "documents", rest).await?;
            let reply = reply.writing(format_args!("cannot insert into {}", self.shown))?;
            let failures = failures(&reply)?;
            let mut last = None;
            for (index, code, message) in failures {
                let document = rest.get(index).ok_or_else(|| malformed("reply to an insert"))?;
                match code {
                    code::DUPLICATE_KEY => self.settle_duplicate(document, &message).await?,
                    _ if self.needs_apply_ops(document)? => self.apply(document).await?,
                    _ => return Err(self.refused(code, &message)),
                }
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
        let reason = without_values(message);
        let text = format!("{}: the server refuses a document: {reason} (code {code})", self.shown);
        SourceError::new(SourceErrorKind::Target, text)
    }

    /// There is a document with this `_id`, or with equal values in a unique index.
    async fn settle_duplicate(&self, bytes: &Bytes, message: &str) -> SourceResult<()> {
        let id = id_value(bytes)?;
        if !self.merge {
            let there = self.fetch(vec![id]).await?;
            return if there.iter().any(|there| there == bytes) {
                Ok(())
            } else if there.is_empty() {
                Err(self.refused(code::DUPLICATE_KEY, message))
            } else {
                let text =
                    format!("{}: a restored document was changed during the restore", self.shown);
                Err(SourceError::new(SourceErrorKind::Target, text)
                    .with_hint("check for other writers at the target"))
            };
        }
        if self.needs_apply_ops(bytes)? {
            return self.apply(bytes).await;
        }
        if is_taken_for_operators(bytes)? {
            return self.write_exactly(bytes).await;
        }
        let mut change = RawDocumentBuf::new();
        let mut query = RawDocumentBuf::new();
        query.append(bson::cstr!("_id"), id);
        change.append(bson::cstr!("q"), query);
        change.append(bson::cstr!("u"), document(bytes)?.to_owned());
        change.append(bson::cstr!("upsert"), true);
        self.update(change).await
    }

    /// Writes a document by a pipeline, with one atomic update. The server stores the result as it
    /// is. In an inserted or a replacing document, also by `applyOps`, it would set an empty
    /// timestamp to the time; in a replacing one, it takes `$` fields for operators.
    async fn write_exactly(&self, bytes: &Bytes) -> SourceResult<()> {
        let mut same = RawDocumentBuf::new();
        same.append(bson::cstr!("$eq"), id_value(bytes)?);
        let mut query = RawDocumentBuf::new();
        query.append(bson::cstr!("_id"), same);
        let mut literal = RawDocumentBuf::new();
        literal.append(bson::cstr!("$literal"), document(bytes)?.to_owned());
        let mut stage = RawDocumentBuf::new();
        stage.append(bson::cstr!("$replaceWith"), literal);
        let mut pipeline = bson::RawArrayBuf::new();
        pipeline.push(stage);
        let mut change = RawDocumentBuf::new();
        change.append(bson::cstr!("q"), query);
        change.append(bson::cstr!("u"), pipeline);
        // What a capped collection has dropped already does not come back.
        change.append(bson::cstr!("upsert"), !self.ordered);
        self.update(change).await
    }

    /// Returns `true` if a server before 5.0 refuses the document as a write, but stores it as an
    /// operation of the oplog: top-level fields have a leading `$`.
    fn needs_apply_ops(&self, bytes: &Bytes) -> SourceResult<bool> {
        Ok(!self.server.at_least(5, 0) && is_taken_for_operators(bytes)?)
    }

    /// Writes a document by operations of the oplog, which the server applies together or not at all:
    /// of a merged collection, it first deletes the document with the same `_id`.
    async fn apply(&self, bytes: &Bytes) -> SourceResult<()> {
        let operation = |kind: &str, document: RawDocumentBuf| {
            let mut operation = RawDocumentBuf::new();
            operation.append(bson::cstr!("op"), kind);
            operation.append(bson::cstr!("ns"), self.namespace.to_string());
            operation.append(bson::cstr!("o"), document);
            operation
        };
        let mut same = RawDocumentBuf::new();
        same.append(bson::cstr!("_id"), id_value(bytes)?);
        let mut operations = bson::RawArrayBuf::new();
        if self.merge {
            operations.push(operation("d", same));
        }
        operations.push(operation("i", document(bytes)?.to_owned()));
        let mut command = RawDocumentBuf::new();
        command.append(bson::cstr!("applyOps"), operations);
        let concern = RawDocumentBuf::try_from(&self.write_concern.document())
            .map_err(|error| malformed("command").with_source(error))?;
        command.append(bson::cstr!("writeConcern"), concern);
        let reply = self.server.write_raw("admin", command).await;
        let reply = reply.writing(format_args!(
            "{}: the server takes documents with $ fields only by applyOps",
            self.shown
        ))?;
        let results = reply.get_array("results").map_err(|_| malformed("reply to applyOps"))?;
        match results.iter().all(|result| result.as_bool() == Some(true)) {
            true => Ok(()),
            false => Err(self.refused(0, "applyOps did not apply it")),
        }
    }

    async fn update(&self, change: RawDocumentBuf) -> SourceResult<()> {
        let head = doc! { "update": &self.namespace.name, "bypassDocumentValidation": true, "writeConcern": self.write_concern.document() };
        let reply = self.run(&head, "updates", &[change.into_bytes().into()]).await?;
        let reply = reply.writing(format_args!("cannot replace documents in {}", self.shown))?;
        match failures(&reply)?.first() {
            Some((_, code, message)) => Err(self.refused(*code, message)),
            None => Ok(()),
        }
    }

    /// Documents with these `_id`s, as the primary has them.
    async fn fetch(&self, ids: Vec<RawBson>) -> SourceResult<Vec<Bytes>> {
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
        let reading = || format!("cannot read back {}", self.shown);
        let opened = self.server.batches_written(&self.namespace.db, find).await;
        let mut batches = opened.reading(reading())?;
        while let Some(batch) = batches.next().await.reading(reading())? {
            let documents = batch
                .doc_slices()
                .map_err(|error| malformed("batch in a server reply").with_source(error))?;
            for document in documents {
                let document = document
                    .ok()
                    .and_then(|value| value.as_document())
                    .ok_or_else(|| malformed("batch in a server reply"))?;
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
                let text =
                    format!("{}: a document at the target differs from the snapshot", self.shown);
                return Err(SourceError::new(SourceErrorKind::Mismatch, text)
                    .with_hint("check for other writers at the target"));
            }
        }
        Ok(batch.iter().map(|document| document.len() as u64).sum())
    }
}

/// Returns `true` if an update command would take fields of the document for operators: top-level
/// fields with a leading `$`, which servers from 5.0 on store, and those of a document as `_id`.
fn is_taken_for_operators(bytes: &Bytes) -> SourceResult<bool> {
    // Values are not parsed: strings may be invalid UTF-8.
    for element in document(bytes)?.iter_elements() {
        let element = element.map_err(|error| malformed("document").with_source(error))?;
        let name = element.key().as_str();
        let is_embedded_id =
            name == "_id" && element.element_type() == ElementType::EmbeddedDocument;
        if name.starts_with('$') || is_embedded_id {
            return Ok(true);
        }
    }
    Ok(false)
}

fn id_value(bytes: &Bytes) -> SourceResult<RawBson> {
    let id =
        document(bytes)?.get("_id").ok().flatten().ok_or_else(|| malformed("document: no _id"))?;
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
    errors.iter().map(failure).collect::<Option<_>>().ok_or_else(|| malformed("reply to a write"))
}
