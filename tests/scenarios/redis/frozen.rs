//! Servers that stop without closing their connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::pipeline::{BackupOptions, backup, restore};
use backup_core::source::IfExists;
use backup_core::testing::MemorySink;
use backup_sources::Waits;
use backup_sources::redis::RedisOptions;

use super::restores::{Backed, verified};
use super::source_with;
use crate::support::notes::Notes;
use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;

const TIMEOUT: Duration = Duration::from_secs(7);

#[track_caller]
fn assert_given_up(server: &Redis, error: &backup_core::error::Error, notes: &Notes) {
    let text = format!("{} {:?}", error.chain(), error.hint());
    assert!(text.contains("no answer for 7 seconds") && text.contains("`timeout`"), "{text}");
    let address = server.address();
    let waiting = format!(
        "waiting for Redis at {}: no answer for 5 seconds",
        address.trim_start_matches("redis://")
    );
    assert!(notes.all().contains(&waiting), "{:?}", notes.all());
}

pub(super) async fn frozen_servers_are_given_up(version: Version) {
    let backed = Backed::up(version).await;
    let (cx, notes) = Notes::context();
    let options = |server: &Redis| RedisOptions {
        waits: Waits::new(TIMEOUT, cx.events.clone()),
        ..RedisOptions::parse(&server.address()).unwrap()
    };
    let origin = source_with(options(&backed.server)).await;
    backed.server.pause(true);
    let began = Instant::now();
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let result = backup(&repo.repository, &origin, &BackupOptions::default(), &cx).await;
    backed.server.pause(false);
    assert!(began.elapsed() < TIMEOUT * 3, "{:?}", began.elapsed());
    assert_given_up(&backed.server, &result.unwrap_err(), &notes);
    assert!(repo.snapshots().await.is_empty());

    // The target of a restore.
    let (cx, notes) = Notes::context();
    let target = Redis::start(version);
    let waits = Waits::new(TIMEOUT, cx.events.clone());
    let to = RedisOptions { waits, ..RedisOptions::parse(&target.address()).unwrap() };
    let to = source_with(to).await;
    let snapshot = backed.repo.reader(backed.snapshot).await;
    target.pause(true);
    let result = restore(&snapshot, &to, &verified(IfExists::Fail), &cx).await;
    target.pause(false);
    assert_given_up(&target, &result.unwrap_err(), &notes);
}
