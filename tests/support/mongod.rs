//! Real MongoDB servers: a replica set of one is writable after about a second.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;

use super::servers::process::{Ports, Server};
use backup_core::testing::tool;

/// A version that `scripts/tools` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V4_4,
    V5_0,
    V6_0,
    /// What `MONGOD` names, of whatever version from 6.0 on.
    Own,
}

impl Version {
    fn program(self) -> PathBuf {
        tool(match self {
            Self::V4_4 => "mongod-4.4",
            Self::V5_0 => "mongod-5.0",
            Self::V6_0 => "mongod-6.0",
            Self::Own => return std::env::var_os("MONGOD").expect("MONGOD names a mongod").into(),
        })
    }

    /// Time-series collections, snapshot reads.
    pub(crate) fn has_time_series(self) -> bool {
        self >= Self::V5_0
    }
}

/// How a server was started, to start it again.
#[derive(Debug, Clone)]
struct Started {
    version: Version,
    more: Vec<String>,
}

impl Started {
    fn begin(version: Version, more: &[String]) -> (Server, Self) {
        let server =
            Server::start("mongod", |ports, data| command(version, ports, data, more), |_| true);
        (server, Self { version, more: more.to_vec() })
    }

    fn again(&self, server: &mut Server) {
        server.kill();
        server.start_again(
            "mongod",
            |ports, data| command(self.version, ports, data, &self.more),
            |_| true,
        );
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Mongod {
    server: Server,
    started: Started,
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
        Self::with(version, &["--oplogSize", "990"]).await
    }

    /// A replica set of one member that is started with more arguments.
    pub(crate) async fn with(version: Version, more: &[&str]) -> Self {
        let more: Vec<String> =
            ["--replSet", "rs"].iter().chain(more).map(|&text| text.to_owned()).collect();
        let (server, started) = Started::begin(version, &more);
        let uri = format!("mongodb://127.0.0.1:{}/?directConnection=true", server.ports.port(0));
        let client = connect(&uri).await;
        let member = doc! { "_id": 0, "host": format!("127.0.0.1:{}", server.ports.port(0)) };
        let config = doc! { "_id": "rs", "members": [member] };
        client.database("admin").run_command(doc! { "replSetInitiate": config }).await.unwrap();
        writable(&client).await;
        Self { server, started, client, uri }
    }

    /// A server without a replica set.
    pub(crate) async fn standalone(version: Version) -> Self {
        let (server, started) = Started::begin(version, &[]);
        let uri = format!("mongodb://127.0.0.1:{}/", server.ports.port(0));
        let client = connect(&uri).await;
        Self { server, started, client, uri }
    }

    /// A replica set of one member that knows its users: `admin` with the password `pass word`, key
    /// file included.
    pub(crate) async fn with_users(version: Version) -> Self {
        Self::secured(version, &[], "").await
    }

    /// The same over TLS only: with a certificate and its key in one file, from an authority.
    pub(crate) async fn with_tls(version: Version, authority: &Path, certificate: &Path) -> Self {
        let file = |path: &Path| path.display().to_string();
        let more =
            ["--tlsMode", "requireTLS", "--tlsAllowConnectionsWithoutCertificates", "--tlsCAFile"]
                .map(str::to_owned);
        let files = [file(authority), "--tlsCertificateKeyFile".to_owned(), file(certificate)];
        let more: Vec<String> = more.into_iter().chain(files).collect();
        Self::secured(version, &more, &format!("&tls=true&tlsCAFile={}", file(authority))).await
    }

    /// The same for clients that have a certificate of the authority.
    pub(crate) async fn with_client_certificates(
        version: Version,
        authority: &Path,
        certificate: &Path,
    ) -> Self {
        let [ca, pem] = [authority, certificate].map(|path| path.display().to_string());
        let more = ["--tlsMode", "requireTLS", "--tlsCAFile", &ca, "--tlsCertificateKeyFile", &pem];
        let more = more.map(str::to_owned);
        let options = format!("&tls=true&tlsCAFile={ca}&tlsCertificateKeyFile={pem}");
        Self::secured(version, &more, &options).await
    }

    async fn secured(version: Version, more: &[String], options: &str) -> Self {
        let room = tempfile::tempdir().unwrap();
        let key = room.path().join("key");
        std::fs::write(&key, "abcdefghijklmnopqrstuvwxyz0123456789").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let all =
            ["--replSet", "rs", "--oplogSize", "990", "--auth", "--keyFile"].map(str::to_owned);
        let all: Vec<String> = all
            .into_iter()
            .chain([key.display().to_string()])
            .chain(more.iter().cloned())
            .collect();
        let (server, started) = Started::begin(version, &all);
        let port = server.ports.port(0);
        let first =
            connect(&format!("mongodb://127.0.0.1:{port}/?directConnection=true{options}")).await;
        let config =
            doc! { "_id": "rs", "members": [{ "_id": 0, "host": format!("127.0.0.1:{port}") }] };
        let admin = first.database("admin");
        admin.run_command(doc! { "replSetInitiate": config }).await.unwrap();
        writable(&first).await;
        // Whoever is on the machine may make the first user.
        admin
            .run_command(doc! { "createUser": "admin", "pwd": "pass word", "roles": ["root"] })
            .await
            .unwrap();
        let uri =
            format!("mongodb://admin:pass%20word@127.0.0.1:{port}/?directConnection=true{options}");
        let client = connect(&uri).await;
        Self { server, started, client, uri }
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
    pub(crate) fn run<'a>(
        &'a self,
        db: &'a str,
        command: Document,
    ) -> impl Future<Output = Document> + 'a {
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

    /// Stops its process, or continues it.
    pub(crate) fn pause(&self, pause: bool) {
        stop(&self.server, pause);
    }

    /// Starts it again with what it has on its disk, killed or not; returns when it is a primary.
    pub(crate) async fn start_again(&mut self) {
        self.started.again(&mut self.server);
        writable(&self.client).await;
    }
}

/// A replica set of several members.
#[derive(Debug)]
pub(crate) struct Members {
    servers: Vec<Server>,
    started: Started,
    pub(crate) client: Client,
    uri: String,
}

impl Members {
    /// Of three members, any of which may become the primary.
    pub(crate) async fn start(version: Version) -> Self {
        Self::with(version, 3, &[]).await
    }

    /// The same with the commands that the server's own tests use.
    pub(crate) async fn with_test_commands(version: Version) -> Self {
        Self::with(version, 3, &["--setParameter", "enableTestCommands=1"]).await
    }

    /// Of a primary, which stays that, and a secondary.
    pub(crate) async fn pair(version: Version) -> Self {
        Self::with(version, 2, &[]).await
    }

    async fn with(version: Version, count: usize, parameters: &[&str]) -> Self {
        let more: Vec<String> = ["--replSet", "rs", "--oplogSize", "990"]
            .iter()
            .chain(parameters)
            .map(|&text| text.to_owned())
            .collect();
        let servers: Vec<Server> = (0..count).map(|_| Started::begin(version, &more).0).collect();
        let started = Started { version, more };
        let names: Vec<String> =
            servers.iter().map(|server| format!("127.0.0.1:{}", server.ports.port(0))).collect();
        let member = |(host, id): (&String, i32)| doc! { "_id": id, "host": host, "priority": i32::from(id == 0 || count > 2) };
        let members: Vec<Document> = names.iter().zip(0..).map(member).collect();
        let settings = doc! { "electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200 };
        let config = doc! { "_id": "rs", "members": members, "settings": settings };
        let first = connect(&format!("mongodb://{}/?directConnection=true", names[0])).await;
        first.database("admin").run_command(doc! { "replSetInitiate": config }).await.unwrap();
        let uri = format!("mongodb://{}/?replicaSet=rs", names.join(","));
        let client = connect(&uri).await;
        let set = Self { servers, started, client, uri };
        set.healthy().await;
        set
    }

    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// The address of one member by itself.
    pub(crate) fn direct(&self, member: usize) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.servers[member].ports.port(0))
    }

    /// Waits until a member has everything that the primary has.
    pub(crate) async fn caught_up(&self, member: &Client) {
        let newest = async |client: &Client| {
            // A member that takes something back closes its connections.
            let hello = client.database("admin").run_command(doc! { "isMaster": 1 }).await.ok()?;
            hello
                .get_document("lastWrite")
                .unwrap()
                .get_document("opTime")
                .unwrap()
                .get_timestamp("ts")
                .ok()
        };
        let wanted = newest(&self.client).await.unwrap();
        let started = Instant::now();
        while newest(member).await.is_none_or(|newest| newest < wanted) {
            assert!(started.elapsed() < Duration::from_secs(60), "the secondary lags");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a primary and all secondaries.
    pub(crate) async fn healthy(&self) {
        let started = Instant::now();
        loop {
            let status =
                self.client.database("admin").run_command(doc! { "replSetGetStatus": 1 }).await;
            let states: Vec<i32> = status
                .ok()
                .and_then(|status| {
                    let members = status.get_array("members").ok()?;
                    Some(
                        members
                            .iter()
                            .filter_map(|member| member.as_document()?.get_i32("state").ok())
                            .collect(),
                    )
                })
                .unwrap_or_default();
            if states.contains(&1)
                && states.iter().filter(|state| **state == 2).count() + 1 == self.servers.len()
            {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the set does not come together: {states:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends a member at once, as a crash does.
    pub(crate) fn kill(&self, host: &str) {
        kill(self.member(host));
    }

    /// Stops the process of a member, or continues it.
    pub(crate) fn pause(&self, host: &str, pause: bool) {
        stop(self.member(host), pause);
    }

    /// Starts a member again after [`Self::kill`]; returns when the set is complete.
    pub(crate) async fn start_again(&mut self, host: &str) {
        let at = self.number(host);
        self.started.again(&mut self.servers[at]);
        self.healthy().await;
    }

    /// Whether all members but one fetch what is new.
    pub(crate) async fn others_follow(&self, host: &str, follow: bool) {
        let one = self.number(host);
        for at in (0..self.servers.len()).filter(|at| *at != one) {
            self.fail_point(at, "stopReplProducer", !follow).await;
        }
    }

    /// Whether a member applies what it fetches.
    pub(crate) async fn applies(&self, member: usize, apply: bool) {
        self.fail_point(member, "rsSyncApplyStop", !apply).await;
    }

    async fn fail_point(&self, member: usize, name: &str, on: bool) {
        let point =
            doc! { "configureFailPoint": name, "mode": if on { "alwaysOn" } else { "off" } };
        connect(&self.direct(member)).await.database("admin").run_command(point).await.unwrap();
    }

    fn member(&self, host: &str) -> &Server {
        &self.servers[self.number(host)]
    }

    /// Which member that is.
    pub(crate) fn number(&self, host: &str) -> usize {
        let is_it = |server: &Server| host.ends_with(&format!(":{}", server.ports.port(0)));
        self.servers.iter().position(is_it).unwrap()
    }

    /// `host:port` of the primary.
    pub(crate) async fn primary(&self) -> String {
        let hello =
            self.client.database("admin").run_command(doc! { "isMaster": 1 }).await.unwrap();
        hello.get_str("primary").unwrap().to_owned()
    }
}

fn stop(server: &Server, pause: bool) {
    let signal = if pause { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
    let id = rustix::process::Pid::from_raw(server.id().cast_signed()).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

fn kill(server: &Server) {
    let id = rustix::process::Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
}
