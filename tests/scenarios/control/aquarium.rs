//! `examples/aquarium.toml` on servers of this machine: a busy and an idle one of each kind. An idle
//! MongoDB and an idle PostgreSQL are added as the jobs `history` and `reference`. Files and `history`
//! have a repository of their own, with a quota: a repository has one log per name of a replica set.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::testing::tool;
use bson::{Document, doc};
use tokio::task::JoinHandle;

use super::Place;
use crate::support::cli::workspace;
use crate::support::gcs_double::GcsDouble;
use crate::support::mongod::{self, Mongod};
use crate::support::noise::noise;
use crate::support::postgres::{self, Postgres};
use crate::support::receiver::{Receiver, Reply};
use crate::support::redis::{self, Redis};
use crate::support::servers::moto::Moto;

/// Quota of the repository of files.
pub(super) const QUOTA: &str = "32MiB";
/// Pause between two writes to a busy server.
const WRITE_EVERY: Duration = Duration::from_millis(20);
/// Documents of the idle MongoDB server.
const EVENTS: i64 = 2000;

/// A job, its schedule, and the number of backups in the phase without a fault.
pub(super) struct Scheduled {
    pub(super) name: &'static str,
    at: &'static str,
    pub(super) backups: usize,
}

const fn scheduled(name: &'static str, at: &'static str, backups: usize) -> Scheduled {
    Scheduled { name, at, backups }
}

/// One after the other, so that the machine has the same load all the time.
pub(super) const JOBS: [Scheduled; 10] = [
    scheduled("services", "0-59/10 * * * *", 4),
    scheduled("history", "1-59/10 * * * *", 4),
    scheduled("analytics", "2-59/10 * * * *", 4),
    scheduled("subscriptions", "3-59/10 * * * *", 4),
    scheduled("sessions", "4-59/10 * * * *", 4),
    scheduled("cache", "5-59/10 * * * *", 4),
    scheduled("media", "6-59/10 * * * *", 4),
    scheduled("settings", "7-59/10 * * * *", 4),
    scheduled("databases", "8-59/20 * * * *", 2),
    scheduled("reference", "18-59/20 * * * *", 2),
];

/// The sections that the example lacks. `stale` is the age of a backup that is too old.
fn additions(url: &str, stale: &str) -> String {
    format!(
        r#"
[repositories.files]
url = "ROOM/backups/files"
passphrase_file = "ROOM/keys/files.key"
quota = "{QUOTA}"

[sources.history]
kind = "mongodb"
url = "mongodb://backup@${{HISTORY}}/?directConnection=true&authSource=admin"
password_file = "ROOM/keys/mongodb.password"

[sources.reference]
kind = "postgres"
url = "postgres://backup@${{REFERENCE}}/?sslmode=disable"
password_file = "ROOM/keys/postgres.password"

[jobs.history]
source = "history"
repository = "files"
logs.flush_after = "1s"

[jobs.reference]
source = "reference"
repository = "local"
logs.flush_after = "1s"

[schedule]
time_zone = "UTC"
max_parallel = 4
per_source_host = 8
verify = "9-59/20 * * * *"
cleanup = "50 * * * *"

[[schedule.copy]]
at = "15-59/30 * * * *"
from = "local"
to = "aws"

[[schedule.copy]]
at = "20-59/30 * * * *"
from = "local"
to = "google"

[alerts.backup_missed]
condition = "stale > {stale}"
severity = "high"
notify = ["watch"]

[alerts.size_unusual]
condition = "size_anomaly > 50%"
severity = "high"
notify = ["watch"]
only = ["services", "history", "analytics", "subscriptions", "sessions", "cache", "databases", "reference"]

[alerts.log_incomplete]
condition = "log_gap"
severity = "critical"
notify = ["watch"]

[alerts.log_late]
condition = "log_lag > 2min"
severity = "warning"
notify = ["watch"]

[alerts.damage]
condition = "verify_failed"
severity = "critical"
notify = ["watch"]

[alerts.copy_failed]
condition = "copy_failed"
severity = "high"
notify = ["watch"]

[alerts.slot]
condition = "slot_unhealthy"
severity = "high"
notify = ["watch"]

[alerts.silence]
condition = "daemon_silent"
severity = "critical"
notify = ["watch"]

[alerts.restore_failed]
condition = "restore_failed"
severity = "high"
notify = ["watch"]

[alerts.restore_finished]
condition = "restore_finished"
severity = "info"
notify = ["watch"]

[notify.watch]
kind = "webhook"
url = "{url}/watch"
allow_http = true
severity = "info"
"#
    )
}

/// Replaces a part that the example must have.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the example has no {from}");
    text.replace(from, to)
}

/// The example as it is shipped.
fn shipped() -> String {
    std::fs::read_to_string(workspace().join("examples/aquarium.toml")).unwrap()
}

/// The commands of its lines for crontab, in their order.
pub(super) fn lines() -> Vec<String> {
    let text = shipped();
    let lines = text.lines().filter_map(|line| line.strip_prefix("#   "));
    lines.filter_map(|line| Some(line.split_once("backup ")?.1.to_owned())).collect()
}

/// The example, for this machine.
fn config(url: &str, endpoint: &str, stale: &str) -> String {
    let mut text = shipped();
    let programs = tool("pg_dump-18").canonicalize().unwrap();
    // Longer than a lock lasts until the next evaluation of rules.
    let logical = format!(
        "method = \"logical\"\nlock_timeout = 1800\nprograms = {:?}",
        programs.parent().unwrap()
    );
    for (from, to) in [
        ("\"/etc/backup/", "\"ROOM/keys/"),
        ("\"/var/backups/", "\"ROOM/backups/"),
        ("\"/srv/aquarium/", "\"ROOM/aquarium/"),
        ("\"/etc/aquarium\"", "\"ROOM/aquarium/settings\""),
        ("?replicaSet=rs0", "?directConnection=true"),
        ("sslmode=verify-full", "sslmode=disable"),
        ("rediss://", "redis://"),
        ("}:6379", "}"),
        ("method = \"logical\"", &logical),
        ("region = ", "allow_http = true\nregion = "),
        (
            "service_account = ",
            &format!("allow_http = true\nendpoint = \"{endpoint}\"\nservice_account = "),
        ),
        (
            "source = \"media\"\nrepository = \"local\"",
            "source = \"media\"\nrepository = \"files\"",
        ),
        (
            "source = \"settings\"\nrepository = \"local\"",
            "source = \"settings\"\nrepository = \"files\"",
        ),
        // This machine may be small.
        ("quota = \"500GiB\"", "quota = \"4GiB\""),
        // A gap stays until a person makes a backup.
        (
            "source = \"cache\"\nrepository = \"local\"",
            "source = \"cache\"\nrepository = \"local\"\nlogs.full_after_gap = false",
        ),
        ("notify = [\"", "notify = [\"watch\", \""),
        ("average * 2\"", "average * 2\"\nfloor = \"15s\""),
        (
            "secret_env = \"PAGERDUTY_ROUTING_KEY\"",
            &format!("secret_env = \"PAGERDUTY_ROUTING_KEY\"\nallow_http = true\nurl = \"{url}\""),
        ),
        ("kind = \"slack\"", "kind = \"slack\"\nallow_http = true"),
    ] {
        text = replaced(&text, from, to);
    }
    // Mail is for the tests of mail servers.
    let (before, mail) = text.split_once("[notify.ops]").unwrap();
    let (_, after) = mail.split_once("[notify.channel]").unwrap();
    let ops = format!("[notify.ops]\nkind = \"webhook\"\nallow_http = true\nurl = \"{url}/ops\"");
    text = format!("{before}{ops}\n\n[notify.channel]{after}{}", additions(url, stale));
    for job in &JOBS {
        let header = format!("[jobs.{}]\n", job.name);
        let schedule = format!("{header}schedule = \"{}\"\n", job.at);
        text = replaced(&text, &header, &schedule);
    }
    text
}

/// A receiver for all channels of the example.
pub(super) fn receiver() -> Receiver {
    Receiver::start(|request| match request.head.target() {
        "/v2/enqueue" => Reply::Status(202, "", "{\"status\":\"success\"}".to_owned()),
        _ => Reply::status(200),
    })
}

/// The servers, stores included.
pub(super) struct Servers {
    pub(super) services: Mongod,
    pub(super) history: Mongod,
    pub(super) postgres: Postgres,
    reference: Postgres,
    pub(super) sessions: Redis,
    pub(super) cache: Redis,
    moto: Moto,
    google: GcsDouble,
}

impl Servers {
    pub(super) async fn start() -> Self {
        const POSTGRES: postgres::Version = postgres::Version::V17;
        const MONGOD: mongod::Version = mongod::Version::V6_0;
        let mongods = [MONGOD; 2].map(|version| tokio::spawn(Mongod::with_users(version)));
        let settings: &[&str] = &["wal_level=replica"];
        let clusters =
            [POSTGRES; 2].map(|version| tokio::spawn(Postgres::with(version, &[], settings)));
        let moto = tokio::task::spawn_blocking(Moto::start);
        let [services, history] = mongods;
        let [postgres, reference] = clusters;
        let servers = Self {
            services: services.await.unwrap(),
            history: history.await.unwrap(),
            postgres: postgres.await.unwrap(),
            reference: reference.await.unwrap(),
            sessions: Redis::start(redis::Version::Redis8),
            cache: Redis::start(redis::Version::Redis8),
            moto: moto.await.unwrap(),
            google: GcsDouble::start(),
        };
        servers.fill().await;
        servers
    }

    async fn fill(&self) {
        for server in [&self.services, &self.history] {
            let roles = bson::bson!(["backup", "clusterMonitor"]);
            server
                .run("admin", doc! { "createUser": "backup", "pwd": "hush", "roles": roles })
                .await;
        }
        for (db, name) in [
            ("user-service", "users"),
            ("aquarium-service", "tanks"),
            ("event-service", "events"),
            ("notification-service", "messages"),
        ] {
            let collection = self.services.client.database(db).collection::<Document>(name);
            let documents = (0..500).map(
                |number| doc! { "_id": number, "text": format!("{name} {number}"), "seen": 0_i64 },
            );
            collection.insert_many(documents).await.unwrap();
        }
        self.fill_history().await;
        for server in [&self.postgres, &self.reference] {
            server.run("CREATE ROLE backup SUPERUSER LOGIN").await;
        }
        for (database, table) in [("analytics", "visits"), ("subscriptions", "invoices")] {
            self.postgres.run(&format!("CREATE DATABASE {database}")).await;
            let client = self.postgres.client_of(database).await;
            let sql = format!(
                "CREATE TABLE {table} (id bigint PRIMARY KEY, seen bigint, text text); \
                 INSERT INTO {table} SELECT n, 0, repeat(n::text, 20) FROM generate_series(1, 2000) n"
            );
            client.batch_execute(&sql).await.unwrap();
        }
        for server in [&self.sessions, &self.cache] {
            server.run(&["ACL", "SETUSER", "backup", "on", ">hush", "~*", "&*", "+@all"]);
            let mut client = server.client();
            for number in 0..1000 {
                client.ok(&["SET", &format!("key:{number}"), &format!("{number:0>500}")]);
            }
        }
    }

    /// Fills the idle MongoDB server, also after it was emptied.
    pub(super) async fn fill_history(&self) {
        let collection = self.history.client.database("history").collection::<Document>("events");
        let text = "x".repeat(200);
        let documents = (0..EVENTS).map(|number| doc! { "_id": number, "text": &text });
        collection.insert_many(documents).await.unwrap();
    }

    /// A place with the configuration, its files and its repositories. Channels send to `url`.
    pub(super) fn place(&self, url: &str, stale: &str) -> Place {
        let host = |port: u16| format!("127.0.0.1:{port}");
        let store = self.moto.s3.environment();
        let mut environment: Vec<(&str, String)> =
            store.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        environment.extend([
            ("AWS_ENDPOINT_URL", self.moto.server.endpoint()),
            ("MONGODB_HOSTS", host(self.services.port())),
            ("HISTORY", host(self.history.port())),
            ("POSTGRES_HOST", host(self.postgres.port())),
            ("REFERENCE", host(self.reference.port())),
            ("SESSIONS_HOST", host(self.sessions.port())),
            ("CACHE_HOST", host(self.cache.port())),
            ("PAGERDUTY_ROUTING_KEY", "hush".to_owned()),
            ("PATH", format!("ROOM/bin:{}", std::env::var("PATH").unwrap())),
        ]);
        let place = Place::new(&config(url, &self.google.endpoint(), stale), &environment);
        for dir in ["keys", "bin", "aquarium/uploads", "aquarium/media", "aquarium/settings"] {
            std::fs::create_dir_all(place.path(dir)).unwrap();
        }
        let write = |name: &str, content: &[u8]| {
            std::fs::write(place.path(name), content).unwrap();
            // Others cannot read keys and passwords.
            let mode = if name.starts_with("keys/") { 0o600 } else { 0o644 };
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(place.path(name), permissions).unwrap();
        };
        for key in ["aquarium", "aquarium-aws", "aquarium-google", "files"] {
            write(&format!("keys/{key}.key"), key.as_bytes());
        }
        for kind in ["mongodb", "postgres", "redis"] {
            write(&format!("keys/{kind}.password"), b"hush");
        }
        write("keys/slack.url", format!("{url}/slack").as_bytes());
        let account = self.google.service_account(&self.google.endpoint());
        write("keys/google.json", account.as_bytes());
        write("bin/logger", b"#!/bin/sh\n");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(place.path("bin/logger"), executable).unwrap();
        write("aquarium/uploads/picture", &noise(1, 400_000));
        write("aquarium/media/film", &noise(2, 300_000));
        write("aquarium/settings/aquarium.conf", b"temperature = 24\n");
        self.moto.s3.create_bucket("example-aquarium", false);
        self.google.create_bucket("example-aquarium");
        for repository in ["local", "files", "aws", "google"] {
            place.done(&["init", "-r", repository]);
        }
        place
    }

    /// Changes documents, rows and keys of the busy servers, without an end. The amount of data stays the same.
    pub(super) async fn write(&self) -> Writing {
        let end = Arc::new(AtomicBool::new(false));
        let users = self.services.client.database("user-service").collection::<Document>("users");
        let (visits, mut sessions) =
            (self.postgres.client_of("analytics").await, self.sessions.client());
        let ended = Arc::clone(&end);
        let task = tokio::spawn(async move {
            let update = "UPDATE visits SET seen = $1 WHERE id = $2";
            for number in 1_i64.. {
                let change = doc! { "$set": { "seen": number } };
                users.update_one(doc! { "_id": number % 500 }, change).await.unwrap();
                visits.execute(update, &[&number, &(number % 2000 + 1)]).await.unwrap();
                sessions.ok(&[
                    "SET",
                    &format!("key:{}", number % 1000),
                    &format!("{number:0>500}"),
                ]);
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                tokio::time::sleep(WRITE_EVERY).await;
            }
        });
        Writing { end, task }
    }
}

/// The writer of the busy servers.
pub(super) struct Writing {
    end: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writing {
    /// Fails if a write failed.
    pub(super) async fn stop(self) {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
