//! Evaluating rules and sending notifications.

use std::sync::Arc;
use std::time::Duration;

use backup_control::alerts::{self, Affected, Alert, Condition, Facts, Looked, Scope};
use backup_control::audit::Audit;
use backup_control::config::LoadedConfig;
use backup_control::notify::Severity;
use backup_control::state;
use backup_core::context::Context;

use super::examine;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::monitoring::Level;
use crate::records::{self, Records};
use crate::session::Session;

/// Time for sending at the end of another command. Unsent messages wait in the outbox.
const SEND_TIMEOUT_OF_COMMANDS: Duration = Duration::from_secs(20);
/// Time for sending in `alerts check`.
const SEND_TIMEOUT: Duration = Duration::from_secs(120);

/// Evaluates all rules: one reading of each repository, one query of the catalog. With
/// `is_monitored`, the exit code is that of a monitoring plugin.
pub(super) async fn everything(session: &Session, is_monitored: bool) -> CommandResult {
    let loaded = super::configured(session)?;
    let config = &loaded.config;
    let records = Records::require(session).await?;
    let (examined, unknown) = examine::everything(session, config).await?;
    // Examining repositories takes time: runs that ended meanwhile count.
    let (scope, audit) = (Scope::of(&loaded), Audit::in_state(&records.dir));
    let host = &session.machine.host;
    let mut facts = Facts::remembered(config, &scope, &*records.catalog, audit, host).await?;
    facts.take_over(examined);
    let looked = alerts::look(
        &loaded,
        &session.env,
        &session.machine,
        &records.dir,
        facts,
        SEND_TIMEOUT,
        &session.cx,
    )
    .await?;
    let unsent = say(session, &looked);
    super::list(session).await?;
    if is_monitored {
        return Ok(level(&looked, unknown, unsent).outcome());
    }
    Ok(unknown.max(unsent))
}

/// The state for a monitoring system.
fn level(looked: &Looked, unknown: Outcome, unsent: Outcome) -> Level {
    // Without the state directory, or without a repository, an alert may be missing.
    if unknown != Outcome::Success || !looked.is_evaluated {
        return Level::Unknown;
    }
    let unsent = if unsent == Outcome::Success { Level::Good } else { Level::Warning };
    looked.firing.iter().map(level_of).max().unwrap_or(Level::Good).max(unsent)
}

/// The state that a firing alert stands for.
pub(in crate::commands) fn level_of(alert: &Alert) -> Level {
    match alert.severity {
        Severity::Info => Level::Good,
        Severity::Warning => Level::Warning,
        Severity::High | Severity::Critical => Level::Critical,
    }
}

/// Evaluates the rules about the jobs and repositories that this command has changed. No command
/// fails because of it.
pub(crate) async fn afterwards(session: &Session) {
    // A mistake in the configuration is reported by the commands that need it.
    if let Some(loaded) =
        session.config().ok().flatten().filter(|loaded| !loaded.config.alerts.is_empty())
        && let Some(records) = Records::open(session).await
    {
        // Opening the records closes runs of dead processes, whose jobs count too.
        let affected = session.trail.affected();
        besides(session, &loaded, &records, &affected, SEND_TIMEOUT_OF_COMMANDS).await;
    }
}

/// The same when a restore of a job has started, if a rule is about that. Messages that cannot be
/// sent at once are sent when the restore ends.
pub(crate) async fn restore_started(session: &Session, job: &str) {
    let is_about_it = |loaded: &Arc<LoadedConfig>| {
        let mut rules = loaded.config.alerts.values();
        rules.any(|rule| matches!(rule.condition, Condition::RestoreStarted))
    };
    if let Some(loaded) = session.config().ok().flatten().filter(is_about_it)
        && let Some(records) = Records::open(session).await
    {
        besides(session, &loaded, &records, &Affected::job(job), Duration::ZERO).await;
    }
}

async fn besides(
    session: &Session,
    loaded: &LoadedConfig,
    records: &Records,
    affected: &Affected,
    within: Duration,
) {
    let Some(dir) = state::dir(&session.env) else { return };
    let looked = async {
        let (scope, audit) = (Scope::of(loaded), Audit::in_state(&records.dir));
        let (catalog, host) = (&*records.catalog, &session.machine.host);
        let config = &loaded.config;
        let facts = Facts::of_affected(affected, config, &scope, catalog, audit, host).await?;
        let cx = Context::new(session.cx.events.clone());
        CommandResult::Ok(
            alerts::look(loaded, &session.env, &session.machine, &dir, facts, within, &cx).await?,
        )
    };
    match looked.await {
        Ok(looked) => {
            say(session, &looked);
        }
        Err(error) => records::warn(session, "alert rules were not evaluated", &error),
    }
}

/// Reports sent messages, and warns of unsent ones.
fn say(session: &Session, looked: &Looked) -> Outcome {
    let ui = &session.ui;
    for message in &looked.told {
        ui.status(format_args!("Notification: {}", human::text(message.subject().as_bytes())));
    }
    let mut outcome = Outcome::Success;
    let mut warn = |text: String| {
        ui.warning(human::text(text.as_bytes()));
        outcome = Outcome::Warnings;
    };
    for trouble in looked.trouble.iter().chain(&looked.delivered.trouble) {
        warn(format!("alerts: {trouble}"));
    }
    for (channel, waiting) in &looked.delivered.waiting {
        let why = waiting.error.as_deref().unwrap_or("not tried yet");
        let messages = human::count(waiting.messages as u64, "message waits", "messages wait");
        warn(format!("{messages} for channel {channel}: {why}"));
    }
    for given_up in &looked.delivered.given_up {
        warn(format!(
            "channel {} refuses {:?}: {}",
            given_up.channel, given_up.subject, given_up.why
        ));
    }
    if looked.unheard > 0 {
        let messages = human::count(looked.unheard as u64, "alert", "alerts");
        warn(format!(
            "no channel accepts {messages}: check `notify` of the rule and `severity` of the \
             channels"
        ));
    }
    outcome
}
