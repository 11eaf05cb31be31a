//! The program itself, killed at any moment: what it has said to be stored is there, and running it
//! again completes it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bson::doc;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use super::hostile::seeds;
use super::say;
use crate::support::cli::Cli;
use crate::support::killing::kill;
use crate::support::long::long;
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

/// How often it is killed.
fn times() -> u64 {
    if long() { 30 } else { 4 }
}

pub(super) struct Place {
    pub(super) cli: Cli,
    pub(super) room: tempfile::TempDir,
    pub(super) origin: Mongod,
    pub(super) random: StdRng,
}

impl Place {
    async fn new(version: Version) -> Self {
        let room = tempfile::tempdir().unwrap();
        let cli = Cli::new(&room.path().join("repository"), "key");
        Self::on(cli, room, version).await
    }

    /// With a new repository where `cli` keeps it.
    pub(super) async fn on(cli: Cli, room: tempfile::TempDir, version: Version) -> Self {
        cli.run(&["init"]).succeeded();
        let random = StdRng::seed_from_u64(seeds().start + 6);
        let place = Self { cli, room, origin: Mongod::start(version).await, random };
        place.change(0).await;
        place
    }

    /// Other documents than before, so that there is something to be stored.
    pub(super) async fn change(&self, round: u64) {
        let round = i64::try_from(round).unwrap();
        for name in ["a", "b"] {
            self.origin
                .run("db", doc! { "delete": name, "deletes": [{ "q": {}, "limit": 0 }] })
                .await;
            for n in 0..4 {
                let mut random = StdRng::seed_from_u64(u64::try_from(round * 10 + n).unwrap());
                let noise = |random: &mut StdRng| {
                    hex::encode((0..800).map(|_| random.random()).collect::<Vec<u8>>())
                };
                let documents: Vec<_> = (0..1000)
                    .map(
                        |id| doc! { "_id": n * 1000 + id, "round": round, "p": noise(&mut random) },
                    )
                    .collect();
                self.origin.run("db", doc! { "insert": name, "documents": documents }).await;
            }
        }
    }

    pub(super) fn spawn(&self, arguments: &[&str], stdout: Stdio) -> Child {
        self.cli.command(&[], arguments).stdout(stdout).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts it, and kills it at a random moment of its life, as [`kill`] reports.
    fn kill(&mut self, arguments: &[&str], whole: &mut Duration) -> bool {
        let after = whole.mul_f64(self.random.random_range(0.0..1.0));
        kill(self.spawn(arguments, Stdio::null()), after, whole)
    }

    pub(super) fn time_of(&self, arguments: &[&str]) -> Duration {
        let started = Instant::now();
        self.cli.run(arguments).succeeded();
        started.elapsed()
    }

    pub(super) fn snapshots(&self) -> usize {
        let list: Value =
            serde_json::from_str(&self.cli.run(&["list", "--json"]).succeeded().text()).unwrap();
        list["snapshots"].as_array().unwrap_or_else(|| panic!("{list}")).len()
    }
}

pub(super) async fn a_killed_backup_leaves_nothing_half(version: Version) {
    let mut place = Place::new(version).await;
    let (target, uri) = (Mongod::start(version).await, place.origin.uri().to_owned());
    let mut whole = place.time_of(&["run", "--source", &uri]);
    let mut killed = 0;
    for round in 1..=times() {
        place.change(round).await;
        let kind = if round % 2 == 0 { "incremental" } else { "full" };
        let (run, before) = (["run", "--source", &uri, "--type", kind], place.snapshots());
        killed += u64::from(place.kill(&run, &mut whole));
        place.cli.check();
        // Whatever is listed is whole.
        assert!(place.snapshots() <= before + 1);
        place.cli.run(&["verify", "latest", "--level", "deep"]).succeeded();
        place.cli.run(&run).succeeded();
        target.clear().await;
        place.cli.run(&["restore", "latest", "--target", target.uri(), "--verify"]).succeeded();
        same(&state(&place.origin.client).await, &state(&target.client).await);
    }
    place.cli.check();
    say(&format!("killed {killed} of {}", times()));
    assert!(killed * 4 >= times(), "only {killed} runs were killed before their end");
}

/// Everything that the program says to be stored can be restored, whenever it is killed after that.
pub(super) async fn a_killed_capture_has_lost_nothing(version: Version) {
    let mut place = Place::new(version).await;
    let target = Mongod::start(version).await;
    let config = format!(
        "[repositories.main]\nurl = {:?}\npassphrase_env = \
         \"BACKUP_PASSWORD\"\n[sources.shop]\nkind = \"mongodb\"\nurl = {:?}\n[jobs.shop]\nsource \
         = \"shop\"\nrepository = \"main\"\n[jobs.shop.logs]\nflush_after = \"200ms\"\n",
        place.room.path().join("repository"),
        place.origin.uri(),
    );
    let file = place.room.path().join("backup.toml");
    std::fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap().to_owned();
    place.cli.run(&["--config", &file, "run", "shop"]).succeeded();
    let (mut stored, mut number) = (None, 0);
    for _ in 0..times() {
        let mut child =
            place.spawn(&["--config", &file, "--json", "logs", "follow", "shop"], Stdio::piped());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, told) = mpsc::channel();
        let reading = std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let ends = Instant::now() + Duration::from_millis(place.random.random_range(2500..7000));
        while Instant::now() < ends {
            number += 1;
            let document = doc! { "_id": number, "p": "x".repeat(500) };
            place.origin.run("db", doc! { "insert": "captured", "documents": [document] }).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        reading.join().unwrap().ok();
        let positions = told.into_iter().filter_map(|line| stored_in(&line));
        stored = positions.last().or(stored);
        place.cli.check();
    }
    let stored = stored.expect("something was said to be stored");
    target.clear().await;
    let at = ["restore", "--job", "shop", "--at", &stored, "--target", target.uri(), "--verify"];
    place.cli.run(&at).succeeded();
    // Exactly what the origin had at that moment: its first so many documents.
    let found = state(&target.client).await["db.captured"].documents.len();
    assert!(found > 0 && found <= usize::try_from(number).unwrap(), "{found} of {number}");
    let origin = state(&place.origin.client).await;
    for (name, facts) in state(&target.client).await {
        let of_origin = &origin[&name].documents;
        assert!(
            facts.documents.iter().all(|(id, document)| of_origin.get(id) == Some(document)),
            "{name}"
        );
    }
    // The next capturer goes on where the last one was killed.
    let mut child =
        place.spawn(&["--config", &file, "--json", "logs", "follow", "shop"], Stdio::null());
    let started = Instant::now();
    loop {
        target.clear().await;
        place
            .cli
            .run(&["restore", "--job", "shop", "--at", "latest", "--target", target.uri()])
            .succeeded();
        let found = state(&target.client).await;
        if found["db.captured"].documents.len() == usize::try_from(number).unwrap() {
            same(&origin, &found);
            break;
        }
        // It waits until the lease of the one that was killed is over.
        assert!(started.elapsed() < Duration::from_secs(150), "the capture does not go on");
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The position up to which everything is stored, if a line says one: `seconds:increment`.
pub(super) fn stored_in(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let offset = event["position"]["offset"].as_u64()?;
    (event["log"] == "stored").then(|| format!("{}:{}", offset >> 32, offset & 0xffff_ffff))
}

pub(super) async fn a_killed_restore_is_done_again(version: Version) {
    let mut place = Place::new(version).await;
    let (target, uri) = (Mongod::start(version).await, place.origin.uri().to_owned());
    place.cli.run(&["run", "--source", &uri]).succeeded();
    let expected = state(&place.origin.client).await;
    let restore = [
        "restore",
        "latest",
        "--target",
        target.uri(),
        "--if-exists",
        "replace",
        "--yes",
        "--verify",
    ];
    let mut whole = place.time_of(&restore);
    let mut killed = 0;
    for _ in 0..times() {
        target.clear().await;
        killed += u64::from(place.kill(&restore, &mut whole));
        place.cli.run(&restore).succeeded();
        same(&expected, &state(&target.client).await);
    }
    place.cli.check();
    assert!(killed * 4 >= times(), "only {killed} restores were killed before their end");
}
