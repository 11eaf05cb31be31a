//! Real PostgreSQL servers. They refuse to run as root: then they run as the user that owns
//! nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use super::process::run;
use super::servers::process::{Ports, Server};
use backup_core::testing::tool;

/// `nobody`.
const UNPRIVILEGED: u32 = 65534;

/// A version that `scripts/tools` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V13,
    V14,
    V15,
    V16,
    V17,
    V18,
}

impl Version {
    /// Directory of its programs.
    pub(crate) fn programs(self) -> PathBuf {
        let name = match self {
            Self::V13 => "postgres-13",
            Self::V14 => "postgres-14",
            Self::V15 => "postgres-15",
            Self::V16 => "postgres-16",
            Self::V17 => "postgres-17",
            Self::V18 => "postgres-18",
        };
        let program = tool(name).canonicalize().unwrap();
        program.parent().unwrap().to_owned()
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Postgres {
    server: Server,
    data: PathBuf,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `program` as whom servers may run.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let id = UNPRIVILEGED.to_string();
    command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--pdeathsig", "KILL", "--"])
        .arg(program);
    command
}

/// What to start programs with that shall run as servers do; nothing if that is how this runs.
pub(crate) fn as_servers() -> Vec<String> {
    if !is_root() {
        return Vec::new();
    }
    let id = UNPRIVILEGED.to_string();
    ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"].map(str::to_owned).to_vec()
}

/// A directory that servers may go through and write to.
pub(crate) fn hand_over(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        chown(dir, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
    }
}

/// A directory and all in it.
pub(crate) fn hand_over_all(dir: &Path) {
    let owner = if is_root() {
        UNPRIVILEGED.to_string()
    } else {
        rustix::process::getuid().as_raw().to_string()
    };
    run(Command::new("chown").args(["-R", &owner]).arg(dir)).succeeded();
}

fn command(version: Version, ports: &Ports, data: &Path, settings: &[&str]) -> Command {
    let mut command = unprivileged(&version.programs().join("postgres"));
    command.arg("-D").arg(data).args(["-p", &ports.port(0).to_string()]);
    let always = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "shared_buffers=16MB",
        "max_wal_senders=10",
        "max_prepared_transactions=5",
        "wal_keep_size=0",
    ];
    for setting in always.iter().chain(settings) {
        command.args(["-c", setting]);
    }
    command
}

impl Postgres {
    /// A new cluster.
    pub(crate) async fn start(version: Version) -> Self {
        Self::with(version, &[], &[]).await
    }

    /// A new cluster, made and started with more arguments.
    pub(crate) async fn with(version: Version, initdb: &[&str], settings: &[&str]) -> Self {
        Self::make(version, initdb, settings, None).await
    }

    /// A new cluster that knows the locales in a directory.
    pub(crate) async fn with_locales(version: Version, locales: &Path) -> Self {
        Self::make(version, &[], &[], Some(locales)).await
    }

    async fn make(
        version: Version,
        initdb: &[&str],
        settings: &[&str],
        locales: Option<&Path>,
    ) -> Self {
        let server = Server::start(
            "postgres",
            |ports, data| {
                hand_over(data.parent().unwrap());
                hand_over(data);
                let mut make = unprivileged(&version.programs().join("initdb"));
                make.arg("-D").arg(data).args([
                    "-U",
                    "postgres",
                    "-A",
                    "trust",
                    "-E",
                    "UTF8",
                    "--locale=C",
                    "-N",
                ]);
                make.args(["--data-checksums"]).args(initdb);
                run(&mut make).succeeded();
                let mut command = command(version, ports, data, settings);
                command.envs(locales.map(|locales| ("LOCPATH", locales)));
                command
            },
            |_| true,
        );
        let data = server.data();
        let server = Self { server, data };
        server.client().await;
        server
    }

    /// On a data directory that is there.
    pub(crate) async fn on(version: Version, data: &Path, settings: &[&str]) -> Self {
        let server =
            Server::start("postgres", |ports, _| command(version, ports, data, settings), |_| true);
        let server = Self { server, data: data.to_owned() };
        server.client().await;
        server
    }

    /// Again after [`Self::kill`], as it was started without more arguments.
    pub(crate) async fn start_again(&mut self, version: Version) {
        let data = self.data.clone();
        self.server.kill();
        self.outlive().await;
        self.server.start_again(
            "postgres",
            |ports, _| command(version, ports, &data, &[]),
            |_| true,
        );
        self.client().await;
    }

    /// Waits until none of its processes holds its shared memory any more: they end some time after
    /// the first one was killed.
    async fn outlive(&self) {
        let started = Instant::now();
        // Gone if the first one ended by itself, last of all; without that line if there was no
        // memory yet.
        let pid_file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let Some(memory) = pid_file.lines().nth(6).and_then(|keys| keys.split_whitespace().nth(1))
        else {
            return;
        };
        let is_attached = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(1) == Some(&memory) && fields.get(6) != Some(&"0")
        };
        while fs::read_to_string("/proc/sysvipc/shm").unwrap().lines().any(is_attached) {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "its processes do not end:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// On a data directory, with a port and no other settings than these and those in its files.
    pub(crate) async fn by_its_configuration(
        version: Version,
        data: &Path,
        settings: &[&str],
    ) -> Self {
        let make = |ports: &Ports, _: &Path| {
            let mut command = unprivileged(&version.programs().join("postgres"));
            command.arg("-D").arg(data).args(["-p", &ports.port(0).to_string()]);
            command.args(settings.iter().flat_map(|setting| ["-c", setting]));
            command
        };
        let server = Server::start("postgres", make, |_| true);
        let server = Self { server, data: data.to_owned() };
        server.client().await;
        server
    }

    /// On a data directory that was restored: waits until it takes writes.
    pub(crate) async fn recovered(version: Version, data: &Path, settings: &[&str]) -> Self {
        let server = Self::on(version, data, settings).await;
        server.has_recovered().await;
        server
    }

    /// Waits until a restored server takes writes.
    pub(crate) async fn has_recovered(&self) {
        let started = Instant::now();
        while self.value("SELECT pg_is_in_recovery()::text").await != "false" {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "it does not end to recover:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.ports.port(0)
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    /// The address of the administrator.
    pub(crate) fn uri(&self) -> String {
        self.uri_of("postgres")
    }

    /// The address of somebody.
    pub(crate) fn uri_of(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres?sslmode=disable", self.port())
    }

    /// A session of the administrator; waits until the server takes one.
    pub(crate) async fn client(&self) -> Client {
        self.client_of("postgres").await
    }

    pub(crate) async fn client_of(&self, database: &str) -> Client {
        let started = Instant::now();
        let config =
            format!("host=127.0.0.1 port={} user=postgres dbname='{database}'", self.port());
        loop {
            match tokio_postgres::connect(&config, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => {
                    let late = started.elapsed() > Duration::from_secs(60);
                    assert!(
                        !late,
                        "no connection: {error}: {:?}\n{}",
                        error.as_db_error(),
                        self.log()
                    );
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs statements that must succeed.
    #[track_caller]
    pub(crate) fn run<'a>(&'a self, sql: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let done = self.client().await.batch_execute(sql).await;
            done.unwrap_or_else(|error| panic!("{caller}: {sql}: {:?}", error.as_db_error()));
        }
    }

    /// The text that a query answers with.
    #[track_caller]
    pub(crate) fn value<'a>(&'a self, sql: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let row = self.client().await.query_one(sql, &[]).await;
            let row = row.unwrap_or_else(|error| {
                panic!("{caller}: {sql}: {error} {:?}", error.as_db_error())
            });
            row.get::<_, String>(0)
        }
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&self) {
        self.signal(rustix::process::Signal::QUIT);
        let started = Instant::now();
        while self.data.join("postmaster.pid").exists()
            && started.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it in peace.
    pub(crate) fn stop(&self) {
        self.signal(rustix::process::Signal::INT);
        let started = Instant::now();
        while self.data.join("postmaster.pid").exists() {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "it does not stop:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops all its processes, or continues them.
    pub(crate) fn pause(&self, pause: bool) {
        let signal =
            if pause { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        self.signal(signal);
        let own = self.server.id();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // After the name in parentheses: the state, the parent.
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if parent == Some(&*own.to_string()) {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                rustix::process::kill_process(pid, signal).ok();
            }
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.server.id()).unwrap()).unwrap();
        // It may have ended already.
        rustix::process::kill_process(id, signal).ok();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Not killed: the system would keep its shared memory.
        self.kill();
    }
}
