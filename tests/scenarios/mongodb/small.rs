//! Many small collections: restored several at a time, and never seen by halves.

use std::time::Instant;

use backup_core::source::{IfExists, RestoreRequest, Selection};
use bson::doc;
use futures::StreamExt as _;

use super::{restored, say, snapshot_of, source, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

const DATABASES: usize = 10;
const COLLECTIONS: usize = 30;

async fn fill(server: &Mongod) {
    let making = futures::stream::iter(0..DATABASES * COLLECTIONS).map(|n| async move {
        let (db, name) = (format!("db{}", n / COLLECTIONS), format!("c{}", n % COLLECTIONS));
        let index = doc! { "key": { "v": 1 }, "name": "v_1", "unique": n % 2 == 0 };
        server.run(&db, doc! { "createIndexes": &name, "indexes": [index] }).await;
        let documents: Vec<_> = (0..5).map(|id| doc! { "_id": id, "v": id }).collect();
        server.run(&db, doc! { "insert": &name, "documents": documents }).await;
    });
    making.buffer_unordered(8).collect::<()>().await;
}

/// Index builds on documents since the server was started.
async fn builds(server: &Mongod) -> i64 {
    let status = server.run("admin", doc! { "serverStatus": 1 }).await;
    status.get_document("indexBulkBuilder").unwrap().get_i64("count").unwrap()
}

/// The server builds no index on documents: a build takes it at least a tenth of a second. Cut off
/// at any moment, no collection exists without all of its documents and indexes.
pub(super) async fn small_collections_are_restored_together(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    fill(&origin).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let (expected, to) = (state(&origin.client).await, source(&target).await);
    assert_eq!(expected.len(), DATABASES * COLLECTIONS);
    let (built, started) = (builds(&target).await, Instant::now());
    restored(&snapshot, &to, RestoreRequest::default()).await;
    let mut whole = started.elapsed();
    say(&format!("{} collections in {whole:?}", expected.len()));
    same(&expected, &state(&target.client).await);
    assert_eq!(builds(&target).await, built, "indexes were built on documents");

    let mut cut = 0_u32;
    for part in [0.2, 0.5, 0.8, 0.9, 0.97] {
        target.clear().await;
        let restoring = restored(&snapshot, &to, RestoreRequest::default());
        match tokio::time::timeout(whole.mul_f64(part), restoring).await {
            Ok(_) => whole /= 2, // it was measured while the machine was busier
            Err(_) => cut += 1,
        }
        let mut found = state(&target.client).await;
        found.retain(|name, _| !name.contains(".tmp.restore."));
        for (name, facts) in found {
            assert_eq!(facts, expected[&name], "{name}");
        }
    }
    assert!(cut > 1, "restoring was too quick to be cut off");
    let replace = RestoreRequest { if_exists: IfExists::Replace, ..verified() };
    restored(&snapshot, &to, replace).await;
    same(&expected, &state(&target.client).await);
}
