//! Rights, TLS, damage, and whoever dies on the way.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{
    BackupRequest, EntryPath, Probe, RestoreRequest, Selection, Source as _, SourceErrorKind,
};
use backup_core::testing::MemorySink;
use backup_sources::postgres::{PostgresOptions, PostgresSource, TlsMode};

use super::base::{fill, last_snapshot};
use super::{back_up, digest, options, restored, room, source, source_with, talking};
use crate::support::postgres::{Postgres, Version, hand_over};
use crate::support::repo::Repo;
use crate::support::tls::Authority;

pub(super) const SECRET: &str = "hunter2 'x";

/// A server that asks everybody but the administrator for a password, in the way that `method`
/// says.
pub(super) async fn with_password(version: Version, method: &str, settings: &[&str]) -> Postgres {
    let server = Postgres::with(version, &[], settings).await;
    let lines = format!(
        "host all postgres 127.0.0.1/32 trust\nhost replication postgres 127.0.0.1/32 trust\n\
         host replication backup 127.0.0.0/8 {method}\nhost postgres backup 127.0.0.0/8 {method}\n"
    );
    std::fs::write(server.data().join("pg_hba.conf"), lines).unwrap();
    let encryption = if method == "md5" { "md5" } else { "scram-sha-256" };
    server
        .run(&format!(
            "SET password_encryption = '{encryption}'; \
             CREATE ROLE backup LOGIN REPLICATION PASSWORD 'hunter2 ''x'; SELECT pg_reload_conf();"
        ))
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    server
}

fn of_backup(server: &Postgres, password: &str) -> PostgresOptions {
    let mut options = PostgresOptions::parse(&server.uri_of("backup")).unwrap();
    options.password = Some(password.to_owned());
    options
}

/// The right to replicate and nothing else.
pub(super) async fn the_right_to_replicate_is_enough(version: Version) {
    for method in ["scram-sha-256", "md5", "password"] {
        let server = with_password(version, method, &[]).await;
        let origin = source_with(of_backup(&server, SECRET)).await;
        let probe = origin.probe(&talking()).await.unwrap();
        assert!(probe.problems.is_empty(), "{method}: {probe:?}");
        let repo = Repo::init(Arc::new(MemorySink::new())).await;
        assert_eq!(back_up(&repo, &origin).await.warnings, 0);
        let error = PostgresSource::connect(of_backup(&server, "hunter3")).await.unwrap_err();
        let told = format!("{} {:?}", error.chain(), error.hint());
        assert!(
            error.kind() == SourceErrorKind::Invalid
                && told.contains("28P01")
                && !told.contains("hunter"),
            "{told}"
        );
    }
}

/// All problems of a probe, one per line.
fn listed(probe: &Probe) -> String {
    probe.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Whoever may not replicate is told what to write where.
pub(super) async fn what_is_missing_is_named(version: Version) {
    let server = Postgres::with(version, &[], &["max_wal_senders=2", "full_page_writes=off"]).await;
    server.run("CREATE ROLE reader LOGIN").await;
    let reader = source_with(PostgresOptions::parse(&server.uri_of("reader")).unwrap()).await;
    let problems = listed(&reader.probe(&talking()).await.unwrap());
    assert!(
        problems.contains("ALTER ROLE … REPLICATION for the user in the address"),
        "{problems}"
    );
    assert!(!reader.capabilities().log_capture);
    let request = BackupRequest::full(Selection::all());
    let Err(error) = reader.open_backup(&Context::silent(), &request).await else {
        panic!("it may be read")
    };
    assert_eq!(error.kind(), SourceErrorKind::Unsupported);
    let problems = listed(&source(&server).await.probe(&talking()).await.unwrap());
    assert!(
        problems.contains("max_wal_senders") && problems.contains("full_page_writes"),
        "{problems}"
    );
}

/// Certificates are checked as far as is asked for, and SCRAM is bound to them.
pub(super) async fn certificates_are_checked(version: Version) {
    let room = room();
    let (ours, others) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.issue(room.path());
    for file in [&certificate, &key] {
        hand_over(file);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let ca = ours.write(room.path());
    let other_room = tempfile::tempdir().unwrap();
    let other_ca = others.write(other_room.path());
    let certificate = format!("ssl_cert_file={}", certificate.display());
    let key = format!("ssl_key_file={}", key.display());
    // The certificate is for localhost and 127.0.0.1.
    let addresses = "listen_addresses=127.0.0.1,127.0.0.2";
    let settings = ["ssl=on", &certificate, &key, addresses, "log_connections=on"];
    let server = with_password(version, "scram-sha-256", &settings).await;
    let with = |tls: TlsMode, host: &str, ca: Option<&Path>| {
        let mut options = of_backup(&server, SECRET);
        host.clone_into(&mut options.hosts[0].name);
        (options.tls, options.tls_ca_file) = (tls, ca.map(Path::to_owned));
        PostgresSource::connect(options)
    };
    for (tls, host, ca) in [
        (TlsMode::VerifyFull, "localhost", Some(&*ca)),
        (TlsMode::VerifyCa, "127.0.0.2", Some(&*ca)),
        (TlsMode::Require, "127.0.0.1", None),
        (TlsMode::Prefer, "127.0.0.1", Some(&*other_ca)),
    ] {
        let origin =
            with(tls, host, ca).await.unwrap_or_else(|error| panic!("{tls:?}: {}", error.chain()));
        origin.probe(&talking()).await.unwrap();
    }
    // The newest protocol, by the server's own log.
    let log = server.log();
    let protocols: Vec<&str> = log.split("protocol=").skip(1).collect();
    assert!(
        protocols.len() >= 3 && protocols.iter().all(|rest| rest.starts_with("TLSv1.3")),
        "{log}"
    );
    for (tls, host, ca) in [
        (TlsMode::VerifyFull, "127.0.0.2", Some(&*ca)),
        (TlsMode::VerifyCa, "localhost", Some(&*other_ca)),
        (TlsMode::Require, "localhost", Some(&*other_ca)),
    ] {
        let error = with(tls, host, ca).await.unwrap_err();
        assert!(error.chain().contains("TLS failed"), "{tls:?}: {}", error.chain());
    }
    server.run("SELECT 1").await;
    let old = ["ssl_min_protocol_version=TLSv1", "ssl_max_protocol_version=TLSv1.1"];
    let old = with_password(version, "scram-sha-256", &[&settings[..3], &old].concat()).await;
    let mut of_old = of_backup(&old, SECRET);
    (of_old.tls, of_old.tls_ca_file) = (TlsMode::VerifyCa, Some(ca.clone()));
    let error = PostgresSource::connect(of_old).await.unwrap_err();
    assert!(error.chain().contains("TLS failed"), "TLS 1.1: {}", error.chain());
    let plain = Postgres::start(version).await;
    let mut options = options(&plain);
    options.tls = TlsMode::Require;
    let error = PostgresSource::connect(options).await.unwrap_err();
    assert!(error.chain().contains("does not support TLS"), "{}", error.chain());
}

/// A slot of the same name that is for something else is not taken for a log that is gone.
pub(super) async fn a_logical_slot_is_left_alone(version: Version) {
    let server = Postgres::with(version, &[], &["wal_level=logical"]).await;
    server.run("SELECT pg_create_logical_replication_slot('backup', 'pgoutput')").await;
    let origin = source_with(options(&server)).await;
    let error = origin.open_log(&talking(), None).await.err().unwrap();
    assert!(
        error.kind() == SourceErrorKind::Invalid && error.chain().contains("logical"),
        "{}",
        error.chain()
    );
    assert_eq!(server.value("SELECT slot_type FROM pg_replication_slots").await, "logical");
}

/// Damaged pages are kept as they are, and told.
pub(super) async fn damaged_pages_are_told(version: Version) {
    let server = Postgres::start(version).await;
    fill(&server, None).await;
    let client = server.client_of("shop").await;
    let path: String =
        client.query_one("SELECT pg_relation_filepath('large')", &[]).await.unwrap().get(0);
    server.run("CHECKPOINT").await;
    let file = std::fs::OpenOptions::new().write(true).open(server.data().join(path)).unwrap();
    file.write_all_at(&[0xff; 100], 3 * 8192 + 4000).unwrap();
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let report = back_up(&repo, &source(&server).await).await;
    assert!(report.warnings > 0);
    let snapshot = last_snapshot(&repo).await;
    let damage =
        EntryPath::new(format!("/postgres/{}/damage.txt", source(&server).await.system_id()))
            .unwrap();
    assert!(snapshot.find(&damage).await.unwrap().is_some());
    let room = room();
    let report = restored(
        &snapshot,
        &source(&server).await,
        &room.path().join("data"),
        RestoreRequest::default(),
    )
    .await;
    assert_eq!(report.warnings, 1);
}

/// Whoever gives a backup up leaves nothing at the server, and no snapshot.
pub(super) async fn a_backup_that_is_given_up_leaves_nothing(version: Version) {
    let server = Postgres::start(version).await;
    fill(&server, None).await;
    let mut slow = options(&server);
    slow.max_bytes_per_second = Some(1 << 20);
    let origin = source_with(slow).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let cx = talking();
    let cancel = cx.cancel.clone();
    let (one, inner) = (repo.clone(), origin.clone());
    let task = tokio::spawn(async move {
        backup(&one.repository, &inner, &BackupOptions::default(), &cx).await
    });
    let busy = "SELECT (SELECT count(*) FROM pg_stat_progress_basebackup)::text || (SELECT \
                count(*) FROM pg_replication_slots)::text";
    let wait_for = async |wanted: &str| {
        let started = Instant::now();
        while server.value(busy).await != wanted {
            assert!(started.elapsed() < Duration::from_secs(30), "{}", server.value(busy).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    wait_for("11").await;
    cancel.cancel();
    assert!(task.await.unwrap().unwrap_err().is_cancelled());
    wait_for("00").await;
    // The server dies.
    let (one, inner) = (repo.clone(), origin.clone());
    let task = tokio::spawn(async move {
        backup(&one.repository, &inner, &BackupOptions::default(), &talking()).await
    });
    wait_for("11").await;
    server.kill();
    assert!(task.await.unwrap().is_err());
    assert!(repo.snapshots().await.is_empty());
}

/// Nothing is mixed with what is there.
/// A server that gets nowhere, and a program that never ends, are not waited for forever.
pub(super) async fn a_start_that_hangs_is_given_up(version: Version) {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Postgres::start(version).await;
    let (origin, repo) = (source(&server).await, Repo::init(Arc::new(MemorySink::new())).await);
    back_up(&repo, &origin).await;
    let (snapshot, room) = (last_snapshot(&repo).await, room());
    let programs = room.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let program = |name: &str, text: &str| {
        std::fs::write(programs.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(programs.join(name), std::fs::Permissions::from_mode(0o755))
            .unwrap();
    };
    program("postgres", &format!("exec {} \"$@\"", version.programs().join("postgres").display()));
    let mut starting = options(&server);
    starting.start = Some(vec![programs.clone()]);
    starting.start_timeout = Some(std::time::Duration::from_secs(2));
    let starting = source_with(starting).await;
    for (number, (text, said)) in
        [("exit 0", "has not replayed"), ("sleep 300", "has not ended")].iter().enumerate()
    {
        program("pg_ctl", text);
        let (data, begun) = (room.path().join(format!("data-{number}")), std::time::Instant::now());
        let error = super::try_restore(&snapshot, &starting, &data, RestoreRequest::default())
            .await
            .unwrap_err();
        assert!(error.chain().contains(said), "{}", error.chain());
        assert!(begun.elapsed() < std::time::Duration::from_secs(50), "{:?}", begun.elapsed());
    }
}

pub(super) async fn a_directory_that_is_not_empty_is_left_alone(version: Version) {
    let server = Postgres::start(version).await;
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    back_up(&repo, &origin).await;
    let (snapshot, room) = (last_snapshot(&repo).await, room());
    let data = room.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("mine"), "x").unwrap();
    let error =
        super::try_restore(&snapshot, &origin, &data, RestoreRequest::default()).await.unwrap_err();
    assert_eq!(error.kind(), backup_core::error::ErrorKind::TargetExists);
    assert!(error.chain().contains("/data is not empty: 1 file, 1 byte"), "{}", error.chain());
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
    // Started and promoted by the restore itself.
    std::fs::remove_file(data.join("mine")).unwrap();
    let free = Postgres::start(version).await;
    let mut starting = options(&server);
    starting.start = Some(vec![room.path().to_owned(), version.programs()]);
    let port = free.port() + 1;
    starting.settings = vec![
        ("port".to_owned(), port.to_string()),
        ("unix_socket_directories".to_owned(), String::new()),
        ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
    ];
    let expected = digest(&origin).await;
    restored(&snapshot, &source_with(starting).await, &data, RestoreRequest::default()).await;
    let copy = PostgresOptions::parse(&format!("postgres://postgres@127.0.0.1:{port}/")).unwrap();
    assert_eq!(expected, digest(&source_with(copy).await).await);
    let id = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let id = rustix::process::Pid::from_raw(id.lines().next().unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::QUIT).unwrap();
}
