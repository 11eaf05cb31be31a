//! What is in snapshots.

use std::process::Command;
use std::sync::Arc;

use backup_core::testing::MemorySink;

use super::data::fill;
use super::{back_up, digest, file, source};
use crate::support::process::run;
use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;

/// Stock tools find nothing wrong with it, a server loads it and has the same; what is said of it
/// is right.
pub(super) async fn the_dump_is_what_the_server_has(version: Version) {
    let server = Redis::start(version);
    fill(&server);
    let source = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let report = back_up(&repo, &source).await;
    let snapshot = repo.reader(report.snapshot.unwrap()).await;
    let room = tempfile::tempdir().unwrap();
    let dump = room.path().join("dump.rdb");
    std::fs::write(&dump, file(&snapshot, "dump.rdb").await).unwrap();
    run(Command::new(version.program("check-rdb")).arg(&dump)).succeeded();
    let loaded = Redis::on(version, Some(room.path()), &[]);
    assert_eq!(loaded.debug_digest(), server.debug_digest());

    let manifest = snapshot.manifest().await.unwrap().unwrap();
    let own = digest(&source).await;
    assert_eq!(manifest.objects, own.objects);
    assert_eq!(own, digest(&super::source(&loaded).await).await);
    let mut client = server.client();
    for (number, database) in [(0, "db0"), (3, "db3"), (9, "db9")] {
        client.ok(&["SELECT", &number.to_string()]);
        let keys = client.ok(&["DBSIZE"]).number();
        assert_eq!(own.objects[database].count, u64::try_from(keys).unwrap());
    }
    let node: serde_json::Value =
        serde_json::from_slice(&file(&snapshot, "node.json").await).unwrap();
    let libraries = if version == Version::Redis6 { 0 } else { 2 };
    assert_eq!(node["dump"]["libraries"], libraries);
    assert_eq!(node["dump"]["biggest"][0]["key"], "s0:large");
    assert_eq!(node["dump"]["databases"]["3"]["types"]["stream"][0], 4);
    assert_eq!(node["dump"]["databases"]["0"]["expiring"], 1);
    assert!(node["dump"]["unknown"].is_null(), "{node}");
    assert!(manifest.server_version.unwrap().starts_with(if version >= Version::Valkey8 {
        "Valkey"
    } else {
        "Redis"
    }));

    // One changed element of one value is another digest, of one database only.
    client.ok(&["HSET", "hash0:large", "field 7", "changed"]);
    let changed = digest(&source).await;
    assert_ne!(changed.objects["db9"], own.objects["db9"]);
    assert_eq!(changed.objects["db0"], own.objects["db0"]);
}
