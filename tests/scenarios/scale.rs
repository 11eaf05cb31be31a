//! A repository of 2 million blobs and 50 000 snapshots (with `BACKUP_TEST_LONG=1`; otherwise of a
//! twentieth) is listed, checked, and its prune planned in bounded memory. What is measured runs in
//! a process of its own, which has not built anything.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backup_core::check::ReadData;
use backup_core::context::Context;
use backup_core::maintenance::{PruneOptions, prune};

use crate::support::long::long;
use crate::support::process::run;
use crate::support::repo::{Repo, local};
use crate::support::vast::Vast;

const MB: u64 = 1_000_000;
const UNNEEDED_PACKS: u64 = 3;
/// Tells the process that measures where the repository is, and its pass phrase.
const DIR: &str = "BACKUP_TEST_VAST_DIR";
const PASSPHRASE: &str = "BACKUP_TEST_VAST_PASSPHRASE";

fn size() -> (u64, u64) {
    if long() { (2_000_000, 50_000) } else { (100_000, 2_500) }
}

/// Anonymous memory of this process, bytes.
fn anonymous() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux has it");
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// Processor time of this process so far.
fn processor() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

/// Does something, prints what it took, and fails if it took too much memory at any moment.
#[expect(clippy::print_stdout, reason = "the figures are what this test is for")]
async fn measured<T>(what: &str, limit: u64, work: impl Future<Output = T>) -> T {
    let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&peak));
    let watching = std::thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            seen.fetch_max(anonymous(), Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let (began, before) = (Instant::now(), processor());
    let result = work.await;
    let (wall, cpu) = (began.elapsed(), processor() - before);
    stop.store(true, Ordering::SeqCst);
    watching.join().unwrap();
    let peak = peak.load(Ordering::SeqCst);
    println!(
        "{what}: {} of {} MB RssAnon, {cpu:.1?} processor time, {wall:.1?}",
        peak / MB,
        limit / MB
    );
    assert!(
        peak <= limit,
        "{what}: {} MB of anonymous memory, allowed are {} MB",
        peak / MB,
        limit / MB
    );
    result
}

async fn measure(dir: &Path) {
    let (blobs, snapshots) = size();
    let cx = Context::silent();
    let password = std::env::var(PASSPHRASE).unwrap();
    let cache = dir.join("cache");
    let repo = measured("open and list", 100 * MB, async {
        let repo = Repo::open(local(&dir.join("repository")), &password).await.unwrap();
        assert_eq!(repo.snapshots().await.len() as u64, snapshots);
        repo
    })
    .await;
    let repository = repo.repository.with_cache(&cache);
    let indexed = measured("index, read for the first time", 300 * MB, repository.load_index(&cx))
        .await
        .unwrap();
    assert!(indexed.index().len() as u64 >= blobs, "{} blobs", indexed.index().len());
    drop(indexed);
    let repo = Repo { repository, ..repo };
    let options = PruneOptions { dry_run: true, ..PruneOptions::default() };
    let report =
        measured("prune plan", 300 * MB, Box::pin(prune(&repo.repository, &options, &cx))).await;
    let report = report.unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!((report.snapshots, report.marked_packs), (snapshots, UNNEEDED_PACKS), "{report:?}");
    let report = measured("structure check", 300 * MB, repo.check(ReadData::None)).await.unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_two_million_blobs_and_fifty_thousand_snapshots() {
    if let Some(dir) = std::env::var_os(DIR) {
        return Box::pin(measure(Path::new(&dir))).await;
    }
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("repository");
    let repo = Repo::in_dir(&dir).await;
    let (blobs, snapshots) = size();
    Vast::within(&dir, &repo.passphrase).fill(blobs, snapshots, UNNEEDED_PACKS);
    let name = "scenarios::scale::heavy_two_million_blobs_and_fifty_thousand_snapshots";
    let mut again = Command::new(std::env::current_exe().unwrap());
    again
        .args(["--exact", name, "--nocapture"])
        .env(DIR, room.path())
        .env(PASSPHRASE, repo.passphrase.reveal());
    let outcome = run(&mut again);
    print!("{}", outcome.text());
    let outcome = outcome.succeeded();
    assert!(outcome.text().contains("structure check: "), "nothing was measured: {outcome}");
}
