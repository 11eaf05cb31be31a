//! The eight faults.

use std::path::PathBuf;
use std::process::Command;

use backup_core::testing::tool;
use bson::{Document, doc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;

use super::{Notification, notification};
use crate::scenarios::control::Place;
use crate::scenarios::control::aquarium::{QUOTA, Servers};
use crate::support::noise::noise;
use crate::support::process::run;

/// A fault of one job or repository; no two share one rule and subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The task of a job does not start.
    MissedSchedule,
    /// The server refuses connections to a database.
    FailedBackup,
    /// A session holds a lock on a table for too long.
    SlowBackup,
    /// All documents of a server are deleted.
    EmptiedDatabase,
    /// An upload fills a repository up to its quota.
    FullDisk,
    /// A server discards its log while nothing captures it.
    LogGap,
    /// A bit of a blob of `media` is flipped, in every pack that has this blob.
    DamagedSnapshot,
    /// The target of a restore is not a directory.
    FailedRestore,
}

impl Fault {
    pub(super) const ALL: [Self; 8] = [
        Self::MissedSchedule,
        Self::FailedBackup,
        Self::SlowBackup,
        Self::EmptiedDatabase,
        Self::LogGap,
        Self::DamagedSnapshot,
        Self::FullDisk,
        Self::FailedRestore,
    ];

    /// Rule and subject.
    fn alert(self) -> (&'static str, &'static str) {
        match self {
            Self::MissedSchedule => ("backup_missed", "settings"),
            Self::FailedBackup => ("backup_failure", "analytics"),
            Self::SlowBackup => ("backup_duration_high", "subscriptions"),
            Self::EmptiedDatabase => ("size_unusual", "history"),
            Self::FullDisk => ("storage_low", "files"),
            Self::LogGap => ("log_incomplete", "cache"),
            Self::DamagedSnapshot => ("damage", "files"),
            Self::FailedRestore => ("restore_failed", "settings"),
        }
    }

    /// The notification of its begin.
    pub(super) fn begin(self) -> Notification {
        let (rule, subject) = self.alert();
        let kind = if self == Self::FailedRestore { "notice" } else { "firing" };
        notification(rule, subject, kind)
    }

    /// The notification of its end. A failed restore is an event; its end is that of the next one.
    pub(super) fn end(self) -> Notification {
        match self.alert() {
            ("restore_failed", subject) => notification("restore_finished", subject, "notice"),
            (rule, subject) => notification(rule, subject, "resolved"),
        }
    }
}

/// Plants and mends faults.
pub(super) struct Faults<'a> {
    place: &'a Place,
    servers: &'a Servers,
    /// The session that holds a lock.
    locking: Option<Client>,
    /// Places of flipped bits.
    flipped: Vec<BlobPlace>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(place: &'a Place, servers: &'a Servers) -> Self {
        Self { place, servers, locking: None, flipped: Vec::new() }
    }

    pub(super) async fn plant(&mut self, fault: Fault) {
        match fault {
            Fault::MissedSchedule => self.task("pause", "settings/backup"),
            Fault::FailedBackup => self.connections(false).await,
            Fault::SlowBackup => {
                let client = self.servers.postgres.client_of("subscriptions").await;
                let lock = "BEGIN; LOCK TABLE invoices IN ACCESS EXCLUSIVE MODE";
                client.batch_execute(lock).await.unwrap();
                self.locking = Some(client);
            }
            Fault::EmptiedDatabase => {
                let history = self.servers.history.client.database("history");
                history.collection::<Document>("events").delete_many(doc! {}).await.unwrap();
            }
            Fault::FullDisk => {
                let upload = self.place.path("aquarium/uploads/film");
                std::fs::write(upload, noise(3, 28 << 20)).unwrap();
            }
            Fault::LogGap => self.lose_log().await,
            Fault::DamagedSnapshot => self.damage().await,
            Fault::FailedRestore => {
                std::fs::write(self.place.path("restored"), "").unwrap();
                assert_ne!(self.restore().code, 0);
            }
        }
    }

    pub(super) async fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::MissedSchedule => self.task("resume", "settings/backup"),
            Fault::FailedBackup => self.connections(true).await,
            Fault::SlowBackup => {
                self.locking.take().unwrap().batch_execute("ROLLBACK").await.unwrap();
            }
            Fault::EmptiedDatabase => self.servers.fill_history().await,
            Fault::FullDisk => {
                let file = self.place.path("backup.toml");
                let text = std::fs::read_to_string(&file).unwrap();
                let new = file.with_extension("new");
                std::fs::write(&new, text.replace(QUOTA, "1GiB")).unwrap();
                std::fs::rename(new, file).unwrap();
            }
            Fault::LogGap => {
                self.place.done(&["run", "cache", "--type", "full"]);
                self.task("resume", "cache/backup");
            }
            Fault::DamagedSnapshot => {
                self.flipped.iter().for_each(BlobPlace::flip);
                self.place.done(&["check", "-r", "files", "--read-data"]);
                self.task("resume", "cleanup");
            }
            Fault::FailedRestore => {
                std::fs::remove_file(self.place.path("restored")).unwrap();
                self.restore().succeeded();
            }
        }
    }

    /// True if the daemon runs a task; a queued one has no start.
    fn is_running(&self, task: &str) -> bool {
        let answer = self.place.run(&["running", "--json"]).text();
        let answer: serde_json::Value =
            serde_json::from_str(answer.lines().last().unwrap()).unwrap();
        let mut running = answer["running"].as_array().unwrap().iter();
        running.any(|one| one["task"] == task && !one["since"].is_null())
    }

    /// Pauses or resumes a task of the daemon.
    fn task(&self, verb: &str, task: &str) {
        self.place.done(&["schedule", verb, task]);
    }

    /// Waits until a task that was paused has ended.
    async fn ended(&self, task: &str) {
        while self.is_running(task) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Flips a bit of `uploads/picture`, which every snapshot of `media` has. Without cleanups until
    /// it is mended: one that has read the blob before would store it again in a new pack.
    async fn damage(&mut self) {
        self.task("pause", "cleanup");
        self.ended("cleanup").await;
        let picture = std::fs::read(self.place.path("aquarium/uploads/picture")).unwrap();
        self.flipped = places(self.place, &hex::encode(Sha256::digest(&picture)));
        assert_ne!(self.flipped, [], "the newest index has no picture");
        self.flipped.iter().for_each(BlobPlace::flip);
    }

    async fn connections(&self, allow: bool) {
        let sql = format!("ALTER DATABASE analytics ALLOW_CONNECTIONS {allow}");
        self.servers.postgres.run(&sql).await;
    }

    /// Writes more than the replication backlog holds while the log is not followed.
    async fn lose_log(&self) {
        self.task("pause", "cache/backup");
        // One that began before would end after the gap, and close it.
        self.ended("cache/backup").await;
        self.task("pause", "cache/logs");
        let cache = &self.servers.cache;
        while cache.info("connected_slaves") != "0" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let (mut client, value) = (cache.client(), "x".repeat(20_000));
        for _ in 0..200 {
            client.ok(&["SET", "burst", &value]);
        }
        self.task("resume", "cache/logs");
        while cache.info("connected_slaves") == "0" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        // A capturer stores the gap with the next change.
        client.ok(&["SET", "burst", ""]);
    }

    fn restore(&self) -> crate::support::process::Outcome {
        let target = self.place.path("restored/settings");
        let job = ["restore", "latest", "-r", "files", "--job", "settings", "--target"];
        self.place.run(&[&job[..], &[target.to_str().unwrap()]].concat())
    }
}

/// A blob in a pack of the repository `files`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BlobPlace {
    pack: PathBuf,
    offset: usize,
    length: usize,
}

impl BlobPlace {
    /// Flips a bit in the middle of the blob; done twice, the pack is as before. In one step: a backup
    /// that found the pack missing or truncated would store the blob again.
    fn flip(&self) {
        let mut bytes = std::fs::read(&self.pack).unwrap();
        bytes[self.offset + self.length / 2] ^= 1;
        // Beside `data`, on the same disk.
        let flipped = self.pack.ancestors().nth(3).unwrap().join("flipped");
        std::fs::write(&flipped, bytes).unwrap();
        std::fs::rename(flipped, &self.pack).unwrap();
    }
}

/// Stock restic on the repository `files`.
fn restic(place: &Place, arguments: &[&str]) -> String {
    let home = place.path("restic");
    std::fs::create_dir_all(&home).unwrap();
    let mut command = Command::new(tool("restic-new"));
    command.args(arguments).arg("--no-lock").env_clear().env("HOME", home);
    command.env("RESTIC_REPOSITORY", place.path("backups/files"));
    run(command.env("RESTIC_PASSWORD_FILE", place.path("keys/files.key"))).succeeded().text()
}

/// The places of a blob by all indexes, read by stock restic.
fn places(place: &Place, blob: &str) -> Vec<BlobPlace> {
    let mut found = Vec::new();
    for id in restic(place, &["list", "index", "-q"]).split_whitespace() {
        let index: Value =
            serde_json::from_str(&restic(place, &["cat", "index", id, "-q"])).unwrap();
        for pack in index["packs"].as_array().unwrap() {
            let id = pack["id"].as_str().unwrap();
            let file = place.path("backups/files/data").join(&id[..2]).join(id);
            let blobs = pack["blobs"].as_array().unwrap().iter();
            found.extend(blobs.filter(|one| one["id"] == blob).map(|one| BlobPlace {
                pack: file.clone(),
                offset: number(&one["offset"]),
                length: number(&one["length"]),
            }));
        }
    }
    // Two indexes may list one pack; flipped twice, it would be sound.
    found.sort();
    found.dedup();
    found
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}
