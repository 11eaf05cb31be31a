//! `backup retry`.

use backup_control::runs::{Run, State, What};
use clap::Parser;

use super::run as run_verb;
use crate::cli::{Cli, Command, GlobalArgs};
use crate::command_error::{CommandError, CommandResult};
use crate::human;
use crate::records::Records;
use crate::session::{ConfigCache, Session};
use crate::ui::SCHEMA_VERSION;

/// Repeat a failed or stopped backup, with the same flags
///
/// Uses the current configuration and environment. Data that the failed run stored is reused.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Run: the beginning of its name in `backup status --runs`, or `latest`
    ///
    /// `latest` is the newest failed backup that is the last of its job.
    #[arg(value_name = "RUN")]
    run: String,
}

const EXAMPLES: &str = "\
Examples:
  backup retry latest
  backup retry 20261123-0200";

/// What is about to be run again.
#[derive(serde::Serialize)]
struct RetryEvent<'a> {
    schema_version: u32,
    event: &'static str,
    run: &'a str,
    command: &'a [String],
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let records = Records::require(session).await?;
    let run = match args.run.as_str() {
        "latest" => records.find_failed().await?,
        name => records.find(name).await?,
    };
    let words = words(&records, &run)?;
    if session.ui.is_json() {
        let (schema_version, event) = (SCHEMA_VERSION, "retry");
        session.ui.event(&RetryEvent {
            schema_version,
            event,
            run: run.id.as_str(),
            command: words,
        });
    } else {
        let shown: Vec<String> = words.iter().map(|word| human::shell(word)).collect();
        let shown = human::text(shown.join(" ").as_bytes());
        session.ui.status(format_args!("Repeating run {}: `{} {shown}`", run.id, session.program));
    }
    remind(session, &run);
    if run.host != session.machine.host {
        let question = format!(
            "The run was on host {}; this host is {}. Repeat the run here?",
            run.host, session.machine.host
        );
        session.confirm(&human::text(question.as_bytes())).await?;
    }
    let parsed =
        Cli::try_parse_from(std::iter::once("backup").chain(words.iter().map(String::as_str)));
    let Ok(Cli { command: Command::Run(again), global }) = parsed else {
        return Err(CommandError::refused(format!(
            "this version does not understand the flags of run {}",
            run.id
        ))
        .with_hint("start the backup with `backup run`"));
    };
    let global = merged(&session.global, global);
    // The run may have used another file.
    let config = match global.config == session.global.config {
        true => session.config.clone(),
        false => ConfigCache::default(),
    };
    let session = Session { global, config, ..session.clone() };
    Box::pin(run_verb::run(&session, &again)).await
}

/// Says which flags are missing, unless they were given again.
fn remind(session: &Session, run: &Run) {
    let has_passphrase =
        session.global.password_file.is_some() || session.global.password_command.is_some();
    if !run.evidence.left_out.is_empty() && !has_passphrase {
        let flags = run.evidence.left_out.join(", ");
        session.ui.warning(format_args!("{flags} may hold a secret and was not saved"));
        session.ui.hint("give the flag to `backup retry` again if needed");
    }
}

/// The words of its command line.
fn words<'a>(records: &Records, run: &'a Run) -> CommandResult<&'a [String]> {
    let id = &run.id;
    let refused = |message: String, hint: &str| Err(CommandError::refused(message).with_hint(hint));
    if run.what == What::Restore {
        return refused(
            format!("run {id} is a restore"),
            "repeat the restore with `backup restore`; --dry-run shows its plan",
        );
    }
    match run.state {
        State::Failed | State::Cancelled => {}
        state if state.is_success() => {
            return refused(
                format!("run {id} did not fail"),
                "create another snapshot with `backup run`",
            );
        }
        // Nobody could close it, but nobody is at it.
        _ if !records.may_live(run) => {}
        _ => {
            let message =
                format!("run {id} may still be running as process {} on {}", run.pid, run.host);
            return refused(message, "wait until the run has finished");
        }
    }
    match &run.evidence.again {
        Some(words) => Ok(words),
        None => refused(
            format!(
                "the flags of run {id} are not saved: they hold a secret or are not valid UTF-8"
            ),
            "start the backup with `backup run` and the full address",
        ),
    }
}

/// The flags of now, and where they say nothing, those of then.
fn merged(now: &GlobalArgs, then: GlobalArgs) -> GlobalArgs {
    let has_passphrase = now.password_file.is_some() || now.password_command.is_some();
    GlobalArgs {
        config: now.config.clone().or(then.config),
        repo: now.repo.clone().or(then.repo),
        password_file: if has_passphrase { now.password_file.clone() } else { then.password_file },
        ..now.clone()
    }
}
