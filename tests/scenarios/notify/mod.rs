//! Notifications.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a place with a configuration and an outbox |
//! | `mail.rs` | a real mail server; servers that say nothing |
//! | `services.rs` | what each service is sent, byte for byte |
//! | `hostile.rs` | servers that answer without end, slowly, or with something else |
//! | `outbox.rs` | endpoints that are away, processes that die |
//! | `secrets.rs` | what nobody must see of channels |
//! | `planted/` | what nobody must see of a whole configuration |

mod hostile;
mod mail;
mod outbox;
mod planted;
mod secrets;
mod services;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use backup_control::config::Config;
use backup_control::environment::Environment;
use backup_control::notify::{Channels, Delivered, Kind, Message, Outbox, Severity};
use backup_core::context::Context;
use tempfile::TempDir;

use crate::support::cli::Cli;

/// A configuration, an outbox, and the variables of both.
struct Place {
    dir: TempDir,
    variables: BTreeMap<String, String>,
    config: String,
    outbox: Outbox,
}

impl Place {
    fn new(config: impl Into<String>, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&dir.path().join("state")).unwrap();
        let config = config.into();
        std::fs::write(dir.path().join("backup.toml"), &config).unwrap();
        let mut all: BTreeMap<String, String> = [
            ("BACKUP_CONFIG", dir.path().join("backup.toml").display().to_string()),
            ("BACKUP_STATE_DIR", dir.path().join("state").display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { dir, variables: all, config, outbox }
    }

    /// The program, in this place.
    fn cli(&self) -> Cli {
        Cli::remote(self.dir.path().join("none"), "unused", self.variables.clone())
    }

    fn channels(&self) -> Channels {
        let config: Config = toml::from_str(&self.config).unwrap();
        let env: Environment = self
            .variables
            .iter()
            .chain([(&"PATH".to_owned(), &"/usr/bin:/bin".to_owned())])
            .collect();
        Channels::new(&config, &env).unwrap()
    }

    /// Puts a message in, for a channel.
    fn put(&self, channel: &str, message: &Message) {
        assert!(self.outbox.put(channel, message).unwrap().is_new(), "{message:?}");
    }

    async fn deliver(&self, within: Duration) -> Delivered {
        self.outbox.deliver(&self.channels(), &Context::silent(), within).await
    }

    /// Sends one message; why it was not sent, if it was not.
    async fn send(&self, channel: &str, message: &Message) -> Result<(), String> {
        let sent = self.channels().send_now(channel, message, &Context::silent()).await;
        sent.map_err(|failed| {
            format!("{}{}", if failed.is_passing { "later: " } else { "never: " }, failed.why)
        })
    }

    /// Everything that is in the files of the state directory.
    fn stored(&self) -> String {
        let mut all = String::new();
        read_all(&self.dir.path().join("state"), &mut all);
        all
    }
}

fn read_all(dir: &Path, all: &mut String) {
    for found in std::fs::read_dir(dir).unwrap() {
        let path = found.unwrap().path();
        match path.is_dir() {
            true => read_all(&path, all),
            false => all.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap())),
        }
    }
}

const LONG: Duration = Duration::from_secs(30);

/// A message with letters that mean something elsewhere.
fn message(number: u32) -> Message {
    Message {
        id: format!("shop/failure/{number}"),
        incident: "shop/failure".into(),
        kind: Kind::Firing,
        severity: Severity::Critical,
        title: "The backup of shop failed".into(),
        place: "job shop, host db1".into(),
        cause: "\"db1\" says <no> & höhö\nand more".into(),
        next: "start the server".into(),
        job: Some("shop".into()),
        time: "2026-11-23T08:00:00Z".parse().unwrap(),
        details: [("run".to_owned(), "20261123-080000-abc123".to_owned())].into(),
        html: None,
    }
}
