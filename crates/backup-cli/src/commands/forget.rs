//! `backup forget`.

use backup_core::id::SnapshotId;
use backup_core::repository::{Repository, SnapshotInfo};
use serde::Serialize;

use super::view::{self, SnapshotJson};
use crate::args::FilterArgs;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::reserve;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Forget snapshots, and leave their data to a later prune
///
/// Forgotten snapshots are no longer listed. Until a prune removes their data, `backup undo-forget`
/// brings them back. Held snapshots, and those within the retention promise of their job, are
/// refused; then no snapshot is forgotten.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Snapshots: `latest`, beginnings of identifiers, or moments (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
    /// Show the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup forget 1a2b3c4d 5e6f7a8b
  backup forget 1a2b3c4d --yes && backup prune";

#[derive(Serialize)]
struct ForgetJson<'a> {
    schema_version: u32,
    repository: String,
    dry_run: bool,
    snapshots: Vec<SnapshotJson<'a>>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = args.filter.repository(session)?;
    let open = async || session.open(&spec).await;
    let repository = match args.dry_run {
        true => open().await?,
        false => reserve::with_room(session, &spec, open).await?,
    };
    let list = repository.snapshots(&session.cx).await?;
    let choice = args.filter.choice(session)?;
    session.require_job(&list, choice.filter.job.as_deref())?;
    let infos = session.find_all(&repository, &list, &args.snapshots, &choice).await?;
    require_free(session, &repository, &infos).await?;
    let ui = &session.ui;
    let count = human::count(infos.len() as u64, "snapshot", "snapshots");
    if !ui.is_json() {
        ui.print(plan(session, &infos, &spec.to_string()))?;
    }
    if !args.dry_run {
        session.confirm(&format!("Forget {count} of {spec}?")).await?;
        let infos: Vec<SnapshotInfo> = infos.iter().map(|info| (*info).clone()).collect();
        let work = async || forget(session, &repository, &infos).await;
        reserve::with_room(session, &spec, work).await?;
        ui.status(format_args!("{count} {}", paint(style::GOOD, "forgotten")));
        ui.hint("bring them back with `backup undo-forget` until a prune removes their data");
    }
    if ui.is_json() {
        let snapshots = infos.into_iter().map(SnapshotJson::from).collect();
        let (schema_version, repository) = (SCHEMA_VERSION, spec.to_string());
        ui.json(&ForgetJson { schema_version, repository, dry_run: args.dry_run, snapshots })?;
    }
    Ok(Outcome::Success)
}

/// Forgets snapshots; what must be kept is a refusal.
pub(super) async fn forget(
    session: &Session,
    repository: &Repository,
    snapshots: &[SnapshotInfo],
) -> CommandResult<()> {
    let ids: Vec<SnapshotId> = snapshots.iter().map(|info| info.id).collect();
    session.trail.snapshots(&ids);
    repository
        .forget_listed(snapshots, &session.cx)
        .await
        .map_err(|error| CommandError::from(error).invalid_is_refused())
}

/// What must be kept is named before anybody is asked, and by a dry run too.
async fn require_free(
    session: &Session,
    repository: &Repository,
    infos: &[&SnapshotInfo],
) -> CommandResult<()> {
    let infos: Vec<SnapshotInfo> = infos.iter().map(|info| (*info).clone()).collect();
    let protected = repository.protected(&infos, &session.cx).await?;
    let Some((_, first)) = protected.first() else {
        return Ok(());
    };
    let reasons: Vec<String> =
        protected.iter().map(|(_, error)| human::text(error.to_string().as_bytes())).collect();
    let refusal = CommandError::refused(format!("nothing is forgotten: {}", reasons.join("; ")));
    Err(match first.hint() {
        Some(hint) => refusal.with_hint(hint),
        None => refusal,
    })
}

fn plan(session: &Session, infos: &[&SnapshotInfo], repository: &str) -> String {
    let mut table = view::snapshot_table(&[]);
    for info in infos {
        table.row(view::snapshot_row(session, info));
    }
    format!("Plan: forget in {repository}\n{}", table.lines().join("\n"))
}
