//! Servers that die or cannot be used.

use std::time::Duration;

use backup_core::context::Context;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{
    BackupRequest, Content, EntryPath, IfExists, Item, RestoreRequest, Selection, Source as _,
};
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
        let documents: Vec<_> =
            (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(4000) }).collect();
        server.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    let uri = format!("{}&serverSelectionTimeoutMS=1000", server.uri());
    let source = MongoSource::connect(MongoOptions::new(uri)).await.unwrap();
    // It dies in the middle of a collection, not before.
    let cx = Context::silent();
    let request = BackupRequest::full(Selection::all());
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
    assert!(text.contains("cannot read db.c") && !error.concerns_one_entry(), "{text}");
    drop(content);
    reader.abort().await;

    let repository = repository().await;
    let options = BackupOptions::default();
    let begun =
        tokio::time::timeout(Duration::from_secs(60), backup(&repository, &source, &options, &cx));
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

/// Cursors that the server kills, again and again: at one moment the scan goes on behind what it
/// has, otherwise behind the last record.
pub(super) async fn cursors_that_are_killed_are_made_up_for(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for n in 0..20 {
        let documents: Vec<_> =
            (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(4000) }).collect();
        origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    for snapshot_reads in [SnapshotReads::Auto, SnapshotReads::Never] {
        let options = MongoOptions { snapshot_reads, ..MongoOptions::new(origin.uri()) };
        let slow =
            Slow::new(MongoSource::connect(options).await.unwrap(), Duration::from_millis(300));
        slow.go_on();
        let killing = async {
            let mut killed = 0;
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(450)).await;
                let pattern = doc! { "$currentOp": { "idleCursors": true, "allUsers": true } };
                let found = origin
                    .run("admin", doc! { "aggregate": 1, "pipeline": [pattern], "cursor": {} })
                    .await;
                let list =
                    found.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
                for cursor in
                    list.iter().filter_map(|entry| entry.as_document()?.get_document("cursor").ok())
                {
                    let id = cursor.get_i64("cursorId").unwrap();
                    let reply =
                        origin.run("db", doc! { "killCursors": "c", "cursors": [id] }).await;
                    killed += reply.get_array("cursorsKilled").unwrap().len();
                }
            }
            killed
        };
        let (snapshot, killed) = tokio::join!(snapshot_of(&slow, Selection::all()), killing);
        assert!(killed > 0, "the scan was over before");
        let file = snapshot
            .find(&EntryPath::new("/mongodb/rs/dump/db/c.bson").unwrap())
            .await
            .unwrap()
            .unwrap();
        let stats = origin.run("db", doc! { "collStats": "c" }).await;
        assert_eq!(
            i64::try_from(file.metadata.size).unwrap(),
            i64::from(stats.get_i32("size").unwrap()),
            "nothing twice"
        );
        target.clear().await;
        restored(&snapshot, &source(&target).await, verified()).await;
        same(&state(&origin.client).await, &state(&target.client).await);
    }
}

/// An index whose build is under way is listed like any other; it is not one.
pub(super) async fn an_index_that_is_being_built_is_left_out(version: Version) {
    let (origin, target) = (
        Mongod::with(version, &["--oplogSize", "990", "--setParameter", "enableTestCommands=1"])
            .await,
        Mongod::start(version).await,
    );
    let documents: Vec<_> = (0..1000).map(|id| doc! { "_id": id, "a": id, "b": id }).collect();
    origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    origin
        .run("db", doc! { "createIndexes": "c", "indexes": [{ "key": { "a": 1 }, "name": "a_1" }] })
        .await;
    let hang = |mode: &str| doc! { "configureFailPoint": "hangAfterStartingIndexBuildUnlocked", "mode": mode.to_owned() };
    origin.run("admin", hang("alwaysOn")).await;
    let building = origin.run(
        "db",
        doc! { "createIndexes": "c", "indexes": [{ "key": { "b": 1 }, "name": "b_1" }] },
    );
    let backing_up = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let listed = origin.run("db", doc! { "listIndexes": "c" }).await;
        let listed = listed.get_document("cursor").unwrap().get_array("firstBatch").unwrap().len();
        assert_eq!(listed, 3, "the build has not begun: the test does not show what it should");
        let mut snapshots = Vec::new();
        for snapshot_reads in [SnapshotReads::Auto, SnapshotReads::Never] {
            let options = MongoOptions { snapshot_reads, ..MongoOptions::new(origin.uri()) };
            let source = MongoSource::connect(options).await.unwrap();
            snapshots.push(snapshot_of(&source, Selection::all()).await);
        }
        origin.run("admin", hang("off")).await;
        snapshots
    };
    let (_, snapshots) = tokio::join!(building, backing_up);
    for snapshot in snapshots {
        target.clear().await;
        restored(&snapshot, &source(&target).await, verified()).await;
        let mut expected = state(&origin.client).await;
        let indexes = &mut expected.get_mut("db.c").unwrap().indexes;
        indexes.retain(|index| !format!("{index:?}").contains("b_1"));
        assert_eq!(indexes.len(), 2);
        same(&expected, &state(&target.client).await);
    }
}

/// A restore ends at any moment, as if the program were killed: doing it again, in place of what is
/// there, mends it. At once, while the server may be busy with what it was asked for last.
pub(super) async fn a_restore_that_was_cut_off_is_done_again(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    super::odd::fill(&origin, version).await;
    for n in 0..10 {
        let documents: Vec<_> =
            (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(2000) }).collect();
        origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let expected = state(&origin.client).await;
    let replace = || RestoreRequest { if_exists: IfExists::Replace, ..verified() };
    let mut cut = 0;
    for millis in [30, 60, 100, 150, 250, 400, 600, 800] {
        let to = source(&target).await;
        let request = replace();
        let restoring = restored(&snapshot, &to, request);
        cut += usize::from(
            tokio::time::timeout(Duration::from_millis(millis), restoring).await.is_err(),
        );
    }
    assert!(cut > 1, "restoring was too quick to be cut off");
    restored(&snapshot, &source(&target).await, replace()).await;
    same(&expected, &state(&target.client).await);
}

/// The target dies in the middle: that is an error, and says so.
pub(super) async fn a_target_that_dies_is_an_error(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for n in 0..20 {
        let documents: Vec<_> =
            (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(4000) }).collect();
        origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let limited = MongoOptions {
        max_bytes_per_second: Some(20_000_000),
        ..MongoOptions::new(format!("{}&serverSelectionTimeoutMS=1000", target.uri()))
    };
    let to = MongoSource::connect(limited).await.unwrap();
    let killing = async {
        tokio::time::sleep(Duration::from_millis(1000)).await;
        target.kill();
    };
    let (result, ()) = tokio::join!(super::try_restore(&snapshot, &to, verified()), killing);
    let error = result.unwrap_err();
    assert!(error.chain().contains("db.c"), "{}", error.chain());
}
