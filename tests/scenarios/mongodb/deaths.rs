//! What the program works with dies at any moment: the server that is backed up, the one that is
//! restored to, the store of the repository. Either the program says that it failed, or what it did
//! is right; once everything is back, it completes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bson::doc;
use rand::RngExt as _;

use super::kills::{Place, stored_in};
use super::say;
use crate::support::cli::Cli;
use crate::support::dying::{DyingStore, ended};
use crate::support::killing::is_hit;
use crate::support::long::long;
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

/// How often something dies.
fn times() -> u64 {
    if long() { 20 } else { 2 }
}

/// For clients that are to notice soon that a server is gone.
const SOON: &str = "serverSelectionTimeoutMS=1500&connectTimeoutMS=1500";

/// A repository in a store that can die.
struct Stage {
    place: Place,
    store: DyingStore,
    config: String,
}

impl Stage {
    async fn new(version: Version) -> Self {
        let store = DyingStore::start();
        let (room, environment) = (tempfile::tempdir().unwrap(), store.environment());
        let place =
            Place::on(Cli::remote(store.address(), "key", environment), room, version).await;
        let config = format!(
            "{}[sources.shop]\nkind = \"mongodb\"\nurl = \"{}&{SOON}\"\n[jobs.shop]\nsource = \
             \"shop\"\nrepository = \"main\"\n[jobs.shop.logs]\nflush_after = \"200ms\"\n",
            store.config(),
            place.origin.uri()
        );
        let file = place.room.path().join("backup.toml");
        std::fs::write(&file, config).unwrap();
        Self { place, store, config: file.to_str().unwrap().to_owned() }
    }

    fn with<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--config", &self.config], arguments].concat()
    }

    fn run(&self, arguments: &[&str]) {
        self.place.cli.run(&self.with(arguments)).succeeded();
    }

    fn spawn(&self, arguments: &[&str], stdout: Stdio) -> Child {
        self.place.spawn(&self.with(arguments), stdout)
    }

    /// A part of a time.
    fn some(&mut self, of: Duration) -> Duration {
        of.mul_f64(self.place.random.random_range(0.0..0.8))
    }

    /// The store dies, and comes back before or after the program has ended; says whether that
    /// succeeded.
    async fn without_store(&mut self, child: Child) -> bool {
        self.store.kill();
        let after = self.some(Duration::from_secs(8));
        let (ended, store) = (ended(child), &mut self.store);
        let (succeeded, ()) = tokio::join!(ended, async {
            tokio::time::sleep(after).await;
            store.start_again();
        });
        succeeded
    }
}

/// The server dies, and comes back before or after the program has ended; says whether that
/// succeeded.
async fn without_server(server: &mut Mongod, child: Child, after: Duration) -> bool {
    server.kill();
    let (succeeded, ()) = tokio::join!(ended(child), async {
        tokio::time::sleep(after).await;
        server.start_again().await;
    });
    succeeded
}

pub(super) async fn a_backup_among_the_dying(version: Version) {
    let (mut stage, target) = (Stage::new(version).await, Mongod::start(version).await);
    let mut whole = stage.place.time_of(&stage.with(&["run", "shop"]));
    let (mut failed, mut hit) = (0, 0);
    for round in 1..=times() {
        stage.place.change(round).await;
        let before = stage.place.snapshots();
        let kind = if round % 4 < 2 { "incremental" } else { "full" };
        let mut child = stage.spawn(&["run", "shop", "--type", kind], Stdio::null());
        tokio::time::sleep(stage.some(whole)).await;
        hit += u64::from(is_hit(&mut child, &mut whole));
        let succeeded = if round % 2 == 0 {
            stage.without_store(child).await
        } else {
            let after = stage.some(Duration::from_secs(4));
            without_server(&mut stage.place.origin, child, after).await
        };
        stage.place.cli.check();
        // Nothing is half: what failed is not there, what is there is whole.
        assert_eq!(
            stage.place.snapshots(),
            before + usize::from(succeeded),
            "succeeded: {succeeded}"
        );
        stage.run(&["verify", "latest", "--level", "deep"]);
        if !succeeded {
            failed += 1;
            stage.run(&["run", "shop", "--type", kind]);
        }
        target.clear().await;
        stage.run(&["restore", "latest", "--target", target.uri(), "--verify"]);
        same(&state(&stage.place.origin.client).await, &state(&target.client).await);
    }
    say(&format!("{failed} of {} failed, {hit} were hit", times()));
    // In a few rounds everything may have been made up for.
    assert!(
        hit * 2 >= times() && (!long() || failed * 4 >= times()),
        "{failed} of {hit} failed: that shows nothing"
    );
}

pub(super) async fn a_restore_among_the_dying(version: Version) {
    let (mut stage, mut target) = (Stage::new(version).await, Mongod::start(version).await);
    stage.run(&["run", "shop"]);
    let expected = state(&stage.place.origin.client).await;
    let uri = format!("{}&{SOON}", target.uri());
    let restore =
        ["restore", "latest", "--target", &uri, "--if-exists", "replace", "--yes", "--verify"];
    let mut whole = stage.place.time_of(&stage.with(&restore));
    let (mut failed, mut hit) = (0, 0);
    for round in 1..=times() {
        target.clear().await;
        // Also without reading back nothing that is lost may pass for restored.
        let how = if round % 4 == 1 { &restore[..restore.len() - 1] } else { &restore[..] };
        let mut child = stage.spawn(how, Stdio::null());
        tokio::time::sleep(stage.some(whole)).await;
        hit += u64::from(is_hit(&mut child, &mut whole));
        let succeeded = if round % 2 == 0 {
            stage.without_store(child).await
        } else {
            let after = stage.some(Duration::from_secs(4));
            without_server(&mut target, child, after).await
        };
        if !succeeded {
            failed += 1;
            stage.run(&restore);
        }
        same(&expected, &state(&target.client).await);
    }
    stage.place.cli.check();
    say(&format!("{failed} of {} failed, {hit} were hit", times()));
    // In a few rounds everything may have been made up for.
    assert!(
        hit * 2 >= times() && (!long() || failed * 4 >= times()),
        "{failed} of {hit} failed: that shows nothing"
    );
}

/// Writes until then, and returns how many documents a majority has acknowledged.
async fn write(origin: &Mongod, until: Instant, number: &mut i32) {
    while Instant::now() < until {
        let document = doc! { "_id": *number, "p": "x".repeat(500) };
        let insert = doc! { "insert": "captured", "documents": [document], "writeConcern": { "w": "majority" } };
        origin.run("db", insert).await;
        *number += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One capturer lives through everything, and misses nothing.
pub(super) async fn a_capture_among_the_dying(version: Version) {
    let (mut stage, target) = (Stage::new(version).await, Mongod::start(version).await);
    stage.run(&["run", "shop"]);
    let mut child = stage.spawn(&["--json", "logs", "follow", "shop"], Stdio::piped());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, mut follows) = tokio::sync::mpsc::channel(1);
    let reading = std::thread::spawn(move || {
        let positions = lines.map_while(Result::ok).filter_map(|line| stored_in(&line));
        positions.inspect(|_| _ = sender.try_send(())).collect::<Vec<_>>()
    });
    let mut number = 0;
    // It gives up a server that it has never reached.
    while follows.try_recv().is_err() {
        assert_eq!(child.try_wait().unwrap(), None, "the capturer has given up");
        let until = Instant::now() + Duration::from_millis(100);
        write(&stage.place.origin, until, &mut number).await;
    }
    for round in 1..=times() {
        let until = Instant::now() + stage.some(Duration::from_secs(3));
        write(&stage.place.origin, until, &mut number).await;
        let dead = stage.some(Duration::from_secs(3));
        if round % 2 == 0 {
            stage.store.kill();
            write(&stage.place.origin, Instant::now() + dead, &mut number).await;
            stage.store.start_again();
        } else {
            stage.place.origin.kill();
            tokio::time::sleep(dead).await;
            stage.place.origin.start_again().await;
        }
        assert_eq!(child.try_wait().unwrap(), None, "the capturer has given up");
    }
    write(&stage.place.origin, Instant::now() + Duration::from_secs(1), &mut number).await;
    let expected = state(&stage.place.origin.client).await;
    assert_eq!(expected["db.captured"].documents.len(), usize::try_from(number).unwrap());
    let started = Instant::now();
    loop {
        target.clear().await;
        stage.run(&[
            "restore",
            "--job",
            "shop",
            "--at",
            "latest",
            "--target",
            target.uri(),
            "--verify",
        ]);
        let found = state(&target.client).await;
        if found.get("db.captured").map(|facts| facts.documents.len())
            == Some(usize::try_from(number).unwrap())
        {
            same(&expected, &found);
            break;
        }
        assert_eq!(child.try_wait().unwrap(), None, "the capturer has given up");
        assert!(started.elapsed() < Duration::from_secs(120), "the capture does not go on");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    stage.place.cli.check();
    // Everything in between that was said to be stored is.
    let stored = reading.join().unwrap();
    assert!(!stored.is_empty(), "nothing is said to be stored");
    target.clear().await;
    let middle = &stored[stored.len() / 2];
    stage.run(&["restore", "--job", "shop", "--at", middle, "--target", target.uri(), "--verify"]);
    let found = state(&target.client).await["db.captured"].documents.clone();
    let all = &expected["db.captured"].documents;
    assert!(!found.is_empty() && found.iter().all(|(id, document)| all.get(id) == Some(document)));
}
