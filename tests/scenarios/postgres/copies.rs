//! Copies take nothing over from the original that acts: commands, places that are written to,
//! recovery targets, libraries with workers.

use std::fs;

use backup_core::source::{EntryPath, RestoreRequest};
use backup_core::testing::MemorySink;
use std::sync::Arc;

use super::base::last_snapshot;
use super::{back_up, digest, restored, room, source};
use crate::support::postgres::{Postgres, Version, hand_over};
use crate::support::repo::Repo;

pub(super) async fn copies_run_no_commands_of_originals(version: Version) {
    let room = room();
    let marks = room.path().join("marks");
    fs::create_dir(&marks).unwrap();
    hand_over(&marks);
    let server = Postgres::start(version).await;
    server.run("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").await;
    // As the original would have it at its next start, in three files.
    let touch = |name: &str| format!("'touch {}'", marks.join(name).display());
    let conf = server.data().join("postgresql.conf");
    let was = fs::read_to_string(&conf).unwrap();
    fs::create_dir(server.data().join("conf.d")).unwrap();
    let left = format!(
        "Recovery_End_Command = {}\nrecovery_target_xid '3'\narchive_command = {}\narchive_mode = \
         always\nrecovery_min_apply_delay = '1h'\nlogging_collector = on\nlog_directory = '{}'\n",
        touch("end"),
        touch("archived"),
        marks.join("log").display()
    );
    fs::write(server.data().join("conf.d/left.conf"), left).unwrap();
    let more = format!(
        "{was}\ninclude_dir = 'conf.d'\narchive_cleanup_command = {}\nshared_preload_libraries = \
         'pg_cron'\n",
        touch("cleaned")
    );
    fs::write(&conf, more).unwrap();
    let auto =
        format!("restore_command = {}\nhba_file = '/nowhere/pg_hba.conf'\n", touch("fetched"));
    fs::write(server.data().join("postgresql.auto.conf"), auto).unwrap();
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    back_up(&repo, &origin).await;
    let expected = digest(&origin).await;
    let data = room.path().join("data");
    let snapshot = last_snapshot(&repo).await;
    restored(&snapshot, &origin, &data, RestoreRequest::default()).await;
    let mut copy = Postgres::recovered(version, &data, &[]).await;
    assert_eq!(digest(&source(&copy).await).await, expected);
    let shown = |name: &str| format!("SELECT current_setting('{name}')");
    assert_eq!(copy.value(&shown("shared_preload_libraries")).await, "");
    assert_eq!(copy.value(&shown("log_directory")).await, "log");
    copy.run("CREATE TABLE written (id int); SELECT pg_switch_wal(); CHECKPOINT").await;
    // At its next start, too.
    copy.start_again(version).await;
    copy.run("INSERT INTO written VALUES (1)").await;
    let marked: Vec<_> = fs::read_dir(&marks).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(marked.is_empty(), "{marked:?}");
}

/// Files of the configuration that are links come along and are in force; they are no damage.
pub(super) async fn linked_configuration_comes_along(version: Version) {
    let room = room();
    let server = Postgres::start(version).await;
    server.run("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").await;
    for (name, more) in [("postgresql.conf", "work_mem = '7MB'\n"), ("pg_hba.conf", "# ours\n")] {
        let (inside, outside) = (server.data().join(name), room.path().join(name));
        let text = fs::read_to_string(&inside).unwrap();
        fs::write(&outside, text + more).unwrap();
        fs::remove_file(&inside).unwrap();
        std::os::unix::fs::symlink(&outside, &inside).unwrap();
    }
    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    assert_eq!(back_up(&repo, &origin).await.warnings, 0);
    let snapshot = last_snapshot(&repo).await;
    let damage = EntryPath::new(format!("/postgres/{}/damage.txt", origin.system_id())).unwrap();
    assert!(snapshot.find(&damage).await.unwrap().is_none());
    let data = room.path().join("data");
    restored(&snapshot, &origin, &data, RestoreRequest::default()).await;
    let hba = fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    assert!(hba.ends_with("# ours\n") && !data.join("pg_hba.conf.original").exists(), "{hba}");
    let copy = Postgres::recovered(version, &data, &[]).await;
    assert_eq!(copy.value("SELECT current_setting('work_mem')").await, "7MB");
    assert_eq!(digest(&source(&copy).await).await, digest(&origin).await);
    // A special file is a warning with its name.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        server.data().join("a fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    assert_eq!(back_up(&repo, &origin).await.warnings, 1);
    assert!(last_snapshot(&repo).await.find(&damage).await.unwrap().is_none());
}
