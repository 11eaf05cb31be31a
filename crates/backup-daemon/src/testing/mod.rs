//! For tests: a server with an engine and a program that do what the test says.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Server`]: all of it, listening |
//! | `engine.rs` | [`ScriptedEngine`] |
//! | `program.rs` | [`ScriptedProgram`] |
//! | `client.rs` | asking, byte by byte if need be |

mod client;
mod engine;
mod program;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_control::alerts::{Ledger, Scope};
use backup_control::audit::{Audit, Class, Filter, Record, Status};
use backup_control::catalog::{self, SharedCatalog};
use backup_control::config::{self, LoadedConfig};
use backup_control::machine::Machine;
use backup_control::repositories::RepositorySpec;
use backup_control::runs::{Run, State, What};
use backup_control::zone::Zone;
use backup_core::clock::{Clock, SystemClock};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Listening, Reads, Settings, TlsFiles};
use crate::tokens::{Role, Tokens};

pub(crate) use client::{Client, Reply};
pub(crate) use engine::ScriptedEngine;
pub(crate) use program::ScriptedProgram;

/// The configuration of the tests.
const CONFIG: &str = r#"
[repositories.main]
url = "repo"
quota = "10GiB"
[sources.standby]
kind = "files"
paths = ["/standby"]

[sources.docs]
kind = "files"
paths = ["docs"]
[jobs.docs]
source = "docs"
repository = "main"
tier = "daily"
rpo = "24h"
rto = "1h"
[jobs.new]
source = "docs"
repository = "main"
[groups.all]
jobs = ["docs", "new"]
[alerts.stale]
condition = "stale > 24h"
severity = "high"
[alerts.suppressed]
condition = "suppressed"
severity = "high"
[api]
hosts = ["backup1.example.com"]
restore_roots = ["restores"]
[report]
prices = { main = 0.02 }
"#;

/// A server that runs until it is stopped.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) engine: Arc<ScriptedEngine>,
    pub(crate) program: Arc<ScriptedProgram>,
    pub(crate) listening: Listening,
    pub(crate) catalog: SharedCatalog,
    pub(crate) loaded: Arc<LoadedConfig>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), api::Error>>,
    tokens: Vec<(Role, String)>,
}

/// How a server is.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) rate: u32,
    pub(crate) tls: Option<TlsFiles>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { rate: 10_000, tls: None }
    }
}

impl Server {
    /// With a token for each role.
    pub(crate) async fn start() -> Self {
        Self::with(Wanted::default()).await
    }

    pub(crate) async fn with(wanted: Wanted) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let file = dir.path().join("backup.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let loaded = Arc::new(config::load(&file, &Default::default()).unwrap());
        let tokens = Tokens::at(state.join("tokens.json"));
        let create = |role: Role| {
            let token = tokens.create(&format!("{role}-anna"), role, None, now()).unwrap();
            (role, token.reveal().to_owned())
        };
        let tokens = Role::ALL.map(create).to_vec();
        let (engine, program) =
            (Arc::new(ScriptedEngine::new()), Arc::new(ScriptedProgram::default()));
        let (_, config) = watch::channel(Arc::clone(&loaded));
        let reads = Reads::open(
            config,
            Default::default(),
            state.clone(),
            Arc::new(SystemClock),
            program.clone(),
        )
        .await
        .unwrap();
        let catalog = reads.catalog.clone();
        let settings = Settings {
            socket: state.join(api::SOCKET),
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            tls: wanted.tls,
            tokens: state.join("tokens.json"),
            rate: wanted.rate,
            look_every: std::time::Duration::from_secs(3600),
        };
        let (shutdown, (ready, listening)) = (CancellationToken::new(), oneshot::channel());
        let ending = shutdown.clone();
        let serving = engine.clone();
        let task = tokio::spawn(async move {
            api::serve(settings, serving, reads, ending, |listening| _ = ready.send(listening))
                .await
        });
        let listening = listening.await.unwrap();
        Self { dir, engine, program, listening, catalog, loaded, shutdown, task, tokens }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.listening.socket
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address.unwrap()
    }

    pub(crate) fn token(&self, role: Role) -> &str {
        &self.tokens.iter().find(|(known, _)| *known == role).unwrap().1
    }

    /// Somebody at the socket.
    pub(crate) fn local(&self) -> Client {
        Client::socket(self.socket())
    }

    /// Somebody with a token of this role.
    pub(crate) fn remote(&self, role: Role) -> Client {
        Client::address(self.address()).with_token(self.token(role))
    }

    /// Somebody without a token.
    pub(crate) fn stranger(&self) -> Client {
        Client::address(self.address())
    }

    /// What the audit log has of an operation.
    pub(crate) fn audit(&self, operation: &str) -> Vec<Record> {
        let filter = Filter { operation: Some(operation.to_owned()), ..Filter::default() };
        Audit::in_state(&self.state()).read(&filter).unwrap().records
    }

    /// Remembers runs of job `docs`: a failure, a success, and a restore.
    pub(crate) async fn remember(&self) -> Run {
        let place = RepositorySpec::named("main", &self.loaded.config).unwrap().place();
        let machine = Machine::in_zone(Zone::UTC);
        let began = |minutes: i64| now() - SignedDuration::from_mins(minutes);
        let make = |what, minutes, state, bytes| {
            let started = began(minutes);
            let mut run = Run::new(what, "docs", &place, &machine, started);
            run.state = state;
            run.finished = Some(started + SignedDuration::from_secs(30));
            (run.evidence.bytes, run.evidence.stored_bytes) = (bytes, bytes / 4);
            run.evidence.compared_bytes = if what == What::Restore { bytes } else { 0 };
            run.evidence.clock_offset_seconds = Some(2);
            run.evidence.server_clock_offset_seconds = Some(-7200);
            run
        };
        for run in [
            make(What::Backup, 60, State::Failed, 0),
            make(What::Restore, 40, State::Completed, 4000),
            make(What::Backup, 20, State::Verified, 4000),
        ] {
            self.catalog.add(&run).await.unwrap();
        }
        self.catalog
            .runs(&catalog::RunFilter { limit: Some(1), ..Default::default() })
            .await
            .unwrap()
            .runs
            .remove(0)
    }

    /// An alert that fires.
    pub(crate) fn alert(&self) {
        let scope = Scope::of(&self.loaded);
        let repository = scope.of_job("docs").map(str::to_owned);
        let mut ledger = Ledger::open(&self.state(), scope, now()).unwrap();
        let rule = &self.loaded.config.alerts["stale"];
        let observed = backup_control::alerts::Observation {
            subject: "docs".into(),
            about: backup_control::alerts::About::Job,
            repository,
            holds: true,
            title: "docs is stale".into(),
            cause: "nobody ran it".into(),
            next: "run it".into(),
            details: Default::default(),
        };
        ledger.observe("stale", rule, &[observed], "host", |_| true, now());
        ledger.save().unwrap();
    }

    /// A verification and a copy of the repository, as the audit log has them.
    pub(crate) fn note_verification(&self) {
        let (audit, machine) = (Audit::in_state(&self.state()), Machine::in_zone(Zone::UTC));
        let place = RepositorySpec::named("main", &self.loaded.config).unwrap().place();
        for operation in ["verify", "copy"] {
            let record = Record::new(operation, Class::Operation, Status::Success, &machine, now());
            audit
                .append(record.with("repository", place.clone()).with("to", "/else"), &machine)
                .unwrap();
        }
    }

    /// Stops it, and waits for that.
    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.dir
    }
}

/// The time.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}
