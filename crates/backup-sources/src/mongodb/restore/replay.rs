//! The second way to bring documents to a moment: the target's server applies the operations, in
//! batches.
//!
//! `applyOps` with up to 1000 operations per command is sixty times as fast as one command each, as
//! stock tools send them (mongo.md section 4). Collections are addressed by the names they have at
//! the target; commands are left out, because the fold has settled them. Capped collections take
//! the other way: their order cannot be had like this; so do users and roles.

use std::collections::HashMap;

use backup_core::context::Context;
use backup_core::source::{IfExists, RestoreRequest, SourceError, SourceErrorKind, SourceResult};
use bson::{RawDocument, RawDocumentBuf, doc};
use bytes::Bytes;

use super::command::with_documents;
use super::load::Work;
use crate::mongodb::catalog::CollectionUuid;
use crate::mongodb::dump::Dump;
use crate::mongodb::error::{Explain as _, malformed};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::options::{MongoOptions, Replay};
use crate::mongodb::raw::has_empty_timestamp;
use crate::mongodb::server::{Server, unless_cancelled};

/// Limits of one command.
const OPERATIONS: usize = 1000;
const BYTES: usize = 6 << 20;
/// The way around what the server cannot apply.
const HINT: &str = "set `replay` to `fold` instead";

/// Whether the server is to apply operations; an error if it cannot.
pub(super) fn is_wanted(
    server: &Server,
    dump: &Dump,
    options: &MongoOptions,
    request: &RestoreRequest,
) -> SourceResult<bool> {
    if options.replay != Replay::ApplyOps || !dump.needs_entries() {
        return Ok(false);
    }
    let refuse =
        |text: String| Err(SourceError::new(SourceErrorKind::Unsupported, text).with_hint(HINT));
    if dump.state.newest()[0] >= 5 && !server.at_least(5, 0) {
        return refuse(format!(
            "MongoDB {} cannot apply operations of a newer server",
            server.version_text()
        ));
    }
    if request.if_exists == IfExists::Merge {
        // An operation on a document that the snapshot no longer has would hit the one of its `_id`
        // that is kept.
        return refuse(
            "the operations would change and delete documents that --if-exists merge keeps"
                .to_owned(),
        );
    }
    Ok(true)
}

/// Applies everything in the oplog to the collections that have been loaded.
pub(super) async fn replay(
    cx: &Context,
    server: &Server,
    dump: &Dump,
    options: &MongoOptions,
    works: &mut [Work],
) -> SourceResult<()> {
    for work in works.iter_mut() {
        work.loader.settle().await?;
    }
    let names: HashMap<CollectionUuid, Namespace> = works
        .iter()
        .filter(|work| {
            !work.collection.is_capped() && !work.live.collection.namespace.is_authorization()
        })
        .map(|work| (work.live.uuid, work.collection.namespace.clone()))
        .collect();
    let mut oplog = dump.entries(cx, Some(&names.keys().copied().collect()))?;
    let mut flat = dump.flat(options.until);
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(entry) = unless_cancelled(cx, oplog.next()).await? {
        let mut ready = flat.take(crate::mongodb::raw::document(&entry)?)?;
        while let Some(operation) = ready.next()? {
            let Some(operation) = under_its_name(&operation, &names)? else { continue };
            if batch.len() >= OPERATIONS || bytes + operation.len() > BYTES {
                unless_cancelled(cx, apply(server, options, &std::mem::take(&mut batch))).await?;
                bytes = 0;
            }
            bytes += operation.len();
            batch.push(operation);
        }
    }
    unless_cancelled(cx, apply(server, options, &batch)).await
}

/// An operation on a document of one of the collections, as the command takes it.
fn under_its_name(
    operation: &RawDocument,
    names: &HashMap<CollectionUuid, Namespace>,
) -> SourceResult<Option<Bytes>> {
    let kind = operation.get_str("op").map_err(|_| malformed("oplog entry: no operation type"))?;
    if !matches!(kind, "i" | "u" | "d") {
        return Ok(None);
    }
    let uuid = operation
        .get_binary("ui")
        .ok()
        .and_then(|binary| CollectionUuid::try_from(binary.bytes).ok());
    let Some(namespace) = uuid.and_then(|uuid| names.get(&uuid)) else { return Ok(None) };
    let is_whole = |object: &RawDocument| {
        kind == "i" || (kind == "u" && object.get("$v").ok().flatten().is_none())
    };
    if operation
        .get_document("o")
        .is_ok_and(|object| is_whole(object) && has_empty_timestamp(object.as_bytes()))
    {
        let text =
            format!("{namespace}: the server would replace an empty timestamp by the current time");
        return Err(SourceError::new(SourceErrorKind::Unsupported, text).with_hint(HINT));
    }
    let mut out = RawDocumentBuf::new();
    out.append(bson::cstr!("op"), kind);
    out.append(bson::cstr!("ns"), namespace.to_string());
    for (field, name) in [("o", bson::cstr!("o")), ("o2", bson::cstr!("o2"))] {
        if let Ok(value) = operation.get_document(field) {
            out.append(name, value.to_owned());
        }
    }
    Ok(Some(out.into_bytes().into()))
}

async fn apply(server: &Server, options: &MongoOptions, batch: &[Bytes]) -> SourceResult<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut command = with_documents(&doc! {}, "applyOps", batch)?;
    let concern = RawDocumentBuf::try_from(&options.write_concern.document());
    command.append(
        bson::cstr!("writeConcern"),
        concern.map_err(|error| malformed("command").with_source(error))?,
    );
    command.append(bson::cstr!("bypassDocumentValidation"), true);
    server.write_raw("admin", command).await.writing("cannot apply operations of the oplog")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn operations_get_the_name_at_the_target_and_lose_what_is_of_the_origin() {
        let uuid = bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![5; 16] };
        let names = HashMap::from([([5; 16], Namespace::new("new", "name"))]);
        let entry = rawdoc! {
            "op": "u", "ns": "old.name", "ui": uuid.clone(), "o": { "$v": 2 }, "o2": { "_id": 1 }, "txnNumber": 7_i64,
        };
        let found = under_its_name(&entry, &names).unwrap().unwrap();
        let expected =
            rawdoc! { "op": "u", "ns": "new.name", "o": { "$v": 2 }, "o2": { "_id": 1 } };
        assert_eq!(&found[..], expected.as_bytes());
        for other in [rawdoc! { "op": "c", "ui": uuid }, rawdoc! { "op": "i", "o": {} }] {
            assert_eq!(under_its_name(&other, &names).unwrap(), None);
        }
        let uuid = entry.get_binary("ui").unwrap().to_binary();
        let empty = rawdoc! { "_id": 1, "t": bson::Timestamp { time: 0, increment: 0 } };
        let insertion = rawdoc! { "op": "i", "ui": uuid, "o": empty };
        assert!(under_its_name(&insertion, &names).unwrap_err().chain().contains("new.name"));
    }
}
