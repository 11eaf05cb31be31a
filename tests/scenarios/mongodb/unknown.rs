//! Operations of the oplog that no fold can apply: found when they are captured, and in the way of
//! nothing else when they are restored.

use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::log::Target;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{BackupKind, IfExists, RestoreRequest, Selection};
use backup_sources::mongodb::{FoldFault, MongoOptions, MongoSource};
use bson::doc;

use super::built_on::{made, reader};
use super::logs::{Logged, position};
use super::{by_the_oplog, options, repository, restored, source, talking, try_restore, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

/// A server with the command `emptycapped`, which only tests use: a fold cannot apply its entry in the
/// oplog.
async fn testing(version: Version) -> Mongod {
    Mongod::with(version, &["--oplogSize", "990", "--setParameter", "enableTestCommands=1"]).await
}

async fn fill(server: &Mongod) {
    server.run("db", doc! { "create": "capped", "capped": true, "size": 8192 }).await;
    for name in ["capped", "c"] {
        server.run("db", doc! { "insert": name, "documents": [{ "_id": 1 }, { "_id": 2 }] }).await;
    }
}

/// An incremental backup that would hold it becomes a full one, with a warning, and can be restored
/// and built on.
pub(super) async fn backup_becomes_full(version: Version) {
    let (origin, target) = (testing(version).await, Mongod::start(version).await);
    fill(&origin).await;
    let (repository, from, cx) = (repository().await, source(&origin).await, talking());
    made(&repository, &from, BackupKind::Full, Selection::all(), &cx).await;
    origin.run("db", doc! { "emptycapped": "capped" }).await;
    let options = BackupOptions::default();
    let report = backup(&repository, &from, &options, &cx).await.unwrap();
    assert_eq!((report.kind, report.warnings), (BackupKind::Full, 1));
    let snapshot = reader(&repository, &report).await;
    assert_eq!(snapshot.snapshot().x_warnings, None);
    restored(&snapshot, &source(&target).await, verified()).await;
    same(&state(&origin.client).await, &state(&target.client).await);

    origin.run("db", doc! { "insert": "c", "documents": [{ "_id": 3 }] }).await;
    let report = backup(&repository, &from, &options, &cx).await.unwrap();
    assert_eq!((report.kind, report.warnings), (BackupKind::Incremental, 0));
}

/// The captured log has a gap there: moments before it can be restored, and from the next full
/// backup on.
pub(super) async fn log_has_a_gap(version: Version) {
    let (origin, target) = (testing(version).await, Mongod::start(version).await);
    fill(&origin).await;
    let logged = Logged::new(source(&origin).await).await;
    let capturing = logged.begin();
    logged.back_up().await;
    let newest = async || {
        let entry = logged.source.newest_entry(&Context::silent()).await.unwrap().at;
        position(&logged.source, entry)
    };
    origin.run("db", doc! { "insert": "c", "documents": [{ "_id": 3 }] }).await;
    let (before, expected) = (newest().await, state(&origin.client).await);
    origin.run("db", doc! { "emptycapped": "capped" }).await;
    origin.run("db", doc! { "insert": "c", "documents": [{ "_id": 4 }] }).await;
    let after = newest().await;
    let started = Instant::now();
    let gap = loop {
        if let Some(gap) = logged.view().await.timeline().gaps().into_iter().next() {
            break gap;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "there is no gap");
        origin.run("db", doc! { "insert": "tick", "documents": [{}] }).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(gap.from, before.offset, "{gap:?}");
    assert!(gap.reason.as_ref().unwrap().contains("emptycapped"), "{gap:?}");
    let refusal = logged.plan(&Target::Position(after)).await.unwrap_err();
    assert_eq!(refusal.before.unwrap().0, before);
    let to = source(&target).await;
    logged.restore(&Target::Position(before), &to, verified()).await;
    same(&expected, &state(&target.client).await);

    logged.back_up().await;
    origin.run("db", doc! { "insert": "c", "documents": [{ "_id": 5 }] }).await;
    let after = newest().await;
    logged.reached(&after).await;
    capturing.stop().await;
    target.clear().await;
    logged.restore(&Target::Position(after), &to, verified()).await;
    same(&state(&origin.client).await, &state(&target.client).await);
}

/// A collection with an operation that the fold cannot apply is left out, with a warning without its
/// contents. All others come back, and the collection of that name at the target stays.
pub(super) async fn others_are_restored(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    fill(&origin).await;
    origin
        .run("db", doc! { "insert": "odd", "documents": [{ "_id": "anna" }, { "_id": 2 }] })
        .await;
    let (repository, from, cx) = (repository().await, by_the_oplog(&origin).await, talking());
    made(&repository, &from, BackupKind::Full, Selection::all(), &cx).await;
    origin
        .run("db", doc! { "delete": "odd", "deletes": [{ "q": { "_id": "anna" }, "limit": 1 }] })
        .await;
    origin.run("db", doc! { "insert": "c", "documents": [{ "_id": 3 }] }).await;
    let (_, snapshot) =
        made(&repository, &from, BackupKind::Incremental, Selection::all(), &cx).await;

    target.run("db", doc! { "insert": "odd", "documents": [{ "_id": "own" }] }).await;
    let ignorant = MongoOptions { fold_fault: Some(FoldFault::Unknown), ..options(&target) };
    let to = MongoSource::connect(ignorant).await.unwrap();
    let delete = backup_core::source::Delete::ABSENT;
    let request = RestoreRequest { if_exists: IfExists::Replace, delete, ..verified() };
    let report = restored(&snapshot, &to, request).await;
    assert_eq!((report.warnings, report.removed), (1, 0));
    let (mut expected, found) = (state(&origin.client).await, state(&target.client).await);
    let own = found["db.odd"].documents.clone();
    expected.get_mut("db.odd").unwrap().documents.clone_from(&own);
    same(&expected, &found);
    assert_eq!(own.len(), 1);

    // Without other collections in the selection, it is an error.
    let selection = Selection::new(vec!["db.odd".to_owned()], Vec::new()).unwrap();
    let request = RestoreRequest { if_exists: IfExists::Replace, selection, ..verified() };
    let error = try_restore(&snapshot, &to, request).await.unwrap_err().chain();
    assert!(error.contains("db.odd") && error.contains("_id of type string"), "{error}");
    assert!(!error.contains("anna"), "{error}");
}
