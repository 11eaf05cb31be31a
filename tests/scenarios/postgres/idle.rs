//! An idle server vouches for its log: the moments of that time can be restored. A standby passes on the word of its primary only.

use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::log::Target;
use backup_core::source::RestoreRequest;
use backup_sources::postgres::RecoveryTarget;
use jiff::{SignedDuration, Timestamp};

use super::logs::{Logged, newest, write};
use super::{back_up, restored, room, source};
use crate::support::postgres::{Postgres, Version};

/// All rows, by a digest of the server's own.
async fn rows(server: &Postgres) -> String {
    let digest = "SELECT count(*) || ' ' || coalesce(md5(string_agg(id || t, ',' ORDER BY id, t)), \
                  '') FROM log";
    server.value(digest).await
}

impl Logged {
    /// Waits until the log is known to be complete up to `time`.
    async fn reached_time(&self, time: Timestamp) {
        let started = Instant::now();
        while let Err(refusal) = self.plan(&Target::Time(time)).await {
            assert!(started.elapsed() < Duration::from_secs(120), "{time}: {refusal:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn latest_moment(&self) -> Timestamp {
        self.plan(&Target::Latest).await.unwrap().time.unwrap()
    }
}

pub(super) async fn idle_moments_come_back(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let logged = Logged::new(source(&server).await).await;
    let capturing = logged.begin();
    back_up(&logged.repo, &logged.source).await;
    write(&server, 0, 3).await;
    let (expected, end) = (rows(&server).await, newest(&server).await);
    let idle = SystemClock.now() + SignedDuration::from_secs(3);
    logged.reached_time(idle).await;
    logged.reached(&end).await;
    capturing.stop().await;
    assert!(logged.latest_moment().await > idle, "what was restorable stays so");
    let silent = logged.view().await.slices().filter(|slice| slice.to == slice.from).count();
    assert_eq!(silent, 1, "besides the note of who captures, nothing is stored while it is idle");
    for rolled in [false, true] {
        for moment in [Target::Time(idle), Target::Latest] {
            let (_room, found) =
                logged.server_at(version, &moment, RecoveryTarget::Planned, &[]).await;
            assert_eq!(rows(&found).await, expected, "{moment:?}, rolled up: {rolled}");
        }
        logged.roll_up().await;
    }
    let refused = logged.latest_moment().await + SignedDuration::from_secs(3600);
    assert!(logged.plan(&Target::Time(refused)).await.is_err());
}

pub(super) async fn cut_off_standby_does_not_vouch(version: Version) {
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
    let settings = [
        "recovery_target_lsn=",
        "recovery_target_timeline=latest",
        "hot_standby=on",
        // The standby requests a sign of life of its primary after half of this.
        "wal_receiver_timeout=4s",
        &from,
    ];
    let standby = Postgres::on(version, &data, &settings).await;
    let logged = Logged::within(first.repo.clone(), source(&standby).await);
    let capturing = logged.begin();
    write(&primary, 0, 3).await;
    let (expected, end) = (rows(&primary).await, newest(&primary).await);
    logged.reached(&end).await;
    let idle = SystemClock.now() + SignedDuration::from_secs(3);
    logged.reached_time(idle).await;
    // The standby and its clock still run, without evidence that the standby has everything.
    primary.kill();
    let cut_off = SystemClock.now();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(logged.latest_moment().await < cut_off, "it vouches for what it cannot know");
    capturing.stop().await;
    assert!(logged.latest_moment().await < cut_off);
    let (_room, found) =
        logged.server_at(version, &Target::Time(idle), RecoveryTarget::Planned, &[]).await;
    assert_eq!(rows(&found).await, expected);
}
