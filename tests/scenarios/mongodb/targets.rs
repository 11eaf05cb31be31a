//! Targets that fail, change or take their time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::source::{IfExists, RestoreRequest, Selection};
use backup_sources::mongodb::{MongoOptions, MongoSource};
use bson::{Document, doc};

use super::{restored, snapshot_of, source, try_restore, verified};
use crate::support::mongod::{Members, Mongod, Version};
use crate::support::mongod_state::{same, state, state_of};

/// A server whose commands can be made to fail.
async fn fallible(version: Version) -> Mongod {
    Mongod::with(version, &["--oplogSize", "990", "--setParameter", "enableTestCommands=1"]).await
}

/// Lets commands fail, or be slow.
async fn fail(server: &Mongod, data: Document) {
    server
        .run(
            "admin",
            doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data },
        )
        .await;
}

async fn mend(server: &Mongod) {
    server.run("admin", doc! { "configureFailPoint": "failCommand", "mode": "off" }).await;
}

fn replace() -> RestoreRequest {
    RestoreRequest { if_exists: IfExists::Replace, ..RestoreRequest::default() }
}

/// What no majority has is not restored, whatever kinds of collections there are.
pub(super) async fn what_no_majority_has_is_an_error(version: Version) {
    let (origin, target) = (Mongod::start(version).await, fallible(version).await);
    origin.run("odd", doc! { "create": "weather", "timeseries": { "timeField": "t" } }).await;
    let now = bson::DateTime::now();
    origin.run("odd", doc! { "insert": "weather", "documents": [{ "t": now, "v": 1 }] }).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    for (code, message) in [(64, "waiting timed out"), (189, "primary stepped down")] {
        let concern = doc! { "code": code, "codeName": "Test", "errmsg": message };
        fail(&target, doc! { "failCommands": ["delete"], "writeConcernError": concern }).await;
        let error = try_restore(&snapshot, &source(&target).await, replace()).await.unwrap_err();
        let (text, hint) = (error.chain(), error.hint().unwrap_or_default().to_owned());
        assert!(
            text.contains("no majority of the target's members") && text.contains(message),
            "{text}"
        );
        assert!(hint.contains("--if-exists replace"), "{hint}");
    }
    mend(&target).await;
    restored(&snapshot, &source(&target).await, replace()).await;
    same(&state(&origin.client).await, &state(&target.client).await);
}

/// What the earlier primary acknowledged may be lost: without reading back, nobody can tell.
pub(super) async fn another_primary_is_an_error(version: Version) {
    let (origin, mut set) = (Mongod::start(version).await, Members::start(version).await);
    for n in 0..8 {
        let documents: Vec<_> =
            (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(6000) }).collect();
        origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let slowly =
        MongoOptions { max_bytes_per_second: Some(12_000_000), ..MongoOptions::new(set.uri()) };
    let to = MongoSource::connect(slowly).await.unwrap();
    let primary = set.primary().await;
    let killing = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        set.kill(&primary);
    };
    let (result, ()) =
        tokio::join!(try_restore(&snapshot, &to, RestoreRequest::default()), killing);
    let error = result.unwrap_err();
    assert!(error.chain().contains("may be lost"), "{}", error.chain());
    set.start_again(&primary).await;
    let into = MongoSource::connect(MongoOptions::new(set.uri())).await.unwrap();
    restored(&snapshot, &into, replace()).await;
    same(&state(&origin.client).await, &state(&set.client).await);
}

/// Users and roles are written last, and nothing of them lies about when a restore fails.
pub(super) async fn no_password_lies_about(version: Version) {
    let (origin, target) = (Mongod::start(version).await, fallible(version).await);
    origin.run("shop", doc! { "insert": "orders", "documents": [{ "_id": 1 }] }).await;
    origin
        .run(
            "shop",
            doc! { "createIndexes": "orders", "indexes": [{ "key": { "v": 1 }, "name": "v_1" }] },
        )
        .await;
    origin.run("shop", doc! { "createUser": "clerk", "pwd": "secret", "roles": ["read"] }).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    for (command, says) in [
        ("createIndexes", "0 of 1 collections were restored"),
        ("_mergeAuthzCollections", "cannot restore admin"),
    ] {
        fail(&target, doc! { "failCommands": [command], "errorCode": 8000 }).await;
        let error = try_restore(&snapshot, &source(&target).await, replace()).await.unwrap_err();
        assert!(error.chain().contains(says), "{command}: {}", error.chain());
        let left = target.client.database("admin").list_collection_names().await.unwrap();
        assert!(!left.iter().any(|name| name.starts_with("temp")), "{command}: {left:?}");
    }
    mend(&target).await;
    restored(&snapshot, &source(&target).await, RestoreRequest { verify: true, ..replace() }).await;
    let users = target.run("shop", doc! { "usersInfo": "clerk" }).await;
    assert_eq!(users.get_array("users").unwrap().len(), 1);
}

/// However many collections there are, few batches wait for a target that is slow.
pub(super) async fn few_batches_wait_for_a_slow_target(version: Version) {
    let (origin, target) = (Mongod::start(version).await, fallible(version).await);
    for n in 0..40 {
        origin.run("db", doc! { "insert": format!("c{n}"), "documents": [{ "_id": 1 }] }).await;
    }
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    fail(&target, doc! { "failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 400 })
        .await;
    let over = AtomicBool::new(false);
    let to = source(&target).await;
    let restoring = async {
        restored(&snapshot, &to, verified()).await;
        over.store(true, Ordering::SeqCst);
    };
    let watching = async {
        let mut most = 0;
        while !over.load(Ordering::SeqCst) {
            let filter = doc! { "currentOp": 1, "command.insert": { "$exists": true } };
            most = most.max(target.run("admin", filter).await.get_array("inprog").unwrap().len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        most
    };
    let ((), most) = tokio::join!(restoring, watching);
    assert!((2..=8).contains(&most), "{most}");
    mend(&target).await;
    same(&state(&origin.client).await, &state(&target.client).await);
}

/// A collection is there in full or not at all, also if the restore is cut off; what it replaces
/// stays until then.
pub(super) async fn nobody_sees_half_a_collection(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for n in 0..8 {
        let documents: Vec<_> =
            (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(1000) }).collect();
        origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    origin
        .run("db", doc! { "createIndexes": "c", "indexes": [{ "key": { "p": 1 }, "name": "p_1" }] })
        .await;
    // In the place of a view, and of a name that leaves no room for another.
    let long = "l".repeat(250);
    for name in ["other", &*long] {
        origin.run("db", doc! { "insert": name, "documents": [{ "_id": "new" }] }).await;
    }
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let expected = state(&origin.client).await;
    let slowly =
        MongoOptions { max_bytes_per_second: Some(5_000_000), ..MongoOptions::new(target.uri()) };
    let to = MongoSource::connect(slowly).await.unwrap();
    let collection = target.client.database("db").collection::<Document>("c");

    let cut = tokio::time::timeout(
        Duration::from_millis(700),
        restored(&snapshot, &to, RestoreRequest::default()),
    );
    assert!(cut.await.is_err());
    let left = not_complete(&target).await;
    assert!(left.iter().any(|name| name.ends_with(".c")) && !has_c(&target).await, "{left:?}");
    target.run("db", doc! { "drop": &long }).await;
    // What is called alike and belongs to somebody else stays.
    target.run("db", doc! { "insert": "tmp.restore.c", "documents": [{ "_id": "own" }] }).await;
    // Nothing is in the way of doing it again: without replacing anything.
    restored(&snapshot, &to, verified()).await;
    assert_eq!(not_complete(&target).await, left);
    target.run("db", doc! { "drop": "tmp.restore.c" }).await;
    for name in left {
        target.run("db", doc! { "drop": name }).await;
    }
    same(&expected, &state(&target.client).await);

    target
        .run(
            "db",
            doc! { "delete": "c", "deletes": [{ "q": { "_id": { "$gt": 4 } }, "limit": 0 }] },
        )
        .await;
    target.run("db", doc! { "drop": "other" }).await;
    target.run("db", doc! { "create": "other", "viewOn": "c", "pipeline": [] }).await;
    let over = AtomicBool::new(false);
    let restoring = async {
        restored(&snapshot, &to, RestoreRequest { verify: true, ..replace() }).await;
        over.store(true, Ordering::SeqCst);
    };
    let watching = async {
        let mut seen = std::collections::BTreeSet::new();
        while !over.load(Ordering::SeqCst) {
            // What a rename interrupts is asked again.
            if let Ok(count) = collection.count_documents(doc! {}).await {
                seen.insert(count);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        seen
    };
    let ((), seen) = tokio::join!(restoring, watching);
    assert_eq!(seen, [5, 8000].into());
    same(&expected, &state(&target.client).await);
}

/// Names of collections that a restore has not completed.
async fn not_complete(target: &Mongod) -> Vec<String> {
    let names = target.client.database("db").list_collection_names().await.unwrap();
    let is_one = |name: &String| name.starts_with("tmp.restore.") && name != "tmp.restore.c";
    names.into_iter().filter(is_one).collect()
}

async fn has_c(target: &Mongod) -> bool {
    target.client.database("db").list_collection_names().await.unwrap().contains(&"c".to_owned())
}

/// Two restores of the same collections do not fill one: the later one replaces what the first has
/// not completed, which notices.
pub(super) async fn two_restores_at_once(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for n in 0..8 {
        let documents: Vec<_> =
            (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(1000) }).collect();
        origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let expected = state(&origin.client).await;
    let slowly =
        MongoOptions { max_bytes_per_second: Some(4_000_000), ..MongoOptions::new(target.uri()) };
    let (slow, fast) = (MongoSource::connect(slowly).await.unwrap(), source(&target).await);
    let first = async {
        let error = try_restore(&snapshot, &slow, replace()).await.unwrap_err();
        assert!(error.chain().contains("was dropped during the restore"), "{}", error.chain());
    };
    let second = async {
        while not_complete(&target).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        restored(&snapshot, &fast, RestoreRequest { verify: true, ..replace() }).await;
        same(&expected, &state_of_c(&target).await);
    };
    tokio::join!(first, second);
    // It has cleared up, and taken nothing away.
    same(&expected, &state(&target.client).await);
}

/// Without what the other restore is filling.
async fn state_of_c(target: &Mongod) -> crate::support::mongod_state::State {
    state_of(&target.client, |name| !name.starts_with("tmp.restore.")).await
}
