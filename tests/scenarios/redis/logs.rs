//! The stream of commands in a repository, and restoring to any moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::context::Context;
use backup_core::error::ErrorKind;
use backup_core::log::{
    CaptureOptions, LogReplay, LogView, Plan, Position, Refusal, RollUpOptions, Stream, Target,
    capture, roll_up,
};
use backup_core::pipeline::BackupOptions;
use backup_core::repository::SnapshotReader;
use backup_core::source::{BackupKind, IfExists, RestoreReport, RestoreRequest, Source as _};
use backup_core::testing::MemorySink;
use backup_sources::redis::{Engine, RedisOptions, RedisSource, RestoreOptions, Way};
use tokio::task::JoinHandle;

use super::{back_up, source, source_with, talking};
use crate::support::redis::{Client, Redis, Version};
use crate::support::repo::Repo;

/// A repository and a server whose stream is followed.
#[derive(Clone)]
pub(super) struct Logged {
    pub(super) repo: Repo,
    pub(super) source: RedisSource,
    stream: Stream,
}

/// A capturer in the background.
pub(super) struct Capturing {
    task: JoinHandle<()>,
    cx: Context,
}

impl Capturing {
    pub(super) async fn stop(self) {
        self.cx.cancel.cancel();
        self.task.await.unwrap();
    }

    /// Gone at once, as if it were killed.
    pub(super) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

impl Logged {
    pub(super) async fn new(source: RedisSource) -> Self {
        Self::within(Repo::init(Arc::new(MemorySink::new())).await, source)
    }

    pub(super) fn within(repo: Repo, source: RedisSource) -> Self {
        let stream = Stream::of(&source.identity());
        Self { repo, source, stream }
    }

    pub(super) fn begin(&self) -> Capturing {
        let cx = talking();
        let (one, context) = (self.clone(), cx.clone());
        let lease_period = Duration::from_millis(500);
        let flush_after = Duration::from_millis(100);
        let options = CaptureOptions { lease_period, flush_after, ..CaptureOptions::default() };
        let task = tokio::spawn(async move {
            loop {
                match capture(&one.repo.repository, &one.source, &options, &context).await {
                    Ok(_) => return,
                    Err(error)
                        if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Unavailable) =>
                    {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Err(error) => panic!("capturing: {} ({:?})", error.chain(), error.hint()),
                }
            }
        });
        Capturing { task, cx }
    }

    pub(super) async fn roll_up(&self) {
        let done = roll_up(
            &self.repo.repository,
            &self.stream,
            &RollUpOptions::default(),
            &Context::silent(),
        )
        .await;
        done.unwrap_or_else(|error| panic!("rolling up: {}", error.chain()));
    }

    pub(super) async fn view(&self) -> LogView {
        let view = LogView::load(&self.repo.repository, &self.stream, &Context::silent()).await;
        view.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    pub(super) async fn plan(&self, target: &Target) -> Result<Plan, Box<Refusal>> {
        self.view().await.timeline().plan(target)
    }

    /// Waits until a position can be restored.
    pub(super) async fn reached(&self, at: &Position) {
        let started = Instant::now();
        while let Err(refusal) = self.plan(&Target::Position(at.clone())).await {
            assert!(started.elapsed() < Duration::from_secs(60), "{at}: {refusal:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) async fn replay(&self, moment: &Target) -> (SnapshotReader, Arc<LogReplay>) {
        let indexed = self.repo.repository.load_index(&Context::silent()).await.unwrap();
        let mut view = self.view().await;
        if let Target::Time(time) = moment {
            view.refine(&indexed, *time).await.unwrap();
        }
        let plan = view
            .timeline()
            .plan(moment)
            .unwrap_or_else(|refusal| panic!("{moment:?}: {refusal:?}"));
        let base = view.snapshots().find(|info| info.id == plan.base.id).unwrap();
        let snapshot = indexed.snapshot(base);
        (snapshot, Arc::new(LogReplay::new(indexed, self.stream.clone(), view, plan)))
    }

    pub(super) async fn restore(&self, moment: &Target, target: String) -> RestoreReport {
        let (snapshot, log) = self.replay(moment).await;
        let engine = Engine::Replica(Way::default());
        let source =
            self.source.clone().restoring(RestoreOptions { engine, ..RestoreOptions::default() });
        let if_exists =
            if target.starts_with("redis:") { IfExists::Replace } else { IfExists::Fail };
        let request = RestoreRequest {
            target: Some(target),
            log: Some(log),
            if_exists,
            ..RestoreRequest::default()
        };
        let report = backup_core::pipeline::restore(&snapshot, &source, &request, &talking()).await;
        report.unwrap_or_else(|error| panic!("restoring: {} ({:?})", error.chain(), error.hint()))
    }
}

/// Writes of every kind, the same for the same number.
pub(super) fn work(client: &mut Client, round: u32) {
    let text = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for step in 0..40 {
        let n = round * 40 + step;
        client.ok(&["SELECT", &(n % 3).to_string()]);
        client.all(&[
            text(&format!("SET key{} value{n}", n % 50)),
            text(&format!("INCRBY counter {n}")),
            text(&format!("SADD set {} {} {}", n, n + 1, n + 2)),
            text("SPOP set"),
            text(&format!("LPUSH list {n}")),
            text(&format!("SET leaves{n} x PX 1")),
            text(&format!("SET stays{} x EX 100000", n % 7)),
        ]);
        client.ok(&[
            "EVAL",
            "redis.call('INCR', KEYS[1]) redis.call('HSET', KEYS[2], ARGV[1], redis.call('GET', \
             KEYS[1]))",
            "2",
            "c",
            "h",
            &n.to_string(),
        ]);
        client.send(&[
            text("MULTI"),
            text("INCR in"),
            text(&format!("RPUSH moved {n}")),
            text("DECR out"),
            text("EXEC"),
        ]);
        for _ in 0..5 {
            client.answer().unwrap();
        }
    }
}

pub(super) struct Mark {
    pub(super) at: Position,
    pub(super) time: jiff::Timestamp,
    pub(super) digest: String,
}

pub(super) fn position(server: &Redis) -> Position {
    Position::new(server.info("master_replid"), server.info("master_repl_offset").parse().unwrap())
}

/// A moment at which nobody writes, and nothing waits to be removed because its time has come.
pub(super) fn mark(server: &Redis) -> Mark {
    // What lives a millisecond is still a key to KEYS before that.
    std::thread::sleep(Duration::from_millis(50));
    let mut client = server.client();
    let started = Instant::now();
    for database in ["0", "1", "2"] {
        client.ok(&["SELECT", database]);
        while client.ok(&["DBSIZE"]).number()
            != i64::try_from(client.ok(&["KEYS", "*"]).list().len()).unwrap()
        {
            assert!(started.elapsed() < Duration::from_secs(60), "keys do not expire");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let (at, digest) = (position(server), server.debug_digest());
    assert_eq!(at, position(server), "somebody writes");
    std::thread::sleep(Duration::from_millis(500));
    let time = SystemClock.now();
    std::thread::sleep(Duration::from_millis(30));
    Mark { at, time, digest }
}

/// At every mark the restored server is what the origin was: by position, by time, as a replica,
/// started on files; with slices and rolled up; with two bases.
pub(super) async fn every_moment_comes_back(version: Version) {
    let server = Redis::start(version);
    let logged = Logged::new(source(&server).await).await;
    let mut client = server.client();
    work(&mut client, 0);
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_millis(500)).await;
    back_up(&logged.repo, &logged.source).await;
    let mut marks = Vec::new();
    for round in 1..5 {
        work(&mut client, round);
        marks.push(mark(&server));
        client.ok(&["SET", "behind", "the mark"]);
        match round {
            2 => {
                logged.reached(&marks[1].at).await;
                logged.roll_up().await;
            }
            3 => _ = back_up(&logged.repo, &logged.source).await,
            _ => {}
        }
    }
    let last = mark(&server);
    logged.reached(&last.at).await;
    capturing.stop().await;
    drop(server);
    let target = Redis::start(version);
    for (number, mark) in marks.iter().enumerate() {
        for moment in [Target::Position(mark.at.clone()), Target::Time(mark.time)] {
            logged.restore(&moment, target.address()).await;
            assert_eq!(mark.digest, target.debug_digest(), "mark {number}, {moment:?}");
        }
        // In the middle of an event: what is not whole is left out.
        let middle = Position::new(mark.at.branch.clone(), mark.at.offset + 3);
        logged.restore(&Target::Position(middle), target.address()).await;
        assert_eq!(mark.digest, target.debug_digest(), "behind mark {number}");
    }
    logged.restore(&Target::Latest, target.address()).await;
    assert_eq!(last.digest, target.debug_digest());
    for mark in &marks[..2] {
        let room = tempfile::tempdir().unwrap();
        let directory = room.path().join("data");
        logged
            .restore(&Target::Position(mark.at.clone()), directory.to_str().unwrap().to_owned())
            .await;
        let started = Redis::on(version, Some(&directory), &["--appendonly", "yes"]);
        assert_eq!(mark.digest, started.debug_digest());
    }
}

/// A capturer that dies goes on where it was; connections that are cut are made again; nothing is
/// missing and nothing twice.
pub(super) async fn whoever_dies_is_followed(version: Version) {
    let server = Redis::start(version);
    let logged = Logged::new(source(&server).await).await;
    let mut client = server.client();
    let mut capturing = logged.begin();
    tokio::time::sleep(Duration::from_millis(500)).await;
    back_up(&logged.repo, &logged.source).await;
    for round in 0..6 {
        work(&mut client, round);
        match round % 3 {
            0 => {
                capturing.kill().await;
                capturing = logged.begin();
            }
            1 => _ = client.ok(&["CLIENT", "KILL", "TYPE", "replica"]),
            _ => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
    let last = mark(&server);
    logged.reached(&last.at).await;
    capturing.stop().await;
    assert!(logged.view().await.timeline().gaps().is_empty());
    let target = Redis::start(version);
    logged.restore(&Target::Latest, target.address()).await;
    assert_eq!(last.digest, target.debug_digest());
}

/// The promoted replica knows the old history: the log goes on on another branch.
pub(super) async fn a_failover_is_followed(version: Version) {
    let old = Redis::start(version);
    let new = Redis::start(version);
    let name = Some("the pair".to_owned());
    let of = |server: &Redis| RedisOptions {
        name: name.clone(),
        ..RedisOptions::parse(&server.address()).unwrap()
    };
    let logged = Logged::new(source_with(of(&old)).await).await;
    work(&mut old.client(), 0);
    new.run(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]);
    let started = Instant::now();
    while new.info("master_link_status") != "up" {
        assert!(started.elapsed() < Duration::from_secs(30), "{}", new.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_millis(500)).await;
    back_up(&logged.repo, &logged.source).await;
    work(&mut old.client(), 1);
    let before = mark(&old);
    logged.reached(&before.at).await;
    capturing.stop().await;
    while new.info("master_repl_offset") != old.info("master_repl_offset") {
        std::thread::sleep(Duration::from_millis(20));
    }
    new.run(&["REPLICAOF", "NO", "ONE"]);
    drop(old);
    work(&mut new.client(), 2);
    let after = Logged { source: source_with(of(&new)).await, ..logged.clone() };
    let capturing = after.begin();
    let last = mark(&new);
    after.reached(&last.at).await;
    capturing.stop().await;
    assert_ne!(before.at.branch, last.at.branch);
    assert!(after.view().await.timeline().gaps().is_empty());
    let target = Redis::start(version);
    for mark in [&last, &before] {
        // Nothing has come behind the last one: its time is not in the log.
        let time = (mark.at != last.at).then_some(Target::Time(mark.time));
        for moment in [Target::Position(mark.at.clone())].into_iter().chain(time) {
            after.restore(&moment, target.address()).await;
            assert_eq!(mark.digest, target.debug_digest(), "{moment:?}");
        }
    }
}

/// What the server has dropped before it was captured is a gap: noted, refused, and over with the
/// next backup.
pub(super) async fn what_was_not_captured_is_refused(version: Version) {
    let server = Redis::with(version, &["--repl-backlog-size", "16kb"]);
    let logged = Logged::new(source(&server).await).await;
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_millis(500)).await;
    back_up(&logged.repo, &logged.source).await;
    let mut client = server.client();
    work(&mut client, 0);
    let before = mark(&server);
    logged.reached(&before.at).await;
    capturing.stop().await;
    for round in 1..10 {
        work(&mut client, round);
    }
    let lost = mark(&server);
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_secs(1)).await;
    work(&mut client, 10);
    back_up(&logged.repo, &logged.source).await;
    work(&mut client, 11);
    let last = mark(&server);
    logged.reached(&last.at).await;
    capturing.stop().await;
    assert_eq!(logged.view().await.timeline().gaps().len(), 1);
    logged.plan(&Target::Position(lost.at)).await.unwrap_err();
    let target = Redis::start(version);
    for mark in [&before, &last] {
        logged.restore(&Target::Position(mark.at.clone()), target.address()).await;
        assert_eq!(mark.digest, target.debug_digest());
    }
}

/// Incremental snapshots hold the dump and the commands since; where those are gone, everything is
/// read.
pub(super) async fn increments_build_on_each_other(version: Version) {
    let server = Redis::start(version);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let origin = source(&server).await;
    let mut client = server.client();
    work(&mut client, 0);
    let take = async |kind: BackupKind| {
        let options = BackupOptions { kind: Some(kind), ..BackupOptions::default() };
        let report =
            backup_core::pipeline::backup(&repo.repository, &origin, &options, &talking()).await;
        let report = report.unwrap_or_else(|error| panic!("{}", error.chain()));
        (report.kind, report.snapshot.unwrap())
    };
    let before = mark(&server);
    let mut taken = vec![(take(BackupKind::Full).await, before)];
    for (round, kind) in
        [(1, BackupKind::Incremental), (2, BackupKind::Incremental), (3, BackupKind::Differential)]
    {
        work(&mut client, round);
        let before = mark(&server);
        let found = take(kind).await;
        assert_eq!(found.0, kind);
        taken.push((found, before));
    }
    let target = Redis::start(version);
    for ((_, snapshot), mark) in &taken {
        let engine = Engine::Replica(Way::default());
        let source =
            origin.clone().restoring(RestoreOptions { engine, ..RestoreOptions::default() });
        let address = Some(target.address());
        let request = RestoreRequest {
            target: address,
            if_exists: IfExists::Replace,
            ..RestoreRequest::default()
        };
        let snapshot = repo.reader(*snapshot).await;
        let done = backup_core::pipeline::restore(&snapshot, &source, &request, &talking()).await;
        done.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!(target.debug_digest(), mark.digest);
        // Key by key they could only be restored as of the dump: refused.
        let request = RestoreRequest { if_exists: IfExists::Replace, ..request };
        let by_key = backup_core::pipeline::restore(&snapshot, &origin, &request, &talking()).await;
        assert_eq!(by_key.is_ok(), snapshot.id() == taken[0].0.1);
    }
    client.ok(&["CONFIG", "SET", "repl-backlog-size", "16kb"]);
    for round in 4..12 {
        work(&mut client, round);
    }
    assert_eq!(take(BackupKind::Incremental).await.0, BackupKind::Full);
    repo.assert_sound().await;
}
