//! Machines with one configuration: one of them executes a job, whatever the others want, by the
//! catalog that they share or by the repository. They are this machine under other names.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use object_store::ObjectStore as _;

use super::Place;
use super::catalog::database;
use crate::support::postgres::{Postgres, Version};
use crate::support::process::{Outcome, run};
use crate::support::servers::moto::Moto;

/// A source that all machines see: what is this machine's own is called by another name. The hook
/// lets the test decide how long a backup takes.
const CONFIG: &str = r#"
    [repositories.main]
    url = "REPOSITORY"
    [repositories.main.store]
    STORE
    [sources.crm]
    kind = "postgres"
    url = "postgres://postgres@0.0.0.0:PORT/?sslmode=disable"
    slot = ""
    [jobs.crm]
    source = "crm"
    repository = "main"
    [jobs.crm.hooks]
    before = "date >> ROOM/began; while [ -e ROOM/wait ]; do sleep 0.05; done"
"#;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A backup that goes on; killed if nobody waits for it.
struct Begun(Child);

impl Begun {
    fn succeeds(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Machines that share a repository, and perhaps a catalog.
struct Hosts {
    place: Place,
    server: Postgres,
    store: Option<Moto>,
}

impl Hosts {
    async fn new(is_remote: bool) -> Self {
        let server = Postgres::start(Version::V17).await;
        let store = is_remote.then(Moto::start);
        let config = CONFIG.replace("PORT", &server.port().to_string());
        let mut environment = Vec::new();
        let config = match &store {
            None => config.replace("REPOSITORY", "ROOM/repo").replace("STORE", ""),
            Some(moto) => {
                moto.s3.create_bucket("shared", false);
                environment = moto.s3.environment().into_iter().collect();
                environment.push(("AWS_ENDPOINT_URL".to_owned(), moto.server.endpoint()));
                environment.push(("BACKUP_CATALOG".to_owned(), database(&server, "catalog").await));
                config
                    .replace("REPOSITORY", "s3://shared/repo")
                    .replace("STORE", "allow_http = true")
            }
        };
        let environment: Vec<(&str, String)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let place = Place::new(&config, &environment);
        place.done(&["init"]);
        Self { place, server, store }
    }

    /// The program on a machine, with a state directory of its own.
    fn command(&self, host: &str, arguments: &[&str]) -> Command {
        let under = "hostname \"$0\" && exec \"$@\"";
        let root: &[&str] =
            if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
        let wrapper = [&["unshare", "--uts"][..], root, &["sh", "-c", under, host]].concat();
        let mut command = self.place.cli.command(&wrapper, arguments);
        command.env("BACKUP_STATE_DIR", self.place.path(&format!("state-{host}")));
        command.env("BACKUP_CACHE_DIR", self.place.path(&format!("cache-{host}")));
        command
    }

    fn run(&self, host: &str, arguments: &[&str]) -> Outcome {
        run(&mut self.command(host, arguments))
    }

    fn began(&self) -> usize {
        std::fs::read_to_string(self.place.path("began")).map_or(0, |text| text.lines().count())
    }

    /// Lets backups last, and begins one on a machine.
    fn begin(&self, host: &str) -> Begun {
        std::fs::write(self.place.path("wait"), "").unwrap();
        let (before, since) = (self.began(), Instant::now());
        let running = Begun(self.command(host, &["run", "-q", "crm"]).spawn().unwrap());
        while self.began() == before {
            assert!(since.elapsed() < PATIENCE, "it does not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn let_go(&self) {
        std::fs::remove_file(self.place.path("wait")).unwrap();
    }

    /// Is killed while it backs up, which another machine cannot know.
    #[track_caller]
    fn dies(&self, host: &str, other: &str) {
        drop(self.begin(host));
        self.let_go();
        self.is_held(other, host);
    }

    /// Fails because another one is at it.
    #[track_caller]
    fn is_held(&self, host: &str, by: &str) {
        let outcome = self.run(host, &["run", "crm"]);
        assert_eq!(outcome.code, 11, "{outcome}");
        for words in [
            "job crm is already being run",
            &format!("@{by}, process "),
            "since 20",
            "its machine is down",
        ] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome}");
        }
    }

    /// Many at the same moment: one of them runs, the others say who does.
    fn race(&self) {
        std::fs::write(self.place.path("wait"), "").unwrap();
        let before = self.began();
        let names = ["one", "two", "three", "four"];
        let spawn = |host: &str| {
            let mut command = self.command(host, &["run", "crm"]);
            std::thread::spawn(move || run(&mut command))
        };
        let running: Vec<_> = names.iter().map(|host| spawn(host)).collect();
        let since = Instant::now();
        while running.iter().filter(|thread| thread.is_finished()).count() < names.len() - 1 {
            assert!(since.elapsed() < PATIENCE, "more than one goes on: {}", self.began());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.let_go();
        let codes: Vec<i32> =
            running.into_iter().map(|thread| thread.join().unwrap().code).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == 11).count(), 3, "{codes:?}");
        assert_eq!(self.began(), before + 1);
    }
}

mod needs_postgres_17 {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_repository_knows_who_runs_a_job() {
        let hosts = Hosts::new(false).await;
        let first = hosts.begin("one");
        hosts.is_held("two", "one");
        hosts.let_go();
        first.succeeds();
        // At once, also on another machine.
        hosts.run("two", &["run", "-q", "crm"]).succeeded();
        hosts.race();
        // Who was killed is known to be dead by its own machine, and not by others.
        hosts.dies("one", "two");
        hosts.run("one", &["run", "-q", "crm"]).succeeded();
        hosts.run("two", &["run", "-q", "crm"]).succeeded();
        // What machines have of their own is not the same.
        let own = hosts.place.path("own");
        std::fs::create_dir(&own).unwrap();
        let first = hosts.begin("one");
        let files = ["run", "-q", "-r", "main", "--job", "crm", "--source", own.to_str().unwrap()];
        hosts.run("two", &files).succeeded();
        hosts.let_go();
        drop(first);
    }

    /// With a catalog in PostgreSQL alone: that it is away is said, and no more.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_backup_fails_because_the_catalog_is_away() {
        let hosts = Hosts::new(false).await;
        let url = database(&hosts.server, "catalog").await;
        let done = |url: &str, arguments: &[&str]| {
            let outcome = run(hosts.command("one", arguments).env("BACKUP_CATALOG", url));
            assert!(
                !format!("{outcome}").split("--- stdout").nth(1).unwrap().contains("hush"),
                "{outcome}"
            );
            outcome
        };
        done(&url, &["run", "-q", "crm"]).succeeded();
        let away = "postgres://backup:hush@127.0.0.1:1/catalog";
        let outcome = done(away, &["run", "crm"]);
        assert_eq!(outcome.code, 3, "{outcome}");
        for words in [
            "runs are not recorded: the catalog postgres://…@127.0.0.1:1/catalog cannot be \
             reached",
            "Hint:",
        ] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome}");
        }
        let outcome = done(away, &["status"]);
        assert!(outcome.code == 0 && outcome.text().contains("crm"), "{outcome}");
        assert_eq!(done(away, &["status", "--runs"]).code, 1);
        // What it does not know of it learns from the repository.
        let runs = |url: &str| {
            let json = done(url, &["status", "--runs", "--json"]).succeeded().text();
            serde_json::from_str::<serde_json::Value>(&json).unwrap()["runs"]
                .as_array()
                .unwrap()
                .len()
        };
        assert_eq!(runs(&url), 1);
        let messages = done(&url, &["logs", "run", "latest"]);
        assert!(messages.text().contains("backup of job crm"), "{messages}");
        // Another machine sees the runs, and says where their messages are.
        let outcome =
            run(hosts.command("two", &["logs", "run", "latest"]).env("BACKUP_CATALOG", &url));
        assert!(outcome.code != 0 && outcome.stderr.contains("on one"), "{outcome}");
        let rebuilt = done(&url, &["catalog", "rebuild"]).succeeded().text();
        assert!(rebuilt.contains("1 run added"), "{rebuilt}");
        assert_eq!(runs(&url), 2);
        for looks in [
            &["report"][..],
            &["alerts"],
            &["alerts", "check"],
            &["list"],
            &["analyze", "latest"],
            &["advise"],
        ] {
            let outcome = done(&url, looks);
            assert!(outcome.code == 0 || looks == ["alerts", "check"], "{looks:?} {outcome}");
        }
    }
}

mod needs_catalog_of_hosts {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_shared_catalog_knows_who_runs_a_job() {
        let hosts = Hosts::new(true).await;
        let first = hosts.begin("one");
        hosts.is_held("two", "one");
        let status = hosts.run("two", &["status", "--runs", "--json"]).succeeded().text();
        assert!(status.contains("\"running\"") && status.contains("\"host\":\"one\""), "{status}");
        hosts.let_go();
        first.succeeds();
        hosts.run("two", &["run", "-q", "crm"]).succeeded();
        hosts.race();
        hosts.dies("one", "two");
        // Its own machine knows that it has died.
        hosts.run("one", &["run", "-q", "crm"]).succeeded();
        hosts.dies("one", "two");
        let sql = hosts.server.client_of("catalog").await;
        let aged = sql
            .execute("UPDATE backup_flights SET seen = seen - interval '2 minutes'", &[])
            .await
            .unwrap();
        assert_eq!(aged, 1);
        hosts.run("two", &["run", "-q", "crm"]).succeeded();
        // Nothing of it is left, and the repository was not asked.
        let left = sql.query_one("SELECT count(*) FROM backup_flights", &[]).await.unwrap();
        assert_eq!(left.get::<_, i64>(0), 0);
        let store = hosts.store.as_ref().unwrap().s3.store("shared");
        let all: Vec<String> =
            store.list(None).map(|object| object.unwrap().location.to_string()).collect().await;
        let listed = |beginning: &str| all.iter().filter(|key| key.starts_with(beginning)).count();
        assert!(listed("repo/snapshots/") > 3, "{all:?}");
        assert_eq!(listed("repo/x-leases/run-"), 0, "{all:?}");
    }
}
