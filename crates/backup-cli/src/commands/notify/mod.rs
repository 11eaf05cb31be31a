//! `backup notify`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the verbs; listing and testing channels |
//! | `outbox.rs` | what waits: looking at it, sending it, giving it up |

mod outbox;

use backup_control::config::{ChannelKind, NotifyConfig};
use backup_control::notify::{Channels, Message, Severity};
use clap::ValueEnum;
use serde::Serialize;

use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::exit_code;
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Show waiting and failed notifications, or test channels
///
/// Channels are the sections `[notify.NAME]` of the configuration. Messages wait in the outbox in
/// the state directory until they are sent. The command that adds a message also tries to send it.
/// The next such command, or `backup notify send`, retries a failed message.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

const EXAMPLES: &str = "\
Examples:
  backup notify
  backup notify test ops-mail";

impl Args {
    /// Name of the operation in the audit log.
    pub(crate) fn operation(&self) -> Option<&'static str> {
        matches!(self.verb, Some(Verb::Discard)).then_some("notify discard")
    }
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show waiting and abandoned messages (the default)
    Status,
    /// List the channels
    List,
    Test(TestArgs),
    Send(outbox::SendArgs),
    /// Remove abandoned messages
    Discard,
}

/// Send a test message through channels at once, bypassing the outbox
#[derive(Debug, clap::Args)]
struct TestArgs {
    /// Channels [default: all]
    #[arg(value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Severity of the message; from `warning` on, PagerDuty opens an incident
    #[arg(long, value_name = "SEVERITY", default_value = "info")]
    severity: SeverityArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SeverityArg {
    Info,
    Warning,
    High,
    Critical,
}

impl From<SeverityArg> for Severity {
    fn from(severity: SeverityArg) -> Self {
        match severity {
            SeverityArg::Info => Self::Info,
            SeverityArg::Warning => Self::Warning,
            SeverityArg::High => Self::High,
            SeverityArg::Critical => Self::Critical,
        }
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    match args.verb.as_ref().unwrap_or(&Verb::Status) {
        Verb::Status => outbox::status(session),
        Verb::List => list(session),
        Verb::Test(args) => Box::pin(test(session, args)).await,
        Verb::Send(args) => Box::pin(outbox::send(session, args)).await,
        Verb::Discard => outbox::discard(session).await,
    }
}

/// The channels of the configuration.
fn channels(session: &Session) -> CommandResult<Channels> {
    let loaded = session.require_config()?;
    Ok(Channels::new(&loaded.config, &session.env)?)
}

/// A channel in JSON.
#[derive(Serialize)]
struct ChannelJson<'a> {
    name: &'a str,
    kind: ChannelKind,
    to: String,
    severity: Severity,
    jobs: &'a [String],
}

#[derive(Serialize)]
struct ListJson<'a> {
    schema_version: u32,
    channels: Vec<ChannelJson<'a>>,
}

fn list(session: &Session) -> CommandResult {
    let channels = channels(session)?;
    let all: Vec<ChannelJson<'_>> = channels
        .iter()
        .map(|(name, config)| {
            let (kind, severity, jobs) = (config.kind, config.severity(), &config.jobs[..]);
            ChannelJson { name, kind, to: target(config), severity, jobs }
        })
        .collect();
    if session.ui.is_json() {
        session.ui.json(&ListJson { schema_version: SCHEMA_VERSION, channels: all })?;
        return Ok(Outcome::Success);
    }
    if all.is_empty() {
        session.ui.status("No channels: no notifications are sent.");
        session.ui.hint("add `[notify.NAME]` to the configuration");
        return Ok(Outcome::Success);
    }
    let columns = ["Channel", "Kind", "To", "Minimum severity", "Jobs"];
    let mut table = Table::new(columns.map(|column| (column, Align::Left)));
    for ChannelJson { name, kind, to, severity, jobs } in all {
        let words = [name.to_owned(), kind.to_string(), to, severity.to_string(), jobs.join(", ")];
        table.row(words.map(|word| human::text(word.as_bytes())));
    }
    session.ui.print(table.lines().join("\n"))?;
    Ok(Outcome::Success)
}

/// Where its messages go, without secrets.
fn target(channel: &NotifyConfig) -> String {
    let to = channel.to.join(", ");
    match (channel.kind, &channel.url) {
        (ChannelKind::Smtp, _) => {
            format!("{to} via {}", channel.host.as_deref().unwrap_or_default())
        }
        (ChannelKind::Resend | ChannelKind::Sms, None) => to,
        (ChannelKind::Resend | ChannelKind::Sms, Some(url)) => format!("{to} via {url}"),
        (_, Some(url)) => url.to_string(),
        (_, None) => String::new(),
    }
}

/// What came of a test, in JSON.
#[derive(Serialize)]
struct TestedJson {
    channel: String,
    sent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Whether a message would be tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    passing: Option<bool>,
}

#[derive(Serialize)]
struct TestJson<'a> {
    schema_version: u32,
    tests: &'a [TestedJson],
}

async fn test(session: &Session, args: &TestArgs) -> CommandResult {
    let channels = channels(session)?;
    args.channels.iter().try_for_each(|name| channels.check(name))?;
    let names: Vec<String> = match &args.channels[..] {
        [] => channels.iter().map(|(name, _)| name.to_owned()).collect(),
        named => named.to_vec(),
    };
    if names.is_empty() {
        return Err(CommandError::usage("there are no channels")
            .with_hint("add `[notify.NAME]` to the configuration"));
    }
    let mut tests = Vec::new();
    for channel in names {
        let (machine, now) = (&session.machine, session.cx.clock.now());
        let message =
            Message::test(&channel, args.severity.into(), &machine.user, &machine.host, now);
        let failed = channels.send_now(&channel, &message, &session.cx).await.err();
        session.cx.check_cancelled()?;
        if !session.ui.is_json() {
            tell(
                session,
                &channel,
                failed.as_ref().map(|failed| (failed.why.as_str(), failed.is_passing)),
            )?;
        }
        let (error, passing) = failed.map(|failed| (failed.why, failed.is_passing)).unzip();
        tests.push(TestedJson { channel, sent: error.is_none(), error, passing });
    }
    if session.ui.is_json() {
        session.ui.json(&TestJson { schema_version: SCHEMA_VERSION, tests: &tests })?;
    }
    let all_sent = tests.iter().all(|test| test.sent);
    Ok(if all_sent { Outcome::Success } else { Outcome::Failed(exit_code::FAILURE) })
}

fn tell(session: &Session, channel: &str, failed: Option<(&str, bool)>) -> CommandResult<()> {
    let Some((why, is_passing)) = failed else {
        return session.ui.print(format_args!("{} {channel}", paint(style::GOOD, "sent  ")));
    };
    let what = if is_passing {
        "a message would be retried later"
    } else {
        "a message would be abandoned"
    };
    let why = human::text(why.as_bytes());
    session.ui.print(format_args!("{} {channel}: {why} ({what})", paint(style::ERROR, "failed")))
}
