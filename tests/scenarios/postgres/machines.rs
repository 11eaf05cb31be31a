//! Restores on machines that differ from that of the original.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use backup_core::source::RestoreRequest;
use backup_core::testing::MemorySink;
use backup_sources::postgres::{PostgresOptions, RestoredConfiguration};

use super::base::last_snapshot;
use super::place::{Place, with_role};
use super::{back_up, digest, options, restored, room, source, source_with};
use crate::support::postgres::{Postgres, Version};
use crate::support::process::run;
use crate::support::repo::Repo;

/// A tablespace that is a directory of the data directory lets no server start without a setting.
pub(super) async fn tablespaces_in_place_start(version: Version) {
    let room = room();
    let server = Postgres::with(version, &[], &["allow_in_place_tablespaces=on"]).await;
    server.run("CREATE TABLESPACE inside LOCATION ''").await;
    server.run("CREATE TABLE t TABLESPACE inside AS SELECT generate_series(1, 1000) AS id").await;
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let warnings = back_up(&repo, &origin).await.warnings;
    if version < Version::V16 {
        // The server does not send it: the backup must not seem to have it.
        assert_eq!(warnings, 1);
        return;
    }
    assert_eq!(warnings, 0);
    let data = room.path().join("data");
    restored(&last_snapshot(&repo).await, &origin, &data, RestoreRequest::default()).await;
    let copy = Postgres::recovered(version, &data, &[]).await;
    assert_eq!(digest(&source(&copy).await).await, digest(&origin).await);
    let place = "SELECT pg_relation_filepath('t')";
    assert!(copy.value(place).await.starts_with("pg_tblspc/"), "{}", copy.value(place).await);
}

/// With as little configuration as a server needs, nothing of the original's is in force, and all of
/// it stands beside.
pub(super) async fn minimal_configurations_start(version: Version) {
    let room = room();
    let server = Postgres::start(version).await;
    server.run("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").await;
    server.run("ALTER SYSTEM SET work_mem = '9MB'").await;
    let conf = server.data().join("postgresql.conf");
    let was = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{was}\nshared_preload_libraries = 'not_here'\n")).unwrap();
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    back_up(&repo, &origin).await;
    let data = room.path().join("data");
    let minimal =
        PostgresOptions { configuration: RestoredConfiguration::Minimal, ..options(&server) };
    let target = source_with(minimal).await;
    restored(&last_snapshot(&repo).await, &target, &data, RestoreRequest::default()).await;
    let beside = fs::read_to_string(data.join("postgresql.conf.original")).unwrap();
    assert!(beside.ends_with("'not_here'\n"), "{beside}");
    assert!(data.join("pg_hba.conf.original").exists());
    let auto = fs::read_to_string(data.join("postgresql.auto.conf.original")).unwrap();
    assert!(auto.contains("work_mem"), "{auto}");
    // Its own rules demand a password.
    fs::write(data.join("pg_hba.conf"), "host all all 127.0.0.1/32 trust\n").unwrap();
    let copy = Postgres::recovered(version, &data, &[]).await;
    assert_eq!(copy.value("SELECT current_setting('work_mem')").await, "4MB");
    assert_eq!(digest(&source(&copy).await).await, digest(&origin).await);
}

/// Texts of the original are in the order of its C library: another version is a warning.
pub(super) async fn other_collations_are_warned_of(version: Version) {
    let server = with_role(version, &[], &[]).await;
    server.run("CREATE TABLE t AS SELECT 1 AS id").await;
    let recorded = "SELECT count(*)::text FROM pg_collation WHERE collprovider = 'c' AND \
                    pg_collation_actual_version(oid) IS NOT NULL";
    let has_any = server.value(recorded).await != "0";
    let place = Place::new(&server, "");
    place.done(&["run", "crm"]);
    let programs = PathBuf::from(place.path("programs"));
    fs::create_dir(&programs).unwrap();
    let restored = |version: &str, dir: &str| {
        let program = programs.join("getconf");
        fs::write(&program, format!("#!/bin/sh\necho glibc {version}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let target = place.path(dir);
        let mut command = place.command(&["restore", "latest", "--target", &target]);
        let path = std::env::var("PATH").unwrap();
        run(command.env("PATH", format!("{}:{path}", programs.display())))
    };
    let version_here = "SELECT coalesce(min(pg_collation_actual_version(oid)), '1') FROM pg_collation \
                        WHERE collprovider = 'c'";
    let same = restored(&server.value(version_here).await, "same");
    assert_eq!(same.code, 0, "{}", same.stderr);
    let other = restored("1.0", "other");
    let expected = if has_any { 3 } else { 0 };
    assert_eq!(other.code, expected, "{}", other.stderr);
    assert_eq!(other.stderr.contains("ordered by glibc 1.0"), has_any, "{}", other.stderr);
}
