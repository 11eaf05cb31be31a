//! Snapshots that build on others by the oplog, and full ones that are made of them without the
//! server.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::event::{Event, Events, Reporter};
use backup_core::pipeline::{BackupOptions, BackupReport, backup};
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::source::{BackupKind, Selection, Source as _};
use backup_sources::mongodb::{
    MongoOptions, MongoSource, Position, Replay, SnapshotReads, synthetic_full,
};
use bson::doc;

use super::hostile::{Origin, seeds};
use super::workload::Workload;
use super::{options, repository, restored, say, source, talking, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{State, same, state};

/// Backs up what the selection covers as a snapshot of that type.
pub(super) async fn made(
    repository: &Repository,
    source: &MongoSource,
    kind: BackupKind,
    selection: Selection,
    cx: &Context,
) -> (BackupReport, SnapshotReader) {
    let options = BackupOptions { kind: Some(kind), selection, ..BackupOptions::default() };
    let report = backup(repository, source, &options, cx).await;
    let report =
        report.unwrap_or_else(|error| panic!("backing up: {} ({:?})", error.chain(), error.hint()));
    let snapshot = reader(repository, &report).await;
    (report, snapshot)
}

pub(super) async fn reader(repository: &Repository, report: &BackupReport) -> SnapshotReader {
    let list = repository.snapshots(&Context::silent()).await.unwrap();
    let info = list.snapshots.iter().find(|info| Some(info.id) == report.snapshot).unwrap();
    repository.load_index(&Context::silent()).await.unwrap().snapshot(info)
}

/// A snapshot, and what was there at its moment.
struct Taken {
    report: BackupReport,
    snapshot: SnapshotReader,
    at: Position,
    expected: State,
}

struct Chain {
    repository: Repository,
    origin: Origin,
    source: MongoSource,
    workload: Workload,
}

impl Chain {
    async fn begin(version: Version, seed: u64) -> Self {
        let origin = Origin::start(version).await;
        let workload = Workload::start(origin.uri(), version, seed).await;
        while workload.done().0 < 100 || workload.done().1 < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Every other time the first one is read at one moment, where the server can do that.
        let snapshot_reads =
            if seed.is_multiple_of(2) { SnapshotReads::Auto } else { SnapshotReads::Never };
        let source = origin.reading(snapshot_reads).await;
        let chain = Self { repository: repository().await, origin, source, workload };
        let (report, _) = chain.backed_up(BackupKind::Full).await;
        assert_eq!((report.kind, report.parent), (BackupKind::Full, None));
        chain
    }

    async fn backed_up(&self, kind: BackupKind) -> (BackupReport, SnapshotReader) {
        made(&self.repository, &self.source, kind, Selection::all(), &talking()).await
    }

    /// Everybody works, then rests while a backup is made.
    async fn taken(&self, kind: BackupKind) -> Taken {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        self.workload.pause().await;
        let expected = self.origin.state().await;
        let at = self.origin.last_write().await;
        let (report, snapshot) = self.backed_up(kind).await;
        self.workload.go_on();
        assert_eq!(report.kind, kind);
        Taken { report, snapshot, at, expected }
    }
}

/// Restores a snapshot into an empty server, and compares.
async fn comes_back(target: &Mongod, options: MongoOptions, taken: &Taken, expected: &State) {
    target.clear().await;
    let to = MongoSource::connect(options).await.unwrap();
    restored(&taken.snapshot, &to, verified()).await;
    same(expected, &state(&target.client).await);
}

pub(super) async fn what_is_built_on_others_is_exact(version: Version) {
    let target = Mongod::start(version).await;
    for seed in seeds() {
        say(&format!("seed {seed}"));
        let chain = Chain::begin(version, seed).await;
        let first = chain.taken(BackupKind::Incremental).await;
        // While everybody writes.
        let (between, _) = chain.backed_up(BackupKind::Incremental).await;
        assert_eq!(
            (between.kind, between.parent),
            (BackupKind::Incremental, first.report.snapshot)
        );
        let second = chain.taken(BackupKind::Incremental).await;
        assert_eq!(second.report.parent, between.snapshot);
        let third = chain.taken(BackupKind::Differential).await;
        assert_eq!(third.report.parent, first.report.parent, "the full one");
        // Or the oplog has moved on by the time everything is compared.
        chain.workload.pause().await;
        for taken in [&first, &second, &third] {
            comes_back(&target, options(&target), taken, &taken.expected).await;
        }
        // Any moment since the full one.
        for (taken, earlier) in [(&second, &first), (&third, &first), (&third, &second)] {
            let until = MongoOptions { until: Some(earlier.at), ..options(&target) };
            comes_back(&target, until, taken, &earlier.expected).await;
        }
        let applying = MongoOptions { replay: Replay::ApplyOps, ..options(&target) };
        comes_back(&target, applying, &third, &third.expected).await;
        let synthetic = folded(&chain, &third).await;
        comes_back(&target, options(&target), &synthetic, &third.expected).await;
        // What follows builds on it.
        chain.workload.go_on();
        let last = chain.taken(BackupKind::Incremental).await;
        assert_eq!(last.report.parent, synthetic.report.snapshot);
        comes_back(&target, options(&target), &last, &last.expected).await;
        let again = folded(&chain, &last).await;
        chain.workload.stop().await;
        comes_back(&target, options(&target), &again, &last.expected).await;
        say(&format!("exact: {:?}", last.expected.len()));
    }
}

/// Everything that can be in a database, made behind a full snapshot: it is known from the oplog
/// alone.
pub(super) async fn everything_comes_by_the_oplog(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    let (repository, from) = (repository().await, source(&origin).await);
    made(&repository, &from, BackupKind::Full, Selection::all(), &talking()).await;
    super::odd::fill(&origin, version).await;
    for index in [
        doc! { "name": "ttl", "expireAfterSeconds": 5.0 },
        doc! { "name": "hidden", "hidden": false },
    ] {
        origin.run("odd", doc! { "collMod": "many", "index": index }).await;
    }
    let (report, snapshot) =
        made(&repository, &from, BackupKind::Incremental, Selection::all(), &talking()).await;
    assert_eq!(report.kind, BackupKind::Incremental);
    let expected = state(&origin.client).await;
    restored(&snapshot, &source(&target).await, verified()).await;
    same(&expected, &state(&target.client).await);
    let report =
        synthetic_full(&repository, &snapshot, None, &BackupOptions::default(), &talking())
            .await
            .unwrap();
    target.clear().await;
    restored(&reader(&repository, &report).await, &source(&target).await, verified()).await;
    same(&expected, &state(&target.client).await);
}

/// A full snapshot of the same moment, made without the server.
async fn folded(chain: &Chain, taken: &Taken) -> Taken {
    let report = synthetic_full(
        &chain.repository,
        &taken.snapshot,
        None,
        &BackupOptions::default(),
        &talking(),
    )
    .await;
    let report =
        report.unwrap_or_else(|error| panic!("folding: {} ({:?})", error.chain(), error.hint()));
    assert_eq!((report.kind, report.parent, report.warnings), (BackupKind::Full, None, 0));
    let snapshot = reader(&chain.repository, &report).await;
    // It has nothing left to be folded, and says what it holds.
    let manifest = snapshot.manifest().await.unwrap().unwrap();
    assert!(!manifest.objects.is_empty());
    let error =
        synthetic_full(&chain.repository, &snapshot, None, &BackupOptions::default(), &talking())
            .await;
    assert!(error.unwrap_err().hint().is_some());
    Taken { report, snapshot, at: taken.at, expected: taken.expected.clone() }
}

/// Keeps what the program notes.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Reporter for Notes {
    fn report(&self, event: &Event) {
        if let Event::Note { message } = event {
            self.0.lock().unwrap().push(message.clone());
        }
    }
}

/// What an incremental backup came to, and whether it noted `reason`.
pub(super) async fn becomes_full(
    repository: &Repository,
    source: &MongoSource,
    selection: Selection,
    reason: &str,
) {
    let notes = Arc::new(Notes::default());
    let cx = Context::new(Events::to(Arc::clone(&notes) as _));
    let (report, snapshot) =
        made(repository, source, BackupKind::Incremental, selection, &cx).await;
    assert_eq!((report.kind, report.parent), (BackupKind::Full, None));
    assert_eq!(snapshot.snapshot().tag("type"), Some("full"));
    assert_eq!(snapshot.manifest().await.unwrap().unwrap().kind, BackupKind::Full);
    let noted = notes.0.lock().unwrap();
    assert!(noted.iter().any(|note| note.contains(reason)), "{reason}: {noted:?}");
}

/// Where the oplog does not reach back to the earlier snapshot, or that holds something else,
/// everything is read, and it is said.
pub(super) async fn what_cannot_be_built_on_is_read_in_full(version: Version) {
    let server = Mongod::with(version, &["--oplogSize", "1", "--syncdelay", "1"]).await;
    let (repository, from) = (repository().await, source(&server).await);
    let insert = async |name: &str, id: i32| {
        server.run("db", doc! { "insert": name, "documents": [{ "_id": id }] }).await;
    };
    insert("c", 1).await;
    insert("other", 1).await;
    let all = Selection::all;
    let only = || Selection::new(vec!["db.c".to_owned()], vec![]).unwrap();
    let incremental = async |selection: Selection| {
        let (report, snapshot) =
            made(&repository, &from, BackupKind::Incremental, selection, &talking()).await;
        assert_eq!(report.kind, BackupKind::Incremental);
        snapshot
    };
    becomes_full(&repository, &from, all(), "no earlier snapshot").await;
    insert("c", 2).await;
    let snapshot = incremental(all()).await;
    let target = Mongod::start(version).await;
    restored(&snapshot, &source(&target).await, verified()).await;
    same(&state(&server.client).await, &state(&target.client).await);
    assert!(from.capabilities().incremental);

    becomes_full(&repository, &from, only(), "covers other collections").await;
    // What comes to the name by way of another that is not covered is known, unless it was there
    // before.
    server.run("db", doc! { "create": "tmp" }).await;
    insert("tmp", 7).await;
    let rename = async |from: &str| {
        let command =
            doc! { "renameCollection": format!("db.{from}"), "to": "db.c", "dropTarget": true };
        server.run("admin", command).await;
    };
    rename("tmp").await;
    let snapshot = incremental(only()).await;
    target.clear().await;
    restored(&snapshot, &source(&target).await, verified()).await;
    assert_eq!(
        state(&server.client).await["db.c"].documents,
        state(&target.client).await["db.c"].documents
    );
    rename("other").await;
    becomes_full(&repository, &from, only(), "db.c was renamed from a collection").await;

    let before = from.newest_entry(&Context::silent()).await.unwrap().at;
    let started = Instant::now();
    for n in 0.. {
        let documents: Vec<_> = (0..10)
            .map(|id| doc! { "_id": format!("{n} {id}"), "p": "x".repeat(100_000) })
            .collect();
        server.run("fill", doc! { "insert": "fill", "documents": documents }).await;
        let window = from.oplog_window(&Context::silent()).await.unwrap().unwrap();
        if window.oldest > before {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "the oplog does not roll over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    becomes_full(&repository, &from, only(), "the oplog no longer holds").await;
    // Another set of the same name.
    let other = Mongod::start(version).await;
    other.run("db", doc! { "insert": "c", "documents": [{ "_id": "other" }] }).await;
    let reason = "of another replica set called rs";
    becomes_full(&repository, &source(&other).await, only(), reason).await;
    let alone = Mongod::standalone(version).await;
    let alone = source(&alone).await;
    assert!(!alone.capabilities().incremental);
}

/// Collections that nothing but transactions creates, while the catalog is listed, which takes
/// long: a full snapshot at one moment would lack them, and what is built on it would not know
/// them.
pub(super) async fn what_a_transaction_creates_is_not_overlooked(version: Version) {
    let testing = ["--oplogSize", "990", "--setParameter", "enableTestCommands=1"];
    let (origin, target) = (Mongod::with(version, &testing).await, Mongod::start(version).await);
    for n in 0..20 {
        origin.run(&format!("d{n:03}"), doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    }
    let slow = |mode: &str| {
        let data =
            doc! { "failCommands": ["listIndexes"], "blockConnection": true, "blockTimeMS": 10 };
        doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data }
    };
    origin.run("admin", slow("alwaysOn")).await;
    let (repository, source) = (repository().await, source(&origin).await);
    let over = std::sync::atomic::AtomicBool::new(false);
    let creating = async {
        let mut n = 0;
        while !over.load(std::sync::atomic::Ordering::SeqCst) {
            n += 1;
            let made =
                origin.client.database("d000").collection::<bson::Document>(&format!("made{n}"));
            let mut session = origin.client.start_session().await.unwrap();
            session.start_transaction().await.unwrap();
            made.insert_one(doc! { "_id": n }).session(&mut session).await.unwrap();
            session.commit_transaction().await.unwrap();
            made.insert_one(doc! { "_id": "later" }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        n
    };
    let backing_up = async {
        let full = made(&repository, &source, BackupKind::Full, Selection::all(), &talking()).await;
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        full
    };
    let ((_, full), collections) = tokio::join!(backing_up, creating);
    origin.run("admin", slow("off")).await;
    let oplog = full
        .find(&backup_core::source::EntryPath::new("/mongodb/rs/dump/oplog.bson").unwrap())
        .await;
    assert!(
        oplog.unwrap().unwrap().metadata.size > 0,
        "{collections} collections were created, and no try was disturbed"
    );
    let (report, snapshot) =
        made(&repository, &source, BackupKind::Incremental, Selection::all(), &talking()).await;
    assert_eq!(report.kind, BackupKind::Incremental);
    restored(&snapshot, &super::source(&target).await, verified()).await;
    same(&state(&origin.client).await, &state(&target.client).await);
}
