//! Whoever is killed at any moment: the server, the program; and a target that is full.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::logs::write;
use super::place::{Place, with_role};
use super::{digest, say, source};
use crate::support::long::long;
use crate::support::postgres::{Postgres, Version};
use crate::support::process::run;

/// How far the captured log may be behind what was committed.
const RECOVERY_POINT: Duration = Duration::from_secs(3);

pub(super) fn times() -> u64 {
    if long() { 100 } else { 2 }
}

/// Commits numbers, one after the other, and says which was the last.
struct Committing {
    last: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Committing {
    async fn begin(server: &Postgres) -> Self {
        server.run("CREATE TABLE numbers (id int PRIMARY KEY)").await;
        let client = server.client().await;
        let (last, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (known, ends) = (Arc::clone(&last), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            for number in 1.. {
                let insert = format!("INSERT INTO numbers VALUES ({number})");
                // The server may be killed meanwhile.
                if ends.load(Ordering::Relaxed) || client.batch_execute(&insert).await.is_err() {
                    return;
                }
                known.store(number, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { last, stop, task }
    }

    fn last(&self) -> u32 {
        self.last.load(Ordering::Relaxed)
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

/// How many numbers the newest moment has: all up to the last one.
pub(super) async fn restored(place: &Place, version: Version, name: &str) -> u32 {
    let target = place.path(name);
    place.done(&["restore", "--job", "crm", "--at", "latest", "--target", &target]);
    let copy = Postgres::recovered(version, Path::new(&target), &[]).await;
    let counted = copy.value("SELECT count(*) || ' ' || coalesce(max(id), 0) FROM numbers").await;
    let (count, last) = counted.split_once(' ').unwrap();
    assert_eq!(count, last, "some are missing before the last one");
    drop(copy);
    std::fs::remove_dir_all(&target).unwrap();
    last.parse().unwrap()
}

/// The program is killed and goes on where it was; then the server is killed, and all but the last
/// seconds come back.
pub(super) async fn a_killed_capture_has_lost_nothing(version: Version) {
    let server = with_role(version, &[], &[]).await;
    let place = Place::new(&server, "");
    let committing = Committing::begin(&server).await;
    place.done(&["run", "crm"]);
    let (mut random, mut least) = (rand::rng(), 0);
    for round in 0..times() {
        let capturing = place.spawn(&["logs", "follow", "crm"]);
        tokio::time::sleep(Duration::from_millis(random.random_range(500..6000))).await;
        capturing.kill();
        let found = restored(&place, version, &format!("round-{round}")).await;
        assert!(found >= least, "{found} are restored, which were {least} before");
        least = found;
    }
    // The next one makes good what was written meanwhile.
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    let (started, wanted) = (Instant::now(), committing.last());
    while restored(&place, version, "caught-up").await < wanted {
        assert!(started.elapsed() < Duration::from_secs(150), "the capture does not go on");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let before = committing.last();
    tokio::time::sleep(RECOVERY_POINT).await;
    server.kill();
    let last = committing.last();
    capturing.kill();
    committing.end().await;
    let found = restored(&place, version, "last").await;
    say(&format!(
        "{found} of {last} are restored; {before} were there three seconds before the end"
    ));
    assert!(found >= before.max(least), "{found} of {last}: more than three seconds are lost");
    place.done(&["check", "--read-data"]);
}

/// The server leaves backup mode, nothing of the backup is seen, and the next one is whole.
pub(super) async fn a_killed_backup_leaves_nothing(version: Version) {
    let server = with_role(version, &[], &[]).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    write(&server, 0, 50).await;
    let place = Place::new(&server, "max_bytes_per_second = \"8MiB\"");
    let mut random = rand::rng();
    for _ in 0..times() {
        let running = place.spawn(&["run", "crm"]);
        tokio::time::sleep(Duration::from_millis(random.random_range(300..3000))).await;
        running.kill();
        let started = Instant::now();
        let left = "SELECT (SELECT count(*) FROM pg_stat_progress_basebackup) + (SELECT count(*) \
                    FROM pg_replication_slots)";
        while server.value(&format!("SELECT ({left})::text")).await != "0" {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "the server goes on:\n{}",
                server.log()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(!place.done(&["list", "--json"]).contains("\"type\":\"full\""));
    }
    let file = place.path("backup.toml");
    let config = std::fs::read_to_string(&file)
        .unwrap()
        .replace("max_bytes_per_second", "# max_bytes_per_second");
    std::fs::write(&file, config).unwrap();
    place.done(&["run", "crm"]);
    place.done(&["check", "--read-data"]);
    let target = place.path("copy");
    place.done(&["restore", "latest", "--target", &target, "--verify"]);
    let copy = Postgres::recovered(version, Path::new(&target), &[]).await;
    assert_eq!(digest(&source(&server).await).await, digest(&source(&copy).await).await);
}

/// A file system that is mounted while this lives.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// A target that becomes full on the way is an error, and no server can start on the incomplete
/// directory. One that lacks room from the start is refused at once.
pub(super) async fn without_space_nothing_starts(version: Version) {
    let server = with_role(version, &[], &[]).await;
    let place = Place::new(&server, "");
    place.done(&["run", "crm"]);
    let small = place.path("small");
    let small = Path::new(&small);
    std::fs::create_dir(small).unwrap();
    // Room for all bytes, but not for all files: that is found on the way.
    for (size, text) in [("nr_inodes=100", "no space left"), ("size=10m", "the target has 10 MiB")]
    {
        let mut mount = Command::new("mount");
        if run(mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(small)).code != 0 {
            say("no file system can be mounted here");
            return;
        }
        let _mounted = Mounted(small);
        let target = small.join("data");
        let shown = place.fails(1, &["restore", "latest", "--target", target.to_str().unwrap()]);
        assert!(shown.contains(text), "{size}: {shown}");
        assert!(!target.join("global/pg_control").exists());
    }
}
