//! An idle server vouches for its stream: the moments of that time can be restored. A
//! replica vouches for nothing while it is cut off from its master.

use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::log::Target;
use backup_sources::redis::RedisOptions;
use jiff::{SignedDuration, Timestamp};

use super::logs::Logged;
use super::{back_up, source, source_with};
use crate::support::redis::{Redis, Version};

/// Masters send a sign of life every second.
const OFTEN: [&str; 2] = ["--repl-ping-replica-period", "1"];

impl Logged {
    /// Waits until the log is known to be complete up to `time`.
    async fn reached_time(&self, time: Timestamp) {
        let started = Instant::now();
        while let Err(refusal) = self.plan(&Target::Time(time)).await {
            assert!(started.elapsed() < Duration::from_secs(90), "{time}: {refusal:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn latest_moment(&self) -> Timestamp {
        self.plan(&Target::Latest).await.unwrap().time.unwrap()
    }
}

fn soon() -> Timestamp {
    SystemClock.now() + SignedDuration::from_secs(3)
}

pub(super) async fn idle_moments_come_back(version: Version) {
    let server = Redis::with(version, &OFTEN);
    let logged = Logged::new(source(&server).await).await;
    let mut client = server.client();
    client.ok(&["SET", "before", "the backup"]);
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_millis(500)).await;
    back_up(&logged.repo, &logged.source).await;
    // Before the first command there are moments too: of the backup.
    let backed_up = server.debug_digest();
    let idle_backup = soon();
    logged.reached_time(idle_backup).await;
    for number in 0..100 {
        client.ok(&["SET", &format!("key {number}"), "value"]);
    }
    let written = server.debug_digest();
    let idle = soon();
    logged.reached_time(idle).await;
    // A backup of now stands behind the pings since: the moments after it are known all the same.
    back_up(&logged.repo, &logged.source).await;
    let after_backup = soon();
    logged.reached_time(after_backup).await;
    assert!(logged.latest_moment().await > after_backup, "the backup is not the last moment");
    capturing.stop().await;
    assert!(logged.latest_moment().await > after_backup, "what was restorable stays so");
    let target = Redis::start(version);
    for rolled in [false, true] {
        for (moment, expected) in [
            (Target::Time(idle_backup), &backed_up),
            (Target::Time(idle), &written),
            (Target::Time(after_backup), &written),
            (Target::Latest, &written),
        ] {
            logged.restore(&moment, target.address()).await;
            assert_eq!(*expected, target.debug_digest(), "{moment:?}, rolled up: {rolled}");
        }
        logged.roll_up().await;
    }
}

pub(super) async fn cut_off_replica_does_not_vouch(version: Version) {
    let master = Redis::with(version, &OFTEN);
    let replica = Redis::with(version, &OFTEN);
    replica.run(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let started = Instant::now();
    while replica.info("master_link_status") != "up" {
        assert!(started.elapsed() < Duration::from_secs(30), "{}", replica.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let name = Some("the replica".to_owned());
    let options = RedisOptions { name, ..RedisOptions::parse(&replica.address()).unwrap() };
    let logged = Logged::new(source_with(options).await).await;
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_millis(500)).await;
    back_up(&logged.repo, &logged.source).await;
    master.client().ok(&["SET", "key", "value"]);
    let idle = soon();
    logged.reached_time(idle).await;
    // The master stands still: its replica does not notice for a while.
    master.pause(true);
    let cut_off = SystemClock.now();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(logged.latest_moment().await < cut_off, "it vouches for what it cannot know");
    // A new capturer receives the bytes that the replica kept: these prove nothing.
    capturing.kill().await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(logged.latest_moment().await < cut_off, "it vouches for what it kept");
    master.pause(false);
    logged.reached_time(soon()).await;
    capturing.stop().await;
    let target = Redis::start(version);
    logged.restore(&Target::Time(idle), target.address()).await;
    assert_eq!(master.debug_digest(), target.debug_digest());
}

/// Everything up to a disconnect can be restored, though the server loses commands after it.
pub(super) async fn moments_before_a_gap_come_back(version: Version) {
    let server = Redis::with(version, &[&OFTEN[..], &["--repl-backlog-size", "16kb"]].concat());
    let logged = Logged::new(source(&server).await).await;
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_millis(500)).await;
    back_up(&logged.repo, &logged.source).await;
    let mut client = server.client();
    client.ok(&["SET", "before", "the gap"]);
    let written = server.debug_digest();
    let idle = soon();
    logged.reached_time(idle).await;
    capturing.stop().await;
    let complete = logged.latest_moment().await;
    assert!(complete > idle);
    // Something may have happened at that very time.
    let complete = complete - SignedDuration::from_nanos(1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lost = SystemClock.now();
    // More than the backlog.
    let value = "v".repeat(1000);
    (0..100).for_each(|number| _ = client.ok(&["SET", &format!("lost {number}"), &value]));
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_secs(1)).await;
    back_up(&logged.repo, &logged.source).await;
    let after = soon();
    logged.reached_time(after).await;
    capturing.stop().await;
    assert_eq!(logged.view().await.timeline().gaps().len(), 1);
    let refused = logged.plan(&Target::Time(lost)).await;
    assert!(refused.is_err(), "a moment in the gap is promised");
    let target = Redis::start(version);
    for (moment, expected) in
        [(idle, &written), (complete, &written), (after, &server.debug_digest())]
    {
        logged.restore(&Target::Time(moment), target.address()).await;
        assert_eq!(*expected, target.debug_digest(), "{moment}");
    }
}
