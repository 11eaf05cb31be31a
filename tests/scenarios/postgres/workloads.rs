//! Workloads made by dice: whatever they do to files of relations, what is put together of a chain
//! of backups is what a full backup has, page by page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::repository::SnapshotReader;
use backup_core::source::{BackupKind, RestoreRequest};
use backup_core::testing::MemorySink;
use backup_sources::postgres::PostgresOptions;
use futures::StreamExt as _;

use super::base::fill;
use super::dice::Workload;
use super::increments::{comes_back, made};
use super::logs::Logged;
use super::{digest, options, restored, room, say, source, source_with, vast};
use crate::support::long::long;
use crate::support::postgres::{Postgres, Version};
use crate::support::repo::Repo;

/// Seeds of a version in a long run: together some fifty.
const LONG: u64 = 8;

/// The seeds that a run takes: each version has others.
fn seeds(version: Version) -> std::ops::Range<u64> {
    let of_environment = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let first = of_environment("BACKUP_TEST_SEED").unwrap_or((LONG + 1) * version as u64);
    let count = of_environment("BACKUP_TEST_SEEDS").unwrap_or(if long() { LONG } else { 1 });
    first..first + count
}

/// A server that does nothing by itself, and what the workload begins with.
async fn begun(version: Version, far: &Path, seed: u64, settings: &[&str]) -> Postgres {
    // Records that go on in the next segment; images that are compressed; more in each record.
    let initdb: &[&str] = if seed % 2 == 1 { &["--wal-segsize", "1"] } else { &[] };
    let compressed = if seed % 3 == 1 { "wal_compression=on" } else { "wal_compression=off" };
    let level = if seed % 4 == 3 { "wal_level=logical" } else { "wal_level=replica" };
    let always = ["autovacuum=off", "max_wal_size=1GB", "wal_keep_size=1GB", compressed, level];
    let server = Postgres::with(version, initdb, &[&always, settings].concat()).await;
    fill(&server, Some(far)).await;
    let shop = server.client_of("shop").await;
    shop.batch_execute("CREATE TABLE prepared (id int, t text); CREATE SEQUENCE numbers")
        .await
        .unwrap();
    server
}

/// Whether a table over 1 GiB is among what a seed stands for: that takes its time.
fn is_vast(seed: u64) -> bool {
    long() && seed % 7 == 1
}

/// Files of relations by their path, and what is in them.
fn relations(data: &Path, with_maps: bool) -> BTreeMap<PathBuf, Vec<u8>> {
    paths(data, with_maps)
        .into_iter()
        .map(|(short, path)| (short, fs::read(path).unwrap()))
        .collect()
}

/// Files of relations, with those of tablespaces, and where they are; maps of free space and
/// visibility if they are wanted.
fn paths(data: &Path, with_maps: bool) -> BTreeMap<PathBuf, PathBuf> {
    let far = data.with_extension("tablespaces");
    let mut found = BTreeMap::new();
    let mut waiting = vec![data.join("base"), data.join("global"), far.clone()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_map = name.ends_with("_fsm") || name.ends_with("_vm");
            if path.is_dir() {
                waiting.push(path);
            } else if name.as_bytes()[0].is_ascii_digit() && (with_maps || !is_map) {
                let short = path.strip_prefix(data).or(path.strip_prefix(&far)).unwrap().to_owned();
                found.insert(short, path);
            }
        }
    }
    found
}

/// What SP-GiST indexes note on their first page, where they found room last, is in no log of any
/// version: it is a hint, and looked at again before it is used.
fn is_hint(number: usize, page: &[u8], other: &[u8]) -> bool {
    const MAGIC: [u8; 4] = 0xba0b_abee_u32.to_le_bytes();
    number == 0 && [page, other].iter().all(|page| page.get(24..28) == Some(&MAGIC))
}

/// All files and directories, but for the log and what a restore writes.
fn names(data: &Path) -> BTreeSet<PathBuf> {
    const OF_RESTORE: [&str; 3] = ["backup_manifest", "recovery.signal", "postgresql.auto.conf"];
    let far = data.with_extension("tablespaces");
    let (mut found, mut waiting) = (BTreeSet::new(), vec![data.to_owned(), far.clone()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let short = path.strip_prefix(data).or(path.strip_prefix(&far)).unwrap().to_owned();
            let is_own = !short.starts_with("pg_wal/")
                && !OF_RESTORE.iter().any(|name| short == Path::new(name));
            if path.is_dir() && !path.is_symlink() && !path.ends_with("pg_wal") {
                waiting.push(path);
            }
            found.extend(is_own.then_some(short));
        }
    }
    found
}

fn assert_same_pages(mine: &Path, whole: &Path, with_maps: bool, seed: u64) {
    let (mine, whole) = (paths(mine, with_maps), paths(whole, with_maps));
    assert_eq!(mine.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>(), "seed {seed}");
    for (path, place) in &mine {
        let (pages, others) = (fs::read(place).unwrap(), fs::read(&whole[path]).unwrap());
        let two = pages.chunks(8192).zip(others.chunks(8192));
        let differing: Vec<usize> = two
            .enumerate()
            .filter(|(at, (one, other))| one != other && !is_hint(*at, one, other))
            .map(|(at, _)| at)
            .collect();
        let lengths = (pages.len() / 8192, others.len() / 8192);
        assert!(
            differing.is_empty() && lengths.0 == lengths.1,
            "seed {seed}, {path:?}: {differing:?} of {lengths:?}"
        );
    }
}

/// A full backup, three of what changed, and what they make together.
pub(super) async fn what_dice_do_comes_back(version: Version) {
    for seed in seeds(version) {
        Box::pin(chain(version, seed)).await;
    }
}

async fn chain(version: Version, seed: u64) {
    // Of every second one the log is captured; servers that keep summaries are asked for those of
    // the others.
    let is_captured = seed % 2 == 1;
    let keeps_summaries = version >= Version::V17 && !is_captured;
    let far = room();
    let settings: &[&str] = if keeps_summaries { &["summarize_wal=on"] } else { &[] };
    let server = begun(version, far.path(), seed, settings).await;
    // Servers keep to a limit, and so send everything: it is we who leave out the rest.
    let max_bytes_per_second = (seed / 2 % 2 == 1).then_some(1 << 30);
    let origin = source_with(PostgresOptions { max_bytes_per_second, ..options(&server) }).await;
    let logged = Logged::new(origin.clone()).await;
    let capturing = is_captured.then(|| logged.begin());
    let repo = &logged.repo;
    let mut workload = Workload::new(seed, version);
    let shop = server.client_of("shop").await;
    workload.go_on(&shop, 10).await;
    if is_vast(seed) {
        vast::make(&shop).await;
    }
    made(repo, &origin, BackupKind::Full).await;
    let mut last = None;
    for round in 0..3 {
        workload.go_on(&shop, 15).await;
        if is_vast(seed) {
            vast::go_on(&shop, round).await;
        }
        let report = made(repo, &origin, BackupKind::Incremental).await;
        assert_eq!((report.kind, report.warnings), (BackupKind::Incremental, 0), "seed {seed}");
        last = Some(report);
    }
    let (last, full) = (last.unwrap(), made(repo, &origin, BackupKind::Full).await);
    if let Some(capturing) = capturing {
        capturing.stop().await;
    }
    let expected = digest(&origin).await;
    let room = room();
    let (mine, whole) = (room.path().join("mine"), room.path().join("whole"));
    for (report, data) in [(&last, &mine), (&full, &whole)] {
        restored(
            &repo.reader(report.snapshot.unwrap()).await,
            &origin,
            data,
            RestoreRequest::default(),
        )
        .await;
    }
    assert_eq!(names(&mine), names(&whole), "seed {seed}");
    // Maps of visibility that come from servers are not believed.
    assert_same_pages(&mine, &whole, !keeps_summaries, seed);
    if is_vast(seed) {
        let lengths: Vec<u64> =
            paths(&mine, false).values().map(|path| fs::metadata(path).unwrap().len()).collect();
        assert!(lengths.contains(&(1 << 30)), "seed {seed}: no table has two files");
    }
    comes_back((repo, version, &origin), &last, &expected, &[]).await;
}

/// Of each file of a relation in the newest layer of a snapshot: whether it is there in full, else
/// which blocks, and up to where blocks that are not there may be older ones.
async fn layer(snapshot: &SnapshotReader) -> BTreeMap<String, Option<(Vec<u32>, u32)>> {
    let mut found = BTreeMap::new();
    let mut walk = snapshot.walk();
    while let Some((path, node)) = walk.next().await.unwrap() {
        let path = path.display().into_owned();
        let name = path.rsplit('/').next().unwrap();
        let whole = name.strip_prefix("INCREMENTAL.").unwrap_or(name);
        let is_main = whole.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !path.contains("/incremental/0001/")
            || path.contains("/pg_wal/")
            || !is_main
            || !node.is_file()
        {
            continue;
        }
        let mut bytes = Vec::new();
        let mut content = snapshot.content(&node);
        while let Some(piece) = content.next().await.transpose().unwrap() {
            bytes.extend_from_slice(&piece);
        }
        let words: Vec<u32> =
            bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let part = (whole != name).then(|| {
            let mut numbers = words[3..3 + words[1] as usize].to_vec();
            numbers.sort_unstable();
            (numbers, words[2])
        });
        found.insert(path.replace("INCREMENTAL.", ""), part);
    }
    found
}

/// What the log tells is what the server's own summaries do.
pub(super) async fn the_log_tells_what_summaries_tell(version: Version) {
    for seed in seeds(version) {
        let far = room();
        let server = begun(version, far.path(), seed, &[]).await;
        server.run("ALTER SYSTEM SET summarize_wal = on").await;
        server.run("SELECT pg_reload_conf()").await;
        let origin = source(&server).await;
        let repo = Repo::init(Arc::new(MemorySink::new())).await;
        let mut workload = Workload::new(seed, version);
        let shop = server.client_of("shop").await;
        workload.go_on(&shop, 10).await;
        let full = made(&repo, &origin, BackupKind::Full).await;
        workload.go_on(&shop, 30).await;
        let mut layers = Vec::new();
        for _ in 0..2 {
            let report = made(&repo, &origin, BackupKind::Differential).await;
            assert_eq!(
                (report.kind, report.parent),
                (BackupKind::Differential, full.snapshot),
                "seed {seed}"
            );
            layers.push(layer(&repo.reader(report.snapshot.unwrap()).await).await);
            server.run("ALTER SYSTEM SET summarize_wal = off").await;
            server.run("SELECT pg_reload_conf()").await;
        }
        let (theirs, ours) = (&layers[0], &layers[1]);
        assert_eq!(
            theirs.keys().collect::<Vec<_>>(),
            ours.keys().collect::<Vec<_>>(),
            "seed {seed}"
        );
        let parts = theirs.values().flatten().count();
        say(&format!("seed {seed}: {parts} of {} files in part", theirs.len()));
        assert!(parts > 500);
        for (path, theirs) in theirs {
            let Some((theirs, _)) = theirs else {
                // What was dropped and what is nearly all new: they may send more in full, and we
                // never less than they.
                continue;
            };
            let Some((ours, older)) = &ours[path] else { continue };
            // What was cut off and has grown again we send whole.
            let changed: Vec<u32> = ours.iter().copied().filter(|number| number < older).collect();
            let of_theirs: Vec<u32> =
                theirs.iter().copied().filter(|number| number < older).collect();
            assert_eq!(changed, of_theirs, "seed {seed}, {path}");
            assert!(theirs.iter().all(|number| ours.contains(number)), "seed {seed}, {path}");
        }
    }
}

/// Pages that a server adds many at a time, where the table was cut off before: nothing is written
/// to the last of them, and so they are in no summary. All that may be missing are empty pages at
/// the end; by the log none is.
pub(super) async fn pages_that_nobody_wrote_to(version: Version) {
    let (far, room) = (room(), room());
    let summaries: &[&str] = if version >= Version::V17 { &["summarize_wal=on"] } else { &[] };
    let server = begun(version, far.path(), 0, summaries).await;
    let (origin, repo) = (source(&server).await, Repo::init(Arc::new(MemorySink::new())).await);
    let shop = server.client_of("shop").await;
    let rows = far.path().join("rows").display().to_string();
    for sql in [
        "CREATE TABLE grown (id int PRIMARY KEY, t text)",
        "INSERT INTO grown SELECT n, repeat('t', 500) FROM generate_series(1, 20000) n",
        &format!(
            "COPY (SELECT n + 100000, repeat('u', 500) FROM generate_series(1, 9000) n) TO '{rows}'"
        ),
    ] {
        shop.batch_execute(sql).await.unwrap();
    }
    made(&repo, &origin, BackupKind::Full).await;
    for sql in
        ["DELETE FROM grown WHERE id > 1000", "VACUUM grown", &format!("COPY grown FROM '{rows}'")]
    {
        shop.batch_execute(sql).await.unwrap();
    }
    let last = made(&repo, &origin, BackupKind::Incremental).await;
    let full = made(&repo, &origin, BackupKind::Full).await;
    let expected = digest(&origin).await;
    let (mine, whole) = (room.path().join("mine"), room.path().join("whole"));
    for (report, data) in [(&last, &mine), (&full, &whole)] {
        restored(
            &repo.reader(report.snapshot.unwrap()).await,
            &origin,
            data,
            RestoreRequest::default(),
        )
        .await;
    }
    let (mine, whole) = (relations(&mine, false), relations(&whole, false));
    let mut missing = 0;
    for (path, pages) in &whole {
        let (same, rest) = pages.split_at(mine[path].len());
        assert!(same == mine[path] && rest.iter().all(|byte| *byte == 0), "{path:?}");
        missing += rest.len() / 8192;
    }
    say(&format!("{missing} empty pages are missing"));
    assert!(missing == 0 || version >= Version::V17);
    let (copy, _room) = comes_back((&repo, version, &origin), &last, &expected, &[]).await;
    let client = copy.client_of("shop").await;
    client
        .batch_execute("INSERT INTO grown SELECT n, 'v' FROM generate_series(200000, 210000) n")
        .await
        .unwrap();
    let row = client.query_one("SELECT count(*) FROM grown WHERE t <> ''", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 20_001);
}
