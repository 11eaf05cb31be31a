//! Backups while everything is being changed, and the fold to one exact moment.

use std::path::Path;
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::pipeline::BackupOptions;
use backup_core::repository::SnapshotReader;
use backup_core::source::{IfExists, RestoreRequest, Selection};
use backup_sources::mongodb::{
    ExportRequest, MongoOptions, MongoSource, Position, Renames, Replay, SnapshotReads, export,
};
use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::Client;

use super::slow::Slow;
use super::workload::Workload;
use super::{restored, snapshot_of, source, verified};
use crate::support::long::long;
use crate::support::mongod::{Members, Mongod, Version, connect};
use crate::support::mongod_state::{State, same, state};

/// What is written to, and what is read and compared: a secondary, because only that has the order
/// of capped collections that the oplog gives (`capped.rs`), and before 5.0 only their newest
/// documents that fit: there the oplog does not say what is dropped, and an insertion that fails on
/// the primary has dropped something nevertheless.
pub(super) struct Origin {
    set: Members,
    reader: Client,
}

impl Origin {
    pub(super) async fn start(version: Version) -> Self {
        let set = Members::pair(version).await;
        Self { reader: connect(&set.direct(1)).await, set }
    }

    /// Where to write.
    pub(super) fn uri(&self) -> &str {
        self.set.uri()
    }

    async fn source(&self) -> MongoSource {
        self.reading(SnapshotReads::Never).await
    }

    pub(super) async fn reading(&self, snapshot_reads: SnapshotReads) -> MongoSource {
        let options = MongoOptions { snapshot_reads, ..MongoOptions::new(self.set.direct(1)) };
        MongoSource::connect(options).await.unwrap()
    }

    /// The last entry of the primary's oplog.
    pub(super) async fn last_write(&self) -> Position {
        let hello =
            self.set.client.database("admin").run_command(doc! { "isMaster": 1 }).await.unwrap();
        let last = hello.get_document("lastWrite").unwrap().get_document("opTime").unwrap();
        last.get_timestamp("ts").unwrap().into()
    }

    /// What is there when nobody writes.
    pub(super) async fn state(&self) -> State {
        self.set.caught_up(&self.reader).await;
        state(&self.reader).await
    }
}

/// A source whose scan ends when the workload is paused: then what the server holds is what the
/// snapshot must restore.
async fn backed_up(origin: &Origin, workload: &Workload) -> (SnapshotReader, State) {
    let source = origin.source().await;
    let slow = Slow::new(source, Duration::from_millis(300));
    let repository = super::repository().await;
    let options = BackupOptions::default();
    let cx = super::talking();
    let before = workload.done();
    let pausing = async {
        // When all collections have been read, and before the oplog's end is chosen.
        slow.all_read().await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        // A full machine writes slowly.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !was_hostile(before, workload) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        workload.pause().await;
        let expected = origin.state().await;
        slow.go_on();
        expected
    };
    // A failure ends the test at once: nobody waits for what will never be read.
    let backing_up = async {
        let report = backup_core::pipeline::backup(&repository, &slow, &options, &cx).await;
        report.unwrap_or_else(|error| panic!("backing up: {}", error.chain()))
    };
    let (report, expected) = tokio::join!(backing_up, pausing);
    workload.go_on();
    let list = repository.snapshots(&Context::silent()).await.unwrap();
    let info = list.snapshots.iter().find(|info| Some(info.id) == report.snapshot).unwrap();
    (repository.load_index(&Context::silent()).await.unwrap().snapshot(info), expected)
}

/// True after enough writes and other changes.
fn was_hostile(before: (usize, usize), workload: &Workload) -> bool {
    let (written, changed) = workload.done();
    written > before.0 + 30 && changed > before.1
}

/// How many seeds a run takes.
pub(super) fn seeds() -> std::ops::Range<u64> {
    let first =
        std::env::var("BACKUP_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count = std::env::var("BACKUP_TEST_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    first..first + count.unwrap_or(if long() { 8 } else { 1 })
}

pub(super) async fn the_fold_is_exact(version: Version) {
    let target = Mongod::start(version).await;
    for seed in seeds() {
        super::say(&format!("seed {seed}"));
        let origin = Origin::start(version).await;
        let workload = Workload::start(origin.uri(), version, seed).await;
        // On a busy machine it takes its time.
        while workload.done().0 < 300 || workload.done().1 < 5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let before = workload.done();
        let (snapshot, expected) = backed_up(&origin, &workload).await;
        let (written, changed) = workload.done();
        assert!(
            was_hostile(before, &workload),
            "{written} writes and {changed} changes: that is not hostile"
        );
        workload.stop().await;
        target.clear().await;
        restored(&snapshot, &source(&target).await, verified()).await;
        same(&expected, &state(&target.client).await);
        exports(&snapshot, &expected).await;
        a_part_under_another_name(&snapshot, &expected, &target).await;
        by_the_server(&snapshot, &expected, &target).await;
        let documents: usize = expected.values().map(|facts| facts.documents.len()).sum();
        let collections = expected.len();
        super::say(&format!(
            "exact: {collections} collections, {documents} documents, {written} writes, {changed} \
             changes"
        ));
    }
}

/// One database without one of its collections, restored as another.
async fn a_part_under_another_name(snapshot: &SnapshotReader, expected: &State, target: &Mongod) {
    target.clear().await;
    let renames = Renames::new(["one.*=other.*"]).unwrap();
    let renaming =
        MongoSource::connect(MongoOptions { renames, ..MongoOptions::new(target.uri()) })
            .await
            .unwrap();
    let selection = Selection::new(vec!["one.*".to_owned()], vec!["one.b".to_owned()]).unwrap();
    restored(snapshot, &renaming, RestoreRequest { selection, ..verified() }).await;
    let part = expected.iter().filter_map(|(name, facts)| {
        let name = name.strip_prefix("one.").filter(|name| *name != "b")?;
        Some((format!("other.{name}"), facts.clone()))
    });
    same(&part.collect(), &state(&target.client).await);
}

/// The other way to the same moment: the server applies the operations.
async fn by_the_server(snapshot: &SnapshotReader, expected: &State, target: &Mongod) {
    target.clear().await;
    let options = MongoOptions { replay: Replay::ApplyOps, ..MongoOptions::new(target.uri()) };
    let applying = MongoSource::connect(options).await.unwrap();
    restored(snapshot, &applying, verified()).await;
    same(expected, &state(&target.client).await);
    let merge = RestoreRequest { if_exists: IfExists::Merge, ..RestoreRequest::default() };
    let error = super::try_restore(snapshot, &applying, merge).await.unwrap_err();
    assert!(error.chain().contains("that --if-exists merge keeps"), "{}", error.chain());
    same(expected, &state(&target.client).await);
}

/// The files of an export hold the same documents.
async fn exports(snapshot: &SnapshotReader, expected: &State) {
    let room = tempfile::tempdir().unwrap();
    export(&Context::silent(), snapshot, &ExportRequest::default(), room.path()).await.unwrap();
    same_files(room.path(), expected);
}

/// The files of an export hold what was expected.
#[track_caller]
pub(super) fn same_files(directory: &Path, expected: &State) {
    let mut files = 0;
    for (name, facts) in expected.iter().filter(|(_, facts)| facts.kind == "collection") {
        let (db, collection) = name.split_once('.').unwrap();
        let bytes = std::fs::read(directory.join(db).join(format!("{collection}.bson"))).unwrap();
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        while let Some(length) = rest.first_chunk::<4>() {
            let (document, more) =
                rest.split_at(usize::try_from(i32::from_le_bytes(*length)).unwrap());
            found.push(document.to_vec());
            rest = more;
        }
        let mut wanted: Vec<_> = facts.documents.values().cloned().collect();
        if facts.order.is_empty() {
            found.sort();
            wanted.sort();
        } else {
            wanted = facts.order.iter().map(|id| facts.documents[id].clone()).collect();
        }
        assert!(found == wanted, "{name}: {} documents instead of {}", found.len(), wanted.len());
        files += 1;
    }
    assert!(files > 0);
}

/// What a newer server wrote, down to an older one: only the fold can do that.
pub(super) async fn an_older_server_takes_it(version: Version) {
    let (origin, target) = (Origin::start(version).await, Mongod::start(Version::V4_4).await);
    let workload = Workload::start(origin.uri(), Version::V4_4, 5).await;
    let (snapshot, expected) = backed_up(&origin, &workload).await;
    workload.stop().await;
    restored(&snapshot, &source(&target).await, verified()).await;
    let found = state(&target.client).await;
    let documents = |state: &State| {
        let of = state
            .iter()
            .map(|(name, facts)| (name.clone(), (facts.documents.clone(), facts.order.clone())));
        of.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(documents(&expected), documents(&found));
}

async fn transfers(server: &Mongod, until: &std::sync::atomic::AtomicBool) {
    let (a, b) = (
        server.client.database("bank").collection::<Document>("a"),
        server.client.database("bank").collection::<Document>("b"),
    );
    let mut n = 0;
    while !until.load(std::sync::atomic::Ordering::SeqCst) {
        n = (n + 7) % 2000;
        let mut session = server.client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        a.update_one(doc! { "_id": n }, doc! { "$inc": { "v": -1 } })
            .session(&mut session)
            .await
            .unwrap();
        b.update_one(doc! { "_id": (n * 3) % 2000 }, doc! { "$inc": { "v": 1 } })
            .session(&mut session)
            .await
            .unwrap();
        session.commit_transaction().await.unwrap();
    }
}

async fn sum(server: &Mongod) -> i64 {
    let mut sum = 0;
    for name in ["a", "b"] {
        let documents: Vec<Document> = server
            .client
            .database("bank")
            .collection(name)
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        sum += documents.iter().map(|document| document.get_i64("v").unwrap()).sum::<i64>();
    }
    sum
}

pub(super) async fn a_snapshot_read_is_one_moment(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for name in ["a", "b"] {
        let documents: Vec<_> = (0..2000).map(|id| doc! { "_id": id, "v": 1000_i64 }).collect();
        origin.run("bank", doc! { "insert": name, "documents": documents }).await;
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let backing_up = async {
        let mut snapshots = Vec::new();
        for _ in 0..3 {
            snapshots.push(snapshot_of(&source(&origin).await, Selection::all()).await);
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        snapshots
    };
    let (snapshots, ()) = tokio::join!(backing_up, transfers(&origin, &stop));
    for snapshot in snapshots {
        target.clear().await;
        restored(&snapshot, &source(&target).await, verified()).await;
        assert_eq!(sum(&target).await, 4_000_000);
        let catalog = snapshot
            .find(&backup_core::source::EntryPath::new("/mongodb/rs/dump/oplog.bson").unwrap())
            .await;
        assert_eq!(catalog.unwrap().unwrap().metadata.size, 0, "one moment needs no oplog");
    }
}

/// The server forgets the moment that is being read, and collections vanish after it: the oplog
/// makes up for it.
pub(super) async fn history_that_is_gone_is_made_up_for(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for name in ["dropped", "renamed", "stays"] {
        for n in 0..20 {
            let documents: Vec<_> =
                (0..500).map(|id| doc! { "_id": n * 500 + id, "p": "x".repeat(4000) }).collect();
            origin.run("db", doc! { "insert": name, "documents": documents }).await;
        }
    }
    origin.run("admin", doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": 2 }).await;
    let source_of = source(&origin).await;
    let disturbing = Slow::new(source_of, Duration::from_secs(4));
    let changing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        origin.run("db", doc! { "drop": "dropped" }).await;
        origin.run("admin", doc! { "renameCollection": "db.renamed", "to": "db.new name" }).await;
        origin.run("db", doc! { "insert": "stays", "documents": [{ "_id": -1 }] }).await;
        for n in 0..60 {
            origin
                .run("db", doc! { "update": "stays", "updates": [{ "q": { "_id": n }, "u": { "$set": { "n": n } } }] })
                .await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        disturbing.all_read().await;
        let expected = state(&origin.client).await;
        disturbing.go_on();
        expected
    };
    let repository = super::repository().await;
    let (options, cx) = (BackupOptions::default(), super::talking());
    let backing_up = async {
        let report = backup_core::pipeline::backup(&repository, &disturbing, &options, &cx).await;
        report.unwrap_or_else(|error| panic!("backing up: {}", error.chain()))
    };
    let (report, expected) = tokio::join!(backing_up, changing);
    let list = repository.snapshots(&cx).await.unwrap();
    let info = list.snapshots.iter().find(|info| Some(info.id) == report.snapshot).unwrap();
    let snapshot = repository.load_index(&cx).await.unwrap().snapshot(info);
    restored(&snapshot, &source(&target).await, verified()).await;
    same(&expected, &state(&target.client).await);
    assert!(expected.contains_key("db.new name") && !expected.contains_key("db.dropped"));
}
