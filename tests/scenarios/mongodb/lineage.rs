//! Replica sets of one name: a set that takes the place of another one has a history of its own.

use std::process::Stdio;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::context::Context;
use backup_core::log::Target;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{RestoreRequest, Selection};
use backup_sources::mongodb::{MongoOptions, MongoSource};
use bson::{Bson, doc};
use serde_json::Value;

use super::logs::{Logged, position};
use super::{repository, source, verified};
use crate::support::cli::Cli;
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

/// One repository and one job, whose server is replaced.
struct Stage {
    cli: Cli,
    room: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let cli = Cli::new(&room.path().join("repository"), "key");
        cli.run(&["init"]).succeeded();
        Self { cli, room }
    }

    fn config(&self) -> String {
        self.room.path().join("backup.toml").display().to_string()
    }

    /// From now on the job backs up this server.
    fn back_up_from(&self, server: &Mongod) {
        let repository = self.room.path().join("repository");
        let text = format!(
            "[repositories.main]\nurl = {repository:?}\npassphrase_env = \
             \"BACKUP_PASSWORD\"\n[sources.shop]\nkind = \"mongodb\"\nurl = \
             {:?}\n[jobs.shop]\nsource = \"shop\"\nrepository = \"main\"\n[jobs.shop.logs]\n\
             flush_after = \"200ms\"\n",
            server.uri()
        );
        std::fs::write(self.config(), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> String {
        let done = self.cli.run(&[&["--config", &self.config()], arguments].concat()).succeeded();
        format!("{}{}", done.text(), done.stderr)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let config = self.config();
        let all = [&["--config", &config], arguments, &["--json"]].concat();
        serde_json::from_str(&self.cli.run(&all).succeeded().text()).unwrap()
    }

    /// Follows the oplog while `working`, until everything is stored that the server has then.
    async fn following<T>(&self, server: &Mongod, working: impl Future<Output = T>) -> T {
        let config = self.config();
        let arguments = ["--config", &config, "logs", "follow", "shop"];
        let mut child = self.cli.command(&[], &arguments).stdout(Stdio::null()).spawn().unwrap();
        let result = working.await;
        let hello = server.run("admin", doc! { "isMaster": 1 }).await;
        let last = hello.get_document("lastWrite").unwrap().get_document("opTime").unwrap();
        let last = last.get_timestamp("ts").unwrap();
        let last = u64::from(last.time) << 32 | u64::from(last.increment);
        let (branch, started) = (branch_of(server).await, Instant::now());
        loop {
            let timeline = self.json(&["timeline", "shop"]);
            let latest = &timeline["latest"]["position"];
            if latest["branch"] == *branch && latest["offset"].as_u64() >= Some(last) {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(90), "{timeline}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        result
    }
}

/// The UUID of `admin.system.version`, read with the driver alone.
async fn branch_of(server: &Mongod) -> String {
    let command = doc! { "listCollections": 1, "filter": { "name": "system.version" } };
    let listed = server.run("admin", command).await;
    let found = listed.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    let info = found[0].as_document().unwrap().get_document("info").unwrap();
    match info.get("uuid") {
        Some(Bson::Binary(uuid)) => hex::encode(&uuid.bytes),
        other => panic!("{other:?}"),
    }
}

async fn insert(server: &Mongod, of: &str, id: i32) {
    let document = doc! { "_id": id, "of": of };
    server.run("shop", doc! { "insert": "orders", "documents": [document] }).await;
}

/// A second without writes, in the form of the command line.
async fn quiet_second() -> String {
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let time = SystemClock.now();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(super) async fn sets_of_one_name_do_not_mix(version: Version) {
    let (first, second) = (Mongod::start(version).await, Mongod::start(version).await);
    let (stage, target) = (Stage::new(), Mongod::start(version).await);
    stage.back_up_from(&first);
    insert(&first, "first", 1).await;
    stage.run(&["run", "shop"]);
    let snapshot = stage.json(&["list"])["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let (time, then) = stage
        .following(&first, async {
            insert(&first, "first", 2).await;
            let there = (quiet_second().await, state(&first.client).await);
            insert(&first, "first", 3).await;
            there
        })
        .await;

    // Another set takes its place.
    stage.back_up_from(&second);
    insert(&second, "second", 1).await;
    let told = stage.run(&["run", "shop", "--type", "incremental"]);
    assert!(told.contains("the earlier snapshot is of another replica set called rs"), "{told}");
    let (later, now) = stage
        .following(&second, async {
            insert(&second, "second", 2).await;
            let there = (quiet_second().await, state(&second.client).await);
            insert(&second, "second", 3).await;
            there
        })
        .await;
    let told = stage.run(&["run", "shop", "--type", "incremental"]);
    assert!(!told.contains("This backup is a full one"), "{told}");
    let timeline = stage.json(&["timeline", "shop"]);
    let branches = [branch_of(&first).await, branch_of(&second).await];
    assert_ne!(branches[0], branches[1]);
    assert_eq!(timeline["branches"], serde_json::json!(branches), "{timeline}");

    // Each moment is one of the set that was there.
    let job: &[&str] = &["--job", "shop"];
    for (named, at, expected) in [
        (&[&*snapshot][..], &*time, &then),
        (job, &later, &now),
        (job, "latest", &state(&second.client).await),
    ] {
        target.clear().await;
        let to = ["--target", target.uri(), "--verify", "--at", at];
        stage.run(&[&["restore"], named, &to].concat());
        same(expected, &state(&target.client).await);
    }
    target.clear().await;
    let config = stage.config();
    let asked = ["--config", &config, "restore", "--job", "shop", "--target", target.uri()];
    let refused = stage.cli.run(&[&asked[..], &["--at", &time]].concat());
    assert_ne!(refused.code, 0, "a time before the replacement is none of the second set");
    assert!(state(&target.client).await.is_empty());
    stage.cli.check();
}

/// As of version 0.1, and of a user who may not read the UUID.
pub(super) async fn log_without_a_branch_goes_on(version: Version) {
    let (server, target) = (Mongod::with_users(version).await, Mongod::start(version).await);
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": 0 }] }).await;
    let of = |db: &str| Bson::from(doc! { "role": "read", "db": db });
    let roles = vec![of("shop"), of("local"), of("config")];
    server.run("admin", doc! { "createUser": "few", "pwd": "secret", "roles": roles }).await;
    let uri = format!("mongodb://few@127.0.0.1:{}/?directConnection=true", server.port());
    let connect = async || {
        let options =
            MongoOptions { password: Some("secret".to_owned()), ..MongoOptions::new(uri.clone()) };
        MongoSource::connect(options).await.unwrap()
    };
    let few = connect().await;
    assert_eq!(few.branch(), "");
    let repository = repository().await;
    let only = Selection::new(vec!["shop.*".to_owned()], vec![]).unwrap();
    let options = BackupOptions { selection: only, ..BackupOptions::default() };
    backup(&repository, &few, &options, &Context::silent()).await.unwrap();
    let step = async |logged: &Logged, id: i32| {
        insert(&server, "all", id).await;
        let at = logged.source.newest_entry(&Context::silent()).await.unwrap().at;
        let at = position(&logged.source, at);
        logged.reached(&at).await;
        (at, state(&server.client).await)
    };
    let before = Logged::over(repository.clone(), few);
    let capturing = before.begin();
    let mut moments = vec![step(&before, 1).await, step(&before, 2).await];
    capturing.stop().await;

    let role = doc! { "grantRolesToUser": "few", "roles": ["backup"] };
    server.run("admin", role).await;
    let after = Logged::over(repository, connect().await);
    assert_eq!(after.source.branch(), branch_of(&server).await);
    let capturing = after.begin();
    moments.extend([step(&after, 3).await, step(&after, 4).await]);
    capturing.stop().await;
    assert_eq!(after.view().await.timeline().gaps(), []);

    let to = source(&target).await;
    for (at, expected) in moments {
        target.clear().await;
        let plan = after.restore(&Target::Position(at), &to, verified()).await;
        assert_eq!(plan.base.at.branch, "");
        let mut expected = expected;
        expected.retain(|name, _| name.starts_with("shop."));
        same(&expected, &state(&target.client).await);
    }
    target.clear().await;
    after.restore(&Target::Latest, &to, RestoreRequest::default()).await;
    assert_eq!(state(&target.client).await["shop.orders"].documents.len(), 5);
}
