//! Following the oplog.

use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::source::SourceErrorKind;
use backup_sources::mongodb::{LogPosition, MongoOptions, MongoSource, OplogBatch, OplogTail};
use bson::{Document, RawDocumentBuf, doc};

use super::source;
use crate::support::mongod::{Members, Mongod, Version, connect};

/// The `_id`s of what a batch inserts into the collection.
fn ids_of(batch: &OplogBatch) -> Vec<i32> {
    let (mut ids, mut rest) = (Vec::new(), &batch.data[..]);
    for tick in &batch.ticks {
        assert_eq!(usize::try_from(tick.offset).unwrap(), batch.data.len() - rest.len());
        let length = usize::try_from(i32::from_le_bytes(*rest.first_chunk().unwrap())).unwrap();
        let (entry, more) = rest.split_at(length);
        rest = more;
        let entry =
            Document::try_from(RawDocumentBuf::from_bytes(entry.to_vec()).unwrap()).unwrap();
        assert_eq!(entry.get_timestamp("ts").unwrap(), tick.at.into());
        assert_eq!(entry.get_datetime("wall").unwrap().timestamp_millis(), tick.wall_millis);
        assert_ne!(entry.get_str("op").unwrap(), "n");
        if entry.get_str("op").unwrap() == "i" && entry.get_str("ns").unwrap() == "db.c" {
            ids.push(entry.get_document("o").unwrap().get_i32("_id").unwrap());
        }
    }
    assert!(rest.is_empty());
    ids
}

/// Follows until an insertion of `last` comes; the `_id`s of everything that was inserted
/// meanwhile.
async fn inserted(tail: &mut OplogTail, last: i32) -> (Vec<i32>, LogPosition) {
    let (mut ids, mut stands) = (Vec::new(), None);
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < Duration::from_secs(60), "{ids:?}");
        let batch = tail
            .next(&Context::silent())
            .await
            .unwrap_or_else(|error| panic!("{}", error.chain()))
            .unwrap();
        assert!(stands.is_none_or(|stands| stands == batch.from), "batches follow each other");
        stands = Some(batch.to);
        ids.extend(ids_of(&batch));
        if ids.last() == Some(&last) {
            return (ids, batch.to);
        }
    }
}

async fn insert(client: &mongodb::Client, ids: std::ops::Range<i32>) {
    for id in ids {
        let command = doc! { "insert": "c", "documents": [{ "_id": id, "p": "x".repeat(100) }], "writeConcern": { "w": 1 } };
        client.database("db").run_command(command).await.unwrap();
    }
}

pub(super) async fn the_oplog_is_followed(version: Version) {
    let server = Mongod::start(version).await;
    let source = source(&server).await;
    let cx = Context::silent();
    let from = source.newest_entry(&cx).await.unwrap();
    let mut tail = source.follow(from).unwrap();
    let (_, (ids, _)) = tokio::join!(insert(&server.client, 0..500), inserted(&mut tail, 499));
    assert_eq!(ids, (0..500).collect::<Vec<_>>());
    // Whoever kills its cursor does not disturb it.
    let pattern = doc! { "$currentOp": { "idleCursors": true, "allUsers": true } };
    let match_tail = doc! { "$match": { "cursor.tailable": true } };
    let mut killed = 0;
    for _ in 0..20 {
        let found = server
            .run(
                "admin",
                doc! { "aggregate": 1, "pipeline": [&pattern, &match_tail], "cursor": {} },
            )
            .await;
        let list = found.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
        for cursor in
            list.iter().filter_map(|entry| entry.as_document()?.get_document("cursor").ok())
        {
            let kill = doc! { "killCursors": "oplog.rs", "cursors": [cursor.get_i64("cursorId").unwrap()] };
            killed += server.run("local", kill).await.get_array("cursorsKilled").unwrap().len();
        }
    }
    assert!(killed > 0);
    insert(&server.client, 500..600).await;
    let (ids, stands) = inserted(&mut tail, 599).await;
    assert_eq!(ids, (500..600).collect::<Vec<_>>());
    // A new one goes on where the old one stood, in written form too.
    let mut tail = source.follow(stands.to_string().parse().unwrap()).unwrap();
    insert(&server.client, 600..601).await;
    assert_eq!(inserted(&mut tail, 600).await.0, [600]);
    // No-ops move the position while nothing happens.
    server.run("admin", doc! { "appendOplogNote": 1, "data": { "msg": "beat" } }).await;
    let batch = tail.next(&cx).await.unwrap().unwrap();
    assert!(
        batch.data.is_empty() && batch.ticks.is_empty() && batch.to.at > batch.from.at,
        "{batch:?}"
    );
    // Cancelling ends it.
    let cx = Context::silent();
    cx.cancel.cancel();
    assert_eq!(tail.next(&cx).await.unwrap_err().kind(), SourceErrorKind::Cancelled);
}

/// The oplog has reached its size meanwhile: that is said, and not passed over.
pub(super) async fn what_is_gone_is_a_gap(version: Version) {
    let server = Mongod::with(version, &["--oplogSize", "1", "--syncdelay", "1"]).await;
    let source = source(&server).await;
    let cx = Context::silent();
    let from = source.newest_entry(&cx).await.unwrap();
    insert(&server.client, 0..1).await;
    // One of another term is another entry.
    let other = LogPosition { term: from.term + 1, ..from };
    let error = source.follow(other).unwrap().next(&cx).await.unwrap_err();
    assert!(
        error.kind() == SourceErrorKind::LogGap && error.chain().contains("rolled back"),
        "{}",
        error.chain()
    );
    let mut tail = source.follow(from).unwrap();
    assert_eq!(inserted(&mut tail, 0).await.0, [0]);
    drop(tail);
    let started = Instant::now();
    for n in 0.. {
        let documents: Vec<_> = (0..10)
            .map(|id| doc! { "_id": format!("{n} {id}"), "p": "x".repeat(100_000) })
            .collect();
        server.run("db", doc! { "insert": "fill", "documents": documents }).await;
        if source.oplog_window(&cx).await.unwrap().unwrap().oldest > from.at {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "the oplog does not roll over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(source.oplog_window(&cx).await.unwrap().unwrap().is_short_for(from.at));
    let error = source.follow(from).unwrap().next(&cx).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::LogGap);
    assert!(
        error.chain().contains("reaches back only to") && error.hint().is_some(),
        "{}",
        error.chain()
    );
    // Without an oplog there is nothing to follow.
    let alone = super::source(&Mongod::standalone(version).await).await;
    let error = alone.follow(from).unwrap_err();
    assert!(
        error.kind() == SourceErrorKind::Unsupported && error.hint().unwrap().contains("--replSet")
    );
}

/// Writes that a failover takes back are never shown, and the reader goes on with another member.
pub(super) async fn what_is_taken_back_was_never_seen(version: Version) {
    let set = Members::with_test_commands(version).await;
    let source =
        MongoSource::connect(MongoOptions::new(format!("{}&readPreference=primary", set.uri())))
            .await
            .unwrap();
    let mut tail = source.follow(source.newest_entry(&Context::silent()).await.unwrap()).unwrap();
    insert(&set.client, 0..100).await;
    assert_eq!(inserted(&mut tail, 99).await.0.len(), 100);
    let primary = set.primary().await;
    let alone = connect(&format!("mongodb://{primary}/?directConnection=true")).await;
    alone.database("db").run_command(doc! { "ping": 1 }).await.unwrap();
    set.others_follow(&primary, false).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    insert(&alone, 1000..1010).await;
    // It sees nothing of that for as long as no majority has it.
    let seen = tokio::time::timeout(Duration::from_millis(1200), inserted(&mut tail, 1009)).await;
    assert!(seen.is_err(), "writes of a minority are shown");
    set.kill(&primary);
    set.others_follow(&primary, true).await;
    let started = Instant::now();
    let command = || doc! { "insert": "c", "documents": [{ "_id": 2000 }] };
    while set.client.database("db").run_command(command()).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(inserted(&mut tail, 2000).await.0, [2000]);
    let lost = doc! { "count": "c", "query": { "_id": { "$gte": 1000, "$lt": 2000 } } };
    let left = set.client.database("db").run_command(lost).await.unwrap();
    assert_eq!(
        left.get_i32("n").unwrap(),
        0,
        "nothing was taken back: the test does not show what it should"
    );
}
