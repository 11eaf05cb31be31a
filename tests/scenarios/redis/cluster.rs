//! Clusters: all masters in one snapshot, restored to clusters of another shape, to servers, and as
//! files.

use std::path::Path;
use std::sync::Arc;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::context::Context;
use backup_core::error::ErrorKind;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{
    EntryPath, IfExists, RestoreReport, RestoreRequest, Selection, Source as _, SourceErrorKind,
};
use backup_core::testing::MemorySink;
use backup_sources::redis::{RedisOptions, RestoreOptions};

use super::restores::{replica, verified};
use super::{back_up, digest, source, talking};
use crate::support::redis::{Redis, Version};
use crate::support::redis_cluster::Cluster;
use crate::support::repo::Repo;

const KEYS: usize = 400;

/// Keys of several types, some with tags, some that expire; libraries on all nodes, as they have to
/// be.
fn fill(cluster: &mut Cluster) {
    let later = (SystemClock.now().as_second() + 86_400).to_string();
    for n in 0..KEYS / 4 {
        let [plain, hash, list, set] = [
            format!("key:{n}"),
            format!("{{user{n}}}:h"),
            format!("{{user{n}}}:l"),
            format!("a{{}}{{{n}}}"),
        ];
        cluster.run(&["SET", &plain, &format!("value {n}")]);
        cluster.run(&["HSET", &hash, "name", &n.to_string(), "more", &"x".repeat(n)]);
        cluster.run(&["RPUSH", &list, "1", "two", &n.to_string()]);
        cluster.run(&["SADD", &set, &n.to_string(), "x"]);
        if n % 3 == 0 {
            cluster.run(&["EXPIREAT", &hash, &later]);
        }
    }
    let library = "#!lua name=lib\nredis.register_function('f', function() return 7 end)";
    cluster.nodes.iter().for_each(|node| _ = node.run(&["FUNCTION", "LOAD", library]));
}

fn libraries(server: &Redis) -> usize {
    server.run(&["FUNCTION", "LIST"]).list().len()
}

/// What a key holds, as its server says.
fn value(server: &Redis, key: &str) -> String {
    server.run(&["DEBUG", "DIGEST-VALUE", key]).list()[0].text()
}

struct Backed {
    cluster: Cluster,
    repo: Repo,
    snapshot: backup_core::id::SnapshotId,
}

impl Backed {
    async fn up(version: Version) -> Self {
        let mut cluster = Cluster::start(version, 3);
        fill(&mut cluster);
        assert!(cluster.sizes().iter().all(|size| *size > 50), "{:?}", cluster.sizes());
        let repo = Repo::init(Arc::new(MemorySink::new())).await;
        // Any node leads to the others.
        let report = back_up(&repo, &source(&cluster.nodes[1]).await).await;
        Self { cluster, repo, snapshot: report.snapshot.unwrap() }
    }

    async fn restore(
        &self,
        target: &str,
        options: RestoreOptions,
        request: RestoreRequest,
    ) -> Result<RestoreReport, backup_core::error::Error> {
        let source = source(&self.cluster.nodes[2]).await.restoring(options);
        let request = RestoreRequest { target: Some(target.to_owned()), ..request };
        backup_core::pipeline::restore(
            &self.repo.reader(self.snapshot).await,
            &source,
            &request,
            &talking(),
        )
        .await
    }

    async fn restored(&self, target: &str, request: RestoreRequest) -> RestoreReport {
        let report = self.restore(target, RestoreOptions::default(), request).await;
        report.unwrap_or_else(|error| panic!("restoring: {} ({:?})", error.chain(), error.hint()))
    }
}

/// One snapshot of all masters, whichever node is named; it says who had which slots.
pub(super) async fn a_cluster_is_one_source(version: Version) {
    let backed = Backed::up(version).await;
    let snapshot = backed.repo.reader(backed.snapshot).await;
    assert_eq!(snapshot.paths(), ["/redis"]);
    let manifest = snapshot.manifest().await.unwrap().unwrap();
    assert!(manifest.remarks[0].contains("3 masters"), "{:?}", manifest.remarks);
    assert_eq!((manifest.checkpoint.position, manifest.totals.warnings), (None, 0));
    assert!(!snapshot.snapshot().tags.iter().any(|tag| tag == "not-point-in-time"));
    assert_eq!(manifest.objects["db0"].count, KEYS as u64);
    for (at, slots) in ["0-5460", "5461-10921", "10922-16383"].iter().enumerate() {
        let node = &backed.cluster.nodes[at];
        let name = format!("127.0.0.1:{}", node.port());
        assert!(
            manifest.remarks[0].contains(&format!("{name} has the slots {slots}")),
            "{:?}",
            manifest.remarks
        );
        let path = EntryPath::new(format!("/redis/{name}/node.json")).unwrap();
        let entry = snapshot.find(&path).await.unwrap().unwrap();
        let mut json = Vec::new();
        let mut content = snapshot.content(&entry);
        while let Some(piece) = futures::StreamExt::next(&mut content).await {
            json.extend_from_slice(&piece.unwrap());
        }
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let (first, last) = slots.split_once('-').unwrap();
        assert_eq!(json["member"]["slots"].to_string(), format!("[[{first},{last}]]"));
        assert_eq!(json["member"]["id"], backed.cluster.id(at));
        assert_eq!(json["dump"]["databases"]["0"]["keys"], node.run(&["DBSIZE"]).number());
    }
    let named = source(&backed.cluster.nodes[0]).await;
    assert_eq!(manifest.objects, digest(&named).await.objects, "it is the same from every node");
    let probe = named.probe(&talking()).await.unwrap();
    assert_eq!((probe.problems, probe.estimated_objects), (vec![], Some(KEYS as u64)));
    // A position says nothing of each of the masters.
    assert!(named.capabilities().log_capture && named.capabilities().incremental);
    let from = manifest.checkpoint.log.unwrap().at;
    assert_eq!(
        named.open_log(&talking(), Some(&from)).await.err().unwrap().kind(),
        SourceErrorKind::LogGap
    );
    backed.repo.assert_sound().await;
}

/// Keys go where their slots are: into two masters, and from there into three again; into a server,
/// and back.
pub(super) async fn a_cluster_gets_another_shape(version: Version) {
    let mut backed = Backed::up(version).await;
    let wanted = digest(&source(&backed.cluster.nodes[0]).await).await;
    let mut two = Cluster::start(version, 2);
    let address = two.nodes[1].address();
    let report = backed.restored(&address, verified(IfExists::Fail)).await;
    assert_eq!((report.entries, two.sizes().iter().sum::<i64>()), (KEYS as u64, KEYS as i64));
    assert!(report.verified_bytes > 0 && two.nodes.iter().all(|node| libraries(node) == 1));
    assert_eq!(digest(&source(&two.nodes[0]).await).await, wanted);
    // A server of its own gets all of them, and is asked key by key.
    let alone = Redis::start(version);
    backed.restored(&alone.address(), verified(IfExists::Fail)).await;
    assert_eq!(digest(&source(&alone).await).await, wanted);
    assert_eq!(libraries(&alone), 1);
    let keys: Vec<String> = alone.run(&["KEYS", "*"]).list().iter().map(|key| key.text()).collect();
    assert_eq!(keys.len(), KEYS);
    for key in &keys {
        let owner = &backed.cluster.nodes[backed.cluster.owner(key)];
        assert_eq!(value(&alone, key), value(owner, key), "{key}");
        let expires = backed.cluster.run(&["EXPIRETIME", key]).number();
        assert_eq!(
            (alone.run(&["EXPIRETIME", key]).number(), two.run(&["EXPIRETIME", key]).number()),
            (expires, expires)
        );
    }
    // What others have there is in the way, is replaced on all nodes, or stays.
    two.run(&["SET", "another", "x"]);
    let refused =
        backed.restore(&address, RestoreOptions::default(), verified(IfExists::Fail)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::TargetExists);
    backed.restored(&address, verified(IfExists::Replace)).await;
    assert_eq!(digest(&source(&two.nodes[0]).await).await, wanted);
    two.run(&["SET", "another", "x"]);
    let selection = Selection::new(vec!["/0/key:*".to_owned()], vec![]).unwrap();
    let some =
        backed.restored(&address, RestoreRequest { selection, ..verified(IfExists::Merge) }).await;
    assert_eq!(
        (some.entries, two.run(&["GET", "another"]).text()),
        (KEYS as u64 / 4, "x".to_owned())
    );
    // A snapshot of the server goes to a cluster as well.
    let from = source(&alone).await;
    let single = back_up(&backed.repo, &from).await.snapshot.unwrap();
    let request = RestoreRequest { target: Some(address), ..verified(IfExists::Replace) };
    backup_core::pipeline::restore(&backed.repo.reader(single).await, &from, &request, &talking())
        .await
        .unwrap();
    assert_eq!(digest(&source(&two.nodes[0]).await).await, wanted);
}

/// Each node's dump lies in a directory of its own, and a node that is started on it takes the
/// slots of its keys.
pub(super) async fn nodes_start_on_their_files(version: Version) {
    let backed = Backed::up(version).await;
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("files");
    let directory = directory.to_str().unwrap();
    let report = backed.restored(directory, RestoreRequest::default()).await;
    assert_eq!(report.files_written, 3);
    for node in &backed.cluster.nodes {
        let data = Path::new(directory).join(format!("127.0.0.1:{}", node.port()));
        let started = Redis::on(version, Some(&data), &["--cluster-enabled", "yes"]);
        assert_eq!(started.debug_digest(), node.debug_digest());
        let info = started.run(&["CLUSTER", "INFO"]).text();
        assert!(
            info.contains("cluster_slots_assigned:") && !info.contains("cluster_slots_assigned:0"),
            "{info}"
        );
    }
    let again = backed
        .restore(directory, RestoreOptions::default(), RestoreRequest::default())
        .await
        .unwrap_err();
    assert_eq!(again.kind(), ErrorKind::TargetExists);
    // As a replica a server by itself gets all of them, and functions once.
    let alone = Redis::start(version);
    let restored =
        backed.restore(&alone.address(), replica(), verified(IfExists::Replace)).await.unwrap();
    assert!(
        restored.verified_bytes > 0 && restored.entries == KEYS as u64 && libraries(&alone) == 1
    );
    assert_eq!(
        digest(&source(&alone).await).await,
        digest(&source(&backed.cluster.nodes[0]).await).await
    );
}

/// Who is named decides who is read; slots that are being moved, or were not moved to the end, are
/// refused.
pub(super) async fn moving_slots_are_refused(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    fill(&mut cluster);
    let key = "key:1";
    let owner = cluster.owner(key);
    let other = (owner + 1) % 3;
    let slot = cluster.nodes[0].run(&["CLUSTER", "KEYSLOT", key]).text();
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let named = source(&cluster.nodes[0]).await;
    let refused = async |what: &str| {
        let done = backup_core::pipeline::backup(
            &repo.repository,
            &named,
            &BackupOptions::default(),
            &talking(),
        )
        .await;
        let error = done.err().unwrap_or_else(|| panic!("{what}"));
        assert!(
            error.chain().contains("slots") && error.hint().is_some(),
            "{what}: {}",
            error.chain()
        );
        assert_eq!(repo.snapshots().await.len(), 0);
    };
    for (at, state, with) in [(owner, "MIGRATING", other), (other, "IMPORTING", owner)] {
        let id = cluster.id(with);
        cluster.nodes[at].run(&["CLUSTER", "SETSLOT", &slot, state, &id]);
        refused(state).await;
        assert!(named.digest(&Context::silent(), &Selection::all()).await.is_err());
        assert!(!named.probe(&talking()).await.unwrap().problems.is_empty());
        cluster.nodes[at].run(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);
    }
    // A key was left where its slot is not any more.
    let stray = |commands: &[&[&str]]| {
        let mut client = cluster.nodes[other].client();
        client.ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &cluster.id(owner)]);
        commands.iter().for_each(|command| {
            client.ok(&["ASKING"]);
            client.ok(command);
        });
        client.ok(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);
    };
    stray(&[&["SET", key, "stray"]]);
    refused("a stray key").await;
    stray(&[&["DEL", key]]);

    // At rest it is backed up; from a replica, if one is named.
    cluster.add_replica();
    let wanted = digest(&named).await;
    assert_eq!(cluster.nodes[3].info("sync_full"), "0");
    let spared: i64 = cluster.nodes[0].info("sync_full").parse().unwrap();
    let snapshot = back_up(&repo, &source(&cluster.nodes[3]).await).await.snapshot.unwrap();
    assert_eq!(
        repo.reader(snapshot).await.manifest().await.unwrap().unwrap().objects,
        wanted.objects
    );
    assert_eq!(cluster.nodes[3].info("sync_full"), "1");
    assert_eq!(cluster.nodes[0].info("sync_full").parse::<i64>().unwrap(), spared);
    repo.assert_sound().await;
}

/// Where PSYNC is refused all masters are read key by key, and the rights that are asked for are
/// enough.
pub(super) async fn nodes_that_are_not_followed_are_scanned(version: Version) {
    let mut cluster = Cluster::start(version, 3);
    fill(&mut cluster);
    let rights =
        "+ping +info +time +select +scan +dump +pexpiretime +pttl +function|dump +cluster|nodes";
    for node in &cluster.nodes {
        let words = ["ACL", "SETUSER", "backup", "on", ">secret", "~*"]
            .into_iter()
            .chain(rights.split(' '));
        node.run(&words.collect::<Vec<_>>());
    }
    let options =
        RedisOptions::parse(&cluster.nodes[0].address().replace("://", "://backup:secret@"))
            .unwrap();
    let named = super::source_with(options).await;
    let wanted = digest(&source(&cluster.nodes[0]).await).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let report = back_up(&repo, &named).await;
    let snapshot = repo.reader(report.snapshot.unwrap()).await;
    assert!(snapshot.snapshot().tags.iter().any(|tag| tag == "not-point-in-time"));
    assert_eq!(snapshot.manifest().await.unwrap().unwrap().objects, wanted.objects);
    // Without the right to ask for the nodes nothing is read, and the right is named.
    for node in &cluster.nodes {
        node.run(&["ACL", "SETUSER", "backup", "-cluster|nodes"]);
    }
    let done = backup_core::pipeline::backup(
        &repo.repository,
        &named,
        &BackupOptions::default(),
        &talking(),
    )
    .await;
    assert!(done.unwrap_err().hint().unwrap().contains("+cluster|nodes"));
}
