//! Servers that die or cannot be used.

use std::time::Duration;

use backup_core::context::Context;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{BackupKind, BackupRequest, Content, Item, Selection, Source as _};
use backup_sources::mongodb::{MongoOptions, MongoSource, SnapshotReads};
use bson::doc;
use futures::StreamExt as _;

use super::slow::Slow;
use super::{repository, restored, snapshot_of, source, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

pub(super) async fn a_server_that_dies_leaves_no_snapshot(version: Version) {
    let server = Mongod::start(version).await;
    for n in 0..20 {
        let documents: Vec<_> = (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(4000) }).collect();
        server.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    let uri = format!("{}&serverSelectionTimeoutMS=1000", server.uri());
    let source = MongoSource::connect(MongoOptions::new(uri)).await.unwrap();
    // It dies in the middle of a collection, not before.
    let cx = Context::silent();
    let request = BackupRequest { kind: BackupKind::Full, selection: Selection::all() };
    let mut reader = source.open_backup(&cx, &request).await.unwrap();
    let mut content = loop {
        match reader.next().await.unwrap().unwrap() {
            Item::Entry(entry) if entry.path.name() == b"c.bson" => match entry.content {
                Content::Stream(content) => break content,
                other => panic!("{other:?}"),
            },
            _ => {}
        }
    };
    assert!(!content.next().await.unwrap().unwrap().is_empty());
    server.kill();
    let error = loop {
        match content.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let text = error.chain();
    assert!(text.contains("reading db.c") && !error.concerns_one_entry(), "{text}");
    drop(content);
    reader.abort().await;

    let repository = repository().await;
    let options = BackupOptions::default();
    let begun = tokio::time::timeout(Duration::from_secs(60), backup(&repository, &source, &options, &cx));
    begun.await.unwrap().unwrap_err();
    assert!(repository.snapshots(&cx).await.unwrap().snapshots.is_empty());
}

pub(super) async fn a_wrong_address_tells_no_secret(version: Version) {
    let server = Mongod::with_users(version).await;
    for address in [
        format!("mongodb://admin:hunter2@127.0.0.1:{}/?directConnection=true", server.port()),
        "mongodb://admin:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=200".to_owned(),
        "mongodb://admin:hunter2@127.0.0.1:1/?tls=maybe&x".to_owned(),
        "mongodb://admin:hun/ter2@127.0.0.1:1/".to_owned(),
        "postgres://admin:hunter2@127.0.0.1/".to_owned(),
    ] {
        let error = MongoSource::connect(MongoOptions::new(address.clone())).await.unwrap_err();
        let shown = format!("{} {error:?} {:?}", error.chain(), error.hint());
        assert!(!shown.contains("ter2"), "{shown}");
        assert!(error.hint().is_some(), "{shown}");
    }
    let shown = format!("{:?} {}", source(&server).await, source(&server).await);
    assert!(!shown.contains("pass"), "{shown}");
}

/// Cursors that the server kills, again and again: at one moment the scan goes on behind what it has, otherwise it starts
/// again and the fold settles what came twice.
pub(super) async fn cursors_that_are_killed_are_made_up_for(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for n in 0..20 {
        let documents: Vec<_> = (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(4000) }).collect();
        origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    for snapshot_reads in [SnapshotReads::Auto, SnapshotReads::Never] {
        let options = MongoOptions { snapshot_reads, ..MongoOptions::new(origin.uri()) };
        let slow = Slow::new(MongoSource::connect(options).await.unwrap(), Duration::from_millis(300));
        slow.go_on();
        let killing = async {
            let mut killed = 0;
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(450)).await;
                let pattern = doc! { "$currentOp": { "idleCursors": true, "allUsers": true } };
                let found = origin.run("admin", doc! { "aggregate": 1, "pipeline": [pattern], "cursor": {} }).await;
                let list = found.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
                for cursor in list.iter().filter_map(|entry| entry.as_document()?.get_document("cursor").ok()) {
                    let id = cursor.get_i64("cursorId").unwrap();
                    let reply = origin.run("db", doc! { "killCursors": "c", "cursors": [id] }).await;
                    killed += reply.get_array("cursorsKilled").unwrap().len();
                }
            }
            killed
        };
        let (snapshot, killed) = tokio::join!(snapshot_of(&slow, Selection::all()), killing);
        assert!(killed > 0, "the scan was over before");
        target.clear().await;
        restored(&snapshot, &source(&target).await, verified()).await;
        same(&state(&origin.client).await, &state(&target.client).await);
    }
}
