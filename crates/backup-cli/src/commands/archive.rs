//! `backup archive`.

use backup_control::age;
use backup_core::error::Error as CoreError;
use backup_core::id::SnapshotId;
use backup_core::repository::SnapshotInfo;

use super::copy::{self, Target, ToArgs};
use super::view;
use crate::args::FilterArgs;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};

/// Copy old snapshots into an archive, and remove them here if asked to
///
/// A snapshot is removed only after the copy is complete and was verified; its data leaves this repository with the next
/// prune. With --storage-class, the data goes into a cold class of the archive's store while everything that is needed to
/// list and browse it stays hot; `backup restore --thaw` brings it back.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only snapshots older than this, for instance 90d, 6mo or 2y
    #[arg(long, value_name = "AGE")]
    older_than: String,
    #[command(flatten)]
    to: ToArgs,
    /// Storage class for the data, for instance GLACIER or DEEP_ARCHIVE on S3, ARCHIVE on Google Cloud Storage
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// Remove the snapshots here after they were copied
    #[arg(long)]
    remove: bool,
    /// Show what would be archived, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup archive -r ./repo --older-than 90d --to s3://archive/backup --storage-class GLACIER --remove";

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let cutoff = age::before(&args.older_than, session.cx.clock.now(), &session.machine.time_zone)?;
    let spec = session.repository()?;
    let opened = session.open_indexed_at(&spec).await?;
    let worst = view::warn_of_damaged(&session.ui, &opened.snapshots);
    let filter = args.filter.to_filter();
    let old = |info: &&SnapshotInfo| info.snapshot.time < cutoff && filter.matches(&info.snapshot);
    let meant: Vec<SnapshotInfo> = opened.snapshots.snapshots.iter().filter(old).cloned().collect();
    let report = copy::copy_to(
        session,
        &opened.indexed,
        &meant,
        &Target { to: &args.to, storage_class: args.storage_class.as_deref() },
        args.dry_run,
        "archive",
    )
    .await?;
    if args.dry_run || !args.remove {
        return Ok(worst.max(if report.problems.is_empty() { Outcome::Success } else { Outcome::Damage }));
    }
    copy::require_whole(&report)?;
    let ids: Vec<SnapshotId> = report.copied.iter().chain(&report.present).map(|copied| copied.from).collect();
    if ids.is_empty() {
        return Ok(worst);
    }
    let count = human::count(ids.len() as u64, "snapshot", "snapshots");
    session.confirm(&format!("Remove {count} from {spec}? They are in {} now.", args.to.to)).await?;
    opened.indexed.repository().forget(&ids).await.map_err(CoreError::from)?;
    session.ui.status(format_args!("{count} {} from {spec}", paint(style::GOOD, "removed")));
    Ok(worst)
}
