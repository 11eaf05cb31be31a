//! The program, restoring to a moment and in part.

use std::process::Stdio;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use bson::{Timestamp, doc};
use jiff::Timestamp as Time;
use serde_json::Value;

use super::kills::Place;
use crate::support::cli::Cli;
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{State, same, state};

/// A moment at which nobody wrote.
struct Moment {
    at: Timestamp,
    time: Time,
    expected: State,
}

impl Moment {
    async fn of(server: &Mongod) -> Self {
        let hello = server.run("admin", doc! { "isMaster": 1 }).await;
        let last = hello.get_document("lastWrite").unwrap().get_document("opTime").unwrap();
        // A time of the command line is a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let time = SystemClock.now();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        Self { at: last.get_timestamp("ts").unwrap(), time, expected: state(&server.client).await }
    }

    fn position(&self) -> String {
        format!("{}:{}", self.at.time, self.at.increment)
    }

    fn offset(&self) -> u64 {
        u64::from(self.at.time) << 32 | u64::from(self.at.increment)
    }

    fn iso(&self) -> String {
        self.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

struct Stage {
    place: Place,
    config: String,
}

impl Stage {
    async fn new(version: Version) -> Self {
        let room = tempfile::tempdir().unwrap();
        let cli = Cli::new(&room.path().join("repository"), "key");
        let place = Place::on(cli, room, version).await;
        let text = format!(
            "[repositories.main]\nurl = {:?}\npassphrase_env = \
             \"BACKUP_PASSWORD\"\n[sources.shop]\nkind = \"mongodb\"\nurl = \
             {:?}\n[jobs.shop]\nsource = \"shop\"\nrepository = \"main\"\nexclude = \
             [\"*.sessions\"]\n[jobs.shop.logs]\nflush_after = \"200ms\"\n",
            place.room.path().join("repository"),
            place.origin.uri()
        );
        let config = place.room.path().join("backup.toml");
        std::fs::write(&config, text).unwrap();
        Self { place, config: config.to_str().unwrap().to_owned() }
    }

    fn with<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--config", &self.config], arguments].concat()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let done = self.place.cli.run(&self.with(arguments)).succeeded();
        format!("{}{}", done.text(), done.stderr)
    }

    fn timeline(&self) -> Value {
        let done = self.place.cli.run(&self.with(&["timeline", "shop", "--json"])).succeeded();
        serde_json::from_str(&done.text()).unwrap()
    }

    async fn reached(&self, moment: &Moment) {
        let started = Instant::now();
        while self.timeline()["latest"]["position"]["offset"].as_u64() < Some(moment.offset()) {
            assert!(started.elapsed() < Duration::from_secs(60), "{}", self.timeline());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn insert(&self, name: &str, id: i32) {
        self.place
            .origin
            .run("shop", doc! { "insert": name, "documents": [{ "_id": id, "v": id }] })
            .await;
    }
}

/// Base and log are chosen for whoever asks for a moment; nothing else is touched, and a dry run
/// touches nothing.
pub(super) async fn to_a_moment_and_in_part(version: Version) {
    let (stage, target) = (Stage::new(version).await, Mongod::start(version).await);
    stage.insert("orders", 1).await;
    stage.insert("sessions", 1).await;
    stage
        .place
        .origin
        .run(
            "shop",
            doc! { "createIndexes": "orders", "indexes": [{ "key": { "v": 1 }, "name": "v_1" }] },
        )
        .await;
    stage.run(&["run", "shop"]);
    let mut child = stage.place.spawn(&stage.with(&["logs", "follow", "shop"]), Stdio::null());
    stage.insert("orders", 2).await;
    stage.insert("sessions", 2).await;
    let first = Moment::of(&stage.place.origin).await;
    stage.place.origin.run("shop", doc! { "dropIndexes": "orders", "index": "v_1" }).await;
    stage
        .place
        .origin
        .run("shop", doc! { "delete": "orders", "deletes": [{ "q": { "_id": 1 }, "limit": 1 }] })
        .await;
    stage.place.origin.run("admin", doc! { "renameCollection": "db.a", "to": "db.c" }).await;
    let second = Moment::of(&stage.place.origin).await;
    // A time has come when something has happened behind it.
    stage.insert("orders", 3).await;
    let last = Moment::of(&stage.place.origin).await;
    stage.reached(&last).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let without_sessions = |moment: &Moment| {
        let mut expected = moment.expected.clone();
        assert!(expected.remove("shop.sessions").is_some());
        expected
    };
    let ranges = stage.timeline()["ranges"].to_string();
    assert_eq!(stage.timeline()["gaps"].as_array().map(Vec::len), Some(0), "{ranges}");
    let restore = ["restore", "--job", "shop", "--target", target.uri(), "--verify", "--at"];
    for (at, moment) in [
        (first.position(), &first),
        (first.iso(), &first),
        (second.position(), &second),
        (second.iso(), &second),
        ("latest".to_owned(), &last),
    ] {
        target.clear().await;
        let told = stage.run(&[&restore[..], &[&at, "--dry-run"]].concat());
        assert!(!told.is_empty() && state(&target.client).await.is_empty(), "{at}: {told}");
        let told = stage.run(&[&restore[..], &[&at]].concat());
        assert!(told.contains("Read back (collections "), "{told}");
        same(&without_sessions(moment), &state(&target.client).await);
        // Without restoring, the same is told; the job's own server has gone on.
        let copied = stage.run(&["compare", "--job", "shop", "--at", &at, "--with", target.uri()]);
        assert!(copied.contains("are equal: "), "{copied}");
        if at != "latest" {
            let changed =
                stage.place.cli.run(&stage.with(&["compare", "--job", "shop", "--at", &at]));
            assert_eq!(changed.code, 1, "{changed}");
            let text = changed.text();
            assert!(text.contains("shop.orders") && !text.contains("shop.sessions"), "{text}");
        }
    }
    // The target is as the last one was; the only difference to the first is told.
    let only = ["--at", &first.position(), "--only", "shop.*", "--with", target.uri(), "--json"];
    let differs =
        stage.place.cli.run(&stage.with(&[&["compare", "--job", "shop"], &only[..]].concat()));
    assert_eq!(differs.code, 1, "{differs}");
    let text = differs.text();
    // The other line is the error.
    let told: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&told["differences"][0]["object"], &told["same"]),
        (&"shop.orders".into(), &0.into()),
        "{told}"
    );
    assert_eq!(told["differences"].as_array().map(Vec::len), Some(1), "{told}");
    in_part(&stage, &target, &first, &restore).await;
    let before =
        stage.place.cli.run(&stage.with(&[&restore[..], &["2020-01-01T00:00:00Z"]].concat()));
    assert_eq!(before.code, 1, "{before}");
}

/// One collection as it was at a moment, in place of what is there, and beside it under another
/// name.
async fn in_part(stage: &Stage, target: &Mongod, moment: &Moment, restore: &[&str]) {
    let (at, before) = (moment.iso(), state(&target.client).await);
    let only = [&at, "--only", "shop.orders"];
    let replace = [restore, &only, &["--if-exists", "replace", "--yes"]].concat();
    stage.run(&[&replace[..], &["--dry-run"]].concat());
    same(&before, &state(&target.client).await);
    stage.run(&replace);
    let mut expected = before;
    assert_ne!(expected["shop.orders"], moment.expected["shop.orders"]);
    expected.insert("shop.orders".to_owned(), moment.expected["shop.orders"].clone());
    same(&expected, &state(&target.client).await);
    // With its indexes.
    stage.run(&[restore, &only, &["--rename", "shop=shop_test"]].concat());
    expected.insert("shop_test.orders".to_owned(), moment.expected["shop.orders"].clone());
    same(&expected, &state(&target.client).await);
    let refused = stage.place.cli.run(&stage.with(&[restore, &only].concat()));
    assert_eq!(refused.code, 5, "{refused}");
    same(&expected, &state(&target.client).await);
}

/// A mistake at a position is restored by `--at` and left out by `--before`, as by
/// `mongorestore --oplogLimit`.
pub(super) async fn position_itself_is_left_out(version: Version) {
    let (stage, target) = (Stage::new(version).await, Mongod::start(version).await);
    let origin = &stage.place.origin;
    stage.insert("orders", 1).await;
    stage.run(&["run", "shop"]);
    let mut child = stage.place.spawn(&stage.with(&["logs", "follow", "shop"]), Stdio::null());
    stage.insert("orders", 2).await;
    let expected = state(&origin.client).await;
    origin.run("shop", doc! { "delete": "orders", "deletes": [{ "q": {}, "limit": 0 }] }).await;
    let mistaken = state(&origin.client).await;
    let oplog = origin.client.database("local").collection::<bson::Document>("oplog.rs");
    let deletions = doc! { "op": "d", "ns": "shop.orders" };
    let first = oplog.find_one(deletions).await.unwrap().unwrap().get_timestamp("ts").unwrap();
    let at = format!("{}:{}", first.time, first.increment);
    stage.insert("orders", 3).await;
    let last = Moment::of(origin).await;
    stage.reached(&last).await;
    child.kill().unwrap();
    child.wait().unwrap();
    // The first of the two deletions is at the position.
    let mut partly = expected.clone();
    partly.get_mut("shop.orders").unwrap().documents.pop_first();
    assert_ne!(partly, mistaken);

    let restore = ["restore", "--job", "shop", "--target", target.uri(), "--verify"];
    let compare = ["compare", "--job", "shop", "--with", target.uri()];
    let full =
        stage.place.cli.run(&stage.with(&["compare", "latest", "--at", &at, "--before", &at]));
    assert_eq!(full.code, 2, "{full}");
    stage.run(&[&restore[..], &["--before", &at]].concat());
    same(&expected, &state(&target.client).await);
    stage.run(&[&compare[..], &["--before", &at]].concat());
    let differs = stage.place.cli.run(&stage.with(&[&compare[..], &["--at", &at]].concat()));
    assert_eq!(differs.code, 1, "{differs}");
    target.clear().await;
    stage.run(&[&restore[..], &["--at", &at]].concat());
    same(&partly, &state(&target.client).await);

    // Without a captured log: the oplog within an incremental snapshot.
    stage.run(&["run", "shop", "--type", "incremental"]);
    for (flag, count) in [("--before", 2), ("--until", 1)] {
        let to = stage.place.room.path().join(format!("dump{flag}"));
        let to = to.to_str().unwrap();
        stage.run(&["export", "latest", "--job", "shop", "--to", to, flag, &at]);
        let bytes = std::fs::read(format!("{to}/shop/orders.bson")).unwrap();
        let (mut rest, mut found) = (&bytes[..], 0);
        while !rest.is_empty() {
            bson::Document::from_reader(&mut rest).unwrap();
            found += 1;
        }
        assert_eq!(found, count, "{flag}");
    }
}
