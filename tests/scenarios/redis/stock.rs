//! What stock tools make of our snapshots, without this program.

use std::process::Command;

use super::logs::{Logged, mark, work};
use super::{back_up, source};
use crate::support::process::run;
use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;
use crate::support::restic::Restic;

/// restic restores; a manifest of three lines, and the server starts on dump and commands.
pub(super) async fn restic_and_a_server_are_enough(version: Version) {
    let server = Redis::start(version);
    let room = tempfile::tempdir().unwrap();
    let repo = Repo::in_dir(&room.path().join("repository")).await;
    let logged = Logged::within(repo.clone(), source(&server).await);
    // First the backup: the captured log then begins where the dump ends.
    let mut client = server.client();
    work(&mut client, 0);
    back_up(&repo, &logged.source).await;
    let capturing = logged.begin();
    work(&mut client, 1);
    let last = mark(&server);
    logged.reached(&last.at).await;
    capturing.stop().await;
    logged.roll_up().await;
    let stock = room.path().join("stock");
    let restic =
        Restic::new("restic-new", &room.path().join("repository"), repo.passphrase.reveal());
    restic.restore("latest", &stock);
    let node = std::fs::read_dir(stock.join("redis")).unwrap().next().unwrap().unwrap().path();
    run(Command::new(version.program("check-rdb")).arg(node.join("dump.rdb"))).succeeded();
    let described: serde_json::Value =
        serde_json::from_slice(&std::fs::read(node.join("node.json")).unwrap()).unwrap();
    let offset = described["offset"].as_u64().unwrap();
    let log = node.join(format!("log/{}/{offset:020}.resp", last.at.branch));
    let aof = node.join("appendonlydir");
    std::fs::create_dir(&aof).unwrap();
    std::fs::rename(node.join("dump.rdb"), aof.join("appendonly.aof.1.base.rdb")).unwrap();
    std::fs::rename(log, aof.join("appendonly.aof.1.incr.aof")).unwrap();
    let manifest = "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof \
                    seq 1 type i\n";
    std::fs::write(aof.join("appendonly.aof.manifest"), manifest).unwrap();
    run(Command::new(version.program("check-aof")).arg(aof.join("appendonly.aof.manifest")))
        .succeeded();
    let started = Redis::on(version, Some(&node), &["--appendonly", "yes"]);
    assert_eq!(started.debug_digest(), last.digest);
}
