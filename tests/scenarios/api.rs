//! The API of the daemon, with the real program behind it: what the one asks is what the other
//! understands.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_control::config;
use backup_control::environment::Environment;
use backup_core::clock::{Clock as _, SystemClock};
use backup_daemon::api::{self, Child, Listening, Reads, Settings};
use backup_daemon::engine::{Ended, Engine, Health, Refusal, Running, Task, TaskEvent, Work};
use backup_daemon::tokens::{Role, Tokens};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{broadcast, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::support::cli::Cli;

fn now() -> Timestamp {
    SystemClock.now()
}

/// An engine that has nothing to do.
struct Idle(broadcast::Sender<TaskEvent>);

impl Engine for Idle {
    fn tasks(&self) -> Vec<Task> {
        Vec::new()
    }

    fn running(&self) -> Vec<Running> {
        Vec::new()
    }

    fn ended(&self) -> Vec<Ended> {
        Vec::new()
    }

    fn start(&self, _: Work, _: &str) -> Result<String, Refusal> {
        Err(Refusal::Busy("it has nothing to do".into()))
    }

    fn cancel(&self, id: &str) -> Result<(), Refusal> {
        Err(Refusal::Unknown(id.into()))
    }

    fn pause(&self, _: Option<&str>, _: bool) -> Result<(), Refusal> {
        Ok(())
    }

    fn events(&self) -> broadcast::Receiver<TaskEvent> {
        self.0.subscribe()
    }

    fn health(&self) -> Health {
        Health { looked: now(), troubles: BTreeMap::new(), stopping: false }
    }
}

/// A repository with a snapshot, a configuration, and a home.
struct Place {
    room: TempDir,
    cli: Cli,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        std::fs::create_dir(at("docs")).unwrap();
        std::fs::write(at("docs/letter"), "dear").unwrap();
        let file = at("backup.toml");
        std::fs::write(
            &file,
            "[repositories.main]\nurl = \"repo\"\nquota = \"1GiB\"\n[sources.docs]\nkind = \
             \"files\"\npaths = [\"docs\"]\n[jobs.docs]\nsource = \"docs\"\nrepository = \
             \"main\"\nrpo = \"1d\"\n",
        )
        .unwrap();
        let cli = Cli::new(&at("repo"), "hush");
        let place = Self { room, cli, file };
        place.backup(&["init"]);
        place.backup(&["run", "docs"]);
        place
    }

    fn backup(&self, words: &[&str]) {
        let config = ["--config", self.file.to_str().unwrap()];
        self.cli.run(&[&config, words].concat()).succeeded();
    }

    /// The program, and the environment that it works in.
    fn program(&self) -> (PathBuf, Environment) {
        let command = self.cli.command(&[], &[]);
        // Not the repository: the configuration knows it.
        let env = command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)))
            .filter(|(name, _)| *name != "BACKUP_REPO");
        (command.get_program().into(), env.collect())
    }

    async fn serve(
        &self,
        shutdown: CancellationToken,
    ) -> (Listening, Tokens, tokio::task::JoinHandle<()>) {
        let (program, env) = self.program();
        let state = backup_control::state::dir(&env).unwrap();
        let loaded = Arc::new(config::load(&self.file, &env).unwrap());
        let settings = Settings {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            ..Settings::of(&loaded.config.api, &state)
        };
        let tokens = Tokens::at(settings.tokens.clone());
        tokens.create("first", Role::Auditor, None, now()).unwrap();
        let child = Arc::new(Child::new(program, Some(self.file.clone()), env.clone()));
        let (_, config) = watch::channel(loaded);
        let reads = Reads::open(config, env, state, Arc::new(SystemClock), child).await.unwrap();
        let (ready, listening) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let engine = Arc::new(Idle(broadcast::channel(8).0));
            api::serve(settings, engine, reads, shutdown, |listening| _ = ready.send(listening))
                .await
                .unwrap();
        });
        (listening.await.unwrap(), tokens, serving)
    }
}

fn state(place: &Place) -> PathBuf {
    backup_control::state::dir(&place.program().1).unwrap()
}

/// Asks with a token; the status, and what was answered.
async fn ask(
    listening: &Listening,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let address = listening.address.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer \
         {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let asking = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let text = asking.await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_understands_what_the_api_asks() {
    let place = Place::new();
    let shutdown = CancellationToken::new();
    let (listening, tokens, serving) = place.serve(shutdown.clone()).await;
    let token = tokens.create("anna", Role::Operator, None, now()).unwrap();
    let get = async |path: &str| ask(&listening, token.reveal(), "GET", path, "").await;
    let json = async |path: &str| {
        let (status, body) = get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let listed = json("/api/v1/snapshots?job=docs&repository=main&days=2&before=now").await;
    let snapshots = listed["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 1, "{listed}");
    let id = snapshots[0]["id"].as_str().unwrap();
    assert_eq!(json(&format!("/api/v1/snapshots/{id}")).await["snapshot"]["id"], id);
    assert_eq!(json("/api/v1/snapshots/latest?job=docs").await["snapshot"]["id"], id);
    assert_eq!(get("/api/v1/snapshots/ffffffff").await.0, 404);
    assert_eq!(json("/api/v1/runs/latest").await["evidence"]["snapshot"], id);
    assert!(get("/api/v1/runs/latest/log").await.1.contains("verified"));
    // No log is captured of files: the program says so, and with what words.
    let (status, body) = get("/api/v1/jobs/docs/timeline").await;
    assert!(status >= 400 && body.contains("log"), "{status} {body}");
    let target = place.room.path().join("restored");
    let order = serde_json::json!({ "what": "latest", "target": target }).to_string();
    let (status, plan) =
        ask(&listening, token.reveal(), "POST", "/api/v1/restores/plan", &order).await;
    assert!(status == 200 && plan.contains("summary") && !target.exists(), "{status} {plan}");
    assert_eq!(json("/api/v1/audit/verdict").await["sound"], true);
    assert_eq!(json("/api/v1/reports?since=2d").await["totals"]["succeeded"], 1);
    assert!(get("/api/v1/reports?format=html").await.1.contains("<html"));
    assert!(get("/api/v1/reports?format=md").await.1.starts_with("# "));
    // What the program did for somebody is recorded under their name, beside whose process it was.
    let records = json("/api/v1/audit?user=anna&operation=report").await;
    assert_eq!(records["records"].as_array().unwrap().len(), 3, "{records}");
    assert!(records["records"][0]["details"]["process_user"].is_string(), "{records}");
    assert!(
        json("/api/v1/audit?operation=backup").await["records"][0]["details"]
            .get("process_user")
            .is_none()
    );
    let since = Instant::now();
    let metrics = loop {
        let metrics = get("/metrics").await.1;
        if metrics.contains("storage_usage{") {
            break metrics;
        }
        assert!(since.elapsed() < Duration::from_secs(90), "{metrics}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let value = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("backup_status{backup_job=\"docs\",state=\"verified\"}"), 1.0);
    assert!(
        value("storage_usage{") > 100.0
            && value("storage_objects{") > 3.0
            && value("storage_usage_ratio{") < 0.01
    );
    let file = std::fs::read_to_string(state(&place).join("audit.jsonl")).unwrap();
    assert!(!file.contains(token.reveal()));
    shutdown.cancel();
    serving.await.unwrap();
}
