//! Servers and stores that answer falsely. The program reports an error, and takes neither memory
//! nor time: it runs as a child, and the kernel measures it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;

use backup_core::crypto::Passphrase;
use backup_core::format::BlobKind;
use tempfile::TempDir;

use crate::support::cli::Cli;
use crate::support::corpus::{cache, clouds, documents, parts, sql, store};
use crate::support::crafted::Crafted;
use crate::support::crafted_nodes;
use crate::support::false_server::{self, Case};
use crate::support::false_store::{self, Service};
use crate::support::gcs_double::account::Account;
use crate::support::measured::measured;
use crate::support::process::Outcome;
use crate::support::repo::Repo;
use crate::support::restic::text;

/// A repository, and a configuration for the program.
struct Place {
    room: TempDir,
    cli: Cli,
    passphrase: Passphrase,
}

impl Place {
    async fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let repo = Repo::in_dir(&room.path().join("repository")).await;
        let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        let environment: BTreeMap<_, _> =
            keys.into_iter().map(|name| (name.to_owned(), "x".to_owned())).collect();
        let cli = Cli::remote("main", repo.passphrase.reveal(), environment);
        let mut crafted = Crafted::within(&room.path().join("repository"), &repo.passphrase);
        crafted.blob(BlobKind::Data, b"hello");
        let tree = crafted.directory(&[crafted_nodes::file(&parts(), "inside")]);
        crafted.snapshot(&tree);
        crafted.finish();
        Self { room, cli, passphrase: repo.passphrase }
    }

    /// For a store, with these variables.
    fn with(&self, environment: &[(&str, &str)]) -> Cli {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Cli::remote("main", self.passphrase.reveal(), environment.collect())
    }

    fn run(&self, config: &str, arguments: &[&str]) -> Outcome {
        self.run_by(&self.cli, config, arguments)
    }

    fn run_by(&self, cli: &Cli, config: &str, arguments: &[&str]) -> Outcome {
        let file = tempfile::NamedTempFile::with_suffix_in(".toml", &self.room).unwrap();
        let path = file.path();
        let config =
            config.replace("main]\nurl", "main]\npassphrase_env = \"BACKUP_PASSWORD\"\nurl");
        fs::write(path, config).unwrap();
        measured(cli, &[&["--config", text(path)][..], arguments].concat())
    }

    /// A backup of a source with these keys at this address fails with an error that no terminal
    /// obeys.
    #[track_caller]
    fn assert_refused(&self, name: &str, keys: &str, address: &str) {
        let repository = self.room.path().join("repository");
        let config = format!(
            "[repositories.main]\nurl = {repository:?}\n\
             [sources.false]\n{keys}\nurl = \"{address}\"\n\
             [jobs.false]\nsource = \"false\"\nrepository = \"main\"\n"
        );
        let examined = self.run(&config, &["doctor", "false"]);
        assert_printable(&examined);
        let done = self.run(&config, &["run", "false"]);
        assert!(done.code != 0, "{name}: {done}");
        assert_printable(&done);
    }
}

#[track_caller]
fn assert_printable(done: &Outcome) {
    let is_control = |c: char| c.is_control() && c != '\n';
    assert!(!done.text().contains(is_control) && !done.stderr.contains(is_control), "{done}");
}

async fn refuse(cases: Vec<Case>, keys: &str, address: impl Fn(u16) -> String) {
    let place = Place::new().await;
    assert!(cases.len() >= 10);
    for case in cases {
        let (port, connections) = false_server::serve(&case);
        place.assert_refused(case.name, keys, &address(port));
        assert!(connections.load(Ordering::SeqCst) >= 2, "{}", case.name);
    }
}

/// Each false answer of a store is an error with a hint. `environment` makes credentials
/// for the endpoints of the store and of the service for tokens, and a directory.
async fn refuse_stores(
    service: Service,
    cases: Vec<store::Case>,
    environment: impl Fn(&str, &str, &Path) -> Vec<(&'static str, String)> + Sync,
) {
    let place = Place::new().await;
    let dir = place.room.path().join("repository");
    let begin = |case: store::Case| {
        let (config, endpoint, tokens) = false_store::serve(&dir, service, case);
        let environment = environment(&endpoint, &tokens, place.room.path());
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        (place.with(&environment), config)
    };
    let (cli, config) = begin(store::Case::sound());
    for command in ["list", "check"] {
        place.run_by(&cli, &config, &[command]).succeeded();
    }
    assert!(cases.len() >= 10);
    let refuse = |case: &store::Case| {
        let name = case.name;
        let command = if case.twisted == store::Twisted::Packs { "check" } else { "list" };
        let (cli, config) = begin(case.clone());
        let done = place.run_by(&cli, &config, &[command]);
        assert!(matches!(done.code, 1 | 2 | 4), "{name}: {done}");
        assert!(done.stderr.contains("Hint:") || done.code == 4, "{name}: {done}");
        assert_printable(&done);
    };
    // They mostly wait for the end of a time-out.
    for some in cases.chunks(4) {
        std::thread::scope(|scope| {
            some.iter().for_each(|case| _ = scope.spawn(|| refuse(case)));
        });
    }
}

/// Answers one client of PostgreSQL with a number of rounds of SCRAM.
fn serve_rounds(rounds: u32) -> u16 {
    fn answer(mut stream: TcpStream, rounds: u32) -> Option<()> {
        let mut buffer = vec![0; 4096];
        (stream.read(&mut buffer).ok()? > 0).then_some(())?;
        stream.write_all(&sql::offer()).ok()?;
        let len = stream.read(&mut buffer).ok()?;
        let request = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let nonce = request.split("r=").nth(1)?;
        stream.write_all(&sql::rounds(nonce, rounds)).ok()?;
        (stream.read(&mut buffer).ok()? > 0).then_some(())?;
        Some(())
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, rounds));
        }
    });
    port
}

mod needs_time {
    use super::*;

    const PHYSICAL: &str = "kind = \"postgres\"";
    const LOGICAL: &str = "kind = \"postgres\"\nmethod = \"logical\"";

    fn postgres(port: u16) -> String {
        format!("postgres://a:b@127.0.0.1:{port}/?sslmode=disable")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_answers_of_false_postgres_servers_are_refused() {
        refuse(sql::cases(), PHYSICAL, postgres).await;
    }

    /// By the driver for SQL, which has its own code for the protocol.
    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_answers_of_false_postgres_servers_are_refused_by_logical_backups() {
        refuse(sql::cases(), LOGICAL, postgres).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_login_refuses_expensive_password_hashing() {
        let place = Place::new().await;
        for kind in [PHYSICAL, LOGICAL] {
            let port = serve_rounds(u32::MAX);
            place.assert_refused("4 294 967 295 rounds", kind, &postgres(port));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_answers_of_false_redis_servers_are_refused() {
        refuse(cache::cases(), "kind = \"redis\"", |port| format!("redis://127.0.0.1:{port}"))
            .await;
    }

    /// The driver of MongoDB reads nested documents recursively: one of them ends the command, which
    /// is an error for its caller.
    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_answers_of_false_mongodb_servers_are_refused() {
        let address = |port| {
            format!(
                "mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=2000"
            )
        };
        refuse(documents::cases(), "kind = \"mongodb\"", address).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_answers_of_false_stores_are_refused() {
        refuse_stores(Service::S3, store::cases(), |_, _, _| {
            [("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x")]
                .map(|(name, value)| (name, value.to_owned()))
                .to_vec()
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_answers_of_false_google_stores_are_refused() {
        refuse_stores(Service::Gcs, clouds::gcs(), |endpoint, _, room| {
            let account = room.join("account.json");
            fs::write(&account, Account.json(endpoint)).unwrap();
            vec![("GOOGLE_APPLICATION_CREDENTIALS", text(&account).to_owned())]
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_answers_of_false_azure_stores_are_refused() {
        refuse_stores(Service::Azure, clouds::azure(), |_, tokens, _| {
            vec![("IDENTITY_ENDPOINT", tokens.to_owned())]
        })
        .await;
    }
}
