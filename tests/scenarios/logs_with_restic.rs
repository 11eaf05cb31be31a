//! What stock restic makes of captured logs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup_core::clock::Clock as _;
use backup_core::log::{CaptureOptions, RollUpOptions, Target};
use backup_core::maintenance::{PruneOptions, prune};
use backup_core::sink::{Prefix, SinkOps};
use backup_core::testing::FakeClock;
use backup_storage::LocalSink;
use jiff::SignedDuration;
use sha2::{Digest, Sha256};

use crate::support::logs::{Logged, fast};
use crate::support::long::long;
use crate::support::noise::noise;
use crate::support::repo::Repo;
use crate::support::restic::Restic;

fn clock() -> Arc<FakeClock> {
    Arc::new(FakeClock::at("2026-01-01T00:00:00Z".parse().unwrap()))
}

fn happen(logged: &Logged, clock: &FakeClock, count: u64, bytes: usize) {
    for number in 0..count {
        clock.advance(SignedDuration::from_secs(1));
        logged.source.push(clock.now(), noise(number, bytes));
    }
}

mod needs_restic {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn log_snapshots_are_restored_with_their_base() {
        let place = tempfile::tempdir().unwrap();
        let (dir, target) = (place.path().join("repository"), place.path().join("restored"));
        let repo = Repo::in_dir(&dir).await;
        let clock = clock();
        let logged = Logged::new(&repo.repository, clock.clone());
        happen(&logged, &clock, 30, 2000);
        logged.back_up().await;
        for _ in 0..3 {
            happen(&logged, &clock, 40, 30_000);
            logged.catch_up().await;
            logged.roll_up().await;
        }
        for version in crate::support::restic::RESTICS {
            let restic = Restic::new(version, &dir, repo.passphrase.reveal());
            restic.check();
            let target = target.join(version);
            restic.restore("latest", &target);
            let state = std::fs::read(target.join("scripted/state")).unwrap();
            assert!(state == logged.source.bytes_up_to(30), "{version}: the base differs");
            let log = std::fs::read(target.join("scripted/log/-00000000")).err();
            assert!(log.is_some(), "{version}: nothing was captured before the base");
            let mut files: Vec<_> = std::fs::read_dir(target.join("scripted/log"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            let log: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
            assert!(
                [state, log].concat() == logged.source.bytes_up_to(150),
                "{version}: the log differs"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slices_that_were_not_rolled_up_are_recovered_by_repairing_the_index() {
        let place = tempfile::tempdir().unwrap();
        let (dir, copy) = (place.path().join("repository"), place.path().join("copy"));
        let repo = Repo::in_dir(&dir).await;
        let clock = clock();
        let logged = Logged::new(&repo.repository, clock.clone());
        logged.back_up().await;
        happen(&logged, &clock, 50, 5000);
        logged.catch_up().await;
        for version in crate::support::restic::RESTICS {
            let copy = copy.join(version);
            copy_without_locks(&dir, &copy);
            let lane =
                repo.repository.sink().list_all(&Prefix::new("x-lane").unwrap()).await.unwrap();
            for meta in lane {
                let pack = std::fs::read(dir.join(meta.key.as_str())).unwrap();
                let name = hex::encode(Sha256::digest(&pack));
                std::fs::create_dir_all(copy.join("data").join(&name[..2])).unwrap();
                std::fs::write(copy.join("data").join(&name[..2]).join(&name), pack).unwrap();
            }
            let restic = Restic::new(version, &copy, repo.passphrase.reveal());
            let repair = if version == "restic-0.14" {
                &["rebuild-index"][..]
            } else {
                &["repair", "index"][..]
            };
            restic.run(repair).succeeded();
            let mut log = BTreeMap::new();
            for header in logged.view().await.slices().filter(|header| header.to > header.from) {
                // One blob holds all bytes of a small slice: its name is their hash.
                let blob = restic.run(&["cat", "blob", &header.sha256]).succeeded();
                log.insert(header.from, blob.stdout);
            }
            let log: Vec<u8> = log.into_values().flatten().collect();
            assert!(log == logged.source.bytes_up_to(50), "{version}: the log differs");
        }
    }

    /// Thirty days at ten seconds a slice, a base every week, a roll-up every hour, a prune every
    /// day.
    #[tokio::test(start_paused = true)]
    async fn a_month_of_capture_stays_small() {
        let hours: u64 = if long() { 30 * 24 } else { 30 };
        let place = tempfile::tempdir().unwrap();
        // Hundreds of thousands of objects.
        let repo = Repo::init(Arc::new(LocalSink::without_fsync(place.path()).unwrap())).await;
        let clock = clock();
        let logged = Logged::new(&repo.repository, clock.clone());
        let slice_every = if long() { 10 } else { 60 };
        for hour in 0..hours {
            if hour % (7 * 24) == 0 {
                logged.back_up().await;
            }
            hour_of_slices(&logged, &clock, slice_every).await;
            logged
                .roll_up_with(&RollUpOptions { grace: Duration::ZERO, ..RollUpOptions::default() })
                .await;
            if hour % 24 == 23 {
                let options = PruneOptions { grace: Duration::ZERO, ..PruneOptions::default() };
                for _ in 0..2 {
                    prune(&repo.repository, &options, &logged.cx).await.unwrap();
                }
            }
        }
        logged.assert_all_there().await;
        let begun = std::time::Instant::now();
        logged.plan(&Target::Latest).await.unwrap();
        let planned = begun.elapsed();
        let count = |prefix: &'static str| {
            let sink = Arc::clone(repo.repository.sink());
            async move { sink.list_all(&Prefix::new(prefix).unwrap()).await.unwrap().len() as u64 }
        };
        let (snapshots, indexes, packs) =
            (count("snapshots").await, count("index").await, count("data").await);
        println!(
            "{hours} h: {snapshots} snapshots, {indexes} index objects, {packs} packs, planned in \
             {planned:?}"
        );
        let bases = hours.div_ceil(7 * 24);
        assert_eq!(snapshots, 2 * bases);
        assert!(indexes <= 24 + 2 * 24 + hours / 24, "{indexes} index objects");
        assert!(packs <= 4 * 24 + 3 * hours / 24, "{packs} packs");
        assert!(planned < Duration::from_secs(5), "planning took {planned:?}");
        Restic::new("restic-new", place.path(), repo.passphrase.reveal()).check();
    }

    async fn hour_of_slices(logged: &Logged, clock: &FakeClock, every: u64) {
        let capturing =
            logged.begin(CaptureOptions { lease_period: Duration::from_secs(7200), ..fast() });
        tokio::time::sleep(Duration::from_millis(500)).await;
        for number in 0..3600 / every {
            clock.advance(SignedDuration::from_secs(i64::try_from(every).unwrap()));
            logged.source.push(clock.now(), noise(number, 300));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let end = logged.source.end();
        while logged.source.acknowledged().as_ref() != Some(&end) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        capturing.stop().await.unwrap();
    }
}

fn copy_without_locks(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_file() {
            std::fs::copy(path, target).unwrap();
        } else if entry.file_name() == "locks" {
            std::fs::create_dir_all(target).unwrap();
        } else {
            copy_without_locks(&path, &target);
        }
    }
}
