//! What stock tools make of our snapshots.

use std::process::Command;

use backup_core::log::Target;
use backup_core::source::RestoreRequest;
use backup_sources::postgres::RecoveryTarget;

use super::base::{fill, last_snapshot};
use super::logs::{Logged, newest, write};
use super::{back_up, digest, restored, room, source};
use crate::support::postgres::{Postgres, Version, hand_over_all};
use crate::support::process::run;
use crate::support::repo::Repo;
use crate::support::restic::Restic;
use backup_core::testing::tool;

/// The same files with the same checksums as pg_basebackup would have, and no page damaged.
pub(super) async fn stock_tools_find_nothing_wrong(version: Version) {
    let server = Postgres::start(version).await;
    fill(&server, None).await;
    let room = room();
    let repo = Repo::in_dir(&room.path().join("repository")).await;
    let origin = source(&server).await;
    back_up(&repo, &origin).await;
    repo.assert_sound().await;
    let stock = room.path().join("stock");
    let restic =
        Restic::new("restic-new", &room.path().join("repository"), repo.passphrase.reveal());
    restic.restore("latest", &stock);
    let base = stock.join(format!("postgres/{}/base", origin.system_id()));
    run(Command::new(tool("pg_verifybackup")).arg("--no-parse-wal").arg(&base)).succeeded();
    let data = room.path().join("data");
    restored(&last_snapshot(&repo).await, &origin, &data, RestoreRequest::default()).await;
    let ignored =
        ["postgresql.auto.conf", "recovery.signal"].map(|name| format!("--ignore={name}"));
    run(Command::new(tool("pg_verifybackup")).arg("--no-parse-wal").args(ignored).arg(&data))
        .succeeded();
    let expected = digest(&origin).await;
    let copy = Postgres::recovered(version, &data, &[]).await;
    assert_eq!(expected, digest(&source(&copy).await).await);
    copy.run("CHECKPOINT").await;
    copy.stop();
    run(Command::new(tool("pg_checksums")).arg("--check").arg(&data)).succeeded();
}

/// Without this program: restic restores, a command copies the log, the server recovers.
pub(super) async fn restic_and_a_server_are_enough(version: Version) {
    let server = Postgres::start(version).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let room = room();
    let repo = Repo::in_dir(&room.path().join("repository")).await;
    let logged = Logged::within(repo.clone(), source(&server).await);
    let capturing = logged.begin();
    back_up(&repo, &logged.source).await;
    write(&server, 0, 10).await;
    server.run("SELECT pg_switch_wal()").await;
    write(&server, 10, 20).await;
    let (expected, last) = (digest(&logged.source).await, newest(&server).await);
    logged.reached(&last).await;
    capturing.stop().await;
    logged.roll_up().await;
    let stock = room.path().join("stock");
    let restic =
        Restic::new("restic-new", &room.path().join("repository"), repo.passphrase.reveal());
    restic.restore("latest", &stock);
    hand_over_all(&stock);
    let cluster = stock.join(format!("postgres/{}", logged.source.system_id()));
    let base = cluster.join("base");
    std::fs::write(base.join("recovery.signal"), "").unwrap();
    // The last segment has only what was captured of it: the server wants it whole.
    let copy = format!("cp {}/wal/*/*/%f %p && truncate -s 16M %p", cluster.display());
    let restore = format!("restore_command={copy}");
    let found = Postgres::recovered(version, &base, &[&restore]).await;
    assert_eq!(expected, digest(&source(&found).await).await);
    let ours = logged.state_at(version, &Target::Latest, RecoveryTarget::Planned, &[]).await;
    assert_eq!(expected, ours);
}
