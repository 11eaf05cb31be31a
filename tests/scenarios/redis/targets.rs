//! What targets are like, and what snapshots hold that is not for every target.

use std::collections::BTreeSet;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::source::{IfExists, RestoreRequest, Selection};
use backup_sources::redis::{RestoreOptions, Ttl};

use super::restores::{Backed, assert_same, replica, verified};
use super::{digest, source, talking};
use crate::support::redis::{Redis, Version};

/// What cannot go is found before anything of the target is dropped.
pub(super) async fn nothing_is_dropped_in_vain(version: Version) {
    let backed = Backed::up(version).await;
    let check = async |target: &Redis, options: RestoreOptions, address: String, what: &str| {
        target.run(&["SET", "old", "x"]);
        for dry_run in [true, false] {
            let request = RestoreRequest { dry_run, ..verified(IfExists::Replace) };
            let error =
                backed.restore(address.clone(), options.clone(), request).await.unwrap_err();
            assert!(error.chain().contains(what), "{} ({:?})", error.chain(), error.hint());
            assert_eq!(target.run(&["GET", "old"]).text(), "x", "{}", error.chain());
            assert_eq!(target.info("role"), "master");
        }
    };
    // It has fewer databases than the snapshot.
    let few = Redis::with(version, &["--databases", "4"]);
    check(&few, RestoreOptions::default(), few.address(), "database 9").await;
    check(&few, replica(), few.address(), "no database 9").await;
    let mapped = RestoreOptions { databases: vec![(3, 20)], ..RestoreOptions::default() };
    check(&few, mapped, few.address(), "database").await;
    let unknown = RestoreOptions { databases: vec![(5, 1)], ..RestoreOptions::default() };
    check(&few, unknown, few.address(), "no database 5").await;
    // It has too little memory.
    let small = Redis::with(version, &["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"]);
    check(&small, RestoreOptions::default(), small.address(), "memory").await;
    check(&small, replica(), small.address(), "memory").await;
    // It does not let us write.
    let strict = Redis::start(version);
    strict.run(&["ACL", "SETUSER", "weak", "on", ">secret", "~*", "+@all", "-restore"]);
    let weak = format!("redis://weak:secret@127.0.0.1:{}", strict.port());
    check(&strict, RestoreOptions::default(), weak, "NOPERM").await;
    // Only the databases that are asked for have to fit.
    let selection = Selection::new(vec!["/3/hash1:*".to_owned()], vec![]).unwrap();
    let request = RestoreRequest { selection, ..verified(IfExists::Merge) };
    let options = RestoreOptions { databases: vec![(3, 0)], ..RestoreOptions::default() };
    assert_eq!(backed.restored(few.address(), options, request).await.entries, 3);
}

/// Dead keys and fields that nobody has removed yet stay dead, whatever becomes of times; those of
/// fields cannot be changed.
pub(super) async fn the_dead_stay_dead(version: Version) {
    let server = Redis::start(version);
    let mut client = server.client();
    client.ok(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    let now = SystemClock.now().as_millisecond();
    client.ok(&["SET", "dead", "x", "PX", "200"]);
    client.ok(&["SET", "soon", "x", "PX", "100000"]);
    client.ok(&["SET", "stays", "x"]);
    for (hash, dying) in [("partly", &["f0"][..]), ("wholly", &["f0", "f1", "f2"])] {
        client.ok(&["HSET", hash, "f0", "x", "f1", "y", "f2", "z"]);
        let count = dying.len().to_string();
        let at = (now + 1500).to_string();
        let arguments = [&["HPEXPIREAT", hash, &at, "FIELDS", &count][..], dying].concat();
        client.ok(&arguments);
    }
    tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
    let backed = Backed::of(server).await;
    for ttl in [Ttl::Never, Ttl::Shifted] {
        let target = Redis::start(version);
        let options = RestoreOptions { ttl, ..RestoreOptions::default() };
        let error =
            backed.restore(target.address(), options, verified(IfExists::Fail)).await.unwrap_err();
        assert!(
            error.chain().contains("2 of the keys") && error.chain().contains("fields expire"),
            "{}",
            error.chain()
        );
        let mut keys: Vec<String> =
            target.run(&["KEYS", "*"]).list().iter().map(|key| key.text()).collect();
        keys.sort();
        assert_eq!(keys, ["soon", "stays"]);
        let left = target.run(&["PTTL", "soon"]).number();
        assert_eq!(ttl == Ttl::Never, left == -1, "{left}");
    }
    tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
    let target = Redis::start(version);
    let report = backed
        .restored(target.address(), RestoreOptions::default(), verified(IfExists::Fail))
        .await;
    assert_eq!((report.entries, target.run(&["DBSIZE"]).number()), (3, 3));
    let fields: BTreeSet<String> =
        target.run(&["HKEYS", "partly"]).list().iter().map(|field| field.text()).collect();
    assert!(fields.contains("f1") && fields.contains("f2") && !fields.contains("f0"), "{fields:?}");
}

/// Whatever keeps a target from getting everything as a replica, it does not stay one.
pub(super) async fn a_target_is_its_own_master_again(version: Version) {
    let backed = Backed::up(version).await;
    // It closes connections that are not used for a second, and loads longer than that.
    let target = Redis::with(version, &["--timeout", "1", "--key-load-delay", "3000"]);
    let source = source(&backed.server).await.restoring(replica());
    let request = RestoreRequest { target: Some(target.address()), ..verified(IfExists::Replace) };
    let snapshot = backed.repo.reader(backed.snapshot).await;
    let cx = talking();
    let restoring = backup_core::pipeline::restore(&snapshot, &source, &request, &cx);
    let cancelling = async {
        let mut client = target.client();
        let started = std::time::Instant::now();
        loop {
            match client.run(&["INFO", "persistence"]) {
                Ok(info) if info.text().contains("loading:1") => break,
                Ok(_) => {}
                Err(_) => client = target.client(),
            }
            assert!(started.elapsed() < std::time::Duration::from_secs(60), "it does not load");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        cx.cancel.cancel();
    };
    let (restored, ()) = tokio::join!(restoring, cancelling);
    let error = restored.unwrap_err();
    assert!(error.is_cancelled(), "{}", error.chain());
    assert!(error.hint().unwrap().contains("restore again"), "{:?}", error.hint());
    assert_eq!(target.info("role"), "master");
    target.run(&["CONFIG", "SET", "key-load-delay", "0"]);
    backed.restored(target.address(), replica(), verified(IfExists::Replace)).await;
    assert_same(&backed.server, &target);
    assert_eq!(target.info("role"), "master");
}

/// Values that expand to more than is held in memory are stored, restored and found again; their
/// digest is of their type alone.
pub(super) async fn what_expands_to_a_lot_is_stored_all_the_same(version: Version) {
    let server = Redis::start(version);
    // 64 MiB of zeros: less than one in the file.
    server.run(&["SETBIT", "zeros", "536870911", "1"]);
    server.run(&["SET", "a", "x"]);
    let backed = Backed::of(server).await;
    let node = super::file(&backed.repo.reader(backed.snapshot).await, "node.json").await;
    let node: serde_json::Value = serde_json::from_slice(&node).unwrap();
    assert_eq!(node["dump"]["not_hashed"], 1);
    let target = Redis::with(version, &["--rdbcompression", "no"]);
    backed.restored(target.address(), RestoreOptions::default(), verified(IfExists::Fail)).await;
    assert_same(&backed.server, &target);
    assert_eq!(digest(&source(&backed.server).await).await, digest(&source(&target).await).await);
}
