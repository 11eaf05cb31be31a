//! `backup alerts`.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the verbs; listing and silencing |
//! | `check.rs` | evaluating all rules; evaluating those that a command affects, at its end |
//! | `examine.rs` | facts that only repositories and database servers hold |

pub(crate) mod check;
mod examine;

use std::path::PathBuf;
use std::sync::Arc;

use backup_control::age::Age;
use backup_control::alerts::{Alert, Ledger, MAX_SILENCE_DAYS, Phase, Scope, Silence};
use backup_control::config::LoadedConfig;
use backup_control::state;
use jiff::Timestamp;
use serde::Serialize;

use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::trail::Action;
use crate::ui::SCHEMA_VERSION;

/// Show alerts, evaluate all alert rules now, or silence a rule
///
/// Rules are the sections `[alerts.NAME]` of the configuration. Commands that back up, restore,
/// copy or verify evaluate the rules that they have data for when they end. `backup alerts check`,
/// run by a timer, evaluates all rules, including those of jobs that no longer run. See
/// docs/alerts.md.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

const EXAMPLES: &str = "\
Examples:
  backup alerts
  backup alerts check
  backup alerts silence stale --on crm --for 2h --reason 'db1 moves'";

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show firing alerts and silenced rules (the default)
    List,
    /// Evaluate all rules, send notifications, and show firing alerts
    ///
    /// Examines jobs, logs and repositories. The exit code is 3 if an examination or a notification
    /// failed. Without --exit-code, firing alerts do not change the exit code.
    Check(CheckArgs),
    Silence(SilenceArgs),
    /// End a silence
    Unsilence(UnsilenceArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Exit with the codes of a monitoring plugin
    ///
    /// 0: no alert fires, or only alerts of severity `info`; 1: an alert of severity `warning`
    /// fires, or a notification failed; 2: an alert of severity `high` or `critical` fires; 3:
    /// unknown, because the configuration or a repository could not be read. Silenced alerts do
    /// not count. These codes differ from those of other commands.
    #[arg(long)]
    exit_code: bool,
}

/// Suppress the notifications of a rule for a time
///
/// Silenced alerts stay in the list. An alert that still fires when the silence ends is sent then.
#[derive(Debug, clap::Args)]
struct SilenceArgs {
    /// Rule to silence
    #[arg(value_name = "RULE")]
    rule: String,
    /// Only its alerts about this job or repository
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
    /// Duration of the silence, for instance 2h or 3d; at most 31 days
    #[arg(
        long = "for",
        value_name = "AGE",
        required_unless_present = "until",
        conflicts_with = "until",
        id = "length"
    )]
    length: Option<Age>,
    /// End of the silence: a moment, or the end of this day
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Reason, recorded with the silence
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, clap::Args)]
struct UnsilenceArgs {
    /// Silence, as `backup alerts` shows it
    #[arg(value_name = "SILENCE")]
    id: String,
}

impl Args {
    /// Name of the operation in the audit log.
    pub(crate) fn operation(&self) -> Option<&'static str> {
        match self.verb {
            Some(Verb::Silence(_)) => Some("silence"),
            Some(Verb::Unsilence(_)) => Some("unsilence"),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct AlertJson<'a> {
    #[serde(flatten)]
    alert: &'a Alert,
    silenced: bool,
}

#[derive(Serialize)]
struct ListJson<'a> {
    schema_version: u32,
    alerts: Vec<AlertJson<'a>>,
    silences: Vec<&'a Silence>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    match &args.verb {
        None | Some(Verb::List) => list(session).await,
        Some(Verb::Check(args)) => check::everything(session, args.exit_code).await,
        Some(Verb::Silence(args)) => silence(session, args).await,
        Some(Verb::Unsilence(args)) => unsilence(session, args).await,
    }
}

fn dir(session: &Session) -> CommandResult<PathBuf> {
    state::dir(&session.env).ok_or_else(|| {
        CommandError::new(Kind::Io, "no state directory for alerts")
            .with_hint("set BACKUP_STATE_DIR to a directory")
    })
}

pub(in crate::commands) async fn ledger(session: &Session) -> CommandResult<Ledger> {
    let dir = dir(session)?;
    let scope = session.config().ok().flatten().map(|loaded| Scope::of(&loaded));
    let (scope, now) = (scope.unwrap_or_default(), session.cx.clock.now());
    let opened = tokio::task::spawn_blocking(move || Ledger::open(&dir, scope, now)).await;
    let ledger = opened.map_err(|error| CommandError::new(Kind::Io, error.to_string()))?;
    let ledger = ledger.map_err(|error| {
        let failed = CommandError::from_error(Kind::Io, &error);
        match error.hint() {
            Some(hint) => failed.with_hint(hint),
            None => failed,
        }
    })?;
    if let Some(aside) = ledger.put_aside() {
        session
            .ui
            .warning(format_args!("the unreadable alert state was moved to {}", aside.display()));
        session.ui.hint(
            "find lasting alerts again with `backup alerts check`, and repeat the silences, which \
             are lost",
        );
    }
    Ok(ledger)
}

fn saved(ledger: Ledger) -> CommandResult<()> {
    ledger.save().map_err(|error| CommandError::from_error(Kind::Io, &error))
}

/// The configuration, without which there are no rules.
fn configured(session: &Session) -> CommandResult<Arc<LoadedConfig>> {
    let loaded = session.require_config()?;
    if loaded.config.alerts.is_empty() {
        return Err(CommandError::usage(format!("{} has no alert rules", loaded.file.display()))
            .with_hint("add `[alerts.NAME]`, as in `backup config example aquarium`"));
    }
    Ok(loaded)
}

async fn list(session: &Session) -> CommandResult {
    let mut ledger = ledger(session).await?;
    // Somebody may read slowly.
    ledger.release();
    show(session, &ledger)?;
    Ok(Outcome::Success)
}

fn show(session: &Session, ledger: &Ledger) -> CommandResult<()> {
    let (ui, now) = (&session.ui, session.cx.clock.now());
    let (alerts, silences) = (ledger.alerts(), ledger.silences(now));
    if ui.is_json() {
        let silenced = |alert: &Alert| ledger.silences_alert(alert, now);
        let alerts = alerts.map(|alert| AlertJson { alert, silenced: silenced(alert) }).collect();
        return ui.json(&ListJson { schema_version: SCHEMA_VERSION, alerts, silences });
    }
    if alerts.len() == 0 {
        ui.print(paint(style::GOOD, "No alerts are pending or firing."))?;
    } else {
        ui.print(table(session, ledger).lines().join("\n"))?;
    }
    for silence in silences {
        let on =
            silence.subject.as_ref().map(|subject| format!(" on {subject}")).unwrap_or_default();
        let until = human::time(silence.until, session.zone());
        let text = format!(
            "Silence {}: {}{on} until {until}, by {} ({})",
            silence.id, silence.rule, silence.user, silence.reason
        );
        ui.print(human::text(text.as_bytes()))?;
    }
    Ok(())
}

fn table(session: &Session, ledger: &Ledger) -> Table {
    let columns = [
        ("Severity", Align::Left),
        ("Rule", Align::Left),
        ("Alert", Align::Left),
        ("Since", Align::Left),
        ("Sent", Align::Left),
    ];
    let (mut table, now) = (Table::new(columns), session.cx.clock.now());
    for alert in ledger.alerts() {
        let is_silenced = ledger.silences_alert(alert, now);
        table.row([
            alert.severity.to_string(),
            human::text(alert.rule.as_bytes()),
            human::text(format!("{}: {}", alert.title, alert.cause).as_bytes()),
            human::time(alert.since, session.zone()),
            match (alert.phase, is_silenced, alert.told) {
                (Phase::Pending, ..) => "pending".to_owned(),
                (_, true, _) => "silenced".to_owned(),
                (_, _, Some(told)) => human::time(told, session.zone()),
                (_, _, None) => "no".to_owned(),
            },
        ]);
    }
    table
}

/// Checks that the configuration has the rule and the subject of a silence.
fn check_subject(loaded: &LoadedConfig, args: &SilenceArgs) -> CommandResult<()> {
    if !loaded.config.alerts.contains_key(&args.rule) {
        let known: Vec<&str> = loaded.config.alerts.keys().map(String::as_str).collect();
        return Err(CommandError::usage(format!(
            "there is no rule {}",
            human::text(args.rule.as_bytes())
        ))
        .with_hint(format!(
            "name a rule in {}: {}",
            loaded.file.display(),
            known.join(", ")
        )));
    }
    if loaded.config.alerts.get(&args.rule).is_some_and(|rule| !rule.condition.can_be_silenced()) {
        return Err(CommandError::usage(format!(
            "rule {} reports long silences, and cannot be silenced",
            human::text(args.rule.as_bytes())
        ))
        .with_hint("end the silences and pauses that it names"));
    }
    if let Some(on) = &args.on
        && !loaded.config.jobs.contains_key(on)
        && !loaded.config.repositories.contains_key(on)
        && on != backup_control::alerts::DAEMON
    {
        let known: Vec<&str> = loaded
            .config
            .jobs
            .keys()
            .chain(loaded.config.repositories.keys())
            .map(String::as_str)
            .collect();
        return Err(CommandError::usage(format!(
            "there is no job or repository {}",
            human::text(on.as_bytes())
        ))
        .with_hint(format!(
            "name a job or repository in {}: {}",
            loaded.file.display(),
            known.join(", ")
        )));
    }
    Ok(())
}

async fn silence(session: &Session, args: &SilenceArgs) -> CommandResult {
    let loaded = configured(session)?;
    check_subject(&loaded, args)?;
    let silence = Silence::new(
        format!("{:06x}", rand_number(session)),
        args.rule.clone(),
        args.on.clone(),
        (session.cx.clock.now(), until(session, args)?),
        (session.machine.user.clone(), args.reason.trim().to_owned()),
    );
    if silence.reason.is_empty() {
        return Err(CommandError::usage("the reason is empty")
            .with_hint("give the reason for the silence with --reason"));
    }
    session.trail.note("reason", &silence.reason);
    session.trail.note("rule", &silence.rule);
    let mut ledger = ledger(session).await?;
    ledger.silence(silence.clone());
    saved(ledger)?;
    let ui = &session.ui;
    if ui.is_json() {
        ui.json(&serde_json::json!({ "schema_version": SCHEMA_VERSION, "silence": silence }))?;
        return Ok(Outcome::Success);
    }
    let until = human::time(silence.until, session.zone());
    ui.status(format_args!(
        "Alert rule {} is silenced until {until}",
        human::text(silence.rule.as_bytes())
    ));
    ui.hint(format_args!("end the silence with `backup alerts unsilence {}`", silence.id));
    Ok(Outcome::Success)
}

/// Names of silences only have to differ.
fn rand_number(session: &Session) -> i64 {
    session.cx.clock.now().as_microsecond() & 0xff_ffff
}

fn until(session: &Session, args: &SilenceArgs) -> CommandResult<Timestamp> {
    let now = session.cx.clock.now();
    let until = match (&args.until, &args.length) {
        (Some(until), _) => session.moment(until)?.end(),
        (None, Some(length)) => length.after(now, session.zone())?,
        (None, None) => now,
    };
    if until <= now {
        return Err(CommandError::usage("the end of the silence has already passed")
            .with_hint("give a later time"));
    }
    if Silence::is_too_long(now, until) {
        return Err(CommandError::usage(format!(
            "a silence lasts at most {MAX_SILENCE_DAYS} days"
        ))
        .with_hint("give an earlier end, or remove the rule from the configuration"));
    }
    Ok(until)
}

async fn unsilence(session: &Session, args: &UnsilenceArgs) -> CommandResult {
    let mut ledger = ledger(session).await?;
    let Some(silence) = ledger.unsilence(&args.id) else {
        return Err(CommandError::usage(format!(
            "there is no silence {}",
            human::text(args.id.as_bytes())
        ))
        .with_hint("list the silences with `backup alerts`"));
    };
    session.trail.note("rule", &silence.rule);
    saved(ledger)?;
    session.ui.status(format_args!(
        "The silence of alert rule {} has ended",
        human::text(silence.rule.as_bytes())
    ));
    Ok(Outcome::Success)
}

/// Whether rules are evaluated at the end of a command.
pub(crate) fn is_seen(action: Action) -> bool {
    matches!(action.operation, "backup" | "restore" | "verify" | "check" | "copy" | "archive")
}
