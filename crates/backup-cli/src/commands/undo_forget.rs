//! `backup undo-forget`.

use backup_core::maintenance::Forgotten;
use backup_core::repository::SnapshotList;
use jiff::Timestamp;
use serde::Serialize;

use super::view::{self, SnapshotJson};
use crate::args::FilterArgs;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::Align;
use crate::ui::SCHEMA_VERSION;

/// Bring back forgotten snapshots whose data still exists
///
/// A prune marks unneeded data, and removes it after its grace period. Until then everything can be
/// brought back.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Forgotten snapshots: `latest`, beginnings of identifiers, or moments (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT", required_unless_present = "list")]
    snapshots: Vec<String>,
    /// Show forgotten snapshots whose data still exists, the latest forgotten first
    #[arg(long, conflicts_with = "snapshots")]
    list: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup undo-forget --list
  backup undo-forget 1a2b3c4d";

#[derive(Serialize)]
struct ForgottenJson<'a> {
    forgotten: Timestamp,
    #[serde(flatten)]
    snapshot: SnapshotJson<'a>,
}

#[derive(Serialize)]
struct ListJson<'a> {
    schema_version: u32,
    repository: String,
    snapshots: Vec<ForgottenJson<'a>>,
}

#[derive(Serialize)]
struct BroughtBackJson {
    schema_version: u32,
    repository: String,
    brought_back: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = args.filter.repository(session)?;
    let repository = session.open(&spec).await?;
    let forgotten = repository.forgotten(&session.cx).await?;
    let choice = args.filter.choice(session)?;
    if args.list {
        let shown: Vec<&Forgotten> =
            forgotten.iter().filter(|one| choice.matches(&one.info)).collect();
        list(session, spec.to_string(), &shown)?;
        return Ok(Outcome::Success);
    }
    let mut snapshots: Vec<_> = forgotten.into_iter().map(|one| one.info).collect();
    snapshots.sort_by_key(|info| (info.time(), info.id));
    let named = SnapshotList { snapshots, ..SnapshotList::default() };
    let found =
        session.find_all(&repository, &named, &args.snapshots, &choice).await.map_err(explain)?;
    let ids: Vec<_> = found.iter().map(|info| info.id).collect();
    repository.undo_forget(&ids, &session.holder(), &session.cx).await?;
    let ui = &session.ui;
    if ui.is_json() {
        let brought_back = ids.iter().map(|id| id.to_hex()).collect();
        ui.json(&BroughtBackJson {
            schema_version: SCHEMA_VERSION,
            repository: spec.to_string(),
            brought_back,
        })?;
    }
    for id in ids {
        ui.status(format_args!(
            "Snapshot {} is {}",
            paint(style::SNAPSHOT, id.short()),
            paint(style::GOOD, "back")
        ));
    }
    Ok(Outcome::Success)
}

/// What is listed is not what can be brought back.
fn explain(error: CommandError) -> CommandError {
    match error.is_not_found() {
        true => error
            .context("among forgotten snapshots")
            .with_hint("list the forgotten snapshots with `backup undo-forget --list`"),
        false => error,
    }
}

fn list(session: &Session, repository: String, shown: &[&Forgotten]) -> CommandResult<()> {
    let ui = &session.ui;
    if ui.is_json() {
        let mut snapshots = Vec::new();
        for one in shown {
            snapshots.push(ForgottenJson {
                forgotten: one.forgotten,
                snapshot: SnapshotJson::from(&one.info),
            });
        }
        return ui.json(&ListJson { schema_version: SCHEMA_VERSION, repository, snapshots });
    }
    if shown.is_empty() {
        ui.status("No forgotten snapshot can be brought back.");
        return Ok(());
    }
    let mut table = view::snapshot_table(&[("Forgotten", Align::Left)]);
    let now = session.cx.clock.now();
    for one in shown {
        let mut row = view::snapshot_row(session, &one.info);
        row.push(human::age(one.forgotten, now));
        table.row(row);
    }
    ui.print(table.lines().join("\n"))
}
