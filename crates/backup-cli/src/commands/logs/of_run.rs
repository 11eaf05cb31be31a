//! `backup logs run`.

use backup_control::runs::Log;
use backup_core::error::ErrorKind;
use serde::Serialize;

use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::human;
use crate::records::{Records, RunJson};
use crate::session::Session;
use crate::ui::SCHEMA_VERSION;

/// Show the messages of a run: its stages, warnings and result
///
/// Times are UTC. This machine keeps the messages of its newest 1000 runs, at most 1 MiB of each.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Run: `latest`, or the beginning of its name in `backup status --runs`
    #[arg(value_name = "RUN")]
    run: String,
}

#[derive(Serialize)]
struct RunLogJson<'a> {
    schema_version: u32,
    #[serde(flatten)]
    run: RunJson<'a>,
    log: Vec<&'a str>,
}

pub(super) async fn run(session: &Session, args: &Args) -> CommandResult {
    let records = Records::require(session).await?;
    let run = records.find(&args.run).await?;
    let failed =
        |error| CommandError::io(format!("cannot read the messages of run {}", run.id), &error);
    let Some(text) = Log::read(&records.dir, &run.id).map_err(failed)? else {
        let message = if run.host == session.machine.host {
            format!("the messages of run {} are no longer kept", run.id)
        } else {
            format!(
                "the messages of run {} are not on this machine: the run was on {}",
                run.id,
                human::text(run.host.as_bytes())
            )
        };
        return Err(CommandError::new(Kind::Core(ErrorKind::NotFound), message)
            .with_hint("see the result with `backup status --runs --json`"));
    };
    let ui = &session.ui;
    if ui.is_json() {
        let (schema_version, log) = (SCHEMA_VERSION, text.lines().collect());
        ui.json(&RunLogJson { schema_version, run: RunJson::from(&run), log })?;
        return Ok(Outcome::Success);
    }
    for line in text.lines() {
        ui.line(human::text(line.as_bytes()))?;
    }
    ui.flush()?;
    Ok(Outcome::Success)
}
