//! The program itself, as somebody at a terminal uses it.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use backup_core::source::Digest;
use backup_sources::postgres::{Lsn, PostgresOptions};
use rustix::process::{Pid, Signal, kill_process};

use super::logs::{newest, write};
use super::place::{Place, SECRET, with_role};
use super::{digest, options, source, source_with};
use crate::support::postgres::{Postgres, Version};
use crate::support::process::run;

/// Stops the server that was started on a directory.
pub(super) struct Started<'a>(pub(super) &'a Path);

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let Ok(status) = std::fs::read_to_string(self.0.join("postmaster.pid")) else { return };
        let id = status.lines().next().and_then(|line| Pid::from_raw(line.parse().ok()?));
        // It may have ended.
        _ = id.map(|id| kill_process(id, Signal::QUIT));
    }
}

/// What a server has on which nobody but this program has laid hands.
async fn started(place: &Place, version: Version, at: &str, port: u16) -> Digest {
    let target = place.path(&format!("started-{port}"));
    let (port_setting, programs) =
        (format!("port={port}"), format!("--start={}", version.programs().display()));
    let sets = [
        "--set",
        &port_setting,
        "--set",
        "unix_socket_directories=",
        "--set",
        "listen_addresses=127.0.0.1",
    ];
    let target = target.as_str();
    let restore =
        ["restore", "--job", "crm", "--at", at, "--target", target, "--verify", &programs];
    let _started = Started(Path::new(target));
    let text = place.done(&[&restore[..], &sets].concat());
    assert!(text.contains("restored"), "{text}");
    assert!(text.contains(&format!("on port {port}")), "{text}");
    let auto = std::fs::read_to_string(Path::new(target).join("postgresql.auto.conf")).unwrap();
    let targets = auto.lines().filter(|line| line.starts_with("recovery_target"));
    assert!(targets.into_iter().all(|line| line.ends_with("= ''")), "{auto}");
    assert!(auto.contains("archive_mode = 'off'"), "{auto}");
    let address = format!("postgres://postgres@127.0.0.1:{port}/?sslmode=disable");
    digest(&source_with(PostgresOptions::parse(&address).unwrap()).await).await
}

pub(super) fn text_of(at: &backup_core::log::Position) -> String {
    format!("{}@{}", at.branch, Lsn(at.offset))
}

/// By a configuration: doctor, backup, capture while others write, timeline, any moment, started.
pub(super) async fn from_the_first_backup_to_a_running_copy(version: Version) {
    let server = with_role(version, &[], &[]).await;
    server.run("CREATE TABLE log (id int, t text); CREATE UNLOGGED TABLE cache (id int)").await;
    let place = Place::new(&server, "slot = \"crm\"\nfast_checkpoint = true");
    assert!(place.done(&["config", "check"]).contains("PostgreSQL at postgres://…@127.0.0.1"));
    assert!(place.done(&["doctor", "crm"]).contains("ready for backup"));
    let run = place.done(&["run", "crm"]);
    assert!(run.contains("PostgreSQL"), "{run}");
    assert!(run.contains("after a crash: postgres.public.cache."), "{run}");
    let shown = place.done(&["show", "latest", "--json"]);
    assert!(shown.contains("postgres://…@127.0.0.1") && !shown.contains("CRM_PASSWORD"), "{shown}");
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    write(&server, 0, 5).await;
    let (fence, at_fence) = (newest(&server).await, digest(&source(&server).await).await);
    let client = server.client().await;
    let inserted = client
        .query_one("INSERT INTO log VALUES (-1, 'x') RETURNING xmin::text", &[])
        .await
        .unwrap();
    let (transaction, at_transaction) =
        (inserted.get::<_, String>(0), digest(&source(&server).await).await);
    write(&server, 5, 7).await;
    server.run("SELECT pg_create_restore_point('before: the end')").await;
    let at_name = digest(&source(&server).await).await;
    write(&server, 7, 9).await;
    let (last, at_last) = (newest(&server).await, digest(&source(&server).await).await);
    place.reached(&text_of(&last));
    assert_eq!(
        server
            .value("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = 'crm'")
            .await,
        "1"
    );
    assert!(place.done(&["logs", "status", "crm"]).contains("crm"));
    capturing.stop();
    let latest_in_snapshot = place.done(&["logs", "roll-up", "crm"]);
    assert!(!latest_in_snapshot.is_empty());
    assert!(place.done(&["timeline", "crm"]).contains("1@"));
    assert!(place.done(&["list"]).contains("log"));
    place.done(&["check", "--read-data"]);
    let moments = [
        (text_of(&fence), &at_fence),
        (Lsn(fence.offset).to_string(), &at_fence),
        (format!("xid:{transaction}"), &at_transaction),
        ("name:before: the end".to_owned(), &at_name),
        ("latest".to_owned(), &at_last),
    ];
    let port = server.port() + 1;
    for (number, (at, expected)) in moments.iter().enumerate() {
        let found = started(&place, version, at, port + u16::try_from(number).unwrap()).await;
        assert_eq!(**expected, found, "{at}");
    }
    // A snapshot of the log stands for its end, and needs no moment.
    let target = place.path("rolled");
    place.done(&["restore", "latest", "--target", &target]);
    let copy = Postgres::recovered(version, Path::new(&target), &[]).await;
    assert_eq!(at_last, digest(&source(&copy).await).await);
    refusals(&place, &target);
}

/// What makes no sense is refused, and nothing is written.
fn refusals(place: &Place, filled: &str) {
    let new = place.path("new");
    let restore = ["restore", "latest", "--target", &new];
    for (code, more) in [
        (2, &["--sparse"][..]),
        (2, &["--rename", "a.*=b.*"]),
        (2, &["--set", "port"]),
        (2, &["--tablespace", "x"]),
        (2, &["--tablespace", "/nowhere=/elsewhere"]),
        (2, &["--start=/nowhere"]),
        (1, &["--at", "name:never made"]),
        (1, &["--at", "7@0/3000000"]),
        (1, &["--at", "before:name:never made"]),
        (2, &["--at", "soon"]),
    ] {
        place.fails(code, &[&restore[..], more].concat());
        let written = Path::new(&new).join("global/pg_control").exists();
        assert!(!written, "{more:?}");
        // A restore that fails on the way leaves what it wrote, without what a server needs to
        // start.
        _ = std::fs::remove_dir_all(&new);
    }
    place.fails(5, &["restore", "latest", "--target", filled]);
    place.fails(2, &["restore", "latest", "--in-place", "--yes"]);
    place.fails(2, &["restore", "latest", "--target", "postgres://h/"]);
    place.fails(2, &["run", "crm", "--type", "incremental", "--method", "logical"]);
    place.fails(2, &["run", "crm", "--one-file-system"]);
}

/// By addresses alone; whoever has no rights is told what to write where.
pub(super) async fn without_a_configuration(version: Version) {
    let server = with_role(version, &[], &["summarize_wal=on"]).await;
    server
        .run("CREATE TABLE log (id int, t text); CREATE ROLE nobody LOGIN PASSWORD 'pass word'")
        .await;
    let place = Place::new(&server, "");
    let uri = |user: &str| {
        format!("postgresql://{user}:pass%20word@127.0.0.1:{}/postgres", server.port())
    };
    let (backup, nobody) = (uri("backup"), uri("nobody"));
    place.done(&["run", "--source", &backup, "--job", "hand"]);
    server.run("INSERT INTO log SELECT n, 'later' FROM generate_series(1, 1000) n").await;
    let told = place.done(&["run", "--source", &backup, "--job", "hand", "--type", "incremental"]);
    assert!(told.contains(": incremental"), "{told}");
    place.fails(
        2,
        &[
            "run",
            "--source",
            &backup,
            "--job",
            "hand",
            "--type",
            "incremental",
            "--method",
            "logical",
        ],
    );
    assert!(place.done(&["list", "--source", "postgres"]).contains("hand"));
    let target = place.path("copy");
    place.done(&["restore", "latest", "--target", &target]);
    let copy = Postgres::recovered(version, Path::new(&target), &[]).await;
    assert_eq!(digest(&source(&server).await).await, digest(&source(&copy).await).await);
    let lines = std::fs::read_to_string(server.data().join("pg_hba.conf")).unwrap();
    let lines = format!("{lines}host postgres nobody 127.0.0.1/32 scram-sha-256\n");
    std::fs::write(server.data().join("pg_hba.conf"), lines).unwrap();
    server.run("SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let outcome = place.run(&["doctor", "--source", &nobody]);
    let text = format!("{}{}", outcome.text(), outcome.stderr);
    assert!(
        outcome.code == 3 && text.contains("pg_hba.conf") && text.contains("REPLICATION"),
        "{text}"
    );
    assert!(!text.contains("pass%20word") && !text.contains(SECRET), "{text}");
    let mut wrong = options(&server);
    wrong.system_id = Some(1);
    assert!(backup_sources::postgres::PostgresSource::connect(wrong).await.is_err());
    place.fails(2, &["run", "--source", &backup.replace("word", "hunter2")]);
    let (user, host) = backup.split_once("://").unwrap().1.split_once('@').unwrap();
    let user = user.split(':').next().unwrap();
    for method in ["physical", "logical"] {
        let without = format!("postgres://{user}@{host}");
        let text = place.fails(12, &["run", "--source", &without, "--method", method]);
        assert!(text.contains("no password is given"), "{method}: {text}");
    }
}

/// The server throws log away that was not captured: that is noted, and any moment behind it comes
/// back with a new full backup.
pub(super) async fn a_gap_is_followed_by_a_full_backup(version: Version) {
    let settings = ["min_wal_size=2MB", "max_wal_size=4MB"];
    let server = with_role(version, &["--wal-segsize", "1"], &settings).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let keep = async |size: &str| {
        server.run(&format!("ALTER SYSTEM SET max_slot_wal_keep_size = '{size}'")).await;
        server.run("SELECT pg_reload_conf()").await;
    };
    keep("2MB").await;
    let place = Place::new(&server, "");
    place.done(&["run", "crm"]);
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    write(&server, 0, 3).await;
    place.reached(&text_of(&newest(&server).await));
    capturing.stop();
    for round in 1..5 {
        write(&server, 10 * round, 10 * round + 30).await;
        server.run("CHECKPOINT").await;
    }
    let lost = "SELECT count(*)::text FROM pg_replication_slots WHERE wal_status = 'lost'";
    assert_eq!(server.value(lost).await, "1");
    keep("-1").await;
    let fulls = || place.done(&["list", "--json"]).matches("\"type\":\"full\"").count();
    assert_eq!(fulls(), 1);
    let capturing = place.spawn(&["logs", "follow", "crm"]);
    let since = Instant::now();
    while fulls() < 2 {
        assert!(since.elapsed() < Duration::from_secs(90), "no full backup is made");
        write(&server, 900, 901).await;
    }
    write(&server, 1000, 1003).await;
    let (last, expected) = (newest(&server).await, digest(&source(&server).await).await);
    place.reached(&text_of(&last));
    // A second one would follow at once.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(fulls(), 2, "one full backup for one lost slot");
    capturing.stop();
    let told = place.done(&["timeline", "crm", "--json"]);
    assert!(told.contains("\"gaps\":[{"), "{told}");
    let found = started(&place, version, &text_of(&last), server.port() + 1).await;
    assert_eq!(expected, found);
}

/// Damaged pages, and another cluster under the name of a job.
pub(super) async fn what_is_wrong_does_not_push_out_what_is_right(version: Version) {
    let server = with_role(version, &[], &[]).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    write(&server, 0, 3).await;
    let place = Place::new(&server, "");
    place.done(&["run", "crm"]);
    let clean = place.done(&["list", "--json"]);
    let path = server.value("SELECT pg_relation_filepath('log')").await;
    server.run("CHECKPOINT").await;
    let file = std::fs::OpenOptions::new().write(true).open(server.data().join(path)).unwrap();
    file.write_all_at(&[0xff; 100], 3 * 8192 + 4000).unwrap();
    let outcome = place.run(&["run", "crm"]);
    let text = format!("{}{}", outcome.text(), outcome.stderr);
    assert!(outcome.code == 3 && text.contains("is now held"), "{text}");
    // Once is enough.
    assert!(!place.run(&["run", "crm"]).stderr.contains("is now held"));
    let clean: serde_json::Value = serde_json::from_str(&clean).unwrap();
    let id = clean["snapshots"][0]["id"].as_str().unwrap_or_else(|| panic!("{clean}")).to_owned();
    assert!(place.run(&["forget", &id, "--yes"]).stderr.contains("held"));
    let other = with_role(version, &[], &[]).await;
    let address = format!("postgres://backup@127.0.0.1:{}/?sslmode=disable", other.port());
    let mut command = place.command(&["run", "--source", &address, "--job", "crm"]);
    let outcome = run(command.env("BACKUP_SOURCE_PASSWORD", SECRET));
    assert!(outcome.code == 5 && outcome.stderr.contains("system_id"), "{outcome}");
    // Neither is its log captured, nor is it called well.
    for (code, words) in [(5, &["logs", "follow", "crm"][..]), (3, &["doctor", "crm"])] {
        let outcome = run(place.command(words).env("CRM_PORT", other.port().to_string()));
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        let is_told = text.contains("belong to cluster") && text.contains("system_id");
        assert!(outcome.code == code && is_told, "{words:?}: {text}");
        assert!(!text.contains("ready for backup"), "{text}");
    }
    assert!(!std::path::Path::new(&place.path("repository/x-lane")).exists());
}
