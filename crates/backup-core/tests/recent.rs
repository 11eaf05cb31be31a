//! Backups that follow each other in one process share a listing of the snapshots.
#![expect(clippy::unwrap_used, reason = "tests: what must not happen fails them")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::pipeline::{BackupOptions, BackupReport, backup};
use backup_core::repository::{InitOptions, Repository};
use backup_core::sink::Operation;
use backup_core::testing::{MemorySink, RecordingSink, ScriptedSource};

struct World {
    sink: RecordingSink,
    repository: Repository,
    passphrase: Passphrase,
    cx: Context,
}

impl World {
    async fn make() -> Self {
        let sink = RecordingSink::new(Arc::new(MemorySink::new()));
        let (passphrase, cx) = (Passphrase::new("correct horse"), Context::silent());
        let (store, options) = (Arc::new(sink.clone()), InitOptions::default());
        let repository = Repository::init(store, &passphrase, &options, &cx).await.unwrap();
        let world = Self { sink, repository, passphrase, cx };
        // The first backup of a repository looks for the latest time that is known of it, too.
        world.back_up("first", Duration::ZERO).await;
        world.sink.reset();
        world
    }

    async fn back_up(&self, job: &str, reuse_listing: Duration) -> BackupReport {
        let source = ScriptedSource::named(job).dir("/a").file("/a/file", job.to_owned());
        let options =
            BackupOptions { job: job.to_owned(), reuse_listing, ..BackupOptions::default() };
        backup(&self.repository, &source, &options, &self.cx).await.unwrap()
    }

    /// Listings of receipts and of adoptions: those of snapshots are made for each backup, because
    /// others may have published some.
    fn listings(&self) -> (u64, u64) {
        let lists = |top| self.sink.count(Operation::List, top);
        (lists("x-receipts"), lists("x-adopted"))
    }

    /// Another process with the same repository.
    async fn elsewhere(&self) -> Repository {
        let sink = Arc::new(self.sink.clone());
        Repository::open(sink, &self.passphrase).await.unwrap()
    }
}

const LONG: Duration = Duration::from_hours(1);

#[tokio::test]
async fn one_listing_serves_all_jobs() {
    let world = World::make().await;
    world.back_up("a", LONG).await;
    let once = world.listings();
    for round in 0..3 {
        for job in 0..10 {
            let report = world.back_up(&format!("job-{job}"), LONG).await;
            assert_eq!(report.parent.is_some(), round > 0, "{job}");
        }
    }
    assert_eq!(world.listings(), once);
    let list = world.repository.snapshots(&world.cx).await.unwrap().snapshots;
    // Each is built on the one of its job before it.
    let parents: BTreeSet<_> = list.iter().filter_map(|info| info.snapshot.parent).collect();
    assert_eq!((list.len(), parents.len()), (32, 20));
    // Without a listing that may be used again, all are listed.
    world.sink.reset();
    world.back_up("a", Duration::ZERO).await;
    assert_eq!(world.listings(), once);
}

#[tokio::test]
async fn a_parent_that_others_have_removed_is_none() {
    let world = World::make().await;
    let first = world.back_up("a", LONG).await.snapshot.unwrap();
    let gone = world.back_up("a", LONG).await.snapshot.unwrap();
    world.elsewhere().await.forget(&[gone], &world.cx).await.unwrap();
    assert_eq!(world.back_up("a", LONG).await.parent, Some(first));
}

/// The order of snapshots follows their parents where clocks are wrong. So the newest one is the parent,
/// also if another process has made it.
#[tokio::test]
async fn the_newest_of_others_is_the_parent() {
    let world = World::make().await;
    world.back_up("a", LONG).await;
    let other = World { repository: world.elsewhere().await, ..World::make().await };
    let newest = other.back_up("a", Duration::ZERO).await.snapshot;
    assert_eq!(world.back_up("a", LONG).await.parent, newest);
}

#[tokio::test]
async fn an_old_listing_is_not_used() {
    let world = World::make().await;
    world.back_up("a", LONG).await;
    let once = world.listings();
    world.sink.reset();
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.back_up("b", Duration::from_millis(10)).await;
    assert_eq!(world.listings(), once);
}
