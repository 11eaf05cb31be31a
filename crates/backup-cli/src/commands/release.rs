//! `backup release`.

use serde::Serialize;

use crate::args::FilterArgs;
use crate::command_error::{CommandResult, Outcome};
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Release snapshots from a hold, so that policies apply again
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Snapshots: `latest`, beginnings of identifiers, or moments (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Example:
  backup release 1a2b3c4d";

#[derive(Serialize)]
struct ReleasedJson {
    schema_version: u32,
    repository: String,
    released: Vec<String>,
    not_held: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = args.filter.repository(session)?;
    let repository = session.open(&spec).await?;
    let list = repository.snapshots(&session.cx).await?;
    let ui = &session.ui;
    let (mut released, mut not_held) = (Vec::new(), Vec::new());
    let choice = args.filter.choice(session)?;
    session.require_job(&list, choice.filter.job.as_deref())?;
    for info in session.find_all(&repository, &list, &args.snapshots, &choice).await? {
        let id = paint(style::SNAPSHOT, info.id.short());
        session.trail.snapshots([&info.id]);
        if repository.release(&info.id).await? {
            ui.status(format_args!("Snapshot {id} is released"));
            released.push(info.id.to_hex());
        } else {
            ui.status(format_args!("Snapshot {id} was not held"));
            not_held.push(info.id.to_hex());
        }
    }
    if ui.is_json() {
        let repository = spec.to_string();
        ui.json(&ReleasedJson { schema_version: SCHEMA_VERSION, repository, released, not_held })?;
    }
    Ok(Outcome::Success)
}
