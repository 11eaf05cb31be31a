//! Full snapshots made of chains, without the server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use backup_core::clock::SharedClock;
use backup_core::context::Context;
use backup_core::id::SnapshotId;
use backup_core::pipeline::{BackupOptions, BackupReport};
use backup_core::source::{BackupKind, RestoreRequest};
use backup_core::testing::{FakeClock, MemorySink};
use backup_sources::postgres::synthetic_full;

use super::base::fill;
use super::increments::{attentive, comes_back, forget, made, work};
use super::place::{Place, with_role};
use super::{digest, restored, room, source, talking};
use crate::support::postgres::{Postgres, Version};
use crate::support::process::run;
use crate::support::repo::Repo;
use backup_core::testing::tool;

async fn folded(repo: &Repo, id: SnapshotId) -> BackupReport {
    let snapshot = repo.reader(id).await;
    let report =
        synthetic_full(&repo.repository, &snapshot, &BackupOptions::default(), &talking()).await;
    let report = report
        .unwrap_or_else(|error| panic!("putting together: {} ({:?})", error.chain(), error.hint()));
    assert_eq!((report.kind, report.warnings), (BackupKind::Full, 0));
    report
}

/// Every file of a data directory and its tablespaces but what says how it was restored, and where
/// to.
fn files(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let beside =
        data.with_file_name(format!("{}.tablespaces", data.file_name().unwrap().to_str().unwrap()));
    let (mut found, mut waiting) =
        (BTreeMap::new(), vec![(data.to_owned(), PathBuf::from("data"))]);
    if beside.exists() {
        waiting.push((beside, "tablespaces".into()));
    }
    while let Some((dir, name)) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let (name, kind) = (name.join(entry.file_name()), entry.file_type().unwrap());
            if kind.is_dir() {
                waiting.push((entry.path(), name));
            } else if kind.is_file()
                && name != Path::new("data/backup_manifest")
                && name != Path::new("data/tablespace_map")
            {
                found.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// The same files come of a chain and of the full one that was made of it, which later ones build
/// on, and which needs nothing of it.
pub(super) async fn a_chain_becomes_a_full_one(version: Version) {
    let far = room();
    let server = attentive(version).await;
    fill(&server, Some(far.path())).await;
    let origin = source(&server).await;
    let clock = Arc::new(FakeClock::at(Context::silent().clock.now()));
    let repo = Repo::init(Arc::new(MemorySink::on_clock(Arc::clone(&clock) as SharedClock))).await;
    let full = made(&repo, &origin, BackupKind::Full).await;
    let refused = repo.reader(full.snapshot.unwrap()).await;
    let refused = synthetic_full(&repo.repository, &refused, &BackupOptions::default(), &talking())
        .await
        .unwrap_err();
    assert!(refused.hint().unwrap().contains("full one"), "{}", refused.chain());
    let mut gone = vec![full.snapshot.unwrap()];
    for round in 1..=3 {
        work(&server, version, round).await;
        let report = made(&repo, &origin, BackupKind::Incremental).await;
        assert_eq!(report.kind, BackupKind::Incremental);
        gone.push(report.snapshot.unwrap());
    }
    let expected = digest(&origin).await;
    let synthetic = folded(&repo, gone[3]).await;
    // What did not change is there already.
    let (added, all) = (synthetic.stored.added_bytes, full.stored.added_bytes);
    assert!(added < all, "{added} of {all}");
    let room = room();
    let (one, other) = (room.path().join("one"), room.path().join("other"));
    restored(&repo.reader(gone[3]).await, &origin, &one, RestoreRequest::default()).await;
    restored(
        &repo.reader(synthetic.snapshot.unwrap()).await,
        &origin,
        &other,
        RestoreRequest::default(),
    )
    .await;
    let (of_chain, of_full) = (files(&one), files(&other));
    assert!(of_chain.keys().eq(of_full.keys()) && of_chain.len() > 500, "{} files", of_chain.len());
    assert!(of_chain.keys().any(|name| name.starts_with("tablespaces")), "what lies elsewhere");
    let differ: Vec<_> = of_chain
        .iter()
        .filter(|(name, bytes)| of_full[*name] != **bytes)
        .map(|(name, _)| name)
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
    // Later ones build on it.
    let shop = server.client_of("shop").await;
    shop.batch_execute("UPDATE large SET t = t || 'z' WHERE id % 70 = 3").await.unwrap();
    let later = made(&repo, &origin, BackupKind::Incremental).await;
    assert_eq!((later.kind, later.parent), (BackupKind::Incremental, synthetic.snapshot));
    let at_later = digest(&origin).await;
    forget(&repo, &clock, &gone).await;
    comes_back((&repo, version, &origin), &synthetic, &expected, &[]).await;
    comes_back((&repo, version, &origin), &later, &at_later, &[]).await;
    repo.assert_sound().await;
}

/// What servers overlook in visibility maps is mended when they are put together here, too.
pub(super) async fn maps_tell_the_truth(version: Version) {
    let server = attentive(version).await;
    server.run("CREATE DATABASE shop").await;
    let shop = server.client_of("shop").await;
    let fill = "CREATE TABLE seen (id int PRIMARY KEY, t text); \
                INSERT INTO seen SELECT n, repeat('t', 50) FROM generate_series(1, 100000) n";
    shop.batch_execute(fill).await.unwrap();
    shop.batch_execute("VACUUM FREEZE seen").await.unwrap();
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    made(&repo, &origin, BackupKind::Full).await;
    shop.batch_execute("DELETE FROM seen WHERE id % 10 = 3").await.unwrap();
    let deleted = made(&repo, &origin, BackupKind::Incremental).await;
    let synthetic = folded(&repo, deleted.snapshot.unwrap()).await;
    let settings = ["autovacuum=off"];
    let (copy, _room) =
        comes_back((&repo, version, &origin), &synthetic, &digest(&origin).await, &settings).await;
    let client = copy.client_of("shop").await;
    client.batch_execute("SET enable_seqscan = off; SET enable_bitmapscan = off").await.unwrap();
    let row = client.query_one("SELECT count(*) FROM seen WHERE id > 0", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 90_000);
}

/// Checksums of all pages are right.
pub(super) async fn stock_tools_find_nothing_wrong(version: Version) {
    let server = attentive(version).await;
    fill(&server, None).await;
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    made(&repo, &origin, BackupKind::Full).await;
    for round in 1..=2 {
        work(&server, version, round).await;
        made(&repo, &origin, BackupKind::Incremental).await;
    }
    let newest = repo.snapshots().await.last().unwrap().id;
    let synthetic = folded(&repo, newest).await;
    let (copy, _room) =
        comes_back((&repo, version, &origin), &synthetic, &digest(&origin).await, &[]).await;
    copy.stop();
    let outcome = run(Command::new(tool("pg_checksums")).arg("--check").arg("-D").arg(copy.data()))
        .succeeded();
    assert!(outcome.text().contains("Bad checksums:  0"), "{outcome}");
}

/// `backup logs compact`, as for other databases.
pub(super) async fn the_verb_makes_one(version: Version) {
    let server = with_role(version, &[], &["summarize_wal=on"]).await;
    server
        .run(
            "CREATE TABLE log AS SELECT n AS id, md5(n::text) AS t FROM generate_series(1, \
             20000) n",
        )
        .await;
    let place = Place::new(&server, "");
    place.done(&["run", "crm", "--type", "full"]);
    assert!(place.done(&["logs", "compact", "crm"]).contains("Nothing to apply"));
    server.run("UPDATE log SET t = 'new' WHERE id = 7").await;
    place.done(&["run", "crm", "--type", "incremental"]);
    let said = place.done(&["logs", "compact", "crm"]);
    assert!(said.contains("Created a full snapshot"), "{said}");
    assert!(place.done(&["logs", "compact", "crm"]).contains("Nothing to apply"));
    let listed: serde_json::Value =
        serde_json::from_str(&place.run(&["list", "--json"]).text()).unwrap();
    let kinds: Vec<&str> = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["full", "incremental", "full"]);
    let target = place.path("made");
    place.done(&["restore", "latest", "--target", &target, "--verify"]);
    let copy = Postgres::recovered(version, Path::new(&target), &[]).await;
    assert_eq!(digest(&source(&server).await).await, digest(&source(&copy).await).await);
    place.done(&["check", "--read-data"]);
}
