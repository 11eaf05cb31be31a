//! What is told of a server, and of what was made of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::event::{Event, Events, Reporter};
use backup_core::source::{RestoreRequest, Selection, Source as _};
use backup_sources::Waits;
use backup_sources::mongodb::{MongoOptions, MongoSource, WriteConcern};
use bson::{Document, doc};

use super::logs::position;
use super::slow::Slow;
use super::{by_the_oplog, options, restored, snapshot_of, source, try_restore};
use crate::support::mongod::{Mongod, Version};

/// Keeps warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn report(&self, event: &Event) {
        if let Event::Warning(warning) = event {
            self.0.lock().unwrap().push(warning.message.clone());
        }
    }
}

/// Warnings of a capturer that has stored everything up to `from`, after a while.
async fn told(source: &MongoSource, from: backup_sources::mongodb::Position) -> Vec<String> {
    let warnings = Arc::new(Warnings::default());
    let cx = Context::new(Events::to(Arc::clone(&warnings) as _));
    let mut log = source.open_log(&cx, Some(&position(source, from))).await.unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    while let Ok(next) = tokio::time::timeout_at(until.into(), log.next()).await {
        next.unwrap();
    }
    std::mem::take(&mut warnings.0.lock().unwrap())
}

pub(super) async fn a_short_oplog(version: Version) {
    let server = Mongod::with(version, &["--oplogSize", "1", "--syncdelay", "1"]).await;
    let one = source(&server).await;
    let cx = Context::silent();
    let probe_of = async |log_interval| {
        let source =
            MongoSource::connect(MongoOptions { log_interval, ..options(&server) }).await.unwrap();
        source.probe(&cx).await.unwrap().problems
    };
    // A young one is not short.
    assert_eq!(probe_of(None).await, []);
    for n in 0..12 {
        let documents: Vec<_> =
            (0..10).map(|id| doc! { "_id": n * 10 + id, "p": "x".repeat(10_000) }).collect();
        server.run("db", doc! { "insert": "fill", "documents": documents }).await;
    }
    let behind = one.newest_entry(&cx).await.unwrap().at;
    let started = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.run("db", doc! { "insert": "c", "documents": [{}] }).await;
        let window = one.oplog_window(&cx).await.unwrap().unwrap();
        assert!(
            window.oldest <= behind && started.elapsed() < Duration::from_secs(60),
            "{window:?}"
        );
        if window.is_short_for(behind) && started.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
    let warnings = told(&one, behind).await;
    assert!(matches!(&warnings[..], [one] if one.contains("replSetResizeOplog")), "{warnings:?}");
    assert_eq!(told(&one, one.newest_entry(&cx).await.unwrap().at).await, Vec::<String>::new());

    let [scan, hourly] = [probe_of(None).await, probe_of(Some(Duration::from_secs(3600))).await];
    assert!(
        matches!(&scan[..], [one] if one.finding.contains("snapshot of a longer scan")),
        "{scan:?}"
    );
    assert!(matches!(&hourly[..], [one] if one.finding.contains("3600 s behind")), "{hourly:?}");
    // For a second it is long enough, once there is something of some more.
    let reaches = async || {
        let window = one.oplog_window(&cx).await.unwrap().unwrap();
        window.newest.seconds - window.oldest.seconds
    };
    while reaches().await < 8 {
        assert!(started.elapsed() < Duration::from_secs(120));
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.run("db", doc! { "insert": "c", "documents": [{}] }).await;
    }
    assert_eq!(probe_of(Some(Duration::from_secs(1))).await, []);
}

pub(super) async fn remarks_of_a_snapshot(version: Version) {
    let server = Mongod::start(version).await;
    server.run("db", doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    for (command, is_told) in [
        (doc! { "insert": "c", "documents": [{ "_id": 2 }] }, false),
        (doc! { "create": "new" }, true),
        (doc! { "drop": "new" }, true),
        (doc! { "create": "v", "viewOn": "c", "pipeline": [] }, true),
    ] {
        let slow = Slow::new(by_the_oplog(&server).await, Duration::ZERO);
        let meanwhile = async {
            slow.all_read().await;
            server.run("db", command.clone()).await;
            slow.go_on();
        };
        let (snapshot, ()) = tokio::join!(snapshot_of(&slow, Selection::all()), meanwhile);
        let remarks = snapshot.manifest().await.unwrap().unwrap().remarks;
        let has = remarks
            .iter()
            .any(|remark| remark.contains("--oplogReplay") && remark.contains("backup export"));
        assert_eq!((has, remarks.len()), (is_told, usize::from(is_told)), "{command}: {remarks:?}");
    }
    let alone = Mongod::standalone(version).await;
    alone.run("db", doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    let snapshot = snapshot_of(&source(&alone).await, Selection::all()).await;
    let remarks = snapshot.manifest().await.unwrap().unwrap().remarks;
    assert!(matches!(&remarks[..], [one] if one.contains("standalone")), "{remarks:?}");
}

/// Seen by the server's own profile.
pub(super) async fn the_write_concern_of_a_restore(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    origin.run("db", doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let to = async |write_concern| {
        target.clear().await;
        target.run("db", doc! { "profile": 2 }).await;
        MongoSource::connect(MongoOptions { write_concern, ..options(&target) }).await.unwrap()
    };
    for (concern, w) in [
        (WriteConcern::default(), bson::Bson::from(1)),
        (WriteConcern::Majority, "majority".into()),
    ] {
        restored(&snapshot, &to(concern).await, RestoreRequest::default()).await;
        target.run("db", doc! { "profile": 0 }).await;
        let profile = target.client.database("db").collection::<Document>("system.profile");
        let insert = profile
            .find_one(
                doc! { "op": "insert", "ns": { "$regex": r"^db\.tmp\.restore\.[0-9a-f]{8}\.c$" } },
            )
            .await
            .unwrap()
            .expect("an insertion");
        let used = insert.get_document("command").unwrap().get_document("writeConcern").unwrap();
        assert_eq!(used.get("w"), Some(&w), "{insert}");
    }
    let three = WriteConcern::Members(3.try_into().unwrap());
    let error =
        try_restore(&snapshot, &to(three).await, RestoreRequest::default()).await.unwrap_err();
    assert!(error.chain().contains("Not enough data-bearing nodes"), "{}", error.chain());
}

/// The connection string of an application connects; options without an effect are named.
pub(super) async fn ignored_options_of_the_address_are_named(version: Version) {
    let server = Mongod::start(version).await;
    server.run("db", doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    let warnings = Arc::new(Warnings::default());
    let waits = Waits::new(Duration::from_secs(60), Events::to(Arc::clone(&warnings) as _));
    let uri = format!(
        "{}&retryWrites=true&w=majority&compressors=zstd&timeoutMS=5000&noSuchOption=1",
        server.uri()
    );
    let source = MongoSource::connect(MongoOptions { waits, ..MongoOptions::new(uri) }).await;
    let snapshot = snapshot_of(&source.unwrap(), Selection::all()).await;
    assert!(snapshot.manifest().await.unwrap().is_some());
    let told = warnings.0.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("ignored: compressors, timeoutMS, noSuchOption"), "{told:?}");
}
