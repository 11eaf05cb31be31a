//! An idle replica set writes no-ops: the moments of that time can be restored.

use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::log::Target;
use bson::doc;
use jiff::SignedDuration;

use super::logs::Logged;
use super::{source, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

pub(super) async fn idle_moments_come_back(version: Version) {
    let server = Mongod::with(version, &["--setParameter", "periodicNoopIntervalSecs=1"]).await;
    let logged = Logged::new(source(&server).await).await;
    server.run("db", doc! { "insert": "c", "documents": [{ "_id": 1 }] }).await;
    let capturing = logged.begin();
    logged.back_up().await;
    // The dump itself is of use as soon as the set has written anything behind it.
    let started = Instant::now();
    while let Err(refusal) = logged.plan(&Target::Latest).await {
        assert!(started.elapsed() < Duration::from_secs(20), "{refusal:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    server.run("db", doc! { "insert": "c", "documents": [{ "_id": 2 }, { "_id": 3 }] }).await;
    let expected = state(&server.client).await;
    let idle = SystemClock.now() + SignedDuration::from_secs(3);
    let started = Instant::now();
    while let Err(refusal) = logged.plan(&Target::Time(idle)).await {
        assert!(started.elapsed() < Duration::from_secs(30), "{refusal:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let slices = logged.view().await.slices().count();
    assert!(slices <= 4, "{slices} slices in less than a minute");
    capturing.stop().await;
    assert!(logged.plan(&Target::Latest).await.unwrap().time.unwrap() > idle);
    let target = Mongod::start(version).await;
    for rolled in [false, true] {
        for moment in [Target::Time(idle), Target::Latest] {
            target.clear().await;
            logged.restore(&moment, &source(&target).await, verified()).await;
            same(&expected, &state(&target.client).await);
        }
        assert!(logged.view().await.timeline().gaps().is_empty(), "rolled up: {rolled}");
        logged.roll_up().await;
    }
    // A capturer that starts again continues from an entry that the oplog still has.
    let capturing = logged.begin();
    server.run("db", doc! { "insert": "c", "documents": [{ "_id": 4 }] }).await;
    let later = SystemClock.now() + SignedDuration::from_secs(1);
    let started = Instant::now();
    while logged.plan(&Target::Time(later)).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    capturing.stop().await;
    target.clear().await;
    logged.restore(&Target::Time(later), &source(&target).await, verified()).await;
    same(&state(&server.client).await, &state(&target.client).await);
}
