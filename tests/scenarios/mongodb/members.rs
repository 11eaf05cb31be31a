//! Replica sets of three members.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::source::Selection;
use backup_sources::mongodb::{MongoOptions, MongoSource, SnapshotReads};
use bson::doc;

use super::{restored, snapshot_of, source, verified};
use crate::support::mongod::{Members, Mongod, Version};
use crate::support::mongod_state::{same, state};

/// On all members: a secondary that lags gives an earlier moment.
async fn fill(set: &Members) {
    for n in 0..8 {
        let documents: Vec<_> =
            (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(6000) }).collect();
        let insert = doc! { "insert": "c", "documents": documents, "writeConcern": { "w": 3 } };
        set.client.database("db").run_command(insert).await.unwrap();
    }
}

/// How many `find`s and `getMore`s a member has answered, in total.
async fn reads(host: &str) -> i64 {
    let client = mongodb::Client::with_uri_str(format!("mongodb://{host}/?directConnection=true"))
        .await
        .unwrap();
    let status = client.database("admin").run_command(doc! { "serverStatus": 1 }).await.unwrap();
    let commands = status.get_document("metrics").unwrap().get_document("document").unwrap();
    commands.get_i64("returned").unwrap()
}

/// Without a preference a secondary is read, and the primary is left alone.
pub(super) async fn a_secondary_is_read(version: Version) {
    let set = Members::start(version).await;
    fill(&set).await;
    let primary = set.primary().await;
    for snapshot_reads in [SnapshotReads::Auto, SnapshotReads::Never] {
        let before = reads(&primary).await;
        let options = MongoOptions { snapshot_reads, ..MongoOptions::new(set.uri()) };
        let snapshot =
            snapshot_of(&MongoSource::connect(options).await.unwrap(), Selection::all()).await;
        let served = reads(&primary).await - before;
        assert!(served < 4000, "the primary has served {served} documents");
        let target = Mongod::start(version).await;
        restored(&snapshot, &source(&target).await, verified()).await;
        same(&state(&set.client).await, &state(&target.client).await);
    }
    // And back: into the set, read back where it was written.
    let snapshot = snapshot_of(
        &MongoSource::connect(MongoOptions::new(set.uri())).await.unwrap(),
        Selection::all(),
    )
    .await;
    let before = state(&set.client).await;
    set.client.database("db").drop().await.unwrap();
    let into = MongoSource::connect(MongoOptions::new(set.uri())).await.unwrap();
    restored(&snapshot, &into, verified()).await;
    same(&before, &state(&set.client).await);
}

/// The primary dies while a secondary is read: the scan goes on, and its end waits for a majority.
pub(super) async fn a_failover_is_survived(version: Version) {
    let (set, target) = (Members::start(version).await, Mongod::start(version).await);
    fill(&set).await;
    let options = MongoOptions {
        snapshot_reads: SnapshotReads::Never,
        max_bytes_per_second: Some(16_000_000),
        ..MongoOptions::new(set.uri())
    };
    let source = MongoSource::connect(options).await.unwrap();
    let over = AtomicBool::new(false);
    let backing_up = async {
        let snapshot = snapshot_of(&source, Selection::all()).await;
        over.store(true, Ordering::SeqCst);
        snapshot
    };
    let killing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        set.kill(&set.primary().await);
        assert!(!over.load(Ordering::SeqCst), "the backup was over before");
    };
    let (snapshot, ()) = tokio::join!(backing_up, killing);
    restored(&snapshot, &super::source(&target).await, verified()).await;
    same(&state(&set.client).await, &state(&target.client).await);
}
