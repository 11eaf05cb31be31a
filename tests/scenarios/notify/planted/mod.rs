//! A secret at every key of a configuration that may hold one: whatever is done with it, well or in
//! vain, none of them is in anything that the program says, remembers, sends around or stores, but
//! where it belongs.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | planting, doing, looking |
//! | `config.toml` | the configuration |
//! | `fields.rs` | that no key is forgotten |

mod fields;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use backup_control::notify::Outbox;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{message, read_all};
use crate::support::cli::Cli;
use crate::support::http::Background;
use crate::support::receiver::{Receiver, Reply};

const CONFIG: &str = include_str!("config.toml");
/// What every secret begins with, or Base64 of that.
const PLANTED: [&str; 2] = ["planted-", "cGxhbnRlZC"];
/// Files with secrets, and what is in them.
const FILES: [(&str, &str); 13] = [
    ("passphrase", "planted-passphrase"),
    ("s3", "planted-s3-secret"),
    ("customer", "planted-customer-key-of-32-bytes"),
    ("redis", "planted-redis-file"),
    ("smtp", "planted-smtp"),
    ("redis.pem", "-----BEGIN CERTIFICATE-----\nplanted-redis-pem\n-----END CERTIFICATE-----\n"),
    ("redis.key", "-----BEGIN PRIVATE KEY-----\nplanted-redis-key\n-----END PRIVATE KEY-----\n"),
    (
        "mongodb.pem",
        "-----BEGIN PRIVATE KEY-----\nplanted-mongodb-key\n-----END PRIVATE KEY-----\n",
    ),
    ("api.key", "-----BEGIN PRIVATE KEY-----\nplanted-api-key\n-----END PRIVATE KEY-----\n"),
    ("tokens.json", r#"{"planted-tokens":0}"#),
    ("catalog", "planted-catalog-file"),
    ("token", "planted-token-file"),
    ("sentinel", "planted-sentinel-file"),
];
/// What a configuration has once only, in other ways: nothing answers there.
const OTHERS: [&str; 5] = [
    "[catalog]\nurl = '${CATALOG}'",
    "[catalog]\nurl = 'postgres://backup@127.0.0.1:1/runs'\npassword_file = 'secrets/catalog'",
    "[catalog]\nurl = 'postgres://backup@127.0.0.1:1/runs'\npassword_env = 'CATALOG_PASSWORD'",
    "[catalog]\nurl = 'postgres://backup@127.0.0.1:1/runs'\npassword_command = 'echo \
     planted-catalog-command'",
    "[servers.far]\nurl = 'http://127.0.0.1:1'\ntoken_file = 'ROOM/secrets/token'",
];
/// Only they know that these are secrets.
const OF_OTHERS: [(&str, &str); 2] = [
    ("CATALOG", "postgres://backup:planted-catalog-address@127.0.0.1:1/runs"),
    ("CATALOG_PASSWORD", "planted-catalog-variable"),
];
const GOOGLE: &str = r#"{"type":"service_account","client_email":"b@example.com","private_key_id":"planted-google-id",
    "private_key":"-----BEGIN PRIVATE KEY-----\nplanted-google-key\n-----END PRIVATE KEY-----\n","token_uri":"http://127.0.0.1:1/"}"#;

/// A server that refuses every password, and remembers what it was told.
struct Refusing {
    server: Background,
    told: Arc<Mutex<Vec<u8>>>,
}

impl Refusing {
    fn start() -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        let server = Background::start(async move |listener: TcpListener| {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        kept.lock().unwrap().extend_from_slice(&buffer[..read]);
                        let commands = buffer[..read].iter().filter(|byte| **byte == b'*').count();
                        let answer =
                            "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
                                .repeat(commands);
                        // Who greets otherwise, as TLS does, is not answered.
                        if commands == 0 || stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { server, told }
    }

    fn told(&self) -> String {
        String::from_utf8_lossy(&self.told.lock().unwrap()).into_owned()
    }
}

/// A configuration full of secrets, and all that was said so far.
struct Garden {
    room: tempfile::TempDir,
    config: String,
    variables: BTreeMap<String, String>,
    said: String,
}

impl Garden {
    fn new(web: &Receiver, cache: &Refusing) -> Self {
        let room = tempfile::tempdir().unwrap();
        let path = |name: &str| room.path().join(name).to_str().unwrap().to_owned();
        for dir in ["secrets", "home", ".aws"] {
            fs::create_dir(path(dir)).unwrap();
        }
        fs::write(path("home/file"), "content").unwrap();
        FILES
            .iter()
            .for_each(|(name, text)| fs::write(path(&format!("secrets/{name}")), text).unwrap());
        fs::write(path("secrets/google.json"), GOOGLE).unwrap();
        fs::write(
            path("secrets/api.pem"),
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        let profile =
            "[planted]\naws_access_key_id = AKIA2\naws_secret_access_key = planted-profile\n";
        fs::write(path(".aws/credentials"), profile).unwrap();
        let port = cache.server.port.to_string();
        let config = CONFIG
            .replace("ROOM", room.path().to_str().unwrap())
            .replace("WEB/", &format!("{}/", web.url()))
            .replace("PORT", &port);
        fs::write(path("backup.toml"), &config).unwrap();
        let variables = [
            ("HOME", path("")),
            ("BACKUP_CONFIG", path("backup.toml")),
            ("BACKUP_STATE_DIR", path("state")),
            ("BACKUP_CACHE_DIR", path("cache")),
            ("BACKUP_TARGET_PASSWORD", "planted-target-variable".to_owned()),
            ("PASSPHRASE", "planted-passphrase-variable".to_owned()),
            ("S3_SECRET", "planted-s3-variable".to_owned()),
            ("S3_TOKEN", "planted-s3-token".to_owned()),
            ("AZURE_KEY", STANDARD.encode("planted-azure-key")),
            ("REDIS_PASSWORD", "planted-redis-variable".to_owned()),
            ("CACHE", format!("redis://:planted-address-redis@127.0.0.1:{port}")),
            ("SLACK", format!("{}/bad/planted-slack", web.url())),
            ("WEBHOOK", "planted-webhook".to_owned()),
            ("PAGERDUTY", "planted-pagerduty".to_owned()),
            ("SMS", "planted-sms".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Self { room, config, variables, said: String::new() }
    }

    /// Whether a text of the configuration is a secret, or leads to one.
    fn leads_to_secret(&self, text: &str) -> bool {
        let is = |text: &str| PLANTED.iter().any(|planted| text.contains(planted));
        let file = || fs::read_to_string(text).is_ok_and(|content| is(&content));
        let variable = || {
            self.variables
                .get(text.trim_start_matches("${").trim_end_matches('}'))
                .is_some_and(|value| is(value))
        };
        let profile = || text == "planted";
        is(text) || file() || variable() || profile()
    }

    /// Runs the program; the exit code must be one of those.
    #[track_caller]
    fn does(&mut self, codes: &[i32], arguments: &[&str]) {
        let arguments: Vec<String> = arguments
            .iter()
            .map(|word| word.replace("ROOM", self.room.path().to_str().unwrap()))
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // Nothing but the configuration says which repository or pass phrase.
        let cli = Cli::remote("", "", self.variables.clone());
        let mut command = cli.command(&[], &arguments);
        command
            .env_remove("BACKUP_PASSWORD")
            .env_remove("BACKUP_REPO")
            .current_dir(self.room.path());
        let run = crate::support::process::run(&mut command);
        let said = format!(
            "$ backup {}\n{}{}\n",
            arguments.join(" ").replace("planted", "PLANTED"),
            run.text(),
            run.stderr
        );
        assert!(codes.contains(&run.code), "exit code {}: {said}", run.code);
        let seen = PLANTED.iter().find(|planted| said.contains(**planted));
        assert_eq!(seen, None, "{said}");
        self.said.push_str(&said);
    }

    /// All that lies around, but where secrets belong.
    fn files(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let own =
            ["backup.toml", "secrets", ".aws", "seen"].map(|name| self.room.path().join(name));
        for found in fs::read_dir(self.room.path()).unwrap() {
            let path = found.unwrap().path();
            if own.contains(&path) {
                continue;
            }
            let mut text = String::new();
            match path.is_dir() {
                true => read_all(&path, &mut text),
                false => text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
            }
            all.push((path.display().to_string(), text));
        }
        all
    }
}

#[test]
fn no_secret_is_seen_but_where_it_belongs() {
    let web = Receiver::start(|got| match got.head.target() {
        path if path.starts_with("/store") => Reply::status(403),
        path if path.starts_with("/bad/planted-heartbeat") => Reply::status(500),
        _ => Reply::status(200),
    });
    let cache = Refusing::start();
    let mut garden = Garden::new(&web, &cache);
    let others =
        OTHERS.map(|text| text.replace("secrets/", "ROOM/secrets/").replace("ROOM/ROOM", "ROOM"));
    let others = others.map(|text| text.replace("ROOM", garden.room.path().to_str().unwrap()));
    let configs: Vec<&str> = others.iter().chain([&garden.config]).map(String::as_str).collect();
    let is_of_others =
        |text: &str| OF_OTHERS.iter().any(|(name, _)| text.trim_matches(['$', '{', '}']) == *name);
    fields::require_all(&configs, |text| garden.leads_to_secret(text) || is_of_others(text));
    begin(&mut garden);
    back_up(&mut garden);
    restore(&mut garden);
    look(&mut garden);
    fail_by_address(&mut garden, &cache);
    elsewhere(&mut garden, &others);
    // From now on channels fail, by a service that repeats everything that it is told.
    web.answer(|got| {
        Reply::Status(500, "", format!("{} {}", String::from_utf8_lossy(&got.head.raw), got.body))
    });
    notify(&mut garden);
    for (path, text) in garden.files() {
        for planted in PLANTED {
            let at = text.find(planted).map(|at| {
                String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(200)..at]).into_owned()
            });
            assert_eq!(at, None, "in {path}, behind that");
        }
    }
    // They are all alive: whoever they are for was told.
    let heard: Vec<String> = web
        .received()
        .iter()
        .map(|got| format!("{}{}", String::from_utf8_lossy(&got.head.raw), got.body))
        .collect();
    let sms = STANDARD.encode("AC1:planted-sms");
    for secret in [
        "heartbeat",
        "heartbeat-bad",
        "slack",
        "url-webhook",
        "header",
        "webhook",
        "pagerduty",
        "notify-command",
        "s3-token",
    ] {
        let secret = format!("planted-{secret}");
        assert!(heard.iter().any(|heard| heard.contains(&secret)), "{secret} was never used");
    }
    assert!(heard.iter().any(|heard| heard.contains(&sms)));
    for key in ["AKIA0", "AKIA1", "AKIA2", "SharedKey someone"] {
        assert!(heard.iter().any(|heard| heard.contains(key)), "{key} was never used: {heard:?}");
    }
    for secret in ["redis-file", "redis-variable", "redis-command", "address-redis"] {
        assert!(
            cache.told().contains(&format!("planted-{secret}\r\n")),
            "{secret}: {}",
            cache.told()
        );
    }
    assert_eq!(fs::read_to_string(garden.room.path().join("seen")).unwrap(), "planted-hook-env");
}

fn begin(garden: &mut Garden) {
    for arguments in [
        &["config", "check"][..],
        &["config", "check", "--json"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["config", "schema"],
        &["schedule"],
    ] {
        garden.does(&[0, 1, 2, 3], arguments);
    }
    for repository in ["main", "variable", "asked"] {
        garden.does(&[0], &["init", "-r", repository]);
    }
}

fn back_up(garden: &mut Garden) {
    garden.does(&[0], &["run", "home"]);
    garden.does(&[0, 3], &["run", "home", "--json", "--tier", "daily"]);
    garden.does(&[1], &["run", "fails"]);
    garden.does(&[1], &["retry", "latest"]);
    garden.does(&[0, 3], &["run", "unheard"]);
    for job in ["cache", "cache-variable", "cache-asked", "cache-address"] {
        garden.does(&[2, 12], &["run", job]);
    }
    for job in ["cache-tls", "shop", "shop-tls", "crm", "to-s3"] {
        garden.does(&[1, 2, 10, 12], &["run", job]);
    }
    garden.does(&[1, 2, 12], &["run", "platform", "--json"]);
    for repository in ["s3", "s3-session", "s3-profile", "azure", "google"] {
        garden.does(&[1, 2, 10, 12], &["list", "-r", repository]);
    }
}

fn restore(garden: &mut Garden) {
    garden.does(
        &[0],
        &["restore", "latest", "-r", "main", "--job", "home", "--target", "out", "--verify"],
    );
    garden.does(
        &[0, 3],
        &[
            "restore",
            "latest",
            "-r",
            "main",
            "--job",
            "home",
            "--in-place",
            "--if-exists",
            "replace",
            "--yes",
        ],
    );
    garden.does(&[1, 2], &["restore", "platform"]);
    garden.does(&[0], &["export", "latest", "-r", "main", "-o", "out.tar"]);
}

fn look(garden: &mut Garden) {
    let main = ["-r", "main"];
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["status", "--runs"],
        &["status", "--runs", "--json"],
        &["logs", "run", "latest"],
        &["advise"],
        &["advise", "--json"],
        &["report"],
        &["report", "--format", "html", "-o", "report.html"],
        &["report", "--format", "json"],
        &["alerts", "check"],
        &["alerts", "--json"],
        &["audit"],
        &["audit", "--json"],
        &["audit", "verify"],
        &["doctor", "home", "cache", "shop", "crm"],
        &["doctor", "cache-tls", "shop-tls", "--json"],
        &["timeline", "cache"],
    ] {
        garden.does(&[0, 1, 2, 3, 4, 12], arguments);
    }
    for arguments in [
        &["list", "--json"][..],
        &["show", "latest"],
        &["show", "latest", "--json"],
        &["ls", "latest", "-R"],
        &["stats", "--json"],
        &["storage", "--json"],
        &["verify", "latest"],
        &["check", "--read-data"],
        &["analyze", "latest"],
        &["doctor"],
        &["catalog", "rebuild"],
        &["key", "list"],
    ] {
        garden.does(&[0, 1, 3], &[arguments, &main].concat());
    }
}

/// Catalogs that other machines share, and daemons: none is there.
fn elsewhere(garden: &mut Garden, configs: &[String]) {
    let local = "[repositories.main]\nurl = 'ROOM/main'\npassphrase_file = \
                 'ROOM/secrets/passphrase'\n[sources.home]\nkind = 'files'\npaths = \
                 ['ROOM/home']\n[jobs.home]\nsource = 'home'\nrepository = 'main'\n";
    let local = local.replace("ROOM", garden.room.path().to_str().unwrap());
    garden.variables.extend(OF_OTHERS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for config in configs {
        fs::write(garden.room.path().join("secrets/other.toml"), format!("{local}{config}\n"))
            .unwrap();
        let other = ["--config", "ROOM/secrets/other.toml"];
        for arguments in [
            &["config", "show"][..],
            &["status"],
            &["status", "--json"],
            &["logs", "run", "latest"],
        ] {
            garden.does(&[0, 1, 2, 3, 10, 12], &[&other, arguments].concat());
        }
        if config.contains("servers") {
            garden.does(&[1, 2, 10, 12], &[&other[..], &["--server", "far", "status"]].concat());
        }
    }
    garden.variables.retain(|name, _| OF_OTHERS.iter().all(|(other, _)| name != other));
}

fn notify(garden: &mut Garden) {
    let outbox = Outbox::open(&garden.room.path().join("state")).unwrap();
    for channel in ["smtp", "slack", "resend", "webhook", "pagerduty", "sms", "shell"] {
        assert!(outbox.put(channel, &message(1)).unwrap().is_new());
    }
    for arguments in [
        &["notify", "send", "--within", "1s"][..],
        &["notify", "send", "--within", "1s", "--json"],
        &["notify", "test"],
        &["notify", "test", "--json"],
        &["notify", "status"],
        &["notify", "status", "--json"],
        &["notify", "list"],
        &["notify", "list", "--json"],
    ] {
        garden.does(&[0, 1, 3], arguments);
    }
    let repeated = garden.said.matches("POST /").count();
    assert!(repeated > 4, "answers are told: {repeated}");
}

/// Addresses on the command line, and where none should be.
fn fail_by_address(garden: &mut Garden, cache: &Refusing) {
    let redis = format!("redis://backup:planted-typed@127.0.0.1:{}", cache.server.port);
    let codes = &[1, 2, 10, 12];
    for arguments in [
        &[
            "run",
            "-r",
            "main",
            "--source",
            "mongodb://backup:planted-typed@127.0.0.1:1/?serverSelectionTimeoutMS=300",
        ][..],
        &["run", "-r", "main", "--source", "postgres://127.0.0.1:1/?password=planted-typed"],
        &["run", "-r", "main", "--source", &redis],
        &["restore", "latest", "-r", "main", "--target", &redis],
        &["restore", &redis, "-r", "main", "--target", "out"],
        &["list", "-r", "s3://key:planted-typed@bucket/prefix"],
        &["list", "-r", "sftp://me:planted-typed@host/dir"],
        &["list", "-r", "s3://bucket/prefix?secret_access_key=planted-typed"],
        &["list", "-r", "main", "--password-command", "echo planted-typed"],
    ] {
        garden.does(codes, arguments);
    }
}
