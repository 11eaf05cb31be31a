//! Members of a replica set that stop answering while they are read: another one takes their place.

use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::log::Target;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{BackupKind, RestoreRequest, Selection, Source as _};
use backup_sources::Waits;
use backup_sources::mongodb::{MongoOptions, MongoSource, SnapshotReads};
use bson::doc;

use super::built_on::reader;
use super::logs::{Logged, position};
use super::{repository, restored, source, verified};
use crate::support::mongod::{Members, Mongod, Version};
use crate::support::mongod_state::{same, state};
use crate::support::notes::Notes;

/// Limit of these tests; the default is 10 seconds.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(3);

async fn insert(set: &Members, ids: std::ops::Range<i32>, bytes: usize) {
    let ids: Vec<i32> = ids.collect();
    for part in ids.chunks(500) {
        let documents: Vec<_> =
            part.iter().map(|id| doc! { "_id": id, "p": "x".repeat(bytes) }).collect();
        let concern = doc! { "w": "majority" };
        let insert = doc! { "insert": "c", "documents": documents, "writeConcern": concern };
        set.client.database("db").run_command(insert).await.unwrap();
    }
}

/// A source and the member that it reads.
async fn reading(options: MongoOptions) -> (MongoSource, String) {
    let source = MongoSource::connect(options).await.unwrap();
    let shown = format!("{source:?}");
    let host = shown.split("host: \"").nth(1).and_then(|rest| rest.split('"').next());
    (source, host.unwrap_or_else(|| panic!("{shown}")).to_owned())
}

fn options(set: &Members, cx: &Context) -> MongoOptions {
    MongoOptions {
        member_timeout: MEMBER_TIMEOUT,
        waits: Waits::new(Duration::from_secs(60), cx.events.clone()),
        ..MongoOptions::new(set.uri())
    }
}

/// Notes name the silent member and the next one.
fn moved(notes: &Notes, from: &str) -> bool {
    let begins = format!("{from} does not answer: 127.0.0.1:");
    notes.all().iter().any(|note| note.starts_with(&begins) && note.ends_with("is read instead"))
}

/// In the middle of a scan, with writes at the same time, by natural order and by `_id`.
pub(super) async fn backup_reads_another_member_than_a_silent_one(version: Version) {
    for (snapshot_reads, preference, cursors) in [
        (SnapshotReads::Never, "secondaryPreferred", 1),
        (SnapshotReads::Auto, "secondaryPreferred", 1),
        (SnapshotReads::Never, "primaryPreferred", 4),
    ] {
        let (set, target) = (Members::start(version).await, Mongod::start(version).await);
        // Enough for ranges of `_id` with several cursors.
        insert(&set, 0..26_000, 4000).await;
        let (cx, notes) = Notes::context();
        let uri = format!("{}&readPreference={preference}", set.uri());
        let options = MongoOptions {
            snapshot_reads,
            cursors,
            max_bytes_per_second: Some(24 << 20),
            // The default: the member is named before.
            member_timeout: MongoOptions::new("").member_timeout,
            uri,
            ..options(&set, &cx)
        };
        let (source, member) = reading(options).await;
        let repository = repository().await;
        let pausing = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            if preference == "secondaryPreferred" {
                insert(&set, 26_000..26_500, 1000).await;
            }
            set.pause(&member, true);
            if preference == "secondaryPreferred" {
                insert(&set, 26_500..27_000, 1000).await;
            }
            Instant::now()
        };
        let made = BackupOptions::default();
        let (report, paused) = tokio::join!(backup(&repository, &source, &made, &cx), pausing);
        let passed = paused.elapsed();
        let report = report.unwrap_or_else(|error| panic!("{} {:?}", error.chain(), notes.all()));
        let named = format!("waiting for MongoDB at {member}: no answer for 5 seconds");
        assert!(notes.all().contains(&named), "{:?}", notes.all());
        assert!(moved(&notes, &member), "{:?}", notes.all());
        assert!(passed < Duration::from_secs(60), "{passed:?}");
        set.pause(&member, false);
        set.healthy().await;
        let snapshot = reader(&repository, &report).await;
        restored(&snapshot, &super::source(&target).await, verified()).await;
        same(&state(&set.client).await, &state(&target.client).await);
    }
}

/// Between two backups: the second one begins at a member that is silent by now.
pub(super) async fn incremental_backup_reads_another_member(version: Version) {
    let (set, target) = (Members::start(version).await, Mongod::start(version).await);
    insert(&set, 0..1000, 1000).await;
    let (cx, notes) = Notes::context();
    let (source, member) = reading(options(&set, &cx)).await;
    let repository = repository().await;
    backup(&repository, &source, &BackupOptions::default(), &cx).await.unwrap();
    insert(&set, 1000..4000, 1000).await;
    set.pause(&member, true);
    insert(&set, 4000..5000, 1000).await;
    let begun = Instant::now();
    let probe = source.probe(&cx).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!((probe.problems.len(), probe.estimated_objects > Some(0)), (0, true));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(moved(&notes, &member), "{:?}", notes.all());
    let made = BackupOptions { kind: Some(BackupKind::Incremental), ..BackupOptions::default() };
    let report = backup(&repository, &source, &made, &cx).await;
    let report = report.unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(report.kind, BackupKind::Incremental);
    // And the member that is read now.
    let (_, second) = (set.pause(&member, false), reading_now(&source));
    set.healthy().await;
    insert(&set, 5000..6000, 1000).await;
    set.pause(&second, true);
    let report = backup(&repository, &source, &made, &cx).await;
    let report = report.unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(report.kind, BackupKind::Incremental);
    assert!(moved(&notes, &second), "{:?}", notes.all());
    set.pause(&second, false);
    set.healthy().await;
    let snapshot = reader(&repository, &report).await;
    restored(&snapshot, &super::source(&target).await, verified()).await;
    same(&state(&set.client).await, &state(&target.client).await);
}

/// The member that a source reads by now.
fn reading_now(source: &MongoSource) -> String {
    let shown = format!("{source:?}");
    shown.split("host: \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
}

pub(super) async fn capture_follows_another_member(version: Version) {
    let (set, target) = (Members::start(version).await, Mongod::start(version).await);
    insert(&set, 0..100, 100).await;
    let (cx, notes) = Notes::context();
    let (from, member) = reading(options(&set, &cx)).await;
    let logged = Logged::new(from).await;
    let capturing = logged.begin();
    logged.back_up().await;
    insert(&set, 100..200, 100).await;
    set.pause(&member, true);
    let begun = Instant::now();
    insert(&set, 200..300, 100).await;
    // A member of its own, which the silent one does not hinder.
    let witness = MongoSource::connect(options(&set, &Context::silent())).await.unwrap();
    let newest = witness.newest_entry(&Context::silent()).await.unwrap().at;
    logged.reached(&position(&logged.source, newest)).await;
    let passed = begun.elapsed();
    assert!(passed < Duration::from_secs(30), "{passed:?}");
    assert_ne!(reading_now(&logged.source), member, "{:?}", notes.all());
    set.pause(&member, false);
    set.healthy().await;
    insert(&set, 300..400, 100).await;
    let newest = witness.newest_entry(&Context::silent()).await.unwrap().at;
    logged.reached(&position(&logged.source, newest)).await;
    capturing.stop().await;
    let into = source(&target).await;
    logged.restore(&Target::Latest, &into, verified()).await;
    same(&state(&set.client).await, &state(&target.client).await);
}

/// The primary of a target is named, and the restore fails or succeeds after the election.
pub(super) async fn silent_target_is_named(version: Version) {
    let (set, origin) = (Members::start(version).await, Members::pair(version).await);
    insert(&origin, 0..10_000, 4000).await;
    let snapshot =
        super::snapshot_of(&reading(MongoOptions::new(origin.uri())).await.0, Selection::all())
            .await;
    let (cx, notes) = Notes::context();
    let limited = MongoOptions { max_bytes_per_second: Some(4 << 20), ..options(&set, &cx) };
    let into = MongoSource::connect(limited).await.unwrap();
    let primary = set.primary().await;
    let pausing = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        set.pause(&primary, true);
        tokio::time::sleep(Duration::from_secs(20)).await;
        set.pause(&primary, false);
    };
    let request = RestoreRequest::default();
    let restoring = backup_core::pipeline::restore(&snapshot, &into, &request, &cx);
    let (result, ()) = tokio::join!(restoring, pausing);
    let named = format!("waiting for MongoDB at {primary}: no answer for 5 seconds");
    assert!(notes.all().contains(&named), "{:?}", notes.all());
    set.healthy().await;
    match result {
        Ok(_) => same(&state(&origin.client).await, &state(&set.client).await),
        Err(error) => assert!(error.chain().contains("restore stopped"), "{}", error.chain()),
    }
}
