//! A restore that is read back: whatever is not as the snapshot has it is an error.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::source::{IfExists, RestoreRequest, Selection};
use bson::{Document, doc};

use super::{restored, snapshot_of, source, try_restore, verified};
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
