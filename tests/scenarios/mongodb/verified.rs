//! A restore that is read back: whatever is not as the snapshot has it is an error.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::source::{BackupKind, IfExists, RestoreRequest, Selection};
use backup_sources::mongodb::{FoldFault, MongoOptions, MongoSource, Replay};
use bson::{Document, doc};

use super::built_on::made;
use super::{
    by_the_oplog, options, repository, restored, snapshot_of, source, talking, try_restore,
    verified,
};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

/// The collection that is disturbed, and others that are restored behind it.
async fn fill(server: &Mongod) {
    for n in 0..12 {
        let name = format!("c{n:02}");
        let validator = doc! { "v": { "$gte": 0 } };
        server.run("db", doc! { "create": &name, "validator": validator }).await;
        let documents: Vec<_> = (0..200).map(|id| doc! { "_id": id, "v": id }).collect();
        server.run("db", doc! { "insert": &name, "documents": documents }).await;
        let index = doc! { "key": { "v": 1 }, "name": "v_1" };
        server.run("db", doc! { "createIndexes": &name, "indexes": [index] }).await;
    }
    server
        .run("db", doc! { "create": "zz", "viewOn": "c00", "pipeline": [{ "$match": { "v": 1 } }] })
        .await;
}

/// Runs a command as soon as the collection it concerns is there: it has got its name last.
async fn disturb(target: &Mongod, command: Document, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let listed = target.client.database("db").run_command(doc! { "listIndexes": "c00" }).await;
        let complete = listed.is_ok_and(|listed| {
            listed
                .get_document("cursor")
                .unwrap()
                .get_array("firstBatch")
                .is_ok_and(|list| list.len() == 2)
        });
        if complete {
            target.run("db", command).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the restore was over before");
}

pub(super) async fn what_is_not_as_it_was_is_an_error(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    fill(&origin).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let to = source(&target).await;
    let replace = || RestoreRequest { if_exists: IfExists::Replace, ..verified() };
    let delete = doc! { "q": { "_id": 7 }, "limit": 1 };
    let change = doc! { "q": { "_id": 7 }, "u": { "$set": { "v": 8 } } };
    for (command, word) in [
        (doc! { "dropIndexes": "c00", "index": "v_1" }, "index v_1 is missing"),
        (
            doc! { "collMod": "c00", "index": { "name": "v_1", "hidden": true } },
            "index v_1: option hidden",
        ),
        (doc! { "collMod": "c00", "validator": {} }, "option validator"),
        (doc! { "collMod": "c00", "validationAction": "warn" }, "option validationAction"),
        (doc! { "delete": "c00", "deletes": [delete] }, "199 documents with"),
        (doc! { "update": "c00", "updates": [change] }, "200 documents with"),
        (doc! { "drop": "c00" }, "db.c00 is missing"),
    ] {
        target.clear().await;
        let over = AtomicBool::new(false);
        let restoring = async {
            let result = try_restore(&snapshot, &to, replace()).await;
            over.store(true, Ordering::SeqCst);
            result
        };
        let (result, ()) = tokio::join!(restoring, disturb(&target, command.clone(), &over));
        let error = result.expect_err(&command.to_string());
        assert!(
            error.chain().contains("db.c00") && error.chain().contains(word),
            "{command}: {}",
            error.chain()
        );
    }
    restored(&snapshot, &to, replace()).await;
    same(&state(&origin.client).await, &state(&target.client).await);
}

/// Every kind of change, in collections of its own.
async fn change(server: &Mongod) {
    let update = |set: Document| doc! { "q": { "_id": 5 }, "u": { "$set": set } };
    server
        .run(
            "db",
            doc! { "delete": "deleted", "deletes": [{ "q": { "_id": { "$lt": 9 } }, "limit": 0 }] },
        )
        .await;
    let updates =
        vec![update(doc! { "v": 7, "a.b": [1, { "c": 2 }] }), update(doc! { "a.b.1.c": 3 })];
    server.run("db", doc! { "update": "changed", "updates": updates }).await;
    let mut session = server.client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let both = server.client.database("db").collection::<Document>("both");
    both.insert_one(doc! { "_id": "new" }).session(&mut session).await.unwrap();
    both.delete_one(doc! { "_id": 3 }).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    server.run("admin", doc! { "renameCollection": "db.renamed", "to": "db.other" }).await;
    let index = doc! { "key": { "w": 1 }, "name": "w_1", "unique": false };
    server.run("db", doc! { "createIndexes": "indexed", "indexes": [index] }).await;
}

/// A restore with a broken fold looks complete. The second reading by other code finds each fault, with
/// the name of the collection, and no fault without one.
pub(super) async fn broken_folds_are_seen(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for name in ["deleted", "changed", "both", "renamed", "indexed"] {
        let documents: Vec<_> = (0..20).map(|id| doc! { "_id": id, "v": id, "a": {} }).collect();
        origin.run("db", doc! { "insert": name, "documents": documents }).await;
    }
    let (repository, from, cx) = (repository().await, by_the_oplog(&origin).await, talking());
    made(&repository, &from, BackupKind::Full, Selection::all(), &cx).await;
    change(&origin).await;
    let kind = BackupKind::Incremental;
    let (report, snapshot) = made(&repository, &from, kind, Selection::all(), &cx).await;
    assert_eq!(report.kind, kind);
    let expected = state(&origin.client).await;
    for replay in [Replay::Fold, Replay::ApplyOps] {
        target.clear().await;
        let to = MongoSource::connect(MongoOptions { replay, ..options(&target) }).await.unwrap();
        restored(&snapshot, &to, verified()).await;
        same(&expected, &state(&target.client).await);
    }
    let names = [
        "db.deleted:",
        "db.changed:",
        "db.both:",
        "db.renamed must be called db.other",
        "db.indexed: index w_1",
    ];
    for (fault, name) in FoldFault::SILENT.into_iter().zip(names) {
        target.clear().await;
        let broken = MongoOptions { fold_fault: Some(fault), ..options(&target) };
        let to = MongoSource::connect(broken).await.unwrap();
        let error = try_restore(&snapshot, &to, verified()).await.expect_err(name);
        assert!(error.chain().contains(name), "{fault:?}: {}", error.chain());
        // Without a check, it looks as if all were well.
        target.clear().await;
        assert_eq!(restored(&snapshot, &to, RestoreRequest::default()).await.warnings, 0);
    }
}
