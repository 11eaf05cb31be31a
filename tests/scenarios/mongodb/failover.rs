//! Snapshots that build on others, of sets whose members lag, die and take back what they had.

use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::Repository;
use backup_core::source::{BackupKind, Selection};
use backup_sources::mongodb::{MongoOptions, MongoSource};
use bson::doc;
use mongodb::Client;

use super::built_on::made;
use super::{repository, restored, source, talking, verified};
use crate::support::mongod::{Members, Mongod, Version, connect};
use crate::support::mongod_state::{State, same, state};

/// Once as many members as `concern` says have it.
async fn insert(client: &Client, ids: std::ops::Range<i32>, concern: &str) {
    let write_concern = if concern == "1" {
        doc! { "w": 1 }
    } else {
        doc! { "w": concern }
    };
    let documents: Vec<_> = ids.map(|id| doc! { "_id": id, "p": "x".repeat(100) }).collect();
    let command = doc! { "insert": "c", "documents": documents, "writeConcern": write_concern };
    client.database("db").run_command(command).await.unwrap();
}

/// A source that reads what the address leads to.
async fn at(uri: String) -> MongoSource {
    MongoSource::connect(MongoOptions::new(uri)).await.unwrap()
}

async fn of_primary(set: &Members) -> MongoSource {
    at(format!("{}&readPreference=primary", set.uri())).await
}

/// A snapshot of that type comes to what is expected.
async fn comes_back(
    repository: &Repository,
    from: &MongoSource,
    kind: BackupKind,
    target: &Mongod,
    expected: &State,
) {
    let (report, snapshot) = made(repository, from, kind, Selection::all(), &talking()).await;
    assert_eq!(report.kind, kind);
    target.clear().await;
    restored(&snapshot, &source(target).await, verified()).await;
    same(expected, &state(&target.client).await);
}

async fn snapshots(repository: &Repository) -> usize {
    repository.snapshots(&Context::silent()).await.unwrap().snapshots.len()
}

/// A member that has not got to the earlier snapshot yet is no reason for a full backup, and never
/// gives less than that holds.
pub(super) async fn a_member_that_lags_adds_nothing_wrong(version: Version) {
    let (set, target) = (Members::with_test_commands(version).await, Mongod::start(version).await);
    let repository = repository().await;
    let (all, primary) = (BackupKind::Full, of_primary(&set).await);
    insert(&set.client, 0..100, "majority").await;
    comes_back(&repository, &primary, all, &target, &state(&set.client).await).await;
    let lagging = (set.number(&set.primary().await) + 1) % 3;
    let (direct, late) = (connect(&set.direct(lagging)).await, at(set.direct(lagging)).await);
    set.caught_up(&direct).await;
    set.applies(lagging, false).await;
    // What it is applying at the moment still comes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    insert(&set.client, 100..200, "majority").await;
    let expected = state(&set.client).await;
    comes_back(&repository, &primary, BackupKind::Incremental, &target, &expected).await;
    let before = state(&direct).await;
    assert_eq!(
        before["db.c"].documents.len(),
        100,
        "it does not lag: the test does not show what it should"
    );
    let options = BackupOptions { kind: Some(BackupKind::Incremental), ..BackupOptions::default() };
    let error = backup(&repository, &late, &options, &Context::silent()).await.unwrap_err();
    assert!(
        error.chain().contains("no majority has this entry yet") && error.hint().is_some(),
        "{}",
        error.chain()
    );
    assert_eq!(snapshots(&repository).await, 2);
    // A full one is of an earlier moment, as a whole.
    comes_back(&repository, &late, all, &target, &before).await;
    set.applies(lagging, true).await;
    insert(&set.client, 200..300, "majority").await;
    set.caught_up(&direct).await;
    comes_back(&repository, &late, BackupKind::Incremental, &target, &state(&set.client).await)
        .await;
}

/// What no majority has gets into no snapshot, and what is built on before a failover is built on
/// after it.
pub(super) async fn what_is_taken_back_is_in_no_snapshot(version: Version) {
    let (mut set, target) =
        (Members::with_test_commands(version).await, Mongod::start(version).await);
    let repository = repository().await;
    insert(&set.client, 0..100, "majority").await;
    let from = of_primary(&set).await;
    comes_back(&repository, &from, BackupKind::Full, &target, &state(&set.client).await).await;
    insert(&set.client, 100..200, "majority").await;
    comes_back(&repository, &from, BackupKind::Incremental, &target, &state(&set.client).await)
        .await;

    let old = set.primary().await;
    let alone = connect(&format!("mongodb://{old}/?directConnection=true")).await;
    alone.database("db").run_command(doc! { "ping": 1 }).await.unwrap();
    set.others_follow(&old, false).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    insert(&alone, 1000..1010, "1").await;
    // As long as that may be taken back, no backup ends.
    let options = BackupOptions { kind: Some(BackupKind::Incremental), ..BackupOptions::default() };
    let cx = Context::silent();
    let backing_up =
        tokio::time::timeout(Duration::from_secs(2), backup(&repository, &from, &options, &cx));
    assert!(backing_up.await.is_err(), "a backup does not wait for a majority");
    set.kill(&old);
    set.others_follow(&old, true).await;
    let started = Instant::now();
    let write = || doc! { "insert": "c", "documents": [{ "_id": 2000 }], "writeConcern": { "w": "majority" } };
    while set.client.database("db").run_command(write()).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let expected = state(&set.client).await;
    assert_eq!(
        expected["db.c"].documents.len(),
        201,
        "nothing was taken back: the test does not show what it should"
    );
    assert_eq!(snapshots(&repository).await, 2);
    comes_back(&repository, &of_primary(&set).await, BackupKind::Incremental, &target, &expected)
        .await;
    // The member that took it back.
    set.start_again(&old).await;
    insert(&set.client, 3000..3100, "majority").await;
    let back = set.number(&old);
    set.caught_up(&connect(&set.direct(back)).await).await;
    let expected = state(&set.client).await;
    comes_back(
        &repository,
        &at(set.direct(back)).await,
        BackupKind::Incremental,
        &target,
        &expected,
    )
    .await;
}
