//! Whole databases, from version to version, under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::source::{RestoreRequest, Selection, Source as _};
use backup_sources::postgres::LogicalOptions;

use super::fill::{fill, looks};
use super::{
    Version, backed_up, definitions, digests, logical, repo, restored, run_in, selection, source,
    talking, value_of,
};
use crate::support::postgres::Postgres;

pub(crate) async fn everything_comes_back(version: Version) {
    from_to(version, version).await;
}

pub(crate) async fn everything_gets_to_18(version: Version) {
    from_to(version, Version::V18).await;
}

async fn from_to(from: Version, to: Version) {
    let (server, copy) = (Postgres::start(from).await, Postgres::start(to).await);
    fill(&server, from).await;
    let origin = source(logical(&server)).await;
    let probe = origin.probe(&talking()).await.unwrap();
    assert!(probe.problems.is_empty() && probe.estimated_objects > Some(10), "{probe:?}");
    let repo = repo().await;
    let snapshot = backed_up(&repo, &origin, Selection::all()).await;
    let report = restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    assert!(report.verified_bytes > 100_000 && report.warnings == 0, "{report:?}");
    let (expected, found) = (digests(&server).await, digests(&copy).await);
    assert!(expected.len() > 13 && expected == found, "{expected:?}\n{found:?}");
    let recorded = snapshot.manifest().await.unwrap().unwrap().objects;
    let recorded =
        recorded.into_iter().map(|(name, digest)| (name, format!("{digest:?}"))).collect();
    assert_eq!(expected, recorded);
    for database in ["shop", "Other; one"] {
        // Versions differ in where they repeat the names of tables in views.
        let names = [" measured.", " z_first.", "(z_first.", " s.", "(s."];
        let plain = |text: String| match from == to {
            true => text,
            false => names.iter().fold(text, |text, name| text.replace(name, &name[..1])),
        };
        let (before, after) =
            (plain(definitions(&server, database)), plain(definitions(&copy, database)));
        assert!(before.len() > 400, "{before}");
        assert_eq!(only_in(&before, &after), only_in(&after, &before));
        assert!(from != to || before == after);
    }
    assert_eq!(looks(&server).await, looks(&copy).await);
    assert_eq!(
        value_of(&copy, "Other; one", "SELECT current_setting('server_encoding')").await,
        "LATIN1"
    );
    let left =
        copy.value("SELECT count(*)::text FROM pg_database WHERE datname LIKE '%restoring%'").await;
    assert_eq!(left, "0");
}

/// The lines of one that the other has not.
fn only_in(one: &str, other: &str) -> Vec<String> {
    one.lines()
        .filter(|line| !other.lines().any(|known| known == *line))
        .map(str::to_owned)
        .collect()
}

/// Large tables are read in parts, several at a time, and are the same as others.
pub(crate) async fn large_tables_are_read_in_parts(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    let sql = "CREATE TABLE large (id int PRIMARY KEY, t text); INSERT INTO large SELECT n, \
               repeat(md5(n::text), 20) FROM generate_series(1, 20000) n; DELETE FROM large WHERE \
               id % 1000 = 0 OR id BETWEEN 5000 AND 9000";
    server.run(sql).await;
    let options = LogicalOptions { split_bytes: 1 << 20, jobs: 3, ..logical(&server) };
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(options).await, Selection::all()).await;
    let mut parts = 0;
    let mut walk = snapshot.walk();
    while let Some((path, _)) = walk.next().await.unwrap() {
        parts += usize::from(path.display().contains("/postgres/data/public.large."));
    }
    assert!((12..40).contains(&parts), "{parts}");
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    assert_eq!(digests(&server).await, digests(&copy).await);
}

/// Accounts in two tables: whatever moves between them, together they hold the same, in every
/// snapshot.
pub(crate) async fn money_is_neither_made_nor_lost(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    let sql = "CREATE TABLE a_left (id int PRIMARY KEY, v bigint); CREATE TABLE z_right (id int \
               PRIMARY KEY, v bigint); CREATE TABLE moved (id serial PRIMARY KEY, at timestamptz \
               DEFAULT now()); INSERT INTO a_left SELECT n, 1000 FROM generate_series(1, 5000) n; \
               INSERT INTO z_right SELECT n, 1000 FROM generate_series(1, 5000) n;";
    server.run(sql).await;
    let stop = AtomicBool::new(false);
    let move_money = async |seed: i32| {
        let client = server.client().await;
        let mut moves = 0;
        while !stop.load(Ordering::Relaxed) {
            moves += 1;
            let (from, to) = ((seed + moves * 7) % 5000 + 1, (seed + moves * 13) % 5000 + 1);
            let sql = format!(
                "BEGIN; UPDATE a_left SET v = v - 1 WHERE id = {from}; UPDATE z_right SET v = v + \
                 1 WHERE id = {to}; INSERT INTO moved DEFAULT VALUES; COMMIT"
            );
            client.batch_execute(&sql).await.unwrap();
        }
        moves
    };
    let back_up = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let origin = source(LogicalOptions { split_bytes: 64 << 10, ..logical(&server) }).await;
        let repo = repo().await;
        let snapshot = backed_up(&repo, &origin, Selection::all()).await;
        stop.store(true, Ordering::Relaxed);
        (repo, snapshot)
    };
    let (one, two, (_repo, snapshot)) = tokio::join!(move_money(1), move_money(2000), back_up);
    assert!(one + two > 20, "nobody moved anything");
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    let sums = "SELECT (SELECT sum(v) FROM a_left) || ' ' || (SELECT sum(v) FROM z_right) || ' ' \
                || count(*) FROM moved";
    let found = copy.value(sums).await;
    let numbers: Vec<i64> = found.split(' ').map(|number| number.parse().unwrap()).collect();
    assert!(
        numbers[0] + numbers[1] == 10_000_000
            && numbers[1] - 5_000_000 == numbers[2]
            && numbers[2] > 0,
        "{found}"
    );
    // The sequence is not behind what uses it.
    copy.run("INSERT INTO moved DEFAULT VALUES").await;
}

/// Tables that are rewritten, emptied, made and dropped meanwhile: what is restored was there at
/// one moment.
pub(crate) async fn definitions_may_change_meanwhile(version: Version) {
    let (server, copy) = (Postgres::start(version).await, Postgres::start(version).await);
    let sql = "CREATE TABLE rewritten (id int, v int); INSERT INTO rewritten SELECT n, n FROM \
               generate_series(1, 3000) n; CREATE TABLE exchanged (id int); INSERT INTO exchanged \
               SELECT generate_series(1, 500)";
    server.run(sql).await;
    let stop = AtomicBool::new(false);
    let change = async {
        let client = server.client().await;
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            rounds += 1;
            let kind = if rounds % 2 == 0 { "int" } else { "bigint" };
            let sql = format!(
                "ALTER TABLE rewritten ALTER v TYPE {kind}; BEGIN; TRUNCATE exchanged; INSERT INTO \
                 exchanged SELECT generate_series(1, 500); COMMIT; CREATE TABLE fleeting_{rounds} \
                 (id int); DROP TABLE IF EXISTS fleeting_{}",
                rounds - 1
            );
            client.batch_execute(&sql).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        rounds
    };
    let back_up = async {
        let repo = repo().await;
        let mut snapshots = Vec::new();
        for _ in 0..3 {
            let origin = source(logical(&server)).await;
            snapshots.push(backed_up(&repo, &origin, selection(&[], &["*.fleeting_*"])).await);
        }
        stop.store(true, Ordering::Relaxed);
        (repo, snapshots)
    };
    let (rounds, (_repo, snapshots)) = tokio::join!(change, back_up);
    assert!(rounds > 1, "{rounds}");
    for snapshot in snapshots {
        run_in(&copy, "postgres", "DROP TABLE IF EXISTS rewritten, exchanged").await;
        restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
        let found = copy
            .value("SELECT (SELECT count(*) FROM rewritten) || ' ' || count(*) FROM exchanged")
            .await;
        assert_eq!(found, "3000 500");
    }
}

/// Rows that a user added to the tables of an extension are data, those of the extension are not.
pub(crate) async fn extensions_keep_their_configuration(version: Version) {
    let room = super::super::room();
    let dir = room.path().join("extension");
    std::fs::create_dir(&dir).unwrap();
    let control = "default_version = '1.0'\nrelocatable = false\nschema = public\n";
    std::fs::write(dir.join("ours.control"), control).unwrap();
    let sql = "CREATE TABLE rates (name text PRIMARY KEY, v int, is_ours boolean DEFAULT false); \
               CREATE TABLE inner_state (v int); \
               INSERT INTO rates VALUES ('default', 1, true); INSERT INTO inner_state VALUES (1); \
               SELECT pg_catalog.pg_extension_config_dump('rates', 'WHERE NOT is_ours');";
    std::fs::write(dir.join("ours--1.0.sql"), sql).unwrap();
    super::super::hand_over(&dir);
    let setting = format!("extension_control_path={}:$system", room.path().display());
    let server = Postgres::with(version, &[], &[&setting]).await;
    let copy = Postgres::with(version, &[], &[&setting]).await;
    server.run("CREATE DATABASE shop").await;
    run_in(
        &server,
        "shop",
        "CREATE EXTENSION ours; INSERT INTO rates VALUES ('mine', 7); CREATE EXTENSION hstore",
    )
    .await;
    run_in(&server, "shop", "CREATE TABLE h (v hstore); INSERT INTO h VALUES ('a=>1')").await;
    let repo = repo().await;
    let snapshot = backed_up(&repo, &source(logical(&server)).await, Selection::all()).await;
    restored(&snapshot, logical(&copy), RestoreRequest::default()).await;
    let found =
        value_of(&copy, "shop", "SELECT string_agg(name || v, ' ' ORDER BY name) FROM rates").await;
    assert_eq!(found, "default1 mine7");
    assert_eq!(value_of(&copy, "shop", "SELECT count(*)::text FROM inner_state").await, "1");
    assert_eq!(definitions(&server, "shop"), definitions(&copy, "shop"));
}
