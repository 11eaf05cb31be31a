//! Restores of a part by a captured log: only what has to do with the part is read.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::log::Target;
use backup_core::repository::{InitOptions, Repository};
use backup_core::sink::Operation;
use backup_core::source::{RestoreRequest, Selection};
use backup_core::testing::{MemorySink, RecordingSink};
use backup_sources::mongodb::{ExportRequest, MongoOptions, MongoSource, Replay, export_with_log};
use bson::doc;

use super::hostile::same_files;
use super::logs::{Logged, position};
use super::{options, restored, say, source, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{State, same, state};

/// More than a slice takes, of a collection that nobody wants.
async fn noise(server: &Mongod, rounds: i32) {
    for _ in 0..rounds {
        let documents: Vec<_> = (0..20).map(|n| doc! { "n": n, "p": random_text() }).collect();
        server.run("noise", doc! { "insert": "n", "documents": documents }).await;
        // For a batch of its own.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
}

/// Something that no compression makes small.
fn random_text() -> String {
    (0..1200).map(|_| format!("{:064x}", rand::random::<u128>())).collect()
}

/// What was written to a collection under another name, renamed, changed, and in a transaction with
/// another one.
async fn history(server: &Mongod) {
    server
        .run("shop", doc! { "insert": "tmp", "documents": [{ "_id": 1, "a": 1 }, { "_id": 2 }] })
        .await;
    noise(server, 12).await;
    server.run("admin", doc! { "renameCollection": "shop.tmp", "to": "shop.orders" }).await;
    let update = doc! { "q": { "_id": 1 }, "u": { "$set": { "a": 2 } } };
    server.run("shop", doc! { "update": "orders", "updates": [update] }).await;
    let mut session = server.client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    for (db, name) in [("shop", "orders"), ("other", "x")] {
        let collection = server.client.database(db).collection(name);
        collection.insert_one(doc! { "_id": "t" }).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
    noise(server, 12).await;
}

/// Restores with a count of what is read of `top`.
async fn reading(
    (logged, sink, top): (&Logged, &RecordingSink, &str),
    target: (&Mongod, &MongoSource),
    request: RestoreRequest,
) -> (u64, State) {
    let (snapshot, log) = logged.replay(&Target::Latest).await;
    target.0.clear().await;
    let before = sink.counts();
    restored(&snapshot, target.1, RestoreRequest { log: Some(log), ..request }).await;
    let count = match top {
        "data" => sink.bytes_read(top) - before.bytes_read(top),
        top => sink.count(Operation::Get, top) - before.count(Operation::Get, top),
    };
    (count, state(&target.0.client).await)
}

pub(super) async fn a_part_reads_less_of_the_log(version: Version) {
    let (server, target) = (Mongod::start(version).await, Mongod::start(version).await);
    let sink = RecordingSink::new(Arc::new(MemorySink::new()));
    let (key, cx) = (Passphrase::generate(), Context::silent());
    let repository =
        Repository::init(Arc::new(sink.clone()), &key, &InitOptions::default(), &cx).await.unwrap();
    let logged = Logged::over(repository, source(&server).await);
    server.run("other", doc! { "insert": "x", "documents": [{ "_id": 0 }] }).await;
    let capturing = logged.begin();
    logged.back_up().await;
    history(&server).await;
    let newest = logged.source.newest_entry(&cx).await.unwrap().at;
    logged.reached(&position(&logged.source, newest)).await;
    capturing.stop().await;

    let to = source(&target).await;
    let applying = MongoOptions { replay: Replay::ApplyOps, ..options(&target) };
    let applying = MongoSource::connect(applying).await.unwrap();
    let whole = state(&server.client).await;
    let part: State = whole.clone().into_iter().filter(|(name, _)| name == "shop.orders").collect();
    let selection = Selection::new(vec!["shop.orders".to_owned()], Vec::new()).unwrap();
    let selected = || RestoreRequest { selection: selection.clone(), ..RestoreRequest::default() };
    for top in ["x-lane", "data"] {
        let from = (&logged, &sink, top);
        let (everything, found) = reading(from, (&target, &to), verified()).await;
        same(&whole, &found);
        // The server applies operations in a pass of its own.
        for (source, passes) in [(&to, 1), (&applying, 2)] {
            let (less, found) = reading(from, (&target, source), selected()).await;
            say(&format!("{top}: {less} of {everything}"));
            same(&part, &found);
            assert!(0 < less && less * 2 < everything * passes, "{top}: {less} of {everything}");
        }
        let (room, (snapshot, log)) =
            (tempfile::tempdir().unwrap(), logged.replay(&Target::Latest).await);
        let request = ExportRequest { selection: selection.clone(), ..ExportRequest::default() };
        export_with_log(&cx, &snapshot, log, &request, room.path()).await.unwrap();
        same_files(room.path(), &part);
        // The same log once more, out of a snapshot.
        logged.roll_up().await;
    }
}
