//! Rare entries of the oplog, and their effects.

use std::time::{Duration, Instant};

use backup_core::source::{BackupKind, Selection};
use bson::{RawDocumentBuf, doc, rawdoc};

use super::built_on::made;
use super::names::run_with_odd_names;
use super::{by_the_oplog, repository, restored, source, talking, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_raw::{definitions, same_definitions};
use crate::support::mongod_state::{same, state};

async fn fill(server: &Mongod, version: Version) {
    let insert = |name: &str, document| doc! { "insert": name, "documents": [document] };
    server.run("shop", insert("c", doc! { "_id": 1, "at": 1 })).await;
    let index = doc! { "key": { "at": 1 }, "name": "expiring", "expireAfterSeconds": 60 };
    server.run("shop", doc! { "createIndexes": "c", "indexes": [index] }).await;
    let filler = "x".repeat(300);
    server.run("shop", insert("nameless", doc! { "_id": 1, "": { "a": 1, "pad": filler } })).await;
    server.run("shop", doc! { "create": "capped", "capped": true, "size": 8192, "max": 5 }).await;
    let images = if version >= Version::V6_0 {
        doc! { "create": "images", "changeStreamPreAndPostImages": { "enabled": true } }
    } else {
        doc! { "create": "images", "recordPreImages": true }
    };
    server.run("shop", images).await;
}

/// Commands of the shell, where all numbers are doubles; removed options; a field without a name.
async fn change(server: &Mongod, version: Version) {
    let index = doc! { "keyPattern": { "at": 1.0 }, "expireAfterSeconds": 2_592_000 };
    server.run("shop", doc! { "collMod": "c", "index": index }).await;
    let other = doc! { "q": { "_id": 1 }, "u": { "_id": 1.0, "x": 2 } };
    server.run("shop", doc! { "update": "c", "updates": [other] }).await;
    let changed = doc! { "q": { "_id": 1.0 }, "u": { "$set": { "x": 3 } } };
    server.run("shop", doc! { "update": "c", "updates": [changed] }).await;
    let off = if version >= Version::V6_0 {
        server.run("shop", doc! { "collMod": "capped", "cappedMax": 0 }).await;
        doc! { "collMod": "images", "changeStreamPreAndPostImages": { "enabled": false } }
    } else {
        doc! { "collMod": "images", "recordPreImages": false }
    };
    server.run("shop", off).await;
    if version >= Version::V5_0 {
        let document = rawdoc! { "_id": 1, "": { "a": 2, "pad": "x".repeat(300) } };
        let stage = rawdoc! { "$replaceWith": { "$literal": document } };
        let pipeline: bson::RawArrayBuf = [stage].into_iter().collect();
        let update = rawdoc! { "q": { "_id": 1 }, "u": pipeline };
        let updates: bson::RawArrayBuf = [update].into_iter().collect();
        let command: RawDocumentBuf = rawdoc! { "update": "nameless", "updates": updates };
        server.client.database("shop").run_raw_command(command).await.unwrap();
    }
    run_with_odd_names(server, doc! { "create": "QXQ", "viewOn": "c", "pipeline": [] }).await;
    run_with_odd_names(server, doc! { "drop": "QXQ" }).await;
}

/// Compares members, which leaves entries. The driver refuses the reply, whose `ok` is no number.
async fn check(server: &Mongod) {
    _ = server.client.database("shop").run_command(doc! { "dbCheck": "c" }).await;
    let oplog = server.client.database("local").collection::<bson::Document>("oplog.rs");
    let started = Instant::now();
    let checked = doc! { "op": "c", "o.dbCheck": { "$exists": true } };
    while oplog.count_documents(checked.clone()).await.unwrap() == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is checked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn rare_entries_are_applied(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    fill(&origin, version).await;
    let (repository, from, cx) = (repository().await, by_the_oplog(&origin).await, talking());
    made(&repository, &from, BackupKind::Full, Selection::all(), &cx).await;
    change(&origin, version).await;
    if version >= Version::V6_0 {
        check(&origin).await;
    }
    let kind = BackupKind::Incremental;
    let (report, snapshot) = made(&repository, &from, kind, Selection::all(), &cx).await;
    assert_eq!((report.kind, report.warnings), (kind, 0));
    restored(&snapshot, &source(&target).await, verified()).await;
    same(&state(&origin.client).await, &state(&target.client).await);
    same_definitions(&definitions(&origin.client).await, &definitions(&target.client).await);
}
