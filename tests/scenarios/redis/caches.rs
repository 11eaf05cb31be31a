//! Targets with little memory: caches that evict keys, and servers that refuse them.

use backup_core::source::{IfExists, RestoreReport, RestoreRequest, Selection};
use backup_sources::redis::RestoreOptions;

use super::restores::{Backed, replica, verified};
use crate::support::redis::{Answer, Redis, Version};

const VALUE: usize = 10_000;

/// A cache with more keys written than it holds.
fn full_cache(version: Version) -> Redis {
    let server = Redis::with(
        version,
        &["--maxmemory", "12mb", "--maxmemory-policy", "allkeys-lru", "--maxmemory-samples", "10"],
    );
    let value = "v".repeat(VALUE);
    let mut client = server.client();
    for number in 0..2000 {
        client.ok(&["SET", &format!("k{number}"), &value]);
    }
    assert!(server.info("evicted_keys").parse::<u64>().unwrap() > 500);
    server
}

fn keys(server: &Redis) -> u64 {
    server.run(&["DBSIZE"]).number().unsigned_abs()
}

/// A cache at its `maxmemory` restores into an identical server and into itself: keys that the
/// target evicts are counted in a warning.
pub(super) async fn restore_of_a_full_cache_counts_evicted_keys(version: Version) {
    let backed = Backed::of(full_cache(version)).await;
    // The server itself evicts more keys after the snapshot.
    let manifest = backed.repo.reader(backed.snapshot).await.manifest().await.unwrap().unwrap();
    let stored = manifest.objects["db0"].count;
    let evicted = |server: &Redis| server.info("evicted_keys").parse::<u64>().unwrap();
    let check = |server: &Redis, before: u64, report: &RestoreReport| {
        let gone = evicted(server) - before;
        assert_eq!(report.entries, stored);
        assert!(report.warnings == 1 || gone == 0 && report.warnings == 0, "{gone} {report:?}");
        // No key but those that the server itself has evicted is missing.
        assert!(keys(server) + gone >= stored, "{} of {stored}, {gone} evicted", keys(server));
    };
    let like = Redis::with(version, &["--maxmemory", "12mb", "--maxmemory-policy", "allkeys-lru"]);
    let report =
        backed.restored(like.address(), RestoreOptions::default(), verified(IfExists::Fail)).await;
    check(&like, 0, &report);
    for if_exists in [IfExists::Merge, IfExists::Replace] {
        let before = evicted(&backed.server);
        let options = RestoreOptions::default();
        let report = backed.restored(backed.server.address(), options, verified(if_exists)).await;
        check(&backed.server, before, &report);
    }
    let before = evicted(&like);
    let report = backed.restored(like.address(), replica(), verified(IfExists::Replace)).await;
    let gone = evicted(&like) - before;
    assert!(keys(&like) + gone >= stored && (report.warnings > 0) == (gone > 0), "{report:?}");
}

/// A cache that surely cannot hold the keys is refused before it is emptied; if that is forced, the
/// evicted keys are counted.
pub(super) async fn small_cache_is_filled_only_by_force(version: Version) {
    let backed = Backed::of(full_cache(version)).await;
    let small = Redis::with(version, &["--maxmemory", "5mb", "--maxmemory-policy", "allkeys-lru"]);
    small.run(&["SET", "old", "x"]);
    let replace = verified(IfExists::Replace);
    for options in [RestoreOptions::default(), replica()] {
        let error = backed.restore(small.address(), options, replace.clone()).await.unwrap_err();
        assert!(error.chain().contains("maxmemory of the target"), "{}", error.chain());
        assert!(error.hint().unwrap().contains("--force-memory"), "{:?}", error.hint());
        assert_eq!(small.run(&["GET", "old"]).text(), "x");
    }
    let options = RestoreOptions { memory_is_forced: true, ..RestoreOptions::default() };
    let report = backed.restored(small.address(), options, replace).await;
    let gone = small.info("evicted_keys").parse::<u64>().unwrap();
    assert!(gone > 100 && report.warnings == 1, "{gone} {report:?}");
    // Those that are left are those of the snapshot.
    // The server evicts more while keys are read.
    let (left, value) = (small.run(&["KEYS", "*"]), "v".repeat(VALUE).into_bytes());
    let mut same = 0;
    for key in left.list() {
        let name = key.text();
        match small.run(&["GET", &name]) {
            Answer::Nil => {}
            Answer::Bytes(bytes) if name.starts_with('k') && bytes == value => same += 1,
            _ => panic!("{name} differs"),
        }
    }
    assert!(same > 100, "{same} of {}", left.list().len());
}

/// A restore that stops half way names the number of written keys, and the flag of the command that
/// completes it.
pub(super) async fn restore_that_stops_half_way_can_go_on(version: Version) {
    let server = Redis::start(version);
    for number in 0..400 {
        server.run(&["SET", &format!("k{number}"), &format!("{number}").repeat(10_000)]);
    }
    let backed = Backed::of(server).await;
    let target = Redis::with(version, &["--maxmemory", "6mb"]);
    let only = Selection::new(vec!["/0/k*".to_owned()], vec![]).unwrap();
    let request = RestoreRequest { selection: only, ..verified(IfExists::Fail) };
    let options = RestoreOptions::default;
    let error = backed.restore(target.address(), options(), request.clone()).await.unwrap_err();
    let written = keys(&target);
    let chain = error.chain();
    let named: u64 = chain
        .split_once("the restore stopped after ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{chain}"));
    // Keys whose confirmation was not read are not counted.
    assert!(named > 0 && named <= written && written < 400, "{named} {written}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("maxmemory") && hint.contains("--if-exists merge"), "{hint}");
    target.run(&["CONFIG", "SET", "maxmemory", "0"]);
    let again = RestoreRequest { if_exists: IfExists::Merge, ..request };
    backed.restored(target.address(), options(), again).await;
    assert_eq!(target.debug_digest(), backed.server.debug_digest());
}
