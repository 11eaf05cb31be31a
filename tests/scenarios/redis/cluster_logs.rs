//! The streams of all masters of a cluster in a repository: increments, and restoring to any
//! moment.
//!
//! What is restored is compared master by master: a node that is started on the files of a master
//! has what that had at the mark.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::context::Context;
use backup_core::log::Target;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, IfExists, RestoreRequest, Source as _};
use backup_core::testing::MemorySink;
use backup_sources::redis::{Engine, RedisOptions, RestoreOptions, Way};

use super::logs::Logged;
use super::{back_up, digest, source, source_with, talking};
use crate::support::redis::{Redis, Version};
use crate::support::redis_cluster::Cluster;
use crate::support::repo::Repo;

/// A cluster whose streams are followed, whichever of its nodes is asked.
async fn logged(cluster: &Cluster, at: usize, repo: Option<Repo>) -> Logged {
    let name = Some("the cluster".to_owned());
    let options =
        RedisOptions { name, ..RedisOptions::parse(&cluster.nodes[at].address()).unwrap() };
    let repo = match repo {
        Some(repo) => repo,
        None => Repo::init(Arc::new(MemorySink::new())).await,
    };
    Logged::within(repo, source_with(options).await)
}

/// Writes of many kinds to all masters, the same for the same number.
fn work(cluster: &mut Cluster, round: usize) {
    for step in 0..40 {
        let n = round * 40 + step;
        let [key, tag] = [format!("key{}", n % 60), format!("{{t{}}}", n % 11)];
        cluster.run(&["SET", &key, &format!("value {n}")]);
        cluster.run(&["INCRBY", &format!("{tag}counter"), &n.to_string()]);
        cluster.run(&["SADD", &format!("{tag}set"), &n.to_string(), &(n + 1).to_string(), "x"]);
        cluster.run(&["SPOP", &format!("{tag}set")]);
        cluster.run(&["SET", &format!("leaves{n}"), "x", "PX", "1"]);
        cluster.run(&["SET", &format!("stays{}", n % 7), "x", "EX", "100000"]);
        let moving = "redis.call('INCR', KEYS[1]) redis.call('RPUSH', KEYS[2], ARGV[1])";
        let [one, two] = [format!("{tag}in"), format!("{tag}list")];
        cluster.run(&["EVAL", moving, "2", &one, &two, &n.to_string()]);
    }
}

/// A moment at which nobody writes, and what each master has then.
struct Mark {
    time: jiff::Timestamp,
    digests: Vec<(u16, String)>,
}

/// `masters` are who is asked.
fn mark(masters: &[&Redis]) -> Mark {
    std::thread::sleep(Duration::from_millis(50));
    let started = Instant::now();
    for node in masters {
        while node.run(&["DBSIZE"]).number()
            != i64::try_from(node.run(&["KEYS", "*"]).list().len()).unwrap()
        {
            assert!(started.elapsed() < Duration::from_secs(60), "keys do not expire");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let digests = masters.iter().map(|node| (node.port(), node.debug_digest())).collect();
    std::thread::sleep(Duration::from_millis(500));
    let time = SystemClock.now();
    std::thread::sleep(Duration::from_millis(300));
    Mark { time, digests }
}

fn all(cluster: &Cluster) -> Vec<&Redis> {
    cluster.nodes.iter().collect()
}

/// Waits until a moment can be restored: something later has to be stored.
async fn reached(logged: &Logged, mark: &Mark) {
    let started = Instant::now();
    while let Err(refusal) = logged.plan(&Target::Time(mark.time)).await {
        assert!(started.elapsed() < Duration::from_secs(60), "{}: {refusal:?}", mark.time);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until what is written is received at once: a moment is one of whoever receives it.
async fn follows(logged: &Logged, cluster: &mut Cluster) {
    let started = Instant::now();
    while cluster.nodes[..3].iter().any(|master| master.info("connected_slaves") == "0") {
        assert!(started.elapsed() < Duration::from_secs(60), "nobody follows");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let now = SystemClock.now();
    while logged.plan(&Target::Time(now)).await.is_err() {
        cluster.run(&["INCR", "waiting"]);
        assert!(started.elapsed() < Duration::from_secs(60), "nobody follows");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Starts a node on the files of each master, by the port that the directory is called by.
fn compare(version: Version, directory: &Path, mark: &Mark, ports: &[u16]) {
    for ((_, digest), port) in mark.digests.iter().zip(ports) {
        let data = directory.join(format!("127.0.0.1:{port}"));
        let appended = data.join("appendonlydir").exists();
        let settings =
            ["--cluster-enabled", "yes", "--appendonly", if appended { "yes" } else { "no" }];
        let started = Redis::on(version, Some(&data), &settings);
        assert_eq!(*digest, started.debug_digest(), "the master at {port}, as of {}", mark.time);
    }
}

/// A server has what all masters have, if nobody has written since.
async fn compare_whole(cluster: &Cluster, alone: &Redis) {
    assert_eq!(alone.run(&["DBSIZE"]).number(), cluster.sizes().iter().sum::<i64>());
    let wanted = digest(&source(&cluster.nodes[0]).await).await;
    assert_eq!(digest(&source(alone).await).await, wanted);
}

async fn restore_and_compare(
    logged: &Logged,
    version: Version,
    moment: &Target,
    mark: &Mark,
    ports: &[u16],
) {
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("files");
    logged.restore(moment, directory.to_str().unwrap().to_owned()).await;
    compare(version, &directory, mark, ports);
}

/// At every mark each restored master is what it was: with slices and rolled up, with two bases,
/// with a capturer that dies.
pub(super) async fn every_moment_of_all_masters_comes_back(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    let logged = logged(&cluster, 0, None).await;
    work(&mut cluster, 0);
    back_up(&logged.repo, &logged.source).await;
    // What was written before anybody followed is in the backlogs.
    work(&mut cluster, 1);
    let mut capturing = logged.begin();
    follows(&logged, &mut cluster).await;
    let mut marks = Vec::new();
    for round in 2..6 {
        work(&mut cluster, round);
        marks.push(mark(&all(&cluster)));
        work(&mut cluster, 100 + round);
        reached(&logged, marks.last().unwrap()).await;
        match round {
            2 => {
                capturing.kill().await;
                capturing = logged.begin();
                work(&mut cluster, 50);
                follows(&logged, &mut cluster).await;
            }
            3 => logged.roll_up().await,
            4 => _ = back_up(&logged.repo, &logged.source).await,
            _ => cluster
                .nodes
                .iter()
                .for_each(|node| _ = node.run(&["CLIENT", "KILL", "TYPE", "replica"])),
        }
    }
    let last = mark(&all(&cluster));
    work(&mut cluster, 200);
    let end = mark(&all(&cluster));
    reached(&logged, &last).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    capturing.stop().await;
    assert!(logged.view().await.timeline().gaps().is_empty());
    let ports: Vec<u16> = cluster.nodes.iter().map(Redis::port).collect();
    // WAIT counts on nothing that is not durable, and the followers said how far that is.
    for mark in marks.iter().chain([&last]) {
        restore_and_compare(&logged, version, &Target::Time(mark.time), mark, &ports).await;
    }
    restore_and_compare(&logged, version, &Target::Latest, &end, &ports).await;
    // A server by itself gets what all masters had: as many keys, and each of them as it was
    // started from the files.
    let alone = Redis::start(version);
    logged.restore(&Target::Latest, alone.address()).await;
    compare_whole(&cluster, &alone).await;
    // Key by key it is refused, with the way out.
    let (snapshot, log) = logged.replay(&Target::Time(marks[0].time)).await;
    let target = Some(alone.address());
    let request = RestoreRequest {
        target,
        log: Some(log),
        if_exists: IfExists::Replace,
        ..RestoreRequest::default()
    };
    let refused = backup_core::pipeline::restore(&snapshot, &logged.source, &request, &talking())
        .await
        .unwrap_err();
    assert!(refused.hint().unwrap().contains("into a directory"), "{:?}", refused.hint());
    // What has emptied one master must not empty all.
    cluster.nodes[2].run(&["FLUSHALL"]);
    let capturing = logged.begin();
    follows(&logged, &mut cluster).await;
    let emptied = mark(&all(&cluster));
    work(&mut cluster, 300);
    reached(&logged, &emptied).await;
    capturing.stop().await;
    restore_and_compare(&logged, version, &Target::Time(emptied.time), &emptied, &ports).await;
    let (snapshot, log) = logged.replay(&Target::Time(emptied.time)).await;
    let engine = Engine::Replica(Way::default());
    let as_replica =
        logged.source.clone().restoring(RestoreOptions { engine, ..RestoreOptions::default() });
    let before = alone.debug_digest();
    let request = RestoreRequest { log: Some(log), ..request };
    let refused = backup_core::pipeline::restore(&snapshot, &as_replica, &request, &talking())
        .await
        .unwrap_err();
    assert!(refused.chain().contains("FLUSHALL"), "{}", refused.chain());
    assert_eq!(before, alone.debug_digest());
    logged.repo.assert_sound().await;
}

/// Increments hold the dumps and the commands of each master since; where slots have changed hands,
/// everything is read.
pub(super) async fn increments_of_all_masters_build_on_each_other(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let origin = source(&cluster.nodes[0]).await;
    let take = async |kind: BackupKind| {
        let options = BackupOptions { kind: Some(kind), ..BackupOptions::default() };
        let report =
            backup_core::pipeline::backup(&repo.repository, &origin, &options, &talking()).await;
        let report = report.unwrap_or_else(|error| panic!("{}", error.chain()));
        (report.kind, report.snapshot.unwrap())
    };
    work(&mut cluster, 0);
    let before = mark(&all(&cluster));
    let mut taken = vec![(take(BackupKind::Full).await, before)];
    for (round, kind) in
        [(1, BackupKind::Incremental), (2, BackupKind::Incremental), (3, BackupKind::Differential)]
    {
        work(&mut cluster, round);
        let before = mark(&all(&cluster));
        let found = take(kind).await;
        assert_eq!(found.0, kind);
        taken.push((found, before));
    }
    let ports: Vec<u16> = cluster.nodes.iter().map(Redis::port).collect();
    let alone = Redis::start(version);
    for ((_, snapshot), mark) in &taken {
        let room = tempfile::tempdir().unwrap();
        let directory = room.path().join("files");
        let target = Some(directory.to_str().unwrap().to_owned());
        let snapshot = repo.reader(*snapshot).await;
        let request = RestoreRequest { target, ..RestoreRequest::default() };
        let done = backup_core::pipeline::restore(&snapshot, &origin, &request, &talking()).await;
        done.unwrap_or_else(|error| panic!("{}", error.chain()));
        compare(version, &directory, mark, &ports);
        let target = Some(alone.address());
        let request =
            RestoreRequest { target, if_exists: IfExists::Replace, ..RestoreRequest::default() };
        let by_key = backup_core::pipeline::restore(&snapshot, &origin, &request, &talking()).await;
        assert_eq!(by_key.is_ok(), snapshot.id() == taken[0].0.1);
        let engine = Engine::Replica(Way::default());
        let as_replica =
            origin.clone().restoring(RestoreOptions { engine, ..RestoreOptions::default() });
        let done =
            backup_core::pipeline::restore(&snapshot, &as_replica, &request, &talking()).await;
        done.unwrap_or_else(|error| panic!("{}", error.chain()));
    }
    compare_whole(&cluster, &alone).await;
    cluster.move_slot_of("key1");
    assert_eq!(take(BackupKind::Incremental).await.0, BackupKind::Full);
    assert_eq!(take(BackupKind::Incremental).await.0, BackupKind::Incremental);
    // Of one master the backlog does not reach back.
    cluster.nodes[1].run(&["CONFIG", "SET", "repl-backlog-size", "16kb"]);
    (4..14).for_each(|round| work(&mut cluster, round));
    assert_eq!(take(BackupKind::Incremental).await.0, BackupKind::Full);
    repo.assert_sound().await;
}

/// Slots that are moved end the log with a gap that says so; the next backup is a full one, and the
/// log goes on from there.
pub(super) async fn moved_slots_leave_a_gap_that_is_told(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    let logged = logged(&cluster, 0, None).await;
    work(&mut cluster, 0);
    back_up(&logged.repo, &logged.source).await;
    let capturing = logged.begin();
    follows(&logged, &mut cluster).await;
    work(&mut cluster, 1);
    let before = mark(&all(&cluster));
    work(&mut cluster, 2);
    reached(&logged, &before).await;
    cluster.move_slot_of("key1");
    let moved = SystemClock.now();
    work(&mut cluster, 3);
    let started = Instant::now();
    let reason = loop {
        work(&mut cluster, 4);
        let gaps = logged.view().await.timeline().gaps();
        if let Some(reason) = gaps.iter().find_map(|gap| gap.reason.clone()) {
            break reason;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{gaps:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(reason.contains("slots"), "{reason}");
    // Nothing behind it can be restored, until there is another backup, which reads everything.
    assert!(logged.plan(&Target::Time(moved)).await.is_err());
    let options = BackupOptions { kind: Some(BackupKind::Incremental), ..BackupOptions::default() };
    let next = backup_core::pipeline::backup(
        &logged.repo.repository,
        &logged.source,
        &options,
        &talking(),
    )
    .await;
    assert_eq!(next.unwrap().kind, BackupKind::Full);
    work(&mut cluster, 5);
    let after = mark(&all(&cluster));
    work(&mut cluster, 6);
    reached(&logged, &after).await;
    capturing.stop().await;
    let ports: Vec<u16> = cluster.nodes.iter().map(Redis::port).collect();
    for mark in [&before, &after] {
        restore_and_compare(&logged, version, &Target::Time(mark.time), mark, &ports).await;
    }
}

/// The replica that takes over knows the stream of its master: the log goes on without a gap, and
/// so do increments.
pub(super) async fn a_failover_of_one_master_is_followed(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    cluster.add_replica();
    // The node that is named stays.
    let logged = logged(&cluster, 1, None).await;
    work(&mut cluster, 0);
    back_up(&logged.repo, &logged.source).await;
    let capturing = logged.begin();
    follows(&logged, &mut cluster).await;
    work(&mut cluster, 1);
    let before = mark(&all(&cluster)[..3]);
    let mut ports: Vec<u16> = cluster.nodes[..3].iter().map(Redis::port).collect();
    cluster.fail_over_to_replica();
    work(&mut cluster, 2);
    follows(&logged, &mut cluster).await;
    let after = mark(&all(&cluster));
    work(&mut cluster, 3);
    reached(&logged, &after).await;
    let options = BackupOptions { kind: Some(BackupKind::Incremental), ..BackupOptions::default() };
    let next = backup_core::pipeline::backup(
        &logged.repo.repository,
        &logged.source,
        &options,
        &talking(),
    )
    .await;
    assert_eq!(next.unwrap().kind, BackupKind::Incremental);
    capturing.stop().await;
    assert!(logged.view().await.timeline().gaps().is_empty());
    for mark in [&before, &after] {
        // The files are called as the masters were when the dumps were made.
        restore_and_compare(&logged, version, &Target::Time(mark.time), mark, &ports).await;
    }
    // A full one has the new master.
    let options = BackupOptions { kind: Some(BackupKind::Full), ..BackupOptions::default() };
    let full = backup_core::pipeline::backup(
        &logged.repo.repository,
        &logged.source,
        &options,
        &Context::silent(),
    )
    .await;
    ports[0] = cluster.nodes[0].port();
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("files");
    let last = mark(&all(&cluster));
    let request = RestoreRequest {
        target: Some(directory.to_str().unwrap().to_owned()),
        ..RestoreRequest::default()
    };
    let snapshot = logged.repo.reader(full.unwrap().snapshot.unwrap()).await;
    backup_core::pipeline::restore(&snapshot, &logged.source, &request, &talking()).await.unwrap();
    compare(version, &directory, &last, &ports);
    assert_eq!(logged.source.identity().id, "the cluster");
}

/// While nobody follows there is a backup, and then a failover: the history of the dump goes on to
/// where that of the new master begins. And the newest snapshot is the latest moment, though
/// nothing is captured of what led to it.
pub(super) async fn a_failover_that_nobody_saw_is_made_up_for(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    cluster.add_replica();
    let logged = logged(&cluster, 1, None).await;
    work(&mut cluster, 0);
    back_up(&logged.repo, &logged.source).await;
    let capturing = logged.begin();
    follows(&logged, &mut cluster).await;
    work(&mut cluster, 1);
    capturing.stop().await;
    work(&mut cluster, 2);
    let latest = mark(&all(&cluster)[..3]);
    let second = back_up(&logged.repo, &logged.source).await.snapshot.unwrap();
    let ports: Vec<u16> = cluster.nodes[..3].iter().map(Redis::port).collect();
    assert_eq!(logged.plan(&Target::Latest).await.unwrap().base.id, second);
    restore_and_compare(&logged, version, &Target::Latest, &latest, &ports).await;
    work(&mut cluster, 3);
    cluster.fail_over_to_replica();
    work(&mut cluster, 4);
    let capturing = logged.begin();
    follows(&logged, &mut cluster).await;
    let after = mark(&all(&cluster));
    work(&mut cluster, 5);
    reached(&logged, &after).await;
    capturing.stop().await;
    assert!(logged.view().await.timeline().gaps().is_empty());
    assert_eq!(logged.plan(&Target::Time(after.time)).await.unwrap().base.id, second);
    restore_and_compare(&logged, version, &Target::Time(after.time), &after, &ports).await;
    logged.repo.assert_sound().await;
}

/// A master that has nothing to do says only that it lives: it is as far as its dump all the same.
pub(super) async fn an_idle_master_is_no_obstacle(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    for node in &cluster.nodes {
        node.run(&["CONFIG", "SET", "repl-ping-replica-period", "1"]);
    }
    let logged = logged(&cluster, 0, None).await;
    work(&mut cluster, 0);
    back_up(&logged.repo, &logged.source).await;
    let capturing = logged.begin();
    follows(&logged, &mut cluster).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let base = back_up(&logged.repo, &logged.source).await.snapshot.unwrap();
    // One key is in one master.
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.run(&["INCR", "busy"]);
    }
    let after = mark(&all(&cluster));
    cluster.run(&["INCR", "busy"]);
    reached(&logged, &after).await;
    capturing.stop().await;
    assert_eq!(logged.plan(&Target::Time(after.time)).await.unwrap().base.id, base);
    let ports: Vec<u16> = cluster.nodes.iter().map(Redis::port).collect();
    restore_and_compare(&logged, version, &Target::Time(after.time), &after, &ports).await;
}

/// Nothing is written to any master, and all of them send signs of life.
pub(super) async fn idle_moments_of_all_masters_come_back(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    for node in &cluster.nodes {
        node.run(&["CONFIG", "SET", "repl-ping-replica-period", "1"]);
    }
    let logged = logged(&cluster, 0, None).await;
    work(&mut cluster, 0);
    back_up(&logged.repo, &logged.source).await;
    let capturing = logged.begin();
    follows(&logged, &mut cluster).await;
    work(&mut cluster, 1);
    let idle = mark(&all(&cluster));
    reached(&logged, &idle).await;
    capturing.stop().await;
    let ports: Vec<u16> = cluster.nodes.iter().map(Redis::port).collect();
    for moment in [Target::Time(idle.time), Target::Latest] {
        restore_and_compare(&logged, version, &moment, &idle, &ports).await;
    }
}

/// A master that is cut off from the others is the last to know that it is none any more: what is
/// written to the one that took over is in no stream that is followed, and no moment since then is
/// said to be one of the cluster.
pub(super) async fn a_master_that_is_cut_off_is_left(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    cluster.add_replica();
    let logged = logged(&cluster, 1, None).await;
    work(&mut cluster, 0);
    back_up(&logged.repo, &logged.source).await;
    let capturing = logged.begin();
    follows(&logged, &mut cluster).await;
    work(&mut cluster, 1);
    let before = mark(&all(&cluster)[..3]);
    let ports: Vec<u16> = cluster.nodes[..3].iter().map(Redis::port).collect();
    work(&mut cluster, 2);
    reached(&logged, &before).await;
    let lost = (0..).map(|n| format!("lost{n}")).find(|key| cluster.owner(key) == 0).unwrap();
    let cut_off = cluster.cut_off_first(&lost).unwrap();
    let since = SystemClock.now();
    let started = Instant::now();
    let reason = loop {
        // It goes on, and so does the cluster.
        cut_off.run(&["INCR", &lost]);
        work(&mut cluster, 3);
        let gaps = logged.view().await.timeline().gaps();
        if let Some(reason) = gaps.iter().find_map(|gap| gap.reason.clone()) {
            break reason;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{gaps:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(reason.contains("does not contain") || reason.contains("has lost"), "{reason}");
    assert!(logged.plan(&Target::Time(since)).await.is_err());
    // What came since the first one: its files are called by the masters of that time.
    assert_eq!(back_up(&logged.repo, &logged.source).await.kind, BackupKind::Incremental);
    work(&mut cluster, 4);
    let after = mark(&all(&cluster));
    work(&mut cluster, 5);
    reached(&logged, &after).await;
    capturing.stop().await;
    for mark in [&before, &after] {
        restore_and_compare(&logged, version, &Target::Time(mark.time), mark, &ports).await;
    }
    logged.repo.assert_sound().await;
}
