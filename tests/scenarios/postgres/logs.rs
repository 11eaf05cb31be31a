//! The log in a repository, and restoring to any moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::context::Context;
use backup_core::error::ErrorKind;
use backup_core::log::{
    Branch, CaptureOptions, LogReplay, LogView, Plan, Position, Refusal, RollUpOptions, Stream,
    Target, Timeline, capture, roll_up,
};
use backup_core::repository::SnapshotReader;
use backup_core::source::{Digest, RestoreRequest, Source as _};
use backup_core::testing::MemorySink;
use backup_sources::postgres::{Lsn, PostgresSource, RecoveryTarget};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{back_up, digest, options, restored, room, say, source, source_with, try_restore};
use crate::support::postgres::{Postgres, Version};
use crate::support::repo::Repo;

/// A repository and a cluster whose log is followed.
#[derive(Clone)]
pub(super) struct Logged {
    pub(super) repo: Repo,
    pub(super) source: PostgresSource,
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
}

impl Logged {
    pub(super) async fn new(source: PostgresSource) -> Self {
        Self::within(Repo::init(Arc::new(MemorySink::new())).await, source)
    }

    pub(super) fn within(repo: Repo, source: PostgresSource) -> Self {
        let stream = Stream::of(&source.identity());
        Self { repo, source, stream }
    }

    pub(super) fn begin(&self) -> Capturing {
        let cx = super::talking();
        let (one, context) = (self.clone(), cx.clone());
        let lease_period = Duration::from_millis(500);
        let flush_after = Duration::from_millis(200);
        let options = CaptureOptions { lease_period, flush_after, ..CaptureOptions::default() };
        let task = tokio::spawn(async move {
            loop {
                match capture(&one.repo.repository, &one.source, &options, &context).await {
                    Ok(_) => return,
                    Err(error) if error.kind() == ErrorKind::Busy => {
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
            tokio::time::sleep(Duration::from_millis(200)).await;
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
        say(&format!(
            "{moment:?}: base {} needs {}, {} pieces, stop {}",
            plan.base.at,
            plan.base.needs,
            plan.log.len(),
            plan.stop
        ));
        let base = view.snapshots().find(|info| info.id == plan.base.id).unwrap();
        let snapshot = indexed.snapshot(base);
        (snapshot, Arc::new(LogReplay::new(indexed, self.stream.clone(), view, plan)))
    }

    /// What a server has that was restored to a moment.
    pub(super) async fn state_at(
        &self,
        version: Version,
        moment: &Target,
        recovery: RecoveryTarget,
        more: &[&str],
    ) -> Digest {
        let (_room, server) = self.server_at(version, moment, recovery, more).await;
        digest(&source(&server).await).await
    }

    pub(super) async fn server_at(
        &self,
        version: Version,
        moment: &Target,
        recovery: RecoveryTarget,
        more: &[&str],
    ) -> (TempDir, Postgres) {
        let (snapshot, log) = self.replay(moment).await;
        let room = room();
        let data = room.path().join("data");
        let request = RestoreRequest { log: Some(log), ..RestoreRequest::default() };
        restored(&snapshot, &self.recovering(recovery), &data, request).await;
        let server = Postgres::recovered(version, &data, more).await;
        (room, server)
    }

    pub(super) fn recovering(&self, recovery: RecoveryTarget) -> PostgresSource {
        self.source.clone().recovering(recovery)
    }
}

/// A moment at which nobody wrote.
struct Fence {
    at: Position,
    time: Timestamp,
    expected: Digest,
}

/// Where the server's log is.
pub(super) async fn newest(server: &Postgres) -> Position {
    let text = server
        .value("SELECT timeline_id || ' ' || pg_current_wal_lsn() FROM pg_control_checkpoint()")
        .await;
    let (timeline, lsn) = text.split_once(' ').unwrap();
    Position::new(timeline, lsn.parse::<Lsn>().unwrap().0)
}

async fn fence(server: &Postgres, origin: &PostgresSource) -> Fence {
    let expected = digest(origin).await;
    let at = newest(server).await;
    // As close as a millisecond: the clock shows a later time for what comes next.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let time = SystemClock.now();
    tokio::time::sleep(Duration::from_millis(1)).await;
    Fence { at, time, expected }
}

pub(super) async fn write(server: &Postgres, from: u32, to: u32) {
    let client = server.client().await;
    for number in from..to {
        let sql = format!(
            "INSERT INTO log SELECT {number} * 1000 + n, repeat(md5(n::text), 20) FROM \
             generate_series(1, 200) n"
        );
        client.batch_execute(&sql).await.unwrap();
    }
}

/// To places between two commits, times, names, transactions, the end, and as soon as it is
/// consistent.
pub(super) async fn every_moment_comes_back(version: Version) {
    every_moment(version, &[]).await;
}

/// Segments of another size than usual.
pub(super) async fn segments_have_any_size(version: Version) {
    for size in ["1", "64"] {
        every_moment(version, &["--wal-segsize", size]).await;
    }
}

async fn every_moment(version: Version, initdb: &[&str]) {
    let server = Postgres::with(version, initdb, &[]).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let logged = Logged::new(source(&server).await).await;
    let capturing = logged.begin();
    write(&server, 0, 10).await;
    let before = digest(&logged.source).await;
    back_up(&logged.repo, &logged.source).await;
    let mut fences = Vec::new();
    for round in 1..4 {
        write(&server, 10 * round, 10 * round + 10).await;
        fences.push(fence(&server, &logged.source).await);
        server.run("INSERT INTO log VALUES (-1, 'behind the fence')").await;
        if round == 2 {
            logged.reached(&fences[0].at).await;
            logged.roll_up().await;
            server.run("SELECT pg_switch_wal()").await;
        }
    }
    let without_transaction = digest(&logged.source).await;
    let client = server.client().await;
    let begun = client
        .query_one("INSERT INTO log VALUES (-2, 'wanted') RETURNING xmin::text::bigint", &[])
        .await
        .unwrap();
    let transaction = u32::try_from(begun.get::<_, i64>(0)).unwrap();
    let with_transaction = digest(&logged.source).await;
    server.run("DELETE FROM log WHERE id > 5000").await;
    let before_point = digest(&logged.source).await;
    server.run("SELECT pg_create_restore_point('before the end')").await;
    let at_point = digest(&logged.source).await;
    server.run("UPDATE log SET t = 'last'").await;
    let last = newest(&server).await;
    let expected = digest(&logged.source).await;
    logged.reached(&last).await;
    capturing.stop().await;
    drop(server);
    for (number, fence) in fences.iter().enumerate() {
        for moment in [Target::Position(fence.at.clone()), Target::Time(fence.time)] {
            let found = logged.state_at(version, &moment, RecoveryTarget::Planned, &[]).await;
            assert_eq!(fence.expected, found, "fence {number}, {moment:?}");
        }
    }
    let name = RecoveryTarget::RestorePoint("before the end".to_owned());
    for (recovery, expected) in [
        (RecoveryTarget::Planned, &expected),
        (RecoveryTarget::Immediate, &before),
        (RecoveryTarget::Transaction(transaction), &with_transaction),
        (RecoveryTarget::BeforeTransaction(transaction), &without_transaction),
        (RecoveryTarget::BeforeRestorePoint("before the end".to_owned()), &before_point),
        (name, &at_point),
    ] {
        let found = logged.state_at(version, &Target::Latest, recovery.clone(), &[]).await;
        assert_eq!(*expected, found, "{recovery:?}");
    }
    // What is not there is said before any server is started.
    let (snapshot, log) = logged.replay(&Target::Latest).await;
    let room = room();
    let nowhere = logged.recovering(RecoveryTarget::RestorePoint("never made".to_owned()));
    let request = RestoreRequest { log: Some(log), ..RestoreRequest::default() };
    let error =
        try_restore(&snapshot, &nowhere, &room.path().join("data"), request).await.unwrap_err();
    assert!(error.chain().contains("never made"), "{}", error.chain());
    assert!(!room.path().join("data/recovery.signal").exists());
    // Nor could one be started on what is left.
    assert!(!room.path().join("data/global/pg_control").exists());
}

/// What the server has thrown away meanwhile is a gap: noted, refused, and over with the next full
/// backup.
pub(super) async fn what_was_not_captured_is_refused(version: Version) {
    let server =
        Postgres::with(version, &["--wal-segsize", "1"], &["min_wal_size=2MB", "max_wal_size=4MB"])
            .await;
    let keep = async |size: &str| {
        server.run(&format!("ALTER SYSTEM SET max_slot_wal_keep_size = '{size}'")).await;
        server.run("SELECT pg_reload_conf()").await;
    };
    keep("2MB").await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let logged = Logged::new(source(&server).await).await;
    let capturing = logged.begin();
    back_up(&logged.repo, &logged.source).await;
    write(&server, 0, 3).await;
    let before = newest(&server).await;
    logged.reached(&before).await;
    capturing.stop().await;
    for round in 1..5 {
        write(&server, 10 * round, 10 * round + 30).await;
        server.run("CHECKPOINT").await;
    }
    let health = logged.source.slot_health(&Context::silent()).await.unwrap().unwrap();
    say(&format!("{health:?}"));
    assert_eq!(health.state, backup_sources::postgres::SlotState::Lost);
    let probe = logged.source.probe(&Context::silent()).await.unwrap();
    assert!(
        probe.problems.iter().any(|problem| problem.remedy.contains("pg_drop_replication_slot")),
        "{probe:?}"
    );
    keep("-1").await;
    let capturing = logged.begin();
    let started = Instant::now();
    let gap = loop {
        write(&server, 1000, 1001).await;
        let gaps = logged.view().await.timeline().gaps();
        if let Some(gap) = gaps.into_iter().next() {
            break gap;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no gap is noted");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    say(&format!("{gap:?}"));
    let after = newest(&server).await;
    let refusal = logged.plan(&Target::Position(after)).await.unwrap_err();
    assert!(refusal.before.unwrap().0.offset >= before.offset);
    back_up(&logged.repo, &logged.source).await;
    write(&server, 2000, 2001).await;
    let (expected, after) = (digest(&logged.source).await, newest(&server).await);
    logged.reached(&after).await;
    capturing.stop().await;
    let found =
        logged.state_at(version, &Target::Position(after), RecoveryTarget::Planned, &[]).await;
    assert_eq!(expected, found);
}

/// A standby is promoted: the log goes on there, on another timeline; what the old primary writes
/// afterwards belongs to nobody.
pub(super) async fn a_promotion_is_followed(version: Version) {
    let primary = Postgres::start(version).await;
    primary.run("CREATE TABLE log (id int, t text)").await;
    let first = Logged::new(source(&primary).await).await;
    back_up(&first.repo, &first.source).await;
    let room = room();
    let data = room.path().join("data");
    let snapshot = super::base::last_snapshot(&first.repo).await;
    restored(&snapshot, &first.source, &data, RestoreRequest::default()).await;
    std::fs::rename(data.join("recovery.signal"), data.join("standby.signal")).unwrap();
    let from = format!("primary_conninfo=host=127.0.0.1 port={} user=postgres", primary.port());
    let no_stop =
        ["recovery_target_lsn=", "recovery_target_timeline=latest", "hot_standby=on", &from];
    let standby = Postgres::on(version, &data, &no_stop).await;
    let mut both = options(&primary);
    both.hosts.extend(options(&standby).hosts);
    let logged = Logged::within(first.repo.clone(), source_with(both).await);
    let capturing = logged.begin();
    write(&primary, 0, 5).await;
    let on_first = newest(&primary).await;
    logged.reached(&on_first).await;
    let started = Instant::now();
    let has = format!("SELECT (pg_last_wal_replay_lsn() >= '{}')::text", Lsn(on_first.offset));
    while standby.value(&has).await != "true" {
        assert!(started.elapsed() < Duration::from_secs(30), "{}", standby.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A backup of a standby takes the log that it needs along.
    let beside = Repo::init(Arc::new(MemorySink::new())).await;
    let on_standby = source(&standby).await;
    back_up(&beside, &on_standby).await;
    let copied = room.path().join("copied");
    let copy = super::base::last_snapshot(&beside).await;
    restored(&copy, &on_standby, &copied, RestoreRequest::default()).await;
    let copy = Postgres::recovered(version, &copied, &["hot_standby=on"]).await;
    assert_eq!(digest(&first.source).await, digest(&source(&copy).await).await);
    for signal in ["standby.signal", "recovery.signal"] {
        assert!(!copied.join(signal).exists(), "{signal}");
    }
    drop(copy);
    primary.kill();
    standby.run("SELECT pg_promote()").await;
    write(&standby, 10, 15).await;
    standby.run("CHECKPOINT").await;
    let expected = digest(&source(&standby).await).await;
    let on_second = newest(&standby).await;
    assert_eq!(on_second.branch, "2");
    logged.reached(&on_second).await;
    capturing.stop().await;
    logged.roll_up().await;
    let found =
        logged.state_at(version, &Target::Position(on_second), RecoveryTarget::Planned, &[]).await;
    assert_eq!(expected, found);
    // Another timeline of the same number is told from it.
    let known = logged.view().await.timeline();
    on_standby.require_lineage(&Context::silent(), &known).await.unwrap();
    let elsewhere =
        Branch { name: "2".to_owned(), parent: Some(Position::new("1".to_owned(), 1 << 24)) };
    let other = Timeline::new(Vec::new(), [], [elsewhere], Vec::new());
    let error = on_standby.require_lineage(&Context::silent(), &other).await.unwrap_err();
    assert!(error.to_string().contains("timeline 2"), "{error}");
}
