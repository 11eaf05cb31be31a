//! Reading large collections: by ranges of `_id` where that is right, by one cursor where it is
//! not, and not too fast.

use std::time::{Duration, Instant};

use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, Selection};
use backup_sources::mongodb::{MongoOptions, MongoSource, SnapshotReads};
use bson::{Bson, doc};
use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

use super::slow::Slow;
use super::{options, restored, snapshot_of, source, verified};
use crate::support::long::long;
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

const DOCUMENTS: i32 = 7_000;
const BYTES: usize = 16_000;

async fn fill(server: &Mongod, name: &str, id: impl Fn(i32) -> Bson) {
    for n in 0..DOCUMENTS / 500 {
        let document =
            |k: i32| doc! { "_id": id(n * 500 + k), "p": "x".repeat(BYTES), "n": n * 500 + k };
        let documents: Vec<_> = (0..500).map(document).collect();
        server.run("db", doc! { "insert": name, "documents": documents }).await;
    }
}

/// Bytes and SHA-256 of a collection's file.
async fn file(snapshot: &SnapshotReader, name: &str) -> (usize, Vec<u8>) {
    let path = EntryPath::new(format!("/mongodb/rs/dump/db/{name}.bson")).unwrap();
    let node = snapshot.find(&path).await.unwrap().unwrap();
    let mut content = snapshot.content(&node);
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(piece) = content.try_next().await.unwrap() {
        bytes += piece.len();
        hash.update(&piece);
    }
    (bytes, hash.finalize().to_vec())
}

async fn bytes_of(server: &Mongod, name: &str) -> usize {
    let stats = server.run("db", doc! { "collStats": name }).await;
    stats
        .get("size")
        .and_then(|size| size.as_i32().map(i64::from).or(size.as_i64()))
        .unwrap()
        .try_into()
        .unwrap()
}

/// How many ranges of a collection were asked for, by the server's own record.
async fn ranges(server: &Mongod) -> i32 {
    let ranged = doc! { "op": "query", "command.filter._id.$lt": { "$exists": true }, "command.limit": { "$exists": false } };
    server
        .run("db", doc! { "count": "system.profile", "query": ranged })
        .await
        .get_i32("n")
        .unwrap()
}

pub(super) async fn a_large_collection_is_read_by_ranges(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    fill(&origin, "c", Bson::from).await;
    origin.run("db", doc! { "profile": 2 }).await;
    let mut files = Vec::new();
    for (cursors, snapshot_reads) in [(4, SnapshotReads::Never), (2, SnapshotReads::Auto)] {
        let reading =
            MongoSource::connect(MongoOptions { cursors, snapshot_reads, ..options(&origin) })
                .await
                .unwrap();
        let snapshot = snapshot_of(&reading, Selection::all()).await;
        files.push(file(&snapshot, "c").await);
        assert!(ranges(&origin).await >= 5, "one cursor has read everything");
        target.clear().await;
        restored(&snapshot, &source(&target).await, verified()).await;
        same(&state(&origin.client).await, &state(&target.client).await);
    }
    assert_eq!(files[0], files[1], "the same file however many cursors read it");
}

/// Comparisons see one type of `_id` only, and reading random ones in order costs too much: then
/// one cursor reads all.
pub(super) async fn other_collections_are_read_by_one_cursor(version: Version) {
    for mixed in [true, false] {
        let origin = Mongod::start(version).await;
        let id = |n: i32| match (mixed, n) {
            (true, 0) => Bson::MaxKey,
            (true, 1) => f64::NAN.into(),
            (true, 2) => "text".into(),
            (true, n) => n.into(),
            (false, n) => hex::encode(&Sha256::digest(n.to_le_bytes())[..12]).into(),
        };
        fill(&origin, "c", id).await;
        origin.run("db", doc! { "profile": 2 }).await;
        let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
        assert_eq!(file(&snapshot, "c").await.0, bytes_of(&origin, "c").await);
        assert_eq!(ranges(&origin).await, 0);
    }
}

/// All sessions are killed again and again, and with them their cursors: reading goes on where it
/// was.
pub(super) async fn sessions_that_end_are_made_up_for(version: Version) {
    let more =
        if long() { "localLogicalSessionTimeoutMinutes=1" } else { "ttlMonitorSleepSecs=60" };
    let origin = Mongod::with(version, &["--oplogSize", "990", "--setParameter", more]).await;
    fill(&origin, "ranged", Bson::from).await;
    fill(&origin, "natural", |n| hex::encode(&Sha256::digest(n.to_le_bytes())[..12]).into()).await;
    for snapshot_reads in [SnapshotReads::Never, SnapshotReads::Auto] {
        let source = MongoSource::connect(MongoOptions { snapshot_reads, ..options(&origin) })
            .await
            .unwrap();
        let slow = if long() {
            // Together less than 300 seconds, after which a snapshot is too old and read again.
            Slow::new(source, Duration::from_secs(100)).at_most(2)
        } else {
            Slow::new(source, Duration::from_millis(300))
        };
        slow.go_on();
        let killing = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(400)).await;
                origin.run("admin", doc! { "killAllSessions": [] }).await;
            }
        };
        let (snapshot, ()) = tokio::join!(snapshot_of(&slow, Selection::all()), killing);
        for name in ["ranged", "natural"] {
            assert_eq!(
                file(&snapshot, name).await.0,
                bytes_of(&origin, name).await,
                "{name}: nothing twice"
            );
        }
    }
}

pub(super) async fn a_limit_is_kept(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for n in 0..4 {
        let documents: Vec<_> =
            (0..500).map(|k| doc! { "_id": n * 500 + k, "p": "x".repeat(BYTES) }).collect();
        origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    // 32 MB in batches of 16 at 16 MB a second: the second batch waits for a second.
    let limited = MongoOptions { max_bytes_per_second: Some(16_000_000), ..options(&origin) };
    let started = Instant::now();
    let snapshot =
        snapshot_of(&MongoSource::connect(limited).await.unwrap(), Selection::all()).await;
    assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());
    let limited = MongoOptions { max_bytes_per_second: Some(16_000_000), ..options(&target) };
    let started = Instant::now();
    restored(&snapshot, &MongoSource::connect(limited).await.unwrap(), verified()).await;
    assert!(started.elapsed() > Duration::from_millis(1500), "{:?}", started.elapsed());
    same(&state(&origin.client).await, &state(&target.client).await);
}
