//! How far behind a capture is, and how much memory it takes, by the clock on the wall.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::log::{Acknowledge, CaptureOptions, SpoolOptions};
use backup_core::repository::Repository;
use backup_core::sink::SinkErrorKind;
use backup_core::testing::{Fault, FaultRule, FaultySink};
use bytes::Bytes;

use crate::support::logs::{Logged, worst_lag};
use crate::support::long::long;
use crate::support::noise::noise;
use crate::support::repo::{Repo, local};

const MB: u64 = 1 << 20;

fn rss_anon() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Two thousand events a second with default settings; then the source is gone. What is lost is
/// what happened last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_a_source_that_dies_loses_at_most_three_seconds() {
    let place = tempfile::tempdir().unwrap();
    let repo = Repo::in_dir(place.path()).await;
    let logged = Logged::new(&repo.repository, Arc::new(SystemClock));
    logged.back_up().await;
    let capturing = logged.begin(CaptureOptions::default());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let worst = worst_lag(&logged, Duration::from_secs(if long() { 60 } else { 6 })).await;
    capturing.kill().await;
    println!("{} events, at worst {worst:.1?} behind", logged.source.end().offset);
    assert!(worst < Duration::from_secs(3), "{worst:?} would be lost");
    logged.assert_all_there().await;
}

/// The store is out of reach while the source goes on; then everything is stored, and memory was
/// bounded all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_ten_minutes_takes_little_memory() {
    let place = tempfile::tempdir().unwrap();
    let (repository, spool) = (place.path().join("repository"), place.path().join("spool"));
    std::fs::create_dir_all(&repository).unwrap();
    let repo = Repo::in_dir(&repository).await;
    let faulty = FaultySink::new(local(&repository));
    let failing = Repository::open(Arc::new(faulty.clone()), &repo.passphrase).await.unwrap();
    let logged = Logged::new(&failing, Arc::new(SystemClock));
    logged.through(&repo.repository).back_up().await;
    let spool = SpoolOptions { dir: spool, max_bytes: 8 << 30 };
    let capture = CaptureOptions {
        acknowledge: Acknowledge::Spooled,
        spool: Some(spool.clone()),
        ..CaptureOptions::default()
    };
    let capturing = logged.begin(capture);
    tokio::time::sleep(Duration::from_millis(500)).await;
    faulty.add(FaultRule::new(Fault::Before(SinkErrorKind::Unavailable)).under("x-lane").forever());
    // Ten minutes at 5 MB/s: as fast as they can be taken.
    let total = if long() { 3000 * MB } else { 200 * MB };
    // So many that none can be compressed away.
    let data: Vec<Bytes> = (0..64).map(|seed| Bytes::from(noise(seed, 100_000))).collect();
    let before = rss_anon();
    let mut peak = before;
    for number in 0..total / 100_000 {
        logged.source.push(SystemClock.now(), data[usize::try_from(number % 64).unwrap()].clone());
        while logged.source.acknowledged().map_or(0, |at| at.offset) + 100 < number {
            tokio::time::sleep(Duration::from_millis(2)).await;
            peak = peak.max(rss_anon());
        }
    }
    let end = logged.source.end();
    wait("the spool to take everything", || logged.source.acknowledged().as_ref() == Some(&end))
        .await;
    let spooled = bytes_in(&spool.dir);
    assert!(spooled > total * 9 / 10, "only {} MB are in the spool", spooled / MB);
    faulty.heal();
    wait("the spool to be emptied", || {
        peak = peak.max(rss_anon());
        bytes_in(&spool.dir) == 0
    })
    .await;
    capturing.stop().await.unwrap();
    println!("{} MB bridged with {} MB of memory", total / MB, (peak - before) / MB);
    assert!(peak - before < 64 * MB, "{} MB of memory", (peak - before) / MB);
    assert!(logged.view().await.timeline().gaps().is_empty());
}

async fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(300), "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |path: std::path::PathBuf| {
        if path.is_dir() { bytes_in(&path) } else { path.metadata().map_or(0, |meta| meta.len()) }
    };
    entries.map(|entry| size(entry.unwrap().path())).sum()
}
