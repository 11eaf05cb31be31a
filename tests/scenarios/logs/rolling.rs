//! From slices to snapshots: few of them, whatever time passes, each of which restores by itself.

use std::time::Duration;

use backup_core::id::SnapshotId;
use backup_core::log::{Position, RollUpOptions, Target};
use backup_core::maintenance::{MaxUnused, PruneOptions, prune};
use backup_core::retention::Hold;
use backup_core::sink::{Prefix, SinkOps};
use jiff::{SignedDuration, Span};

use super::{World, disk_world, world};
use crate::support::logs::fast;
use crate::support::noise::noise;

impl World {
    /// Events of so many bytes each, one a second.
    fn happen(&self, count: u64, bytes: usize) {
        for number in 0..count {
            self.clock.advance(SignedDuration::from_secs(1));
            self.logged.source.push(self.logged.cx.clock.now(), noise(number, bytes));
        }
    }

    async fn count(&self, prefix: &str) -> usize {
        self.sink.list_all(&Prefix::new(prefix).unwrap()).await.unwrap().len()
    }

    async fn log_snapshots(&self) -> Vec<SnapshotId> {
        let all = self.repo.snapshots().await;
        all.iter()
            .filter(|info| info.snapshot.tag("type") == Some("log"))
            .map(|info| info.id)
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn one_log_snapshot_for_each_base_and_each_restores_by_itself() {
    let world = world().await;
    let logged = &world.logged;
    for base in 0..3_u64 {
        logged.back_up().await;
        for _ in 0..4 {
            world.happen(25, 3000);
            logged.catch_up().await;
            logged.roll_up().await;
            assert_eq!(world.log_snapshots().await.len() as u64, base + 1);
            logged.assert_all_there().await;
        }
    }
    world.repo.assert_sound().await;
    // Without the lane: everything is in snapshots.
    for (key, _) in
        world.sink.objects().into_iter().filter(|(key, _)| key.as_str().starts_with("x-lane/"))
    {
        world.sink.remove(&key);
    }
    for at in [0, 1, 99, 100, 101, 150, 200, 299, 300] {
        let restored = logged.restored(&Target::Position(Position::new("", at))).await;
        assert!(restored == logged.source.bytes_up_to(at), "the state at {at} differs");
    }
    // Without the bases: log snapshots hold them.
    let bases: Vec<SnapshotId> = world.repo.snapshots().await.iter().map(|info| info.id).collect();
    let logs = world.log_snapshots().await;
    let bases: Vec<SnapshotId> = bases.into_iter().filter(|id| !logs.contains(id)).collect();
    logged.repository.forget(&bases, &logged.cx).await.unwrap();
    world.clock.advance(SignedDuration::from_hours(30));
    let thorough = PruneOptions {
        max_unused: MaxUnused::Percent(0.0),
        grace: Duration::from_secs(3600),
        ..PruneOptions::default()
    };
    for _ in 0..2 {
        prune(&logged.repository, &thorough, &logged.cx).await.unwrap();
        world.clock.advance(SignedDuration::from_hours(30));
    }
    world.repo.assert_sound().await;
    for at in [0, 50, 150, 300] {
        let restored = logged.restored(&Target::Position(Position::new("", at))).await;
        assert!(restored == logged.source.bytes_up_to(at), "the state at {at} differs");
    }
}

#[tokio::test(start_paused = true)]
async fn slices_go_when_they_are_old_and_the_last_one_stays() {
    let world = world().await;
    let logged = &world.logged;
    logged.back_up().await;
    world.happen(50, 500);
    logged.catch_up().await;
    let before = world.count("x-lane").await;
    assert_eq!(logged.roll_up().await.removed, 0, "they were just written");
    assert_eq!(world.count("x-lane").await, before);
    world.clock.advance(SignedDuration::from_hours(2));
    let report = logged.roll_up().await;
    assert!(report.snapshots.is_empty() && report.removed > 0, "{report:?}");
    let left = world.count("x-lane").await;
    assert!((1..=2).contains(&left), "{left} are left");
    world.happen(10, 500);
    assert_eq!(logged.catch_up().await.gaps, 0, "it goes on from the last one");
    logged.assert_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn roll_up_on_a_disk_removes_no_slice_by_a_clock_in_doubt() {
    let world = disk_world().await;
    let logged = &world.logged;
    logged.back_up().await;
    world.happen(50, 500);
    logged.catch_up().await;
    logged.roll_up().await;
    let right = logged.cx.clock.now();
    let before = world.count("x-lane").await;
    for wrong in [SignedDuration::from_hours(183 * 24), SignedDuration::from_hours(30 * 365 * 24)] {
        world.clock.set(right + wrong);
        assert_eq!(logged.roll_up().await.removed, 0, "{wrong}");
        assert_eq!(world.count("x-lane").await, before, "{wrong}");
    }
    // Two hours later by the right clock they are removed.
    world.clock.set(right + SignedDuration::from_hours(2));
    assert!(logged.roll_up().await.removed > 0);
    assert!(world.count("x-lane").await < before);
    logged.assert_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_base_slices_wait_for_one() {
    let world = world().await;
    let logged = &world.logged;
    world.happen(20, 500);
    let capturing = logged.begin(fast());
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.happen(20, 500);
    tokio::time::sleep(Duration::from_secs(1)).await;
    logged.back_up().await;
    world.happen(20, 500);
    tokio::time::sleep(Duration::from_secs(1)).await;
    capturing.stop().await.unwrap();
    logged.roll_up().await;
    logged.assert_all_there().await;
    world.clock.advance(SignedDuration::from_hours(2));
    logged.roll_up().await;
    logged.assert_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_held_stays_and_promises_do_not_hinder() {
    let world = world().await;
    let logged = &world.logged;
    logged.back_up().await;
    let job = world.repo.snapshots().await[0].snapshot.tag("job").unwrap().to_owned();
    logged.repository.protect_job(&job, Span::new().years(7), &logged.cx).await.unwrap();
    world.happen(5, 500);
    logged.catch_up().await;
    let first = logged.roll_up().await.snapshots[0];
    let hold = Hold { until: None, reason: "evidence".into(), since: logged.cx.clock.now() };
    logged.repository.hold(&first, &hold).await.unwrap();
    let mut last = first;
    for _ in 0..3 {
        world.happen(5, 500);
        logged.catch_up().await;
        last = logged.roll_up().await.snapshots[0];
    }
    let mut left = world.log_snapshots().await;
    left.sort();
    let mut expected = vec![first, last];
    expected.sort();
    assert_eq!(left, expected);
    logged.assert_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn blobs_have_the_usual_size() {
    let world = world().await;
    let logged = &world.logged;
    logged.back_up().await;
    // 12 MB in slices of some kB, rolled up in three parts.
    for _ in 0..3 {
        world.happen(80, 50_000);
        logged.catch_up().await;
        logged.roll_up_with(&RollUpOptions::default()).await;
    }
    let id = world.log_snapshots().await[0];
    let reader = world.repo.reader(id).await;
    let mut walk = reader.walk();
    let mut sizes = Vec::new();
    while let Some((path, node)) = walk.next().await.unwrap() {
        if path.display().starts_with("/scripted/log") && node.is_file() {
            sizes.push(
                node.content.iter().map(|blob| reader.blob_len(blob).unwrap()).collect::<Vec<_>>(),
            );
        }
    }
    assert_eq!(sizes.len(), 1, "one file for a thousand events");
    let (last, whole) = sizes[0].split_last().unwrap();
    assert!(whole.iter().all(|size| *size == 4 << 20) && *last <= 4 << 20, "{sizes:?}");
    logged.assert_all_there().await;
}

/// A branch may begin long before anything happens on it.
#[tokio::test(start_paused = true)]
async fn where_a_branch_comes_from_is_never_forgotten() {
    let world = world().await;
    let logged = &world.logged;
    logged.source.announce_branches();
    logged.back_up().await;
    world.happen(5, 300);
    logged.catch_up().await;
    logged.source.fork("b", 4);
    logged.catch_up().await;
    let at_once = RollUpOptions { grace: Duration::ZERO, ..RollUpOptions::default() };
    logged.roll_up_with(&at_once).await;
    for _ in 0..3 {
        world.happen(3, 300);
        logged.catch_up().await;
        world.clock.advance(SignedDuration::from_hours(2));
        logged.roll_up_with(&at_once).await;
    }
    assert_eq!(logged.restored(&Target::Latest).await, logged.source.bytes_up_to(13));
    let left = Position::new("", 5);
    assert!(
        logged.plan(&Target::Position(left)).await.is_ok(),
        "what was undone can be restored still"
    );
    assert_eq!(logged.view().await.slices().filter(|slice| slice.parent.is_some()).count(), 0);
}
