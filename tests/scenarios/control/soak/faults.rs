//! The eight faults.

use std::path::{Path, PathBuf};

use bson::{Document, doc};
use tokio_postgres::Client;

use super::{Notification, notification};
use crate::scenarios::control::Place;
use crate::scenarios::control::aquarium::{QUOTA, Servers};
use crate::support::noise::noise;

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
    /// Bits of a pack of `media` are flipped.
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
    /// A pack that every snapshot of `media` needs.
    pack: PathBuf,
}

impl<'a> Faults<'a> {
    pub(super) fn new(place: &'a Place, servers: &'a Servers, pack: PathBuf) -> Self {
        Self { place, servers, locking: None, pack }
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
            Fault::DamagedSnapshot => flip(&self.pack),
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
                flip(&self.pack);
                self.place.done(&["check", "-r", "files", "--read-data"]);
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

    async fn connections(&self, allow: bool) {
        let sql = format!("ALTER DATABASE analytics ALLOW_CONNECTIONS {allow}");
        self.servers.postgres.run(&sql).await;
    }

    /// Writes more than the replication backlog holds while the log is not followed.
    async fn lose_log(&self) {
        self.task("pause", "cache/backup");
        // One that began before would end after the gap, and close it.
        while self.is_running("cache/backup") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
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

/// The largest pack of the repository `files`.
pub(super) fn largest_pack(place: &Place) -> PathBuf {
    let dirs = std::fs::read_dir(place.path("backups/files/data")).unwrap();
    let packs = dirs.flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap());
    let largest = packs.map(|pack| pack.unwrap()).max_by_key(|pack| pack.metadata().unwrap().len());
    largest.unwrap().path()
}

/// Flips bits of the content of a pack; done twice, the pack is as before. In one step: a backup that
/// found the pack missing or truncated would store its data again, and nothing would be damaged. In
/// several places: a blob between them may belong to the first snapshot only.
fn flip(pack: &Path) {
    let mut bytes = std::fs::read(pack).unwrap();
    for eighth in 1..8 {
        let at = bytes.len() * eighth / 8;
        bytes[at] ^= 1;
    }
    // Beside `data`, on the same disk.
    let flipped = pack.ancestors().nth(3).unwrap().join("flipped");
    std::fs::write(&flipped, bytes).unwrap();
    std::fs::rename(flipped, pack).unwrap();
}
