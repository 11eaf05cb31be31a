//! Transactions that are prepared on one side of a border and end on the other: as shards of a
//! cluster have them. The server's own tests make them on a replica set.

use std::time::Duration;

use backup_core::log::Target;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, RestoreRequest, Selection};
use backup_sources::mongodb::{MongoOptions, MongoSource, Position, SnapshotReads, synthetic_full};
use bson::{Document, Timestamp, doc};
use mongodb::ClientSession;

use super::built_on::{made, reader};
use super::logs::{Logged, position};
use super::{by_the_oplog, options, restored, snapshot_of, source, talking, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{State, same, state};

/// A transaction that is prepared.
struct Prepared {
    session: ClientSession,
    at: Timestamp,
}

impl Prepared {
    /// It changes one document, deletes the next and inserts one.
    async fn begin(server: &Mongod, id: i32) -> Self {
        let mut session = server.client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let collection = server.client.database("db").collection::<Document>("c");
        let change = doc! { "$set": { "v": "prepared" } };
        collection.update_one(doc! { "_id": id }, change).session(&mut session).await.unwrap();
        collection.delete_one(doc! { "_id": id + 1 }).session(&mut session).await.unwrap();
        collection.insert_one(doc! { "_id": id + 100 }).session(&mut session).await.unwrap();
        let admin = server.client.database("admin");
        let reply = admin
            .run_command(doc! { "prepareTransaction": 1 })
            .session(&mut session)
            .await
            .unwrap();
        write(server, id + 1000).await;
        Self { session, at: reply.get_timestamp("prepareTimestamp").unwrap() }
    }

    async fn commit(mut self, server: &Mongod) {
        let commit = doc! { "commitTransaction": 1, "commitTimestamp": self.at };
        server
            .client
            .database("admin")
            .run_command(commit)
            .session(&mut self.session)
            .await
            .unwrap();
    }

    async fn abort(mut self, server: &Mongod) {
        let abort = doc! { "abortTransaction": 1 };
        server
            .client
            .database("admin")
            .run_command(abort)
            .session(&mut self.session)
            .await
            .unwrap();
    }
}

/// Something besides.
async fn write(server: &Mongod, id: i32) {
    let majority = doc! { "w": "majority" };
    server
        .run("db", doc! { "insert": "c", "documents": [{ "_id": id }], "writeConcern": majority })
        .await;
}

/// A moment, and what was there.
async fn moment(server: &Mongod) -> (Position, State) {
    let hello = server.run("admin", doc! { "isMaster": 1 }).await;
    let last = hello.get_document("lastWrite").unwrap().get_document("opTime").unwrap();
    (last.get_timestamp("ts").unwrap().into(), state(&server.client).await)
}

async fn origin(version: Version) -> Mongod {
    let origin =
        Mongod::with(version, &["--oplogSize", "990", "--setParameter", "enableTestCommands=1"])
            .await;
    let documents: Vec<_> = (0..50).map(|id| doc! { "_id": id, "v": id }).collect();
    origin.run("db", doc! { "insert": "c", "documents": documents }).await;
    origin
}

pub(super) async fn prepared_transactions_may_cross_borders(version: Version) {
    let (origin, target) = (origin(version).await, Mongod::start(version).await);
    let logged = Logged::new(by_the_oplog(&origin).await).await;
    let (repository, from, to) = (&logged.repository, &logged.source, source(&target).await);
    let made = async |kind| {
        let (report, snapshot) = made(repository, from, kind, Selection::all(), &talking()).await;
        assert_eq!(report.kind, kind);
        snapshot
    };
    let comes_back = async |snapshot, options, expected: &State| {
        target.clear().await;
        let to = MongoSource::connect(options).await.unwrap();
        restored(snapshot, &to, verified()).await;
        same(expected, &state(&target.client).await);
    };
    let capturing = logged.begin();
    let first = Prepared::begin(&origin, 0).await;
    let full = made(BackupKind::Full).await;
    let (before, without) = moment(&origin).await;
    comes_back(&full, options(&target), &without).await;
    write(&origin, 500).await;
    let open = made(BackupKind::Incremental).await;
    let (between, still_without) = moment(&origin).await;
    comes_back(&open, options(&target), &still_without).await;
    let error = synthetic_full(repository, &open, None, &BackupOptions::default(), &talking())
        .await
        .unwrap_err();
    assert!(error.chain().contains("a transaction is open"), "{}", error.chain());
    logged.reached(&position(&logged.source, between)).await;
    logged.roll_up().await;

    first.commit(&origin).await;
    write(&origin, 501).await;
    let (committed, with) = moment(&origin).await;
    assert!(with["db.c"].documents != still_without["db.c"].documents);
    let second = Prepared::begin(&origin, 10).await;
    let last = made(BackupKind::Incremental).await;
    let (aborting, as_before) = moment(&origin).await;
    second.abort(&origin).await;
    write(&origin, 502).await;
    let (aborted, without_second) = moment(&origin).await;
    let ended = made(BackupKind::Incremental).await;
    let until = |moment| MongoOptions { until: Some(moment), ..options(&target) };
    for (moment, expected) in
        [(between, &still_without), (committed, &with), (aborting, &as_before)]
    {
        comes_back(&last, until(moment), expected).await;
    }
    comes_back(&ended, options(&target), &without_second).await;
    let report = synthetic_full(repository, &ended, None, &BackupOptions::default(), &talking())
        .await
        .unwrap();
    comes_back(&reader(repository, &report).await, options(&target), &without_second).await;

    logged.reached(&position(&logged.source, aborted)).await;
    capturing.stop().await;
    let expected = [&without, &still_without, &with, &as_before, &without_second];
    for (moment, expected) in
        [before, between, committed, aborting, aborted].into_iter().zip(expected)
    {
        target.clear().await;
        logged
            .restore(
                &Target::Position(position(&logged.source, moment)),
                &to,
                RestoreRequest::default(),
            )
            .await;
        same(expected, &state(&target.client).await);
    }
}

/// A read of one moment would wait until it is known what becomes of a transaction that is
/// prepared: everything is read without.
pub(super) async fn a_backup_does_not_wait_for_what_is_prepared(version: Version) {
    let (origin, target) = (origin(version).await, Mongod::start(version).await);
    let from = MongoOptions { snapshot_reads: SnapshotReads::Auto, ..options(&origin) };
    let from = MongoSource::connect(from).await.unwrap();
    let backed_up =
        || tokio::time::timeout(Duration::from_secs(60), snapshot_of(&from, Selection::all()));
    let prepared = Prepared::begin(&origin, 20).await;
    let without = (backed_up().await.unwrap(), state(&origin.client).await);
    prepared.commit(&origin).await;
    let with = (backed_up().await.unwrap(), state(&origin.client).await);
    assert!(without.1 != with.1);
    for (snapshot, expected) in [without, with] {
        target.clear().await;
        restored(&snapshot, &source(&target).await, verified()).await;
        same(&expected, &state(&target.client).await);
    }
}
