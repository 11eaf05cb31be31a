//! `backup catalog`.

use backup_control::runs::{self, Identified, Rebuilt, SavedRun};
use backup_core::error::Error as CoreError;
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
    /// runs that the catalog lacks, and runs of which only the snapshot exists. If the repository
    /// was moved, the address in existing entries is updated; all else in them stays unchanged.
    Rebuild,
}

#[derive(Serialize)]
struct RebuildJson {
    schema_version: u32,
    repository: String,
    added: u64,
    moved: u64,
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
    let identified = Identified { id: &repository.config().id, address: &place };
    let Rebuilt { added, moved, known } = tokio::select! {
        rebuilt = runs::rebuild(&*records.catalog, saved.notes, &list.snapshots, identified) => {
            rebuilt?
        }
        () = session.cx.cancel.cancelled() => return Err(CoreError::cancelled().into()),
    };
    if session.ui.is_json() {
        let (schema_version, repository) = (SCHEMA_VERSION, spec.to_string());
        session.ui.json(&RebuildJson { schema_version, repository, added, moved, known })?;
    } else {
        let added = human::count(added, "run", "runs");
        let moved = match moved {
            0 => String::new(),
            moved => format!(", {moved} of them under another address, which was updated"),
        };
        session.ui.print(format_args!(
            "{added} added from {spec}; already in the catalog: {known}{moved}"
        ))?;
    }
    let incomplete = Outcome::with_warnings(saved.damaged);
    Ok(view::warn_of_damaged(&session.ui, &list).max(incomplete))
}
