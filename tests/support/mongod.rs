//! Real MongoDB servers: a replica set of one is writable after about a second.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;

use super::process::{Ports, Server};
use super::tools::tool;

/// A version that `scripts/tools` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V4_4,
    V5_0,
    V6_0,
}

impl Version {
    fn program(self) -> PathBuf {
        tool(match self {
            Self::V4_4 => "mongod-4.4",
            Self::V5_0 => "mongod-5.0",
            Self::V6_0 => "mongod-6.0",
        })
    }

    /// Time-series collections, snapshot reads.
    pub(crate) fn has_time_series(self) -> bool {
        self >= Self::V5_0
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Mongod {
    server: Server,
    /// A client of the administrator.
    pub(crate) client: Client,
    uri: String,
}

fn command(version: Version, ports: &Ports, data: &Path, more: &[String]) -> Command {
    let mut command = Command::new(version.program());
    command.args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.5"]);
    command.args([
        "--setParameter",
        "diagnosticDataCollectionEnabled=false",
        "--setParameter",
        "ttlMonitorEnabled=false",
    ]);
    command.arg("--port").arg(ports.port(0).to_string()).arg("--dbpath").arg(data).args(more);
    command
}

fn start(version: Version, more: &[String]) -> Server {
    Server::start("mongod", |ports, data| command(version, ports, data, more), |_| true)
}

pub(crate) async fn connect(uri: &str) -> Client {
    Client::with_uri_str(uri).await.unwrap()
}

/// Waits until the server is a primary.
async fn writable(client: &Client) {
    let started = Instant::now();
    loop {
        let hello = client.database("admin").run_command(doc! { "isMaster": 1 }).await;
        if hello.is_ok_and(|hello| hello.get_bool("ismaster").unwrap_or(false)) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "there is no primary");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

impl Mongod {
    /// A replica set of one member.
    pub(crate) async fn start(version: Version) -> Self {
        let more = ["--replSet", "rs", "--oplogSize", "990"].map(str::to_owned);
        let server = start(version, &more);
        let uri = format!("mongodb://127.0.0.1:{}/?directConnection=true", server.ports.port(0));
        let client = connect(&uri).await;
        let member = doc! { "_id": 0, "host": format!("127.0.0.1:{}", server.ports.port(0)) };
        let config = doc! { "_id": "rs", "members": [member] };
        client.database("admin").run_command(doc! { "replSetInitiate": config }).await.unwrap();
        writable(&client).await;
        Self { server, client, uri }
    }

    /// A server without a replica set.
    pub(crate) async fn standalone(version: Version) -> Self {
        let server = start(version, &[]);
        let uri = format!("mongodb://127.0.0.1:{}/", server.ports.port(0));
        let client = connect(&uri).await;
        Self { server, client, uri }
    }

    /// A replica set of one member that knows its users: `admin` with the password `pass word`, key file included.
    pub(crate) async fn with_users(version: Version) -> Self {
        Self::secured(version, &[], "").await
    }

    /// The same over TLS only: with a certificate and its key in one file, from an authority.
    pub(crate) async fn with_tls(version: Version, authority: &Path, certificate: &Path) -> Self {
        let file = |path: &Path| path.display().to_string();
        let more =
            ["--tlsMode", "requireTLS", "--tlsAllowConnectionsWithoutCertificates", "--tlsCAFile"].map(str::to_owned);
        let files = [file(authority), "--tlsCertificateKeyFile".to_owned(), file(certificate)];
        let more: Vec<String> = more.into_iter().chain(files).collect();
        Self::secured(version, &more, &format!("&tls=true&tlsCAFile={}", file(authority))).await
    }

    async fn secured(version: Version, more: &[String], options: &str) -> Self {
        let room = tempfile::tempdir().unwrap();
        let key = room.path().join("key");
        std::fs::write(&key, "abcdefghijklmnopqrstuvwxyz0123456789").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let all = ["--replSet", "rs", "--oplogSize", "990", "--auth", "--keyFile"].map(str::to_owned);
        let all: Vec<String> = all.into_iter().chain([key.display().to_string()]).chain(more.iter().cloned()).collect();
        let server = start(version, &all);
        let port = server.ports.port(0);
        let first = connect(&format!("mongodb://127.0.0.1:{port}/?directConnection=true{options}")).await;
        let config = doc! { "_id": "rs", "members": [{ "_id": 0, "host": format!("127.0.0.1:{port}") }] };
        let admin = first.database("admin");
        admin.run_command(doc! { "replSetInitiate": config }).await.unwrap();
        writable(&first).await;
        // Whoever is on the machine may make the first user.
        admin.run_command(doc! { "createUser": "admin", "pwd": "pass word", "roles": ["root"] }).await.unwrap();
        let uri = format!("mongodb://admin:pass%20word@127.0.0.1:{port}/?directConnection=true{options}");
        let client = connect(&uri).await;
        Self { server, client, uri }
    }

    /// Its address, with credentials if it has any.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.ports.port(0)
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub(crate) fn run<'a>(&'a self, db: &'a str, command: Document) -> impl Future<Output = Document> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let shown = command.to_string();
            let result = self.client.database(db).run_command(command).await;
            result.unwrap_or_else(|error| panic!("{caller}: {shown}: {error}"))
        }
    }

    /// Drops everything but the server's own.
    pub(crate) async fn clear(&self) {
        for db in self.client.list_database_names().await.unwrap() {
            if !matches!(&*db, "admin" | "config" | "local") {
                self.client.database(&db).drop().await.unwrap();
            }
        }
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&self) {
        kill(&self.server);
    }
}

/// A replica set of three members.
#[derive(Debug)]
pub(crate) struct Members {
    servers: Vec<Server>,
    pub(crate) client: Client,
    uri: String,
}

impl Members {
    pub(crate) async fn start(version: Version) -> Self {
        let more = ["--replSet", "rs", "--oplogSize", "990"].map(str::to_owned);
        let servers: Vec<Server> = (0..3).map(|_| start(version, &more)).collect();
        let names: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.ports.port(0))).collect();
        let members: Vec<Document> = names.iter().zip(0..).map(|(host, id)| doc! { "_id": id, "host": host }).collect();
        let settings = doc! { "electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200 };
        let config = doc! { "_id": "rs", "members": members, "settings": settings };
        let first = connect(&format!("mongodb://{}/?directConnection=true", names[0])).await;
        first.database("admin").run_command(doc! { "replSetInitiate": config }).await.unwrap();
        let uri = format!("mongodb://{}/?replicaSet=rs", names.join(","));
        let client = connect(&uri).await;
        let set = Self { servers, client, uri };
        set.healthy().await;
        set
    }

    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// Waits for a primary and two secondaries.
    async fn healthy(&self) {
        let started = Instant::now();
        loop {
            let status = self.client.database("admin").run_command(doc! { "replSetGetStatus": 1 }).await;
            let states: Vec<i32> = status
                .ok()
                .and_then(|status| {
                    let members = status.get_array("members").ok()?;
                    Some(members.iter().filter_map(|member| member.as_document()?.get_i32("state").ok()).collect())
                })
                .unwrap_or_default();
            if states.contains(&1) && states.iter().filter(|state| **state == 2).count() == 2 {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the set does not come together: {states:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends a member at once, as a crash does.
    pub(crate) fn kill(&self, host: &str) {
        let server = self.servers.iter().find(|server| host.ends_with(&format!(":{}", server.ports.port(0)))).unwrap();
        kill(server);
    }
}

fn kill(server: &Server) {
    let id = rustix::process::Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
}
