//! Groups of servers that sentinels watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::error::ErrorKind;
use backup_core::log::{Position, Target};
use backup_core::pipeline::BackupOptions;
use backup_core::repository::SnapshotReader;
use backup_core::source::{BackupKind, IfExists, RestoreReport, RestoreRequest, SourceErrorKind};
use backup_core::testing::MemorySink;
use backup_sources::redis::{RedisOptions, RedisSource, RestoreOptions, SentinelLogin};

use super::data::fill;
use super::logs::{Logged, position, work};
use super::restores::{replica, verified};
use super::{back_up, source_with, talking};
use crate::support::redis::{Answer, Redis, Sentinel, Version};
use crate::support::repo::Repo;
use crate::support::tls::Authority;

/// The address of the group that the sentinels at these ports watch.
fn group(ports: &[u16]) -> String {
    let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("redis+sentinel://{}/cache", hosts.join(","))
}

/// Waits for a line of INFO. A promotion disconnects all clients.
fn wait_for(server: &Redis, fact: &str, value: &str) {
    let (started, line) = (Instant::now(), format!("{fact}:{value}"));
    let is_there = |info: &Answer| info.text().lines().any(|found| found == line);
    while !server.client().run(&["INFO", "everything"]).is_ok_and(|info| is_there(&info)) {
        assert!(started.elapsed() < Duration::from_secs(60), "{fact}: {}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A place in the stream and the data there; sentinels publish messages all the time.
fn quiet_moment(server: &Redis) -> (Position, String) {
    loop {
        let (at, digest) = (position(server), server.debug_digest());
        if at == position(server) {
            return (at, digest);
        }
    }
}

pub(super) async fn follower_and_restore_find_the_promoted_master(version: Version) {
    let old = Redis::start(version);
    let new = Redis::start(version);
    new.run(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]);
    wait_for(&new, "master_link_status", "up");
    let sentinels = [(); 3].map(|()| Sentinel::watch(version, old.port(), 2, &[]));
    sentinels.iter().for_each(|sentinel| sentinel.wait(None, 2));
    let address = group(&sentinels.each_ref().map(Sentinel::port));
    let source = source_with(RedisOptions::parse(&address).unwrap()).await;
    let logged = Logged::new(source).await;
    let capturing = logged.begin();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let snapshot = back_up(&logged.repo, &logged.source).await.snapshot.unwrap();
    work(&mut old.client(), 1);
    let before = quiet_moment(&old);
    // A change behind the moment: messages alone are stored only after a while.
    old.run(&["SET", "behind", "the moment"]);
    logged.reached(&before.0).await;
    while new.info("master_repl_offset") != old.info("master_repl_offset") {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(old);
    wait_for(&new, "role", "master");
    work(&mut new.client(), 2);
    let after = quiet_moment(&new);
    new.run(&["SET", "behind", "the second moment"]);
    logged.reached(&after.0).await;
    capturing.stop().await;
    assert_ne!(before.0.branch, after.0.branch);
    assert!(logged.view().await.timeline().gaps().is_empty());
    let target = Redis::start(version);
    for (at, digest) in [before, after] {
        logged.restore(&Target::Position(at.clone()), target.address()).await;
        assert_eq!(digest, target.debug_digest(), "{at}");
    }
    // The source and a target of the same address now mean the promoted master.
    let snapshot = logged.repo.reader(snapshot).await;
    let request = RestoreRequest { target: Some(address), ..verified(IfExists::Replace) };
    let refused = restore(&snapshot, &logged.source, replica(), &request).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{}", refused.chain());
    assert_eq!(new.run(&["EXISTS", "behind"]).number(), 1);
    restore(&snapshot, &logged.source, RestoreOptions::default(), &request).await.unwrap();
    assert_eq!(new.run(&["EXISTS", "behind"]).number(), 0);
    assert_eq!(new.info("role"), "master");
    back_up(&logged.repo, &logged.source).await;
}

async fn restore(
    snapshot: &SnapshotReader,
    source: &RedisSource,
    options: RestoreOptions,
    request: &RestoreRequest,
) -> Result<RestoreReport, backup_core::error::Error> {
    let source = source.clone().restoring(options);
    backup_core::pipeline::restore(snapshot, &source, request, &talking()).await
}

/// One sentinel, which requires TLS and a login, names servers that require both; a replica is
/// read.
pub(super) async fn tls_and_logins_hold_for_sentinels(version: Version) {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let ca = authority.write(room.path());
    let (certificate, key) = authority.issue(room.path());
    let tls = [
        ("tls-ca-cert-file", ca.display().to_string()),
        ("tls-cert-file", certificate.display().to_string()),
        ("tls-key-file", key.display().to_string()),
        ("tls-auth-clients", "no".to_owned()),
        ("tls-replication", "yes".to_owned()),
    ];
    let [master, replica] = [(); 2].map(|()| {
        let server = Redis::start(version);
        let mut command = vec!["CONFIG", "SET"];
        command.extend(tls.iter().flat_map(|(name, value)| [*name, &**value]));
        let port = server.second_port().to_string();
        command.extend(["tls-port", &*port]);
        server.run(&command);
        let user = "ACL SETUSER backup on >secret +psync +replconf +ping +info";
        server.run(&user.split(' ').collect::<Vec<_>>());
        server
    });
    fill(&master);
    replica.run(&["REPLICAOF", "127.0.0.1", &master.second_port().to_string()]);
    wait_for(&replica, "master_link_status", "up");
    let mut settings: Vec<String> =
        tls.iter().map(|(name, value)| format!("{name} {value}")).collect();
    settings
        .extend(["user backup on >secret +sentinel".to_owned(), "requirepass other".to_owned()]);
    // On a busy machine, a replica that answers late would count as down.
    settings.push("sentinel down-after-milliseconds cache 60000".to_owned());
    let sentinel = Sentinel::watch(version, master.second_port(), 1, &settings);
    sentinel.wait(Some("other"), 0);
    let address = group(&[sentinel.second_port()])
        .replacen("redis", "rediss", 1)
        .replace("://", "://backup:secret@");
    let options = RedisOptions {
        tls_ca_file: Some(ca),
        ..RedisOptions::parse(&(address + "?role=replica")).unwrap()
    };
    let (synced, none) = (master.info("sync_full"), replica.info("sync_full"));
    assert_eq!(none, "0");
    let stranger = RedisOptions { password: Some("wrong".to_owned()), ..options.clone() };
    let error = RedisSource::connect(stranger).await.unwrap_err();
    assert!(error.chain().contains("WRONGPASS"), "{}", error.chain());
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    back_up(&repo, &source_with(options).await).await;
    assert_eq!((master.info("sync_full"), replica.info("sync_full")), (synced, "1".to_owned()));
}

/// Sentinels that were cut off name a server that is gone, or one that is no longer the master.
pub(super) async fn stale_sentinels_are_passed_over(version: Version) {
    let (master, replica) = (Redis::start(version), Redis::start(version));
    fill(&master);
    replica.run(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    wait_for(&replica, "master_link_status", "up");
    let patient = ["sentinel down-after-milliseconds cache 60000".to_owned()];
    let watch = |port| Sentinel::watch(version, port, 1, &patient);
    let (synced, none) = (master.info("sync_full"), replica.info("sync_full"));
    assert_eq!((&*synced, &*none), ("1", "0"));
    // Nothing listens on the first port.
    let [gone, stale] = [1, replica.port()].map(watch);
    for (sentinel, told) in
        [(&gone, "names Redis at 127.0.0.1:1:"), (&stale, "this server is a replica")]
    {
        let options = RedisOptions::parse(&group(&[sentinel.port()])).unwrap();
        let error = RedisSource::connect(options).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Unavailable, "{}", error.chain());
        assert!(error.chain().contains(told), "{}", error.chain());
    }
    // Started last: sentinels of one group exchange addresses.
    let right = watch(master.port());
    let ports = [&gone, &stale, &right].map(Sentinel::port);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    back_up(&repo, &source_with(RedisOptions::parse(&group(&ports)).unwrap()).await).await;
    assert_eq!((&*master.info("sync_full"), &*replica.info("sync_full")), ("2", "0"));
}

/// A sentinel that was cut off with the old master names it, and it still calls itself master: the
/// others have a newer configuration.
pub(super) async fn isolated_old_master_is_passed_over(version: Version) {
    let (old, promoted) = (Redis::start(version), Redis::start(version));
    promoted.run(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]);
    wait_for(&promoted, "master_link_status", "up");
    let others = [(); 2].map(|()| Sentinel::watch(version, old.port(), 1, &[]));
    others.iter().for_each(|sentinel| sentinel.wait(None, 1));
    let client = |port| crate::support::redis::Client::connect(port);
    client(others[0].port()).ok(&["SENTINEL", "FAILOVER", "cache"]);
    let begun = Instant::now();
    let named = |sentinel: &Sentinel| {
        client(sentinel.port()).ok(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "cache"]).list()[1]
            .text()
    };
    while others.iter().any(|sentinel| named(sentinel) != promoted.port().to_string()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no failover");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The one that was cut off has its own view of the group: another server stands for the old
    // master, which the others would make a replica.
    let isolated = Redis::start(version);
    let alone = Sentinel::watch(version, isolated.port(), 1, &[]);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    for ports in [
        vec![alone.port(), others[0].port(), others[1].port()],
        vec![alone.port(), others[0].port()],
    ] {
        let before = promoted.info("sync_full").parse::<u64>().unwrap();
        let options = RedisOptions::parse(&group(&ports)).unwrap();
        let full = BackupOptions { kind: Some(BackupKind::Full), ..BackupOptions::default() };
        repo.backup(&source_with(options).await, &full).await;
        let after = promoted.info("sync_full").parse::<u64>().unwrap();
        assert_eq!((after - before, &*isolated.info("sync_full")), (1, "0"), "{ports:?}");
    }
}

/// Sentinels and servers each have their own login.
pub(super) async fn sentinels_have_a_login_of_their_own(version: Version) {
    let master = Redis::start(version);
    master.run(&["ACL", "SETUSER", "backup", "on", ">secret", "+psync", "+replconf", "+ping"]);
    master.run(&["ACL", "SETUSER", "backup", "+info"]);
    let settings = ["user watch on >other +sentinel".to_owned(), "requirepass hidden".to_owned()];
    let sentinel = Sentinel::watch(version, master.port(), 1, &settings);
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("password");
    std::fs::write(&file, "other\n").unwrap();
    let address = group(&[sentinel.port()]).replace("://", "://backup:secret@");
    let servers_only = RedisOptions::parse(&address).unwrap();
    let error = RedisSource::connect(servers_only.clone()).await.unwrap_err();
    assert!(error.chain().contains("WRONGPASS"), "{}", error.chain());
    let login = |user: Option<&str>| SentinelLogin {
        user: user.map(str::to_owned),
        password_file: Some(file.clone()),
    };
    let options =
        RedisOptions { sentinel_login: Some(login(Some("watch"))), ..servers_only.clone() };
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    back_up(&repo, &source_with(options).await).await;
    // Without a name it is that of the user `default`.
    let wrong = RedisOptions { sentinel_login: Some(login(None)), ..servers_only.clone() };
    assert!(RedisSource::connect(wrong).await.unwrap_err().chain().contains("WRONGPASS"));
    std::fs::write(&file, "hidden").unwrap();
    let default = RedisOptions { sentinel_login: Some(login(None)), ..servers_only };
    back_up(&repo, &source_with(default).await).await;
}
