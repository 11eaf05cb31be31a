//! Two writers in one repository while one of them is killed again and again.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::support::cli::Cli;
use crate::support::noise::{noise, rng, text};
use crate::support::restic::text as path_text;
use crate::support::tree::write;

/// What changes between two runs.
fn change(top: &Path, round: u64) {
    write(top.join(format!("noise/{}", round % 5)), noise(round, 3_000_000));
    write(top.join(format!("text/{round}")), text(round, 100_000));
}

fn arguments<'a>(top: &'a Path, job: &'a str) -> [&'a str; 5] {
    ["run", "--source", path_text(top), "--job", job]
}

/// Runs, and is killed at a random moment of the time a run is thought to take; had it ended
/// before, that is how long it took.
fn kill_at_random(cli: &Cli, arguments: &[&str], whole: Duration, seed: u64) -> Option<Duration> {
    let started = Instant::now();
    let mut child =
        cli.command(&[], arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let moment = whole.mul_f64(rng(seed).random_range(0.1..1.1));
    while started.elapsed() < moment {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "nobody killed it: {status}");
            return Some(started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap().success().then(|| started.elapsed())
}

/// Backs up without end until `stop`; returns how many runs there were, all with success.
fn work(cli: &Cli, top: &Path, stop: &AtomicBool) -> usize {
    let mut runs = 0;
    while !stop.load(Ordering::SeqCst) {
        change(top, 1000 + runs as u64);
        cli.run(&arguments(top, "steady")).succeeded();
        runs += 1;
    }
    runs
}

mod needs_weed {
    mod needs_restic {
        use super::super::*;
        use crate::support::compare::assert_same;
        use crate::support::long::long;
        use crate::support::repo::{Repo, restored};
        use crate::support::restic::RESTICS;
        use crate::support::servers::weed::SeaweedFs;
        use crate::support::store::{BUCKET, Store, restic};

        const PASSWORD: &str = "password";

        #[tokio::test(flavor = "multi_thread")]
        async fn heavy_one_is_killed_again_and_again() {
            let weed = SeaweedFs::start();
            weed.s3.create_bucket(BUCKET, false);
            let store = Store::s3(&weed.s3, "shared");
            let (killed_source, steady_source) =
                (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (killed, steady) = (store.cli(PASSWORD), store.cli(PASSWORD));
            killed.run(&["init"]).succeeded();
            change(killed_source.path(), 0);
            let often = arguments(killed_source.path(), "killed");
            let started = Instant::now();
            killed.run(&often).succeeded();
            // Two at a time take twice as long.
            let mut whole = started.elapsed() * 2;

            let (stop, kills) = (AtomicBool::new(false), if long() { 50 } else { 10 });
            let (before_end, runs) = std::thread::scope(|scope| {
                let steady = scope.spawn(|| work(&steady, steady_source.path(), &stop));
                let mut before_end = 0_u64;
                for seed in 1..=kills {
                    change(killed_source.path(), seed);
                    match kill_at_random(&killed, &often, whole, seed) {
                        Some(took) => whole = took,
                        None => before_end += 1,
                    }
                }
                stop.store(true, Ordering::SeqCst);
                (before_end, steady.join().unwrap())
            });
            assert!(
                before_end * 3 >= kills && runs > 1,
                "{before_end} kills of {kills} hit, {runs} runs beside them"
            );

            killed.check();
            for version in RESTICS {
                restic(version, &weed.s3, "shared", PASSWORD).check();
            }
            killed.run(&often).succeeded();
            let repo = Repo::open(store.sink().await, PASSWORD).await.unwrap();
            let snapshots = repo.snapshots().await;
            for info in &snapshots {
                assert!(
                    repo.verify(info.id).await.problems.is_empty(),
                    "every snapshot that is listed is whole"
                );
            }
            let of = |top: &Path| {
                snapshots
                    .iter()
                    .filter(|info| info.snapshot.paths == [path_text(top)])
                    .collect::<Vec<_>>()
            };
            assert_eq!(of(steady_source.path()).len(), runs, "every run that succeeded is listed");
            for top in [killed_source.path(), steady_source.path()] {
                let target = tempfile::tempdir().unwrap();
                repo.restore(of(top).last().unwrap().id, target.path()).await;
                assert_same(top, &restored(target.path(), top));
            }
        }
    }
}
