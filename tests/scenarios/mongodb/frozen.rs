//! Servers that stop without closing their connections, and commands that take long.

use std::time::{Duration, Instant};

use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{IfExists, RestoreRequest, Selection};
use backup_sources::Waits;
use backup_sources::mongodb::{MongoOptions, MongoSource};
use bson::doc;

use super::{snapshot_of, source, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};
use crate::support::notes::Notes;

const TIMEOUT: Duration = Duration::from_secs(7);

async fn filled(version: Version) -> Mongod {
    let server = Mongod::start(version).await;
    for n in 0..40 {
        let documents: Vec<_> =
            (0..1000).map(|id| doc! { "_id": n * 1000 + id, "p": "x".repeat(1500) }).collect();
        server.run("db", doc! { "insert": "c", "documents": documents }).await;
    }
    server
}

pub(super) async fn backup_of_a_frozen_server_is_given_up(version: Version) {
    let server = filled(version).await;
    let (cx, notes) = Notes::context();
    let options = MongoOptions {
        waits: Waits::new(TIMEOUT, cx.events.clone()),
        max_bytes_per_second: Some(10 << 20),
        cursors: 1,
        ..MongoOptions::new(server.uri())
    };
    let source = MongoSource::connect(options).await.unwrap();
    let repository = super::repository().await;
    let freezing = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.pause(true);
        Instant::now()
    };
    let options = BackupOptions::default();
    let (result, frozen) = tokio::join!(backup(&repository, &source, &options, &cx), freezing);
    let passed = frozen.elapsed();
    server.pause(false);
    let error = result.unwrap_err();
    let text = format!("{} {:?}", error.chain(), error.hint());
    assert!(text.contains("no answer for 7 seconds") && text.contains("`timeout`"), "{text}");
    assert!(passed < TIMEOUT * 4, "given up after {passed:?}");
    let waiting =
        format!("waiting for MongoDB at 127.0.0.1:{}: no answer for 5 seconds", server.port());
    assert!(notes.all().contains(&waiting), "{:?}", notes.all());
    assert_eq!(repository.snapshots(&cx).await.unwrap().ids().count(), 0);
}

/// Writes of the target are locked for three time-outs: the restore waits, and the server answers.
pub(super) async fn long_command_is_waited_for(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    origin.run("db", doc! { "insert": "c", "documents": [{ "_id": 1 }, { "_id": 2 }] }).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let (cx, notes) = Notes::context();
    let waits = Waits::new(TIMEOUT, cx.events.clone());
    let options = MongoOptions { waits, ..MongoOptions::new(target.uri()) };
    let to = MongoSource::connect(options).await.unwrap();
    target.run("admin", doc! { "fsync": 1, "lock": true }).await;
    let unlocking = async {
        tokio::time::sleep(TIMEOUT * 3).await;
        target.run("admin", doc! { "fsyncUnlock": 1 }).await;
    };
    let request = RestoreRequest { if_exists: IfExists::Fail, ..verified() };
    let began = Instant::now();
    let restoring = backup_core::pipeline::restore(&snapshot, &to, &request, &cx);
    let (result, ()) = tokio::join!(restoring, unlocking);
    result.unwrap_or_else(|error| panic!("{} {:?}", error.chain(), notes.all()));
    assert!(began.elapsed() > TIMEOUT * 3, "nothing waited for the lock");
    same(&state(&origin.client).await, &state(&target.client).await);
    let running = "a statement has been running for 5 seconds";
    assert!(notes.all().iter().any(|note| note.ends_with(running)), "{:?}", notes.all());
}
