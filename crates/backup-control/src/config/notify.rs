//! `[notify.NAME]`.
//!
//! One type for all kinds, as for sources: so every mistake is found at its own line. Which keys
//! belong to which kind is said by [`NotifyConfig::keys_of_kinds`] and checked with everything else
//! in `crate::notify::check`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::notify::Severity;
use crate::units::Time;

/// How long one try to send a message may take if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Kind of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// Mail, by a mail server.
    Smtp,
    /// Mail, by the service Resend.
    Resend,
    /// Slack, by an incoming webhook.
    Slack,
    /// Any service that takes a POST.
    Webhook,
    /// PagerDuty, by its Events API v2.
    Pagerduty,
    /// Text messages, by Twilio or a service with the same interface.
    Sms,
    /// A shell command.
    Command,
}

impl ChannelKind {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Resend => "resend",
            Self::Slack => "slack",
            Self::Webhook => "webhook",
            Self::Pagerduty => "pagerduty",
            Self::Sms => "sms",
            Self::Command => "command",
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// TLS mode of a mail server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecurityConfig {
    /// Cleartext at first, then TLS before any message or password. Without TLS nothing is sent.
    #[default]
    Starttls,
    /// TLS from the beginning.
    Tls,
    /// Cleartext. No password is sent.
    None,
}

impl SecurityConfig {
    /// The port that such servers listen at.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// An address of a service. Shown, it ends behind the host: paths of such addresses are often
/// secrets.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct WebAddress(String);

impl WebAddress {
    /// An address as somebody wrote it.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self(address.into())
    }

    /// All of it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("https", ""));
        let (authority, path) =
            rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
        let host = authority.rsplit('@').next().unwrap_or_default();
        write!(f, "{scheme}://{host}{}", if path.len() > 1 { "/…" } else { path })
    }
}

impl fmt::Debug for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for WebAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `[notify.NAME]`: a notification channel. At most one of the `secret_…` keys is allowed. The
/// secret is the password of `smtp`, the API key of `resend`, or the address of the webhook of
/// `slack`. For `pagerduty` it is the routing key, for `sms` the token. For `webhook` it is the key
/// for signatures or, if `url` or `headers` contain `{{secret}}`, the value of that placeholder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Kind of the channel: `smtp`, `resend`, `slack`, `webhook`, `pagerduty`, `sms` or `command`.
    pub kind: ChannelKind,
    /// Minimum severity of messages: `info` (also successes and reports), `warning`, `high` or
    /// `critical`. Default: `warning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Patterns of job names: only messages about these jobs. Default: all messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
    /// Time limit of one attempt to send a message. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
    /// All but `command`: file with the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// All but `command`: environment variable with the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
    /// All but `command`: shell command that prints the secret on its first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_command: Option<String>,
    /// All but `command`: CA certificates (PEM) that are trusted in addition to those of the
    /// system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,

    /// `smtp`, `resend`: the sender, for instance `Backup <backup@example.com>`; `sms`: the number,
    /// name or `MG…` identifier of the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `smtp`, `resend`: addresses; `sms`: numbers with the country code, for instance
    /// `+4930123456`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// `smtp`: name of the mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `smtp`: port of the mail server. Default: 587 with `starttls`, 465 with `tls`, 25 with
    /// `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `smtp`: `starttls` (cleartext at first, then TLS, or nothing is sent), `tls` (TLS from the
    /// beginning) or `none` (cleartext, without a password). Default: `starttls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<SecurityConfig>,
    /// `smtp`: user of the login, whose password is the secret; `sms`: the API key that the secret
    /// belongs to. Default: no login; for `sms` the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,

    /// `webhook`: the address; `resend`, `pagerduty`, `sms`: address of the service, if it is not
    /// the usual one of the provider. In the address of a webhook, `{{secret}}` stands for the
    /// secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub url: Option<WebAddress>,
    /// `resend`, `slack`, `webhook`, `pagerduty`, `sms`: allow an address `http://`. Others on the
    /// network could then read and change messages and secrets. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_http: Option<bool>,
    /// `sms`: identifier of the account (`AC…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// `webhook`: the body, with placeholders such as `{{title}}`. Default: the message as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// `command`: a shell command, which receives the message as JSON on standard input, and in
    /// variables `BACKUP_NOTIFY_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// `webhook`: headers. Their values are not shown; `{{secret}}` in a value stands for the
    /// secret.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        serialize_with = "super::job::names_only"
    )]
    pub headers: BTreeMap<String, String>,
}

impl NotifyConfig {
    /// How long one try to send a message may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.as_ref().map_or(TIMEOUT, Time::length)
    }

    /// How much a message must matter.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity.unwrap_or(Severity::Warning)
    }

    /// The `secret_…` keys that are given.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &'static str> {
        [
            ("secret_file", self.secret_file.is_some()),
            ("secret_env", self.secret_env.is_some()),
            ("secret_command", self.secret_command.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
    }

    /// The keys that are given and that only some kinds have, with those.
    pub(crate) fn keys_of_kinds(
        &self,
    ) -> impl Iterator<Item = (&'static str, &'static [ChannelKind])> {
        use ChannelKind::{Command, Pagerduty, Resend, Slack, Sms, Smtp, Webhook};
        const REMOTE: &[ChannelKind] = &[Smtp, Resend, Slack, Webhook, Pagerduty, Sms];
        // Taken apart, so that no key is forgotten.
        let Self {
            kind: _,
            severity: _,
            jobs: _,
            timeout: _,
            secret_file,
            secret_env,
            secret_command,
            ca_file,
            from,
            to,
            host,
            port,
            security,
            user,
            url,
            allow_http,
            account,
            template,
            command,
            headers,
        } = self;
        let keys: [(&str, bool, &[ChannelKind]); 16] = [
            ("secret_file", secret_file.is_some(), REMOTE),
            ("secret_env", secret_env.is_some(), REMOTE),
            ("secret_command", secret_command.is_some(), REMOTE),
            ("ca_file", ca_file.is_some(), REMOTE),
            ("from", from.is_some(), &[Smtp, Resend, Sms]),
            ("to", !to.is_empty(), &[Smtp, Resend, Sms]),
            ("host", host.is_some(), &[Smtp]),
            ("port", port.is_some(), &[Smtp]),
            ("security", security.is_some(), &[Smtp]),
            ("user", user.is_some(), &[Smtp, Sms]),
            ("url", url.is_some(), &[Webhook, Resend, Pagerduty, Sms]),
            ("allow_http", allow_http.is_some(), &[Resend, Slack, Webhook, Pagerduty, Sms]),
            ("account", account.is_some(), &[Sms]),
            ("template", template.is_some(), &[Webhook]),
            ("command", command.is_some(), &[Command]),
            ("headers", !headers.is_empty(), &[Webhook]),
        ];
        keys.into_iter().filter_map(|(key, given, kinds)| given.then_some((key, kinds)))
    }
}
