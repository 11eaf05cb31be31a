//! What is in the way of a restore is found before anything of the target goes, and said so that it
//! can be mended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::error::Error;
use backup_core::event::Events;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, IfExists, RestoreReport, RestoreRequest, Selection};
use backup_core::testing::MemorySink;
use backup_sources::Waits;
use backup_sources::redis::{Engine, RedisOptions, RestoreOptions, Ttl, Way};

use super::restores::{Backed, assert_same, replica, verified};
use super::{back_up, source, source_with, talking};
use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;
use crate::support::tls::Authority;

/// Two keys that would get one name: known before anything is dropped.
pub(super) async fn names_that_meet_are_refused_first() {
    let server = Redis::start(Version::Redis8);
    server.run(&["MSET", "a:1", "x", "b:1", "y", "c", "z"]);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let snapshot = back_up(&repo, &source(&server).await).await.snapshot.unwrap();
    let backed = Backed { server, repo, snapshot };
    let target = Redis::start(Version::Redis8);
    target.run(&["SET", "old", "x"]);
    let renamed = |from: &str, to: &str| RestoreOptions {
        rename_prefix: Some((from.to_owned(), to.to_owned())),
        ..RestoreOptions::default()
    };
    let replace = verified(IfExists::Replace);
    let refused =
        backed.restore(target.address(), renamed("a:", "b:"), replace.clone()).await.unwrap_err();
    assert!(refused.chain().contains("another key gets the same name"), "{}", refused.chain());
    assert_eq!(target.run(&["GET", "old"]).text(), "x");
    let done = backed.restored(target.address(), renamed("a:", "d:"), replace).await;
    assert_eq!((done.entries, target.run(&["GET", "d:1"]).text()), (3, "x".to_owned()));
}

/// What a server of another version cannot have stays away, and what it has stays, also if the
/// repository is damaged.
pub(super) async fn nothing_goes_for_what_cannot_come() {
    let server = Redis::start(Version::Redis8);
    server.run(&["SET", "plain", "x"]);
    server.run(&["HSET", "timed", "f", "x"]);
    server.run(&["HPEXPIREAT", "timed", "4000000000000", "FIELDS", "1", "f"]);
    let sink = MemorySink::new();
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let snapshot = back_up(&repo, &source(&server).await).await.snapshot.unwrap();
    let backed = Backed { server, repo, snapshot };
    let target = Redis::start(Version::Valkey8);
    target.run(&["SET", "old", "x"]);
    let replace = verified(IfExists::Replace);
    let dry = RestoreRequest { dry_run: true, ..replace.clone() };
    for request in [&dry, &replace] {
        let refused = backed
            .restore(target.address(), RestoreOptions::default(), request.clone())
            .await
            .unwrap_err();
        assert!(refused.chain().contains("0/timed"), "{}", refused.chain());
        assert!(
            !refused.hint().unwrap().contains("is lost or partly replaced"),
            "{:?}",
            refused.hint()
        );
        assert_eq!(target.run(&["GET", "old"]).text(), "x");
    }
    // Merging leaves it out, and a dry run says so.
    let merge = RestoreRequest { dry_run: true, ..verified(IfExists::Merge) };
    let report = backed.restored(target.address(), RestoreOptions::default(), merge).await;
    assert_eq!((report.entries, report.warnings), (1, 1));
    // Of its own kind it fits; how many keys go is said before.
    let same = Redis::start(Version::Redis8);
    same.run(&["SET", "old", "x"]);
    let report = backed.restored(same.address(), RestoreOptions::default(), dry.clone()).await;
    assert_eq!((report.entries, report.removed), (2, 1));
    // The packs are gone.
    let packs: Vec<_> =
        sink.objects().into_keys().filter(|key| key.as_str().starts_with("data/")).collect();
    packs.iter().for_each(|pack| sink.remove(pack));
    for options in [RestoreOptions::default(), replica()] {
        for request in [&dry, &replace] {
            let error =
                backed.restore(same.address(), options.clone(), request.clone()).await.unwrap_err();
            assert_eq!(same.run(&["GET", "old"]).text(), "x", "{}", error.chain());
            assert_eq!(same.info("role"), "master");
        }
    }
}

/// Rights are looked at before anything goes, and what fails has no part in it.
pub(super) async fn rights_are_looked_at_first(version: Version) {
    let backed = Backed::up(version).await;
    let target = Redis::start(version);
    target.run(&["SET", "old", "x"]);
    let has_functions = version >= Version::Redis7;
    if has_functions {
        target.run(&[
            "FUNCTION",
            "LOAD",
            "#!lua name=own\nredis.register_function('f', function() return 1 end)",
        ]);
    }
    let strict = async |rights: &[&str], options: RestoreOptions, what: &str| {
        let user =
            [&["ACL", "SETUSER", "weak", "reset", "on", ">secret", "~*", "+@all"], rights].concat();
        target.run(&user);
        let weak = format!("redis://weak:secret@127.0.0.1:{}", target.port());
        let error = backed.restore(weak, options, verified(IfExists::Replace)).await.unwrap_err();
        let hint = error.hint().unwrap_or_default();
        assert!(
            hint.contains(what) && !hint.contains("is lost or partly replaced"),
            "{} ({hint})",
            error.chain()
        );
        assert_eq!(
            (target.run(&["GET", "old"]).text(), target.info("role")),
            ("x".to_owned(), "master".to_owned())
        );
        if has_functions {
            assert_eq!(target.run(&["FUNCTION", "LIST"]).list().len(), 1);
        }
    };
    let keys = RestoreOptions::default();
    strict(&["-flushall"], RestoreOptions { without_functions: true, ..keys.clone() }, "+flushall")
        .await;
    strict(&["-flushall"], keys.clone(), "+flushall").await;
    strict(&["-info"], keys, "+info").await;
    strict(&["-replicaof"], replica(), "+replicaof").await;
    strict(&["-info"], replica(), "+info").await;
    if has_functions {
        strict(&["-function"], replica(), "+function|list").await;
    }
}

/// Of a restore into `server` as a replica, by which it is connected to.
async fn follow(
    backed: &Backed,
    server: &Redis,
    way: Way,
    request: RestoreRequest,
    silence: Duration,
) -> Result<RestoreReport, Error> {
    let restore = RestoreOptions { engine: Engine::Replica(way), ..RestoreOptions::default() };
    let options = RedisOptions {
        waits: Waits::new(silence, Events::silent()),
        restore,
        ..RedisOptions::parse(&server.address()).unwrap()
    };
    let (target, snapshot) =
        (source_with(options).await, backed.repo.reader(backed.snapshot).await);
    backup_core::pipeline::restore(&snapshot, &target, &request, &talking()).await
}

/// A target that does not reach us, or comes from another address, keeps what it has, and the
/// reason is told.
pub(super) async fn whoever_does_not_come_keeps_what_he_has(version: Version) {
    let backed = Backed::up(version).await;
    let (replace, soon) = (verified(IfExists::Replace), Duration::from_secs(3));
    let target = Redis::with(version, &["--bind-source-addr", "127.0.0.2"]);
    target.run(&["SET", "old", "x"]);
    let lost = Way {
        announce: Some("127.0.0.77".to_owned()),
        listen: Some("127.0.0.1:0".to_owned()),
        ..Way::default()
    };
    for (way, text, hint) in [
        (lost, "has not connected", "127.0.0.77"),
        (Way::default(), "127.0.0.2", "--replica-from 127.0.0.2"),
    ] {
        let error = follow(&backed, &target, way, replace.clone(), soon).await.unwrap_err();
        let (said, hinted) = (error.chain(), error.hint().unwrap_or_default());
        assert!(
            said.contains(text)
                && hinted.contains(hint)
                && !hinted.contains("is lost or partly replaced"),
            "{said} ({hinted})"
        );
        assert_eq!(
            (target.run(&["GET", "old"]).text(), target.info("role")),
            ("x".to_owned(), "master".to_owned())
        );
    }
    let way = Way { from: vec!["127.0.0.2".parse().unwrap()], ..Way::default() };
    follow(&backed, &target, way, replace, Duration::from_secs(60)).await.unwrap();
    assert_same(&backed.server, &target);
}

/// A target that loads longer than a server may be silent says that it is there, and gets the
/// commands behind the dump as well. What of it could not be compared is a warning.
pub(super) async fn whoever_loads_is_alive(version: Version) {
    let server = Redis::with(version, &["--repl-backlog-size", "128mb", "--rdbcompression", "no"]);
    let mut client = server.client();
    for number in 0..20_000 {
        client.send(&[vec!["SET".to_owned(), format!("key{number}"), "v".repeat(1000)]]);
    }
    (0..20_000).for_each(|_| _ = client.answer().unwrap());
    let mut backed = Backed::of(server).await;
    let value = "v".repeat(1 << 20);
    for number in 0..40 {
        client.ok(&["SET", &format!("large{number}"), &value]);
    }
    client.ok(&["SELECT", "11"]);
    client.ok(&["SET", "behind", "x"]);
    let options = BackupOptions { kind: Some(BackupKind::Incremental), ..BackupOptions::default() };
    let origin = source(&backed.server).await;
    let report =
        backup_core::pipeline::backup(&backed.repo.repository, &origin, &options, &talking())
            .await
            .unwrap();
    assert_eq!(report.kind, BackupKind::Incremental);
    backed.snapshot = report.snapshot.unwrap();
    // A database that only the commands use.
    let few = Redis::with(version, &["--databases", "11"]);
    let silence = Duration::from_secs(4);
    let error =
        follow(&backed, &few, Way::default(), verified(IfExists::Fail), silence).await.unwrap_err();
    assert!(error.chain().contains("no database 11"), "{}", error.chain());
    assert_eq!((few.run(&["DBSIZE"]).number(), few.info("role")), (0, "master".to_owned()));
    // Twelve seconds and more; it says that it is there each second or two.
    let target = Redis::with(version, &["--key-load-delay", "600", "--rdb-key-save-delay", "0"]);
    let started = Instant::now();
    let report =
        follow(&backed, &target, Way::default(), verified(IfExists::Fail), silence).await.unwrap();
    assert!(
        started.elapsed() > silence * 2,
        "it loaded too fast to tell anything: {:?}",
        started.elapsed()
    );
    assert_same(&backed.server, &target);
    assert_eq!((report.warnings, report.verified_bytes), (1, 0));
}

/// What has expired is no success: nothing is emptied for nothing, and little is told.
pub(super) async fn what_has_expired_is_no_success(version: Version) {
    let server = Redis::start(version);
    let at = (SystemClock.now().as_millisecond() + 1500).to_string();
    let mut client = server.client();
    for number in 0..5 {
        client.ok(&["SET", &format!("session:{number}"), "x"]);
        client.ok(&["PEXPIREAT", &format!("session:{number}"), &at]);
    }
    let all = Backed::of(server).await;
    all.server.run(&["SET", "stays", "x"]);
    let full = BackupOptions { kind: Some(BackupKind::Full), ..BackupOptions::default() };
    let most = all.repo.backup(&source(&all.server).await, &full).await.snapshot.unwrap();
    tokio::time::sleep(Duration::from_millis(1600)).await;
    let target = Redis::start(version);
    target.run(&["SET", "old", "x"]);
    let replace = verified(IfExists::Replace);
    let dry = RestoreRequest { dry_run: true, ..replace.clone() };
    let only = Selection::new(vec!["/0/session:*".to_owned()], vec![]).unwrap();
    let part = RestoreRequest { selection: only, ..verified(IfExists::Merge) };
    for request in [&dry, &replace, &part] {
        for options in [RestoreOptions::default(), replica()] {
            let error =
                all.restore(target.address(), options.clone(), request.clone()).await.unwrap_err();
            if options == RestoreOptions::default() || request.selection.is_all() {
                assert!(error.chain().contains("5 keys have expired"), "{}", error.chain());
                assert!(error.hint().unwrap().contains("--expiry shifted"), "{:?}", error.hint());
            }
            assert_eq!(target.run(&["GET", "old"]).text(), "x");
        }
    }
    let most = Backed { snapshot: most, ..all };
    for (options, request) in [
        (RestoreOptions::default(), &dry),
        (RestoreOptions::default(), &replace),
        (replica(), &replace),
    ] {
        let report = most.restored(target.address(), options, request.clone()).await;
        assert!(report.warnings > 0, "{report:?}");
    }
    let options = RestoreOptions { ttl: Ttl::Shifted, ..RestoreOptions::default() };
    let report = most.restored(target.address(), options, replace).await;
    assert_eq!((report.entries, report.warnings), (6, 0));
}

/// A target whose memory is full ends the restore; not one key after the other is tried.
pub(super) async fn a_full_target_is_enough(version: Version) {
    let server = Redis::start(version);
    for number in 0..200 {
        server.run(&["SET", &format!("k{number}"), &"v".repeat(50_000)]);
    }
    let backed = Backed::of(server).await;
    let target = Redis::with(version, &["--maxmemory", "5mb"]);
    let only = Selection::new(vec!["/0/k*".to_owned()], vec![]).unwrap();
    let request = RestoreRequest { selection: only, ..verified(IfExists::Fail) };
    let error =
        backed.restore(target.address(), RestoreOptions::default(), request).await.unwrap_err();
    assert!(
        error.chain().contains("OOM") && !error.chain().contains("of the keys"),
        "{}",
        error.chain()
    );
    assert!(error.hint().unwrap().contains("maxmemory"), "{:?}", error.hint());
}

/// A target that follows masters over TLS only gets a certificate that it trusts; without one it is
/// refused.
pub(super) async fn a_target_follows_over_tls(version: Version) {
    let backed = Backed::up(version).await;
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let ca = authority.write(room.path());
    let (certificate, key) = authority.issue(room.path());
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let target = Redis::start(version);
    let port = target.second_port().to_string();
    let settings = [
        ("tls-ca-cert-file", text(&ca)),
        ("tls-cert-file", text(&certificate)),
        ("tls-key-file", text(&key)),
        ("tls-auth-clients", "no".to_owned()),
        ("tls-port", port.clone()),
        ("tls-replication", "yes".to_owned()),
    ];
    let words = settings.iter().flat_map(|(name, value)| [(*name).to_owned(), value.clone()]);
    target
        .run(&["CONFIG".to_owned(), "SET".to_owned()].into_iter().chain(words).collect::<Vec<_>>());
    target.run(&["SET", "old", "x"]);
    let plain = RedisOptions::parse(&format!("rediss://127.0.0.1:{port}")).unwrap();
    let plain = RedisOptions {
        tls_ca_file: Some(ca),
        restore: replica(),
        waits: Waits::new(Duration::from_secs(5), Events::silent()),
        ..plain
    };
    let strange = tempfile::tempdir().unwrap();
    let (unknown, unknown_key) = Authority::new().issue(strange.path());
    let with = |certificate, key| RedisOptions {
        tls_certificate_file: Some(certificate),
        tls_key_file: Some(key),
        ..plain.clone()
    };
    let snapshot = backed.repo.reader(backed.snapshot).await;
    let restore = async |options: RedisOptions| {
        let target = source_with(options).await;
        backup_core::pipeline::restore(&snapshot, &target, &verified(IfExists::Replace), &talking())
            .await
    };
    for (options, what) in [(plain.clone(), "TLS only"), (with(unknown, unknown_key), "TLS failed")]
    {
        let error = restore(options).await.unwrap_err();
        assert!(error.chain().contains(what), "{} ({:?})", error.chain(), error.hint());
        assert_eq!(
            (target.run(&["GET", "old"]).text(), target.info("role")),
            ("x".to_owned(), "master".to_owned())
        );
    }
    restore(with(certificate, key)).await.unwrap();
    assert_same(&backed.server, &target);
}
