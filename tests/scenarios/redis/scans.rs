//! Servers that keep PSYNC to themselves, as managed services do.

use std::process::Command;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, IfExists, RestoreRequest, Selection, Source as _};
use backup_core::testing::MemorySink;
use backup_sources::redis::{RedisOptions, RestoreOptions, SnapshotReading};

use super::data::fill;
use super::restores::{Backed, assert_same, replica, verified};
use super::{back_up, digest, file, source, source_with};
use crate::support::process::run;
use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;

/// With what is told exactly: servers before 7 say how long a key has to live, and not until when.
fn fill_exactly(server: &Redis) {
    fill(server);
    if server.version == Version::Redis6 {
        for (database, key) in [("0", "s0:ttl"), ("3", "s0:ttl"), ("3", "s1:ttl"), ("9", "s0:ttl")]
        {
            let mut client = server.client();
            client.ok(&["SELECT", database]);
            assert_eq!(client.ok(&["PERSIST", key]).number(), 1);
        }
    }
}

/// They are read key by key, without being told so; what comes of it is a dump as any other, and is
/// marked everywhere.
pub(super) async fn a_server_that_is_not_followed_is_scanned(version: Version) {
    let server =
        Redis::with(version, &["--rename-command", "PSYNC", "", "--rename-command", "SYNC", ""]);
    fill_exactly(&server);
    let backed = Backed::of(server).await;
    let snapshot = backed.repo.reader(backed.snapshot).await;
    assert!(
        snapshot.snapshot().tags.iter().any(|tag| tag == "not-point-in-time"),
        "{:?}",
        snapshot.snapshot().tags
    );
    let manifest = snapshot.manifest().await.unwrap().unwrap();
    assert!(manifest.remarks[0].contains("not point-in-time"), "{:?}", manifest.remarks);
    assert_eq!(manifest.totals.warnings, 1, "nobody asked for it");
    assert_eq!((manifest.checkpoint.position, manifest.kind), (None, BackupKind::Full));
    let node: serde_json::Value =
        serde_json::from_slice(&file(&snapshot, "node.json").await).unwrap();
    assert!(node["scanned_from"].is_string(), "{node}");
    assert_eq!(manifest.objects, digest(&source(&backed.server).await).await.objects);

    // Stock tools and a server take it as it is.
    let room = tempfile::tempdir().unwrap();
    let dump = room.path().join("dump.rdb");
    std::fs::write(&dump, file(&snapshot, "dump.rdb").await).unwrap();
    run(Command::new(version.program("check-rdb")).arg(&dump)).succeeded();
    assert_same(&backed.server, &Redis::on(version, Some(room.path()), &[]));
    // So does every way of restoring.
    let target = Redis::start(version);
    for options in [RestoreOptions::default(), replica()] {
        backed.restored(target.address(), options, verified(IfExists::Replace)).await;
        assert_same(&backed.server, &target);
    }
    let selection = Selection::new(vec!["/3/hash1:*".to_owned()], vec![]).unwrap();
    let request = RestoreRequest { selection, ..verified(IfExists::Merge) };
    assert_eq!(
        backed.restored(target.address(), RestoreOptions::default(), request).await.entries,
        3
    );
    // There is nothing that could be added to it.
    let next = back_up(&backed.repo, &source(&backed.server).await).await;
    assert_eq!(next.kind, BackupKind::Full);
    backed.repo.assert_sound().await;
}

/// The rights that are asked for are enough; without them both ways are told.
pub(super) async fn few_rights_are_enough_for_a_scan(version: Version) {
    let server = Redis::start(version);
    fill_exactly(&server);
    let rights = "+ping +info +time +select +scan +dump +pexpiretime +pttl +function|dump";
    // Older servers do not know all of them.
    let known = |right: &&str| {
        version >= Version::Redis7 || !["+pexpiretime", "+function|dump"].contains(right)
    };
    let user = ["ACL", "SETUSER", "backup", "on", ">secret", "~*"]
        .into_iter()
        .chain(rights.split(' ').filter(known));
    server.run(&user.collect::<Vec<_>>());
    server.run(&["ACL", "SETUSER", "weak", "on", ">secret", "~*", "+ping", "+info"]);
    let login = |user: &str| {
        let (user, password) = (Some(user.to_owned()), Some("secret".to_owned()));
        RedisOptions { user, password, ..RedisOptions::parse(&server.address()).unwrap() }
    };
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let weak = source_with(login("weak")).await;
    let error = repo.try_backup(&weak, &BackupOptions::default()).await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains("+psync") && hint.contains("+scan"), "{} ({hint})", error.chain());
    // Nobody is given less than he has asked for.
    let strict = RedisOptions { reader: Some(SnapshotReading::Replica), ..login("backup") };
    assert!(repo.try_backup(&source_with(strict).await, &BackupOptions::default()).await.is_err());
    let allowed = source_with(login("backup")).await;
    let report = back_up(&repo, &allowed).await;
    let objects =
        repo.reader(report.snapshot.unwrap()).await.manifest().await.unwrap().unwrap().objects;
    assert_eq!(objects, digest(&source(&server).await).await.objects);
    let wanted = RedisOptions { reader: Some(SnapshotReading::Scan), ..login("backup") };
    let error = source_with(wanted).await.open_log(&Context::silent(), None).await.err().unwrap();
    assert!(error.hint().unwrap().contains("replica"), "{error:?}");
}
