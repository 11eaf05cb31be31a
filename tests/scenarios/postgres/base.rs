//! Backups of data directories, and servers that start on what is restored.

use backup_core::repository::SnapshotReader;
use backup_core::source::{EntryPath, RestoreRequest, Source as _};
use backup_core::testing::MemorySink;
use backup_sources::postgres::PostgresOptions;
use std::sync::Arc;

use super::{back_up, digest, options, restored, room, say, source, source_with, talking};
use crate::support::postgres::{Postgres, Version, hand_over};
use crate::support::repo::Repo;

/// Tables of several kinds, another database, and a tablespace if there is a directory for it.
pub(super) async fn fill(server: &Postgres, tablespace: Option<&std::path::Path>) {
    server.run("CREATE DATABASE shop").await;
    if let Some(dir) = tablespace {
        server.run(&format!("CREATE TABLESPACE far LOCATION '{}'", dir.display())).await;
    }
    let client = server.client_of("shop").await;
    let far = if tablespace.is_some() { "TABLESPACE far" } else { "" };
    let sql = format!(
        "CREATE SCHEMA \"Odd name\";
         CREATE TABLE \"Odd name\".\"T 1\" (id int PRIMARY KEY, v numeric, b bytea, at timestamptz DEFAULT now());
         INSERT INTO \"Odd name\".\"T 1\" SELECT n, n / 7.0, decode(md5(n::text), 'hex') FROM generate_series(1, 20000) n;
         CREATE TABLE large (id bigint PRIMARY KEY, t text) {far};
         INSERT INTO large SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 10000) n;
         CREATE TABLE parts (id int, k text) PARTITION BY HASH (id);
         CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO parts SELECT n, 'k' FROM generate_series(1, 1000) n;
         CREATE UNLOGGED TABLE fleeting (id int); INSERT INTO fleeting VALUES (1);
         CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM large;"
    );
    client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
}

pub(super) async fn last_snapshot(repo: &Repo) -> SnapshotReader {
    let snapshots = repo.snapshots().await;
    repo.reader(snapshots.last().unwrap().id).await
}

pub(super) async fn a_server_starts_on_what_is_restored(version: Version) {
    let (far, target) = (room(), room());
    let server = Postgres::start(version).await;
    fill(&server, Some(far.path())).await;
    let origin = source(&server).await;
    let probe = origin.probe(&talking()).await.unwrap();
    assert!(probe.problems.is_empty() && probe.estimated_bytes > Some(1 << 20), "{probe:?}");
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let report = back_up(&repo, &origin).await;
    assert_eq!(report.warnings, 0);
    // The copy of the backup is gone from the server, and so is its slot.
    assert_eq!(server.value("SELECT count(*)::text FROM pg_replication_slots").await, "0");
    let expected = digest(&origin).await;
    assert!(
        expected.objects.len() >= 5 && expected.objects["shop.Odd name.T 1"].count == 20_000,
        "{expected:?}"
    );
    drop(server);
    let snapshot = last_snapshot(&repo).await;
    let data = target.path().join("data");
    let report = restored(&snapshot, &origin, &data, RestoreRequest::default()).await;
    say(&format!("{report:?}"));
    assert!(report.verified_bytes > 10 << 20 && report.warnings == 0);
    let copy = Postgres::recovered(version, &data, &[]).await;
    let found = digest(&source(&copy).await).await;
    assert_eq!(expected, found);
    let place = copy
        .value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'far'")
        .await;
    assert!(place.starts_with(&format!("{}.tablespaces/", data.display())), "{place}");
    copy.run("CREATE TABLE written (id int)").await;
    // Another cluster under the same name is refused.
    let wanted = Some(origin.system_id() + 1);
    let mut options = options(&copy);
    options.system_id = wanted;
    let error = backup_sources::postgres::PostgresSource::connect(options).await.unwrap_err();
    assert!(error.chain().contains("another cluster"), "{}", error.chain());
}

/// Whatever the columns are called: one of the name `t` is not the row.
pub(super) async fn rows_that_differ_have_other_digests(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE TABLE one (id int, t text); INSERT INTO one VALUES (1, 'same')").await;
    server.run("CREATE TABLE other (id int, t text); INSERT INTO other VALUES (2, 'same')").await;
    server.run("CREATE TABLE again (id int, t text); INSERT INTO again VALUES (1, 'same')").await;
    let found = digest(&source(&server).await).await;
    let of = |table: &str| &found.objects[&format!("postgres.public.{table}")];
    assert_ne!(of("one").digest, of("other").digest);
    assert_eq!(of("one"), of("again"));
}

/// Configuration outside of the data directory comes along, and tablespaces go where they are told
/// to.
pub(super) async fn what_lies_elsewhere_comes_along(version: Version) {
    let room = room();
    let hba = room.path().join("pg_hba.conf");
    std::fs::write(&hba, "# ours\nhost all,replication all 127.0.0.1/32 trust\n").unwrap();
    let far = room.path().join("far");
    std::fs::create_dir(&far).unwrap();
    hand_over(&far);
    let server = Postgres::with(version, &[], &[&format!("hba_file={}", hba.display())]).await;
    fill(&server, Some(&far)).await;
    server.run("CREATE ROLE backup LOGIN REPLICATION").await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    // A user who may not read it gets a note, and no warning.
    let few = source_with(PostgresOptions::parse(&server.uri_of("backup")).unwrap()).await;
    assert_eq!(back_up(&repo, &few).await.warnings, 0);
    let config = EntryPath::new(format!("/postgres/{}/config", few.system_id())).unwrap();
    assert!(last_snapshot(&repo).await.find(&config).await.unwrap().is_none());
    server
        .run(
            "GRANT pg_monitor, pg_read_server_files TO backup; GRANT EXECUTE ON FUNCTION \
             pg_read_file(text) TO backup",
        )
        .await;
    back_up(&repo, &few).await;
    let near = room.path().join("near");
    let oid = server.value("SELECT oid::text FROM pg_tablespace WHERE spcname = 'far'").await;
    let mut mapped = options(&server);
    mapped.tablespaces = vec![(far.to_str().unwrap().to_owned(), near.clone())];
    let data = room.path().join("data");
    restored(
        &last_snapshot(&repo).await,
        &source_with(mapped).await,
        &data,
        RestoreRequest::default(),
    )
    .await;
    // That of the data directory was not in force.
    assert_eq!(std::fs::read(data.join("pg_hba.conf")).unwrap(), std::fs::read(&hba).unwrap());
    assert!(data.join("pg_hba.conf.unused").exists());
    assert_eq!(
        std::fs::read_to_string(data.join("tablespace_map")).unwrap(),
        format!("{oid} {}\n", near.display())
    );
    assert!(
        !data.join("tablespace_map.restoring").exists()
            && !data.join("global/pg_control.restoring").exists()
    );
    let copy = Postgres::recovered(version, &data, &[]).await;
    let place = copy
        .value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'far'")
        .await;
    assert_eq!(place, near.display().to_string());
    assert_eq!(digest(&source(&server).await).await, digest(&source(&copy).await).await);
}
