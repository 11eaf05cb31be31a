//! What is restored: key by key, as a replica, as files.

use std::collections::BTreeSet;
use std::sync::Arc;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::error::ErrorKind;
use backup_core::source::{IfExists, RestoreReport, RestoreRequest, Selection};
use backup_core::testing::MemorySink;
use backup_sources::redis::{Engine, RestoreOptions, Ttl, Way};

use super::data::{LATER, fill};
use super::{back_up, digest, say, source, talking};
use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;

/// A filled server and a snapshot of it.
pub(super) struct Backed {
    pub(super) server: Redis,
    pub(super) repo: Repo,
    pub(super) snapshot: backup_core::id::SnapshotId,
}

impl Backed {
    pub(super) async fn up(version: Version) -> Self {
        let server = Redis::start(version);
        fill(&server);
        Self::of(server).await
    }

    pub(super) async fn of(server: Redis) -> Self {
        let repo = Repo::init(Arc::new(MemorySink::new())).await;
        let snapshot = back_up(&repo, &source(&server).await).await.snapshot.unwrap();
        Self { server, repo, snapshot }
    }

    pub(super) async fn restore(
        &self,
        target: String,
        options: RestoreOptions,
        request: RestoreRequest,
    ) -> Result<RestoreReport, backup_core::error::Error> {
        let source = source(&self.server).await.restoring(options);
        let request = RestoreRequest { target: Some(target), ..request };
        let snapshot = self.repo.reader(self.snapshot).await;
        backup_core::pipeline::restore(&snapshot, &source, &request, &talking()).await
    }

    pub(super) async fn restored(
        &self,
        target: String,
        options: RestoreOptions,
        request: RestoreRequest,
    ) -> RestoreReport {
        let report = self.restore(target, options, request).await;
        report.unwrap_or_else(|error| panic!("restoring: {} ({:?})", error.chain(), error.hint()))
    }
}

pub(super) fn verified(if_exists: IfExists) -> RestoreRequest {
    RestoreRequest { verify: true, if_exists, ..RestoreRequest::default() }
}

pub(super) fn replica() -> RestoreOptions {
    RestoreOptions { engine: Engine::Replica(Way::default()), ..RestoreOptions::default() }
}

fn libraries(server: &Redis) -> usize {
    if server.version == Version::Redis6 {
        0
    } else {
        server.run(&["FUNCTION", "LIST"]).list().len()
    }
}

/// The server itself says that both have the same.
#[track_caller]
pub(super) fn assert_same(one: &Redis, other: &Redis) {
    assert_eq!(one.debug_digest(), other.debug_digest());
    assert_eq!(libraries(one), libraries(other));
}

/// Encodings, groups of streams, times of expiry.
fn details(server: &Redis) -> Vec<String> {
    let mut client = server.client();
    let mut found = Vec::new();
    for database in ["0", "3", "9"] {
        client.ok(&["SELECT", database]);
        let mut keys: Vec<String> =
            client.ok(&["KEYS", "*"]).list().iter().map(|key| key.text()).collect();
        keys.sort();
        for key in keys {
            let mut line = format!("{database} {key}");
            for question in [vec!["OBJECT", "ENCODING", &key], vec!["PTTL", &key]] {
                let answer = client.ok(&question).text();
                let answer = if answer == "raw" { "embstr".to_owned() } else { answer };
                // Time goes on between two servers.
                line += &format!(
                    " {}",
                    if question[0] == "PTTL" { (answer != "-1").to_string() } else { answer }
                );
            }
            if key.starts_with("stream") {
                line += &format!(" {:?}", client.ok(&["XINFO", "GROUPS", &key]));
                line += &format!(
                    " {:?}",
                    client.run(&["XPENDING", &key, "g1", "-", "+", "100"]).map(|all| {
                        let pending = all
                            .list()
                            .iter()
                            .map(|one| (one.list()[0].text(), one.list()[1].text()));
                        pending.collect::<Vec<_>>()
                    })
                );
            }
            found.push(line);
        }
    }
    found
}

/// Nothing is lost on the way, what is there is left alone, and replaced if that is asked for.
pub(super) async fn all_keys_come_back(version: Version) {
    let backed = Backed::up(version).await;
    let target = Redis::start(version);
    let report = backed
        .restored(target.address(), RestoreOptions::default(), verified(IfExists::Fail))
        .await;
    assert_same(&backed.server, &target);
    assert_eq!(details(&backed.server), details(&target));
    let keys: u64 =
        digest(&source(&target).await).await.objects.values().map(|object| object.count).sum();
    assert_eq!(report.entries, keys);
    assert!(report.verified_bytes > 2_000_000, "{report:?}");

    let error = backed
        .restore(target.address(), RestoreOptions::default(), verified(IfExists::Fail))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TargetExists, "{}", error.chain());
    target.run(&["SET", "s0:small", "changed"]);
    target.run(&["SET", "another", "x"]);
    backed.restored(target.address(), RestoreOptions::default(), verified(IfExists::Merge)).await;
    assert_eq!(target.run(&["DEL", "another"]).number(), 1);
    assert_same(&backed.server, &target);
    target.run(&["SET", "another", "x"]);
    backed.restored(target.address(), RestoreOptions::default(), verified(IfExists::Replace)).await;
    assert_same(&backed.server, &target);
}

/// A server that follows us for a while has everything, and is its own master again.
pub(super) async fn a_replica_gets_everything(version: Version) {
    let backed = Backed::up(version).await;
    let target = Redis::start(version);
    target.run(&["SET", "another", "x"]);
    let error =
        backed.restore(target.address(), replica(), verified(IfExists::Fail)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TargetExists, "{}", error.chain());
    assert_eq!(target.run(&["GET", "another"]).text(), "x");
    backed.restored(target.address(), replica(), verified(IfExists::Replace)).await;
    assert_same(&backed.server, &target);
    assert_eq!(details(&backed.server), details(&target));
    assert_eq!(target.info("role"), "master");
    target.run(&["SET", "writable", "x"]);
}

/// A server starts on the files.
pub(super) async fn a_server_starts_on_the_files(version: Version) {
    let backed = Backed::up(version).await;
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("data");
    let target = directory.to_str().unwrap().to_owned();
    backed.restored(target.clone(), RestoreOptions::default(), RestoreRequest::default()).await;
    let started = Redis::on(version, Some(&directory), &[]);
    assert_same(&backed.server, &started);
    let error = backed
        .restore(target, RestoreOptions::default(), verified(IfExists::Fail))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TargetExists, "{}", error.chain());
}

/// Selecting, other databases, other names, other times.
pub(super) async fn parts_go_where_they_are_wanted(version: Version) {
    let backed = Backed::up(version).await;
    let target = Redis::start(version);
    target.run(&["SET", "elsewhere", "x"]);
    let options = RestoreOptions {
        databases: vec![(3, 7)],
        rename_prefix: Some(("hash".to_owned(), "copy of hash".to_owned())),
        ..RestoreOptions::default()
    };
    let selection =
        Selection::new(vec!["/3/hash1:*".to_owned(), "/3/list1:small".to_owned()], vec![]).unwrap();
    let request = RestoreRequest { selection, ..verified(IfExists::Fail) };
    let dry = backed
        .restored(
            target.address(),
            options.clone(),
            RestoreRequest { dry_run: true, ..request.clone() },
        )
        .await;
    assert_eq!((dry.entries, target.run(&["DBSIZE"]).number()), (4, 1));
    backed.restored(target.address(), options, request).await;
    let mut client = target.client();
    client.ok(&["SELECT", "7"]);
    let keys: BTreeSet<String> =
        client.ok(&["KEYS", "*"]).list().iter().map(|key| key.text()).collect();
    let wanted =
        ["copy of hash1:large", "copy of hash1:small", "copy of hash1:wide", "list1:small"];
    assert_eq!(keys, wanted.iter().map(|key| (*key).to_owned()).collect());

    // Keys that expire: at their time, a while later, never.
    for (ttl, database) in [(Ttl::Absolute, 1), (Ttl::Shifted, 2), (Ttl::Never, 4)] {
        let options =
            RestoreOptions { databases: vec![(0, database)], ttl, ..RestoreOptions::default() };
        let selection = Selection::new(vec!["/0/s0:ttl".to_owned()], vec![]).unwrap();
        let request = RestoreRequest { selection, ..verified(IfExists::Fail) };
        backed.restored(target.address(), options, request).await;
        client.ok(&["SELECT", &database.to_string()]);
        let left = client.ok(&["PTTL", "s0:ttl"]).number();
        let now = SystemClock.now().as_millisecond();
        let at = i64::try_from(LATER).unwrap() - now;
        match ttl {
            Ttl::Absolute => assert!((left - at).abs() < 5000, "{left} {at}"),
            Ttl::Shifted => assert!(left > at && left < at + 120_000, "{left} {at}"),
            Ttl::Never => assert_eq!(left, -1),
        }
    }
}

/// What has expired since is left out; what is used how often comes along.
pub(super) async fn expired_keys_stay_away_and_use_is_kept(version: Version) {
    let server = Redis::with(version, &["--maxmemory-policy", "allkeys-lfu"]);
    let mut client = server.client();
    client.ok(&["SET", "soon", "x", "PX", "1500"]);
    client.ok(&["SET", "used", "x"]);
    for _ in 0..500 {
        client.ok(&["GET", "used"]);
    }
    let frequency = client.ok(&["OBJECT", "FREQ", "used"]).number();
    let backed = Backed::of(server).await;
    let shifted = Redis::with(version, &["--maxmemory-policy", "allkeys-lfu"]);
    tokio::time::sleep(std::time::Duration::from_millis(1600)).await;
    let options = RestoreOptions { ttl: Ttl::Shifted, ..RestoreOptions::default() };
    let report = backed.restored(shifted.address(), options, RestoreRequest::default()).await;
    assert_eq!(report.entries, 2);
    let target = Redis::with(version, &["--maxmemory-policy", "allkeys-lfu"]);
    let report = backed
        .restored(target.address(), RestoreOptions::default(), verified(IfExists::Fail))
        .await;
    assert_eq!((report.entries, target.run(&["DBSIZE"]).number()), (1, 1));
    let found = target.run(&["OBJECT", "FREQ", "used"]).number();
    assert!(frequency > 5 && (found - frequency).abs() <= 1, "{found} {frequency}");
}

/// A larger value than the target takes is refused, and the others are there.
pub(super) async fn values_that_are_too_large_are_refused_alone(version: Version) {
    let backed = Backed::up(version).await;
    let target = Redis::with(version, &["--proto-max-bulk-len", "1mb"]);
    let error = backed
        .restore(target.address(), RestoreOptions::default(), verified(IfExists::Fail))
        .await
        .unwrap_err();
    assert!(error.chain().contains("could not be restored"), "{}", error.chain());
    assert!(error.chain().contains("s0:large"), "{}", error.chain());
    let mut client = target.client();
    let mut own = backed.server.client();
    for (database, large) in [("0", 1), ("3", 2), ("9", 1)] {
        client.ok(&["SELECT", database]);
        own.ok(&["SELECT", database]);
        assert_eq!(client.ok(&["DBSIZE"]).number(), own.ok(&["DBSIZE"]).number() - large);
    }
    // The other way has no such limit.
    backed.restored(target.address(), replica(), verified(IfExists::Replace)).await;
    assert_same(&backed.server, &target);
    // A replica takes no writes.
    let master = Redis::start(version);
    target.run(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let error = backed
        .restore(target.address(), RestoreOptions::default(), verified(IfExists::Merge))
        .await
        .unwrap_err();
    assert!(error.chain().contains("replica"), "{}", error.chain());
}

/// From every version to every other: exactly those keys are refused that the target cannot have,
/// and the others are the same.
pub(super) async fn versions_are_no_wall() {
    for from in Version::ALL {
        let backed = Backed::up(from).await;
        let origin = digest(&source(&backed.server).await).await;
        let total: u64 = origin.objects.values().map(|object| object.count).sum();
        for to in Version::ALL {
            let target = Redis::start(to);
            let done = backed
                .restore(target.address(), RestoreOptions::default(), verified(IfExists::Fail))
                .await;
            let refused = refused_keys(&backed.server, to);
            let found = digest(&source(&target).await).await;
            let count: u64 = found.objects.values().map(|object| object.count).sum();
            say(&format!("{from:?} to {to:?}: {count} of {total}"));
            let text = done.as_ref().err().map(backup_core::error::Error::chain);
            assert_eq!(count, total - refused.len() as u64, "{from:?} to {to:?}: {text:?}");
            let functions_lost = from != Version::Redis6 && to == Version::Redis6;
            assert_eq!(
                done.is_err(),
                !refused.is_empty() || functions_lost,
                "{from:?} to {to:?}: {text:?}"
            );
            if refused.is_empty() {
                assert_eq!(origin, found, "{from:?} to {to:?}");
            } else {
                without_field_times(&backed, to).await;
            }
        }
    }
}

/// With the flag for it, the refused hashes are restored without the times of their fields.
async fn without_field_times(backed: &Backed, to: Version) {
    let target = Redis::start(to);
    let options = RestoreOptions {
        drops_field_times: true,
        without_functions: to == Version::Redis6,
        ..RestoreOptions::default()
    };
    let report = backed.restored(target.address(), options, verified(IfExists::Fail)).await;
    assert!(report.warnings > 0, "{report:?}");
    for (database, key) in [("0", "ttl0:few"), ("3", "ttl1:many")] {
        let fields = |server: &Redis| {
            let mut client = server.client();
            client.ok(&["SELECT", database]);
            let all = client.ok(&["HGETALL", key]);
            let mut pairs: Vec<_> =
                all.list().chunks(2).map(|pair| (pair[0].text(), pair[1].text())).collect();
            pairs.sort();
            pairs
        };
        assert!(!fields(&target).is_empty());
        assert_eq!(fields(&backed.server), fields(&target), "{key} to {to:?}");
    }
}

/// The keys that the target cannot have.
fn refused_keys(server: &Redis, to: Version) -> Vec<String> {
    let mut client = server.client();
    let mut found = Vec::new();
    for database in ["0", "3", "9"] {
        client.ok(&["SELECT", database]);
        for key in client.ok(&["KEYS", "*"]).list() {
            let key = key.text();
            let known = !key.starts_with("ttl") || to.has_field_ttl();
            if !known {
                found.push(key);
            }
        }
    }
    found
}
