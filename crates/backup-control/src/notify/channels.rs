//! Channels: from a message to those who want it, and sending one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use globset::GlobSet;
use jiff::tz::TimeZone;

use super::check;
use super::kinds::http::Client;
use super::kinds::{Failure, Reached, Task, command, pagerduty, resend, slack, sms, smtp, webhook};
use super::message::{Message, Severity};
use super::secret::Secret;
use crate::config::{ChannelKind, Config, NotifyConfig};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::suggest;
use crate::words;
use crate::zone::Zones;

/// The channels of a configuration.
#[derive(Debug)]
pub struct Channels {
    all: BTreeMap<String, Channel>,
    env: Environment,
    secrets: Vec<String>,
    zone: TimeZone,
    host: String,
}

#[derive(Debug)]
struct Channel {
    config: NotifyConfig,
    jobs: GlobSet,
    client: Arc<Client>,
}

/// Why a message was not sent: not now, or never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSent {
    /// In words, without secrets.
    pub why: String,
    /// Whether another try may help.
    pub is_passing: bool,
}

impl Channels {
    /// The channels of `config`; their secrets are fetched from `env`, from files or by commands
    /// whenever one is needed.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a channel makes no sense, which is found when a configuration is loaded.
    pub fn new(config: &Config, env: &Environment) -> Result<Self> {
        // One for all that trust the same.
        let mut clients = BTreeMap::new();
        let channel = |(name, config): (&String, &NotifyConfig)| {
            if let Some((key, error)) = check::mistake(config) {
                return Err(Error::invalid(format!("channel `{name}`, `{key}`: {error}")));
            }
            let jobs = check::patterns(&config.jobs)?;
            let ca_file = config.ca_file.clone();
            let client =
                clients.entry(ca_file.clone()).or_insert_with(|| Arc::new(Client::new(ca_file)));
            Ok((name.clone(), Channel { config: config.clone(), jobs, client: Arc::clone(client) }))
        };
        let machine = Machine::local(env);
        Ok(Self {
            all: config.notify.iter().map(channel).collect::<Result<_>>()?,
            env: env.clone(),
            secrets: config.secret_variables(),
            zone: Zones::new(Some(config), &machine.zone).dates.rules,
            host: machine.host,
        })
    }

    /// The names of the channels that a message goes to: those that are `named`, whatever else they
    /// want; without any, all that want messages of this severity, about this job. What is named
    /// and not there is left out: see [`Self::check`].
    #[must_use]
    pub fn route(&self, named: &[String], severity: Severity, job: Option<&str>) -> Vec<String> {
        let wants = |name: &str, channel: &Channel| {
            if !named.is_empty() {
                return named.iter().any(|wanted| wanted == name);
            }
            let is_about =
                channel.config.jobs.is_empty() || job.is_some_and(|job| channel.jobs.is_match(job));
            severity >= channel.config.severity() && is_about
        };
        self.all
            .iter()
            .filter(|(name, channel)| wants(name, channel))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Whether there is a channel called `name`.
    ///
    /// # Errors
    /// [`Error::Invalid`], with what may have been meant.
    pub fn check(&self, name: &str) -> Result<()> {
        if self.all.contains_key(name) {
            return Ok(());
        }
        let error = Error::invalid(format!("there is no channel `{name}`"));
        Err(match suggest::hint(name, self.all.keys().map(String::as_str)) {
            Some(hint) => error.with_hint(hint),
            None => error.with_hint("add `[notify.NAME]`: the configuration has no channel"),
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &NotifyConfig)> {
        self.all.iter().map(|(name, channel)| (name.as_str(), &channel.config))
    }

    /// Sends a message at once, past the outbox: for tests, where somebody waits for what comes of
    /// it.
    ///
    /// # Errors
    /// [`NotSent`].
    pub async fn send_now(
        &self,
        channel: &str,
        message: &Message,
        cx: &Context,
    ) -> Result<(), NotSent> {
        let mut reached = Reached::new(Vec::new(), |_| Ok(()));
        self.send(channel, message, &mut reached, cx).await.map_err(|failure| NotSent {
            why: failure.why().to_owned(),
            is_passing: matches!(failure, Failure::Later { .. }),
        })
    }

    /// Sends a message through a channel, to those who have not got it, within the time that the
    /// channel has for that.
    pub(super) async fn send(
        &self,
        name: &str,
        message: &Message,
        reached: &mut Reached<'_>,
        cx: &Context,
    ) -> Result<(), Failure> {
        let Some(channel) = self.all.get(name) else {
            return Err(Failure::later(format!("the configuration has no channel `{name}`")));
        };
        let timeout = channel.config.timeout();
        tokio::select! {
            done = tokio::time::timeout(timeout, self.send_by(name, channel, message, reached, cx)) => {
                done.unwrap_or_else(|_| Err(too_long(timeout)))
            }
            () = cx.cancel.cancelled() => Err(Failure::later("cancelled before the message was \
                                                              sent")),
        }
    }

    async fn send_by(
        &self,
        name: &str,
        channel: &Channel,
        message: &Message,
        reached: &mut Reached<'_>,
        cx: &Context,
    ) -> Result<(), Failure> {
        let config = &channel.config;
        let secret = Secret::fetch(config, &self.env)
            .await
            .map_err(|error| Failure::later(chain(&error)))?;
        let client = &*channel.client;
        let (zone, host, env, now) = (&self.zone, self.host.as_str(), &self.env, cx.clock.now());
        let secrets = self.secrets.as_slice();
        let task =
            Task { channel: name, config, message, secret, client, zone, host, env, secrets, now };
        let sent = match config.kind {
            ChannelKind::Smtp => smtp::send(&task, reached).await,
            ChannelKind::Resend => resend::send(&task).await,
            ChannelKind::Slack => slack::send(&task).await,
            ChannelKind::Webhook => webhook::send(&task).await,
            ChannelKind::Pagerduty => pagerduty::send(&task).await,
            ChannelKind::Sms => sms::send(&task, reached).await,
            ChannelKind::Command => command::send(&task).await,
        };
        // Others may repeat what they were told.
        sent.map_err(|failure| failure.reworded(|why| task.secret.hide(why)))
    }
}

fn too_long(timeout: Duration) -> Failure {
    let seconds = words::count(timeout.as_secs(), "second", "seconds");
    Failure::later(format!("sending took longer than {seconds}"))
}

/// An error with its cause.
fn chain(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::message::tests::message;
    use super::*;

    /// Calls `with` with what a kind is given for a message.
    pub(in crate::notify) fn with_task<T>(
        channel: &str,
        message: &Message,
        with: impl FnOnce(&Task<'_>) -> T,
    ) -> T {
        let config: NotifyConfig = toml::from_str(channel).unwrap();
        let env = Environment::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let secret = runtime.block_on(Secret::fetch(&config, &env)).unwrap();
        with(&Task {
            channel: "mail",
            config: &config,
            message,
            secret,
            client: &Client::default(),
            zone: &TimeZone::UTC,
            host: "db1",
            env: &env,
            secrets: &[],
            now: message.time,
        })
    }

    fn channels(text: &str) -> Result<Channels> {
        Channels::new(&toml::from_str(text).unwrap(), &Environment::default())
    }

    const SEVERAL: &str = "
        [notify.all]\nkind = \"command\"\ncommand = \"x\"\nseverity = \"info\"
        [notify.usual]\nkind = \"command\"\ncommand = \"x\"
        [notify.night]\nkind = \"command\"\ncommand = \"x\"\nseverity = \"critical\"
        [notify.shop]\nkind = \"command\"\ncommand = \"x\"\nseverity = \"info\"\njobs = [\"shop-*\", \"till\"]
    ";

    #[test]
    fn messages_go_to_those_who_want_them() {
        let channels = channels(SEVERAL).unwrap();
        let routed = |severity, job| channels.route(&[], severity, job).join(" ");
        assert_eq!(routed(Severity::Info, None), "all");
        assert_eq!(routed(Severity::Info, Some("shop-db")), "all shop");
        assert_eq!(routed(Severity::Warning, Some("till")), "all shop usual");
        assert_eq!(routed(Severity::High, Some("tills")), "all usual");
        assert_eq!(routed(Severity::Critical, None), "all night usual");
        let named = ["night", "shop", "none"].map(str::to_owned);
        assert_eq!(
            channels.route(&named, Severity::Info, None),
            ["night", "shop"],
            "who is named gets it"
        );
        assert!(channels.check("night").is_ok());
        assert_eq!(channels.check("nihgt").unwrap_err().hint(), Some("did you mean `night`?"));
    }

    #[test]
    fn what_makes_no_sense_is_no_channel() {
        let error = channels("[notify.x]\nkind = \"slack\"").unwrap_err();
        assert!(error.to_string().contains("channel `x`, `secret_file`"), "{error}");
    }

    async fn run(line: &str) -> Result<(), NotSent> {
        let text =
            format!("[notify.x]\nkind = \"command\"\ntimeout = \"2s\"\ncommand = '''{line}'''");
        let text = format!(
            "{text}\n[notify.mail]\nkind = \"resend\"\nsecret_env = \"NAMED\"\n\
             from = \"b@example.com\"\nto = [\"o@example.com\"]"
        );
        let env = [
            ("PATH", "/usr/bin:/bin"),
            ("BACKUP_PASSWORD", "hush-phrase"),
            ("BACKUP_TOKEN", "hush-token"),
            ("AWS_SECRET_ACCESS_KEY", "hush-key"),
            ("CRM", "redis://:hush-crm@h/"),
            ("NAMED", "hush-named"),
            ("OWN", "own"),
        ]
        .into_iter()
        .collect();
        let channels = Channels::new(&toml::from_str(&text).unwrap(), &env).unwrap();
        channels.send_now("x", &message(), &Context::silent()).await
    }

    #[tokio::test]
    async fn commands_are_told_in_two_ways() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        let (json, rest) = (file("json"), file("rest"));
        run(&format!(
            "cat > {json}; echo $BACKUP_NOTIFY_CHANNEL $BACKUP_NOTIFY_SEVERITY $BACKUP_NOTIFY_JOB \
             $OWN [$BACKUP_PASSWORD] > {rest}"
        ))
        .await
        .unwrap();
        let told: Message = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        assert_eq!(told, message());
        assert_eq!(std::fs::read_to_string(rest).unwrap(), "x critical shop own []\n");
        let failed = run("echo busy; exit 75").await.unwrap_err();
        assert!(
            failed.is_passing && failed.why == "the command failed (exit status: 75): busy",
            "{failed:?}"
        );
        run("true").await.unwrap();
        let leaked = run("echo $(env | grep -c hush); exit 1").await.unwrap_err();
        assert!(leaked.why.ends_with(": 0"), "{leaked:?}");
        let shown = run("echo no hush-named; exit 1").await.unwrap_err();
        assert!(shown.why.ends_with(": no …"), "{shown:?}");
    }

    #[tokio::test]
    async fn commands_that_take_too_long_are_ended_with_all_they_began() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("late");
        let failed = run(&format!("(sleep 3; touch {}) & wait", file.display())).await.unwrap_err();
        assert!(
            failed.is_passing && failed.why == "sending took longer than 2 seconds",
            "{failed:?}"
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!file.exists());
    }
}
