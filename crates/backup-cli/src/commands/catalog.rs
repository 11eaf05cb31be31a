//! `backup catalog`.

use backup_control::catalog::RunFilter;
use backup_control::runs::{self, SavedRun};
use serde::Serialize;

use super::view;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::records::{self, Records};
use crate::session::Session;
use crate::ui::SCHEMA_VERSION;

/// Manage this machine's catalog of runs
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Example:
  backup catalog rebuild -r s3://bucket/backup";

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Rebuild the catalog from the repository, for instance on a new machine
    ///
    /// Every backup run, also a failed one, is saved in its repository when it ends. Adds the saved
    /// runs that the catalog lacks, and runs of which only the snapshot exists. Existing entries
    /// stay unchanged.
    Rebuild,
}

#[derive(Serialize)]
struct RebuildJson {
    schema_version: u32,
    repository: String,
    added: u64,
    known: u64,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    match args.verb {
        Verb::Rebuild => rebuild(session).await,
    }
}

async fn rebuild(session: &Session) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    let list = repository.snapshots(&session.cx).await?;
    let saved = repository.noted_runs::<SavedRun>().await?;
    if saved.damaged > 0 {
        let runs = human::count(saved.damaged, "run", "runs");
        session.ui.warning(format_args!("the saved records of {runs} are damaged and left out"));
    }
    let records = Records::require(session).await?;
    let place = records::place(&spec);
    let of_place = RunFilter { repository: Some(place.clone()), ..RunFilter::default() };
    let known = records.catalog.runs(&of_place).await?.runs;
    let runs = runs::unknown(saved.notes, &list.snapshots, &place, &known);
    for run in &runs {
        session.cx.check_cancelled()?;
        records.catalog.add(run).await?;
    }
    let (added, known) = (runs.len() as u64, known.len() as u64);
    if session.ui.is_json() {
        let (schema_version, repository) = (SCHEMA_VERSION, spec.to_string());
        session.ui.json(&RebuildJson { schema_version, repository, added, known })?;
    } else {
        let added = human::count(added, "run", "runs");
        session
            .ui
            .print(format_args!("{added} added from {spec}; already in the catalog: {known}"))?;
    }
    let incomplete = Outcome::with_warnings(saved.damaged);
    Ok(view::warn_of_damaged(&session.ui, &list).max(incomplete))
}
