//! Documents and definitions that the driver's own types refuse or change: every byte is compared
//! with the source, by the test's own reading.

use std::collections::BTreeMap;

use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, Selection};
use backup_sources::mongodb::synthetic_full;
use bson::{RawArrayBuf, RawDocumentBuf, rawdoc};

use super::built_on::{made, reader};
use super::{by_the_oplog, repository, restored, source, talking, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_raw::{definitions, same_definitions};

/// A document of the bytes of its elements.
fn raw(elements: &[&[u8]]) -> RawDocumentBuf {
    let body = elements.concat();
    let length = i32::try_from(body.len() + 5).unwrap();
    RawDocumentBuf::from_bytes([&length.to_le_bytes()[..], &body, &[0]].concat()).unwrap()
}

fn list(documents: &[RawDocumentBuf]) -> RawArrayBuf {
    documents.iter().cloned().collect()
}

async fn run(server: &Mongod, command: RawDocumentBuf) {
    let shown = format!("{command:?}");
    let reply = server.client.database("odd").run_raw_command(command).await;
    let reply = reply.unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert!(reply.get("writeErrors").is_none(), "{shown}: {reply}");
}

const N: &[u8] = b"\x10n\0\x01\0\0\0";

/// Documents with a number `n`, and something that no map of values holds.
fn odd_documents() -> Vec<RawDocumentBuf> {
    let mut deep = rawdoc! { "bottom": 1 };
    for _ in 0..150 {
        deep = rawdoc! { "d": deep };
    }
    let deep = [b"\x03deep\0", deep.as_bytes()].concat();
    let odd: [&[u8]; 9] = [
        b"\x10a\0\x01\0\0\0\x10a\0\x02\0\0\0",
        b"\x02t\0\x03\0\0\0\xff\xfe\0",
        b"\x05b\0\x06\0\0\0\x02\x63\0\0\0\x01\x02",
        b"\x0br\0x\0mi\0",
        b"\x0br\0\xff\0im\0",
        b"\x04l\0\x13\0\0\0\x107\0\x01\0\0\0\x10x\0\x02\0\0\0\0",
        b"\x10\xff\xfe\0\x01\0\0\0",
        b"\x03s\0\x13\0\0\0\x10a\0\x01\0\0\0\x10a\0\x02\0\0\0\0",
        &deep,
    ];
    let mut documents: Vec<RawDocumentBuf> = (0_i32..)
        .zip(odd)
        .map(|(id, odd)| raw(&[b"\x10_id\0", &id.to_le_bytes(), odd, N]))
        .collect();
    documents.push(raw(&[b"\x03_id\0\x13\0\0\0\x10a\0\x01\0\0\0\x10a\0\x02\0\0\0\0", N]));
    documents.push(raw(&[b"\x02_id\0\x03\0\0\0\xff\xfe\0", N]));
    documents.push(rawdoc! { "_id": 20, "n": 1 });
    documents.push(rawdoc! { "_id": 21, "n": 1 });
    documents
}

/// `{a: {$gt: 5}, a: {$lt: 10}}`: a map keeps one of the two.
fn twice() -> RawDocumentBuf {
    let (more, less) = (rawdoc! { "$gt": 5 }, rawdoc! { "$lt": 10 });
    raw(&[b"\x03a\0", more.as_bytes(), b"\x03a\0", less.as_bytes()])
}

async fn define(server: &Mongod, version: Version) {
    let index = rawdoc! { "key": { "u": 1 }, "name": "twice", "unique": true, "partialFilterExpression": twice() };
    run(server, rawdoc! { "createIndexes": "c", "indexes": list(&[index]) }).await;
    run(server, rawdoc! { "create": "validated", "validator": twice() }).await;
    let pipeline = list(&[rawdoc! { "$match": twice() }]);
    run(server, rawdoc! { "create": "view", "viewOn": "c", "pipeline": pipeline }).await;
    let text = raw(&[b"\x02t\0\x03\0\0\0\xff\xfe\0"]);
    let pipeline = list(&[rawdoc! { "$match": text }]);
    run(server, rawdoc! { "create": "not UTF-8", "viewOn": "c", "pipeline": pipeline }).await;
    run(server, rawdoc! { "create": "capped", "capped": true, "size": 8192 }).await;
    if version < Version::V6_0 {
        run(server, rawdoc! { "create": "images", "recordPreImages": true }).await;
    }
    if version.has_time_series() {
        let fields = rawdoc! { "timeField": "t", "metaField": "m" };
        let collation = rawdoc! { "locale": "de" };
        run(server, rawdoc! { "create": "series", "timeseries": fields, "collation": collation })
            .await;
    }
}

/// Changes of documents that leave the odd parts alone, reach into them, and look like others.
async fn change(server: &Mongod, version: Version) {
    let update = |q: RawDocumentBuf, u: RawDocumentBuf| rawdoc! { "q": q, "u": u, "multi": true };
    let all = update(rawdoc! {}, rawdoc! { "$inc": { "n": 1 } });
    let inside = update(rawdoc! { "_id": 7 }, rawdoc! { "$set": { "s.b": 3, "s.c.d": 4 } });
    run(server, rawdoc! { "update": "c", "updates": list(&[all, inside]) }).await;
    if version >= Version::V5_0 {
        for (id, odd) in [
            (20, rawdoc! { "_id": 20, "$v": 2, "diff": { "u": { "n": 7 } } }),
            (21, rawdoc! { "_id": 21, "$set": { "n": 7 }, "n": 1 }),
        ] {
            let pipeline = list(&[rawdoc! { "$replaceWith": { "$literal": odd } }]);
            let replaced = rawdoc! { "q": { "_id": id }, "u": pipeline };
            run(server, rawdoc! { "update": "c", "updates": list(&[replaced]) }).await;
        }
    }
}

/// Changes of definitions.
async fn redefine(server: &Mongod, version: Version) {
    let index = rawdoc! { "key": { "v": 1 }, "name": "later", "partialFilterExpression": twice() };
    run(server, rawdoc! { "createIndexes": "c", "indexes": list(&[index]) }).await;
    run(server, rawdoc! { "collMod": "c", "validator": twice() }).await;
    if version < Version::V6_0 {
        let validator = rawdoc! { "a": { "$exists": true } };
        run(server, rawdoc! { "collMod": "images", "validator": validator }).await;
    } else {
        run(server, rawdoc! { "collMod": "capped", "cappedSize": 10_000 }).await;
    }
    if version.has_time_series() {
        let granularity = rawdoc! { "granularity": "minutes" };
        run(server, rawdoc! { "collMod": "series", "timeseries": granularity }).await;
    }
}

/// The bytes of every document by those of its `_id`, of both the same without a parser.
async fn documents(server: &Mongod) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let db = server.client.database("odd");
    let find = rawdoc! { "find": "c", "sort": { "_id": 1 }, "batchSize": 1000 };
    let mut cursor = db.run_raw_cursor_command(find).await.unwrap();
    let mut found = BTreeMap::new();
    while cursor.advance().await.unwrap() {
        let bytes = cursor.current().as_bytes();
        // The server keeps `_id` first; none of these is longer.
        found.insert(bytes[4..bytes.len().min(24)].to_vec(), bytes.to_vec());
    }
    found
}

async fn same_bytes(server: &Mongod, target: &Mongod) {
    let (expected, found) = (documents(server).await, documents(target).await);
    assert_eq!(expected.len(), odd_documents().len());
    for (id, document) in &expected {
        assert_eq!(found.get(id), Some(document), "{}", id.escape_ascii());
    }
    assert_eq!(expected.len(), found.len());
    same_definitions(&definitions(&server.client).await, &definitions(&target.client).await);
}

/// A full backup, one that builds on it, and a full one made of both.
pub(super) async fn every_byte_comes_back(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    run(&origin, rawdoc! { "insert": "c", "documents": list(&odd_documents()) }).await;
    define(&origin, version).await;
    let (repository, from, cx) = (repository().await, by_the_oplog(&origin).await, talking());
    let to = source(&target).await;
    let (_, full) = made(&repository, &from, BackupKind::Full, Selection::all(), &cx).await;
    restored(&full, &to, verified()).await;
    same_bytes(&origin, &target).await;

    change(&origin, version).await;
    redefine(&origin, version).await;
    let kind = BackupKind::Incremental;
    let (report, since) = made(&repository, &from, kind, Selection::all(), &cx).await;
    assert_eq!(report.kind, kind);
    target.clear().await;
    restored(&since, &to, verified()).await;
    same_bytes(&origin, &target).await;

    let made = synthetic_full(&repository, &since, None, &BackupOptions::default(), &cx).await;
    target.clear().await;
    restored(&reader(&repository, &made.unwrap()).await, &to, verified()).await;
    same_bytes(&origin, &target).await;
    assert!(documents(&target).await.values().any(|bytes| bytes.ends_with(b"\x10n\0\x02\0\0\0\0")));
}
