//! A repository with a configuration, and the program on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::room;
use crate::support::cli::Cli;
use crate::support::dying::DyingStore;
use crate::support::postgres::{Postgres, Version, as_servers};
use crate::support::process::{Outcome, run};
use crate::support::running::Running;

/// What must never be seen anywhere.
pub(super) const SECRET: &str = "pass word";

/// A repository, a configuration, and a home of the program.
pub(super) struct Place {
    cli: Cli,
    room: tempfile::TempDir,
    /// Whoever runs the program, if not the one who tests.
    wrapper: Vec<String>,
}

impl Place {
    /// With a job `crm` of this server; `more` goes into its source.
    pub(super) fn new(server: &Postgres, more: &str) -> Self {
        Self::with(server, more, Vec::new(), None)
    }

    /// With a repository in an object store.
    pub(super) fn in_store(server: &Postgres, store: &DyingStore) -> Self {
        Self::with(server, "", Vec::new(), Some(store))
    }

    /// Everything belongs to the one who servers run as.
    pub(super) fn unprivileged(server: &Postgres) -> Self {
        Self::with(server, "", as_servers(), None)
    }

    fn with(
        server: &Postgres,
        more: &str,
        wrapper: Vec<String>,
        store: Option<&DyingStore>,
    ) -> Self {
        let room = room();
        let local = room.path().join("repository").to_str().unwrap().to_owned();
        let repository = store.map_or_else(
            || {
                format!(
                    "[repositories.main]\nurl = {local:?}\npassphrase_env = \"BACKUP_PASSWORD\"\n"
                )
            },
            DyingStore::config,
        );
        let address = store.map_or(local, DyingStore::address);
        let environment =
            [("CRM_PORT", server.port().to_string()), ("CRM_PASSWORD", SECRET.to_owned())];
        let mut environment: BTreeMap<_, _> =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        environment.insert("HOME".to_owned(), room.path().to_str().unwrap().to_owned());
        environment.extend(store.map(DyingStore::environment).unwrap_or_default());
        let cli = Cli::remote(address, "key", environment);
        let place = Self { cli, room, wrapper };
        let config = format!(
            r#"
            {repository}
            [sources.crm]
            kind = "postgres"
            url = "postgres://backup@127.0.0.1:${{CRM_PORT}}/?sslmode=disable"
            password_env = "CRM_PASSWORD"
            {more}
            [jobs.crm]
            source = "crm"
            repository = "main"
            tier = "daily"
            [jobs.crm.logs]
            flush_after = "200ms"
            "#
        );
        std::fs::write(place.path("backup.toml"), config).unwrap();
        place.done(&["init"]);
        place
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.room.path().join(name).to_str().unwrap().to_owned()
    }

    fn arguments<'a>(file: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--config", file], arguments].concat()
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let wrapper: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        self.cli.command(&wrapper, &Self::arguments(&self.path("backup.toml"), arguments))
    }

    pub(super) fn spawn(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments).stdout(Stdio::null()))
    }

    /// Runs with success, and shows nothing that is secret.
    #[track_caller]
    pub(super) fn done(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments).succeeded();
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        assert!(!text.contains(SECRET), "{text}");
        text
    }

    /// Fails with that exit code, a hint, and nothing that is secret.
    #[track_caller]
    pub(super) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        assert_eq!(outcome.code, code, "{text}");
        assert!(text.contains("Hint:") && !text.contains(SECRET), "{text}");
        text
    }

    /// Files of the captured log, in the order in which they were stored.
    pub(super) fn slices(&self) -> Vec<PathBuf> {
        let (mut dirs, mut found) =
            (vec![PathBuf::from(self.path("repository/x-lane"))], Vec::new());
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => dirs.push(entry.path()),
                    // The first ones only note who stores.
                    false
                        if entry.file_name().to_str().unwrap().bytes().any(|byte| byte != b'0') =>
                    {
                        found.push(entry.path());
                    }
                    false => {}
                }
            }
        }
        found.sort();
        found
    }

    /// Waits until a place in the log can be restored.
    pub(super) fn reached(&self, at: &str) {
        let started = Instant::now();
        let dir = self.path("never");
        let dry = ["restore", "--job", "crm", "--at", at, "--target", &dir, "--dry-run"];
        loop {
            let outcome = self.run(&dry);
            if outcome.code == 0 {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{at}: {outcome}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A role as the documentation makes it, and a server that asks it for its password.
pub(super) async fn with_role(version: Version, initdb: &[&str], settings: &[&str]) -> Postgres {
    let server = Postgres::with(version, initdb, settings).await;
    let lines = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost replication \
                 postgres 127.0.0.1/32 trust\nhost all,replication backup 127.0.0.0/8 \
                 scram-sha-256\n";
    std::fs::write(server.data().join("pg_hba.conf"), lines).unwrap();
    let role = format!(
        "CREATE ROLE backup LOGIN REPLICATION PASSWORD '{SECRET}'; GRANT pg_monitor TO backup"
    );
    server.run(&format!("SET password_encryption = 'scram-sha-256'; {role}")).await;
    server.run("SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    server
}
