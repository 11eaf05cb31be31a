//! Backups of what changed, and what is put together of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backup_core::clock::SharedClock;
use backup_core::context::Context;
use backup_core::event::{Event, Events, Reporter};
use backup_core::id::SnapshotId;
use backup_core::log::Target;
use backup_core::maintenance::{PruneOptions, prune};
use backup_core::pipeline::{BackupOptions, BackupReport};
use backup_core::source::{BackupKind, Digest, RestoreRequest};
use backup_core::testing::{FakeClock, MemorySink};
use backup_sources::postgres::{PostgresOptions, PostgresSource, RecoveryTarget};
use jiff::SignedDuration;

use super::base::fill;
use super::logical::programs;
use super::logs::{Logged, newest, write};
use super::moments::nothing_is_damaged;
use super::{digest, restored, room, say, source, source_with, talking};
use crate::support::postgres::{Postgres, Version};
use crate::support::process::run;
use crate::support::repo::Repo;
use crate::support::restic::Restic;
use tempfile::TempDir;

/// A server that knows what has changed, or has its log at least, and does nothing by itself.
pub(super) async fn attentive(version: Version) -> Postgres {
    let knows = if version >= Version::V17 { "summarize_wal=on" } else { "wal_log_hints=on" };
    Postgres::with(
        version,
        &[],
        &[knows, "wal_keep_size=512MB", "autovacuum=off", "max_wal_size=512MB"],
    )
    .await
}

pub(super) async fn made(repo: &Repo, source: &PostgresSource, kind: BackupKind) -> BackupReport {
    let options = BackupOptions { kind: Some(kind), ..BackupOptions::default() };
    let report =
        backup_core::pipeline::backup(&repo.repository, source, &options, &talking()).await;
    let report =
        report.unwrap_or_else(|error| panic!("backing up: {} ({:?})", error.chain(), error.hint()));
    say(&format!("{report:?}"));
    report
}

/// Everything that files of relations go through, `round` after round.
pub(super) async fn work(server: &Postgres, version: Version, round: u32) {
    let shop = server.client_of("shop").await;
    let sql = format!(
        "UPDATE large SET t = t || 'x{round}' WHERE id % 50 = {round};
         DELETE FROM large WHERE id % 50 = {round} + 10;
         INSERT INTO large SELECT 1000000 * {round} + n, 'more' FROM generate_series(1, 500) n;
         CREATE TABLE made_{round} AS SELECT n, md5(n::text) FROM generate_series(1, 3000) n;
         CREATE INDEX ON made_{round} USING hash (md5);
         CREATE TABLE IF NOT EXISTS cut (id int PRIMARY KEY, t text);
         INSERT INTO cut SELECT 100000 * {round} + n, repeat('y', 200) FROM generate_series(1, 4000) n;
         SELECT lo_from_bytea(0, repeat('large object', 1000)::bytea);"
    );
    shop.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
    let copied = if version >= Version::V15 {
        "CREATE DATABASE again STRATEGY file_copy"
    } else {
        "CREATE DATABASE again"
    };
    let more: &[&str] = match round {
        1 => {
            &["VACUUM large", "DELETE FROM cut WHERE id > 101000", "VACUUM cut", "TRUNCATE parts_0"]
        }
        2 => &[
            "VACUUM FULL large",
            "DROP TABLE made_1",
            "DELETE FROM cut",
            "VACUUM cut",
            "CREATE DATABASE later",
        ],
        _ => &["REINDEX TABLE large", "DROP DATABASE later", copied, "VACUUM"],
    };
    for sql in more {
        shop.batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()));
    }
}

/// Restored, started, and compared.
pub(super) async fn comes_back(
    (repo, version, origin): (&Repo, Version, &PostgresSource),
    report: &BackupReport,
    expected: &Digest,
    settings: &[&str],
) -> (Postgres, TempDir) {
    let snapshot = repo.reader(report.snapshot.unwrap()).await;
    let room = room();
    let data = room.path().join("data");
    let done = restored(&snapshot, origin, &data, RestoreRequest::default()).await;
    assert!(done.verified_bytes > 10 << 20 && done.warnings == 0, "{done:?}");
    let copy = Postgres::recovered(version, &data, settings).await;
    assert_eq!(expected, &digest(&source(&copy).await).await);
    (copy, room)
}

/// Forgets snapshots, and lets time pass until nothing of them is left.
pub(super) async fn forget(repo: &Repo, clock: &Arc<FakeClock>, ids: &[SnapshotId]) {
    let cx = Context { clock: Arc::clone(clock) as SharedClock, ..Context::silent() };
    repo.repository.forget(ids, &cx).await.unwrap();
    for _ in 0..3 {
        clock.advance(SignedDuration::from_hours(30));
        prune(&repo.repository, &PruneOptions::default(), &cx).await.unwrap();
    }
    assert!(repo.snapshots().await.iter().all(|info| !ids.contains(&info.id)));
}

/// A full backup and three of what changed: each comes back, also when others are gone.
pub(super) async fn what_changed_is_enough(version: Version) {
    let far = room();
    let server = attentive(version).await;
    fill(&server, Some(far.path())).await;
    let origin = source(&server).await;
    let clock = Arc::new(FakeClock::at(Context::silent().clock.now()));
    let repo = Repo::init(Arc::new(MemorySink::on_clock(Arc::clone(&clock) as SharedClock))).await;
    let full = made(&repo, &origin, BackupKind::Full).await;
    let mut chain = vec![(full.clone(), digest(&origin).await)];
    for round in 1..=3 {
        work(&server, version, round).await;
        let kind = if round == 3 { BackupKind::Differential } else { BackupKind::Incremental };
        let report = made(&repo, &origin, kind).await;
        let parent = if round == 3 { &full } else { &chain.last().unwrap().0 };
        assert_eq!((report.kind, report.parent, report.warnings), (kind, parent.snapshot, 0));
        chain.push((report, digest(&origin).await));
    }
    // On top of a differential one.
    let last = made(&repo, &origin, BackupKind::Incremental).await;
    assert_eq!((last.kind, last.parent), (BackupKind::Incremental, chain[3].0.snapshot));
    chain.push((last, chain[3].1.clone()));
    let (added, all) = (chain[4].0.stored.added_bytes, full.stored.added_bytes);
    assert!(added < all / 3, "{added} of {all}");
    comes_back((&repo, version, &origin), &chain[2].0, &chain[2].1, &[]).await;
    // Without what they build on.
    let gone: Vec<_> = [0, 1, 3].map(|at: usize| chain[at].0.snapshot.unwrap()).into();
    forget(&repo, &clock, &gone).await;
    for (report, expected) in [&chain[2], &chain[4]] {
        comes_back((&repo, version, &origin), report, expected, &[]).await;
    }
    repo.assert_sound().await;
}

/// Index-only scans believe the visibility map: what servers overlooked in it must not show.
pub(super) async fn visibility_maps_tell_the_truth(version: Version) {
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
    let after = digest(&origin).await;
    // Cut off, and grown again without any page of it all visible.
    shop.batch_execute("DELETE FROM seen WHERE id > 30000").await.unwrap();
    shop.batch_execute("VACUUM seen").await.unwrap();
    shop.batch_execute(
        "INSERT INTO seen SELECT n, repeat('u', 50) FROM generate_series(200000, \
         250000) n; DELETE FROM seen WHERE id % 2 = 0",
    )
    .await
    .unwrap();
    let grown = made(&repo, &origin, BackupKind::Incremental).await;
    let settings = ["autovacuum=off"];
    for (report, expected) in [(&deleted, after), (&grown, digest(&origin).await)] {
        assert_eq!(report.kind, BackupKind::Incremental);
        let (copy, _room) =
            comes_back((&repo, version, &origin), report, &expected, &settings).await;
        let client = copy.client_of("shop").await;
        let count = async |setting: &str| {
            client
                .batch_execute(&format!(
                    "RESET ALL; SET {setting} = off; SET enable_bitmapscan = off"
                ))
                .await
                .unwrap();
            let row =
                client.query_one("SELECT count(*) FROM seen WHERE id > 0", &[]).await.unwrap();
            row.get::<_, i64>(0)
        };
        let (by_index, by_table) =
            (count("enable_seqscan").await, count("enable_indexonlyscan").await);
        assert_eq!(by_index, by_table);
        assert_eq!(by_table, i64::try_from(expected.objects["shop.public.seen"].count).unwrap());
    }
}

/// Where neither summaries nor the log tell what changed, everything is read, and the reason is
/// told. The next time the log does.
pub(super) async fn without_the_log_it_is_a_full_one(version: Version) {
    let settings = ["min_wal_size=2MB", "max_wal_size=4MB", "autovacuum=off"];
    let server = Postgres::with(version, &["--wal-segsize", "1"], &settings).await;
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let mut parent = None;
    for _ in 0..2 {
        let (report, notes) = noted(&repo, &origin).await;
        assert_eq!((report.kind, report.parent), (BackupKind::Full, None));
        assert_eq!(notes.contains("has already been removed"), parent.is_some(), "{notes}");
        parent = Some(report.snapshot);
        for round in 0..3 {
            write(&server, round * 10, round * 10 + 10).await;
            server.run("CHECKPOINT").await;
        }
    }
    noted(&repo, &origin).await;
    server.run("INSERT INTO log VALUES (-1, 'little')").await;
    let (report, notes) = noted(&repo, &origin).await;
    assert_eq!(report.kind, BackupKind::Incremental);
    assert!(notes.contains("according to the WAL"), "{notes}");
    comes_back((&repo, version, &origin), &report, &digest(&origin).await, &[]).await;
}

/// Only what changed is read where that may be; else the server sends everything, and only what
/// changed is stored.
pub(super) async fn rights_decide_what_is_read(version: Version) {
    let server = attentive(version).await;
    fill(&server, None).await;
    server.run("CREATE ROLE backup LOGIN REPLICATION; GRANT pg_monitor TO backup").await;
    let origin = source_with(PostgresOptions::parse(&server.uri_of("backup")).unwrap()).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    noted(&repo, &origin).await;
    let own = match version < Version::V15 {
        true => "pg_start_backup(text, boolean, boolean), pg_stop_backup(boolean, boolean)",
        false => "pg_backup_start(text, boolean), pg_backup_stop(boolean)",
    };
    let grant = format!(
        "GRANT EXECUTE ON FUNCTION {own}, pg_ls_dir(text, boolean, boolean), pg_stat_file(text, \
         boolean), pg_read_binary_file(text, bigint, bigint, boolean) TO backup"
    );
    let mut last = None;
    for (right, remark) in
        [("SELECT 1", "no privilege to execute pg_"), (&*grant, "are read, according to the WAL")]
    {
        server.run(right).await;
        let shop = server.client_of("shop").await;
        shop.batch_execute("UPDATE large SET t = t || 'z' WHERE id % 70 = 3").await.unwrap();
        let (report, notes) = noted(&repo, &origin).await;
        assert_eq!(report.kind, BackupKind::Incremental);
        assert!(notes.contains(remark), "{notes}");
        last = Some(report);
    }
    // No backup is under way any more, and no slot is left.
    assert_eq!(server.value("SELECT count(*)::text FROM pg_replication_slots").await, "0");
    let expected = digest(&source(&server).await).await;
    comes_back((&repo, version, &origin), &last.unwrap(), &expected, &[]).await;
}

/// A page that is damaged is kept as it is, and told.
pub(super) async fn damage_of_what_changed_is_told(version: Version) {
    let server = attentive(version).await;
    fill(&server, None).await;
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    noted(&repo, &origin).await;
    let shop = server.client_of("shop").await;
    shop.batch_execute("UPDATE large SET t = t || 'z' WHERE id = 3; CHECKPOINT").await.unwrap();
    let row = shop.query_one("SELECT pg_relation_filepath('large')", &[]).await.unwrap();
    let path = server.data().join(row.get::<_, String>(0));
    let mut pages = fs::read(&path).unwrap();
    pages[3000] ^= 1;
    fs::write(&path, pages).unwrap();
    let (report, _) = noted(&repo, &origin).await;
    assert_eq!((report.kind, report.warnings), (BackupKind::Incremental, 1));
    // What was made with warnings is not built on.
    assert_eq!(noted(&repo, &origin).await.0.kind, BackupKind::Full);
}

/// An incremental backup, and what is remarked.
async fn noted(repo: &Repo, source: &PostgresSource) -> (BackupReport, String) {
    struct Heard(Mutex<String>);
    impl Reporter for Heard {
        fn report(&self, event: &Event) {
            if let Event::Note { message } = event {
                self.0.lock().unwrap().push_str(&format!("{message}\n"));
            }
        }
    }
    let heard = Arc::new(Heard(Mutex::default()));
    let cx = Context::new(Events::to(Arc::clone(&heard) as Arc<dyn Reporter>));
    let options = BackupOptions { kind: Some(BackupKind::Incremental), ..BackupOptions::default() };
    let report = backup_core::pipeline::backup(&repo.repository, source, &options, &cx).await;
    let notes = heard.0.lock().unwrap().clone();
    say(&notes);
    (
        report.unwrap_or_else(|error| panic!("backing up: {} ({:?})", error.chain(), error.hint())),
        notes,
    )
}

/// Instead of summaries that the server has thrown away, or not made for a while, the log tells.
pub(super) async fn missing_summaries_cost_nothing(version: Version) {
    let server = attentive(version).await;
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    made(&repo, &origin, BackupKind::Full).await;
    server.run("CREATE TABLE t AS SELECT 1 AS id").await;
    assert_eq!(made(&repo, &origin, BackupKind::Incremental).await.kind, BackupKind::Incremental);
    server.run("CREATE TABLE u AS SELECT 1 AS id").await;
    let written = server.value("SELECT pg_current_wal_lsn()::text").await;
    server.run("CHECKPOINT").await;
    let summarized =
        format!("SELECT (summarized_lsn >= '{written}')::text FROM pg_get_wal_summarizer_state()");
    while server.value(&summarized).await != "true" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for summary in fs::read_dir(server.data().join("pg_wal/summaries")).unwrap() {
        fs::remove_file(summary.unwrap().path()).unwrap();
    }
    let (report, notes) = noted(&repo, &origin).await;
    assert_eq!(report.kind, BackupKind::Incremental);
    assert!(notes.contains("summaries") && notes.contains("according to the WAL"), "{notes}");
    comes_back((&repo, version, &origin), &report, &digest(&origin).await, &[]).await;
}

/// Files of relations by their path, but for maps of free space and visibility.
fn relations(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![data.join("base"), data.join("global")];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_relation = name.as_bytes()[0].is_ascii_digit()
                && !name.ends_with("_fsm")
                && !name.ends_with("_vm");
            if path.is_dir() {
                waiting.push(path);
            } else if is_relation {
                found.insert(path.strip_prefix(data).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What is put together is what a full backup has, page by page; stock `pg_combinebackup` makes the
/// same of it, and `pg_checksums` and `pg_amcheck` find nothing wrong.
pub(super) async fn stock_tools_put_the_same_together(version: Version) {
    let server = attentive(version).await;
    fill(&server, None).await;
    let origin = source(&server).await;
    let room = room();
    let repo = Repo::in_dir(&room.path().join("repository")).await;
    made(&repo, &origin, BackupKind::Full).await;
    let mut last = None;
    for round in 1..=3 {
        work(&server, version, round).await;
        last = Some(made(&repo, &origin, BackupKind::Incremental).await);
    }
    let last = last.unwrap();
    let full = made(&repo, &origin, BackupKind::Full).await;
    let expected = digest(&origin).await;
    let (ours, whole) = (room.path().join("ours"), room.path().join("whole"));
    for (report, data) in [(&last, &ours), (&full, &whole)] {
        restored(
            &repo.reader(report.snapshot.unwrap()).await,
            &origin,
            data,
            RestoreRequest::default(),
        )
        .await;
    }
    let (mine, true_full) = (relations(&ours), relations(&whole));
    assert_eq!(mine.keys().collect::<Vec<_>>(), true_full.keys().collect::<Vec<_>>());
    for (path, pages) in &mine {
        let differing = pages
            .chunks(8192)
            .zip(true_full[path].chunks(8192))
            .filter(|(one, other)| one != other)
            .count();
        assert!(
            differing == 0 && pages.len() == true_full[path].len(),
            "{}: {differing} pages",
            path.display()
        );
    }

    let stock = room.path().join("stock");
    let restic =
        Restic::new("restic-new", &room.path().join("repository"), repo.passphrase.reveal());
    restic.restore(&last.snapshot.unwrap().to_string(), &stock);
    let cluster = stock.join(format!("postgres/{}", origin.system_id()));
    let theirs = room.path().join("theirs");
    let layers =
        ["base", "incremental/0001/base", "incremental/0002/base", "incremental/0003/base"];
    let mut combine = Command::new(programs().join("pg_combinebackup"));
    run(combine.args(layers.map(|layer| cluster.join(layer))).arg("-o").arg(&theirs)).succeeded();
    assert!(relations(&theirs) == mine, "pg_combinebackup");

    let copy = Postgres::recovered(version, &ours, &[]).await;
    assert_eq!(expected, digest(&source(&copy).await).await);
    nothing_is_damaged(version, copy, &ours).await;
}

/// The log goes on behind any of them; a snapshot of the log that builds on one restores by itself.
pub(super) async fn moments_behind_them_come_back(version: Version) {
    let server = attentive(version).await;
    fill(&server, None).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let logged = Logged::new(source(&server).await).await;
    let capturing = logged.begin();
    made(&logged.repo, &logged.source, BackupKind::Full).await;
    write(&server, 0, 10).await;
    let report = made(&logged.repo, &logged.source, BackupKind::Incremental).await;
    assert_eq!(report.kind, BackupKind::Incremental);
    write(&server, 10, 20).await;
    let (expected, at) = (digest(&logged.source).await, newest(&server).await);
    write(&server, 20, 30).await;
    let (last, end) = (digest(&logged.source).await, newest(&server).await);
    logged.reached(&end).await;
    let moments = [(&expected, Target::Position(at)), (&last, Target::Latest)];
    for (state, moment) in &moments {
        assert_eq!(*state, &logged.state_at(version, moment, RecoveryTarget::Planned, &[]).await);
    }
    capturing.stop().await;
    logged.roll_up().await;
    for (state, moment) in &moments {
        assert_eq!(*state, &logged.state_at(version, moment, RecoveryTarget::Planned, &[]).await);
    }
}
