//! `backup migrate`.

use backup_core::maintenance::{self, Migration};
use serde::Serialize;

use crate::command_error::{CommandResult, Outcome};
use crate::session::Session;
use crate::ui::SCHEMA_VERSION;

/// Upgrade a repository of format 1 to format 2
///
/// Repositories of format 1 can be read only. The upgrade replaces the object config, after
/// confirmation, and keeps the old one in x-quarantine/. All other objects stay as they are, also
/// damaged ones. restic before version 0.14 cannot read format 2.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Show the versions, and change nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup migrate --dry-run
  backup migrate";

/// The versions in JSON.
#[derive(Serialize)]
struct MigrationJson {
    schema_version: u32,
    repository: String,
    #[serde(flatten)]
    migration: Migration,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    let (holder, cx, ui) = (session.holder(), &session.cx, &session.ui);
    let mut migration = maintenance::migrate(&repository, &holder, true, cx).await?;
    let Migration { from, to, .. } = migration;
    if from != to && !args.dry_run {
        session.confirm(&format!("Upgrade {spec} from format {from} to format {to}?")).await?;
        migration = maintenance::migrate(&repository, &holder, false, cx).await?;
    }
    if ui.is_json() {
        let repository = spec.to_string();
        ui.json(&MigrationJson { schema_version: SCHEMA_VERSION, repository, migration })?;
    } else if from == to {
        ui.line(format_args!("{spec} has format {to} already"))?;
    } else if args.dry_run {
        ui.line(format_args!("Plan: upgrade {spec} from format {from} to format {to}"))?;
    } else {
        ui.line(format_args!("{spec} upgraded from format {from} to format {to}"))?;
    }
    Ok(Outcome::Success)
}
