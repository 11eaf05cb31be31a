//! `backup archive`.

use std::collections::{HashMap, HashSet};

use backup_control::age;
use backup_control::repositories::RepositorySpec;
use backup_core::copy::{CopiedSnapshot, CopyReport, require_complete};
use backup_core::id::SnapshotId;
use backup_core::repository::SnapshotInfo;
use backup_core::retention::Candidate;
use jiff::Timestamp;

use super::copy::{self, Target, ToArgs};
use super::{forget, view};
use crate::args::FilterArgs;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::{Opened, Session};
use crate::style::{self, paint};

/// Copy old snapshots into an archive, and remove them here if asked to
///
/// A snapshot is removed only after its copy was looked through and found complete, and never the newest of its job and
/// source; its data leaves this repository with the next prune. With --storage-class, the data goes into a cold class of
/// the archive's store while everything that is needed to list and browse it stays hot; `backup restore --thaw` brings it
/// back.
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
    let cutoff = age::before(&args.older_than, session.cx.clock.now(), session.zone())?;
    if args.remove && !args.dry_run {
        // Not only after hours of copying.
        session.require_confirmable()?;
    }
    let spec = session.repository()?;
    let opened = session.open_indexed_at(&spec).await?;
    let worst = view::warn_of_damaged(&session.ui, &opened.snapshots);
    let filter = args.filter.choice(session)?;
    let old = |info: &&SnapshotInfo| info.snapshot.time < cutoff && filter.matches(info);
    let meant: Vec<SnapshotInfo> = opened.snapshots.snapshots.iter().filter(old).cloned().collect();
    let target = args.to.open(session, &opened.indexed, args.storage_class.as_deref()).await?;
    let report = copy::copy_to(session, &opened.indexed, &meant, &target, args.dry_run, "archive").await?;
    let outcome = worst.max(if report.problems.is_empty() { Outcome::Success } else { Outcome::Damage });
    if args.dry_run || !args.remove {
        return Ok(outcome);
    }
    copy::require_whole(&report)?;
    remove(session, &opened, &report, &target, &spec, cutoff).await?;
    Ok(outcome)
}

/// Removes what is in the archive, after a look whether it really is.
async fn remove(
    session: &Session,
    opened: &Opened,
    report: &CopyReport,
    target: &Target,
    spec: &RepositorySpec,
    cutoff: Timestamp,
) -> CommandResult<()> {
    let newest = newest_of_each(&opened.snapshots.snapshots);
    let pairs = report.copied.iter().chain(&report.present);
    let (kept, gone): (Vec<CopiedSnapshot>, Vec<CopiedSnapshot>) =
        pairs.copied().partition(|copied| newest.contains(&copied.from));
    for copied in kept {
        let short = copied.from.short();
        session.ui.status(format_args!("Snapshot {short} stays here too: it is the newest of its job and source"));
    }
    if gone.is_empty() {
        return Ok(());
    }
    let count = human::count(gone.len() as u64, "snapshot", "snapshots");
    let there: Vec<SnapshotId> = gone.iter().filter_map(|copied| copied.to).collect();
    require_complete(&target.repository, &there, &session.cx).await?;
    let (cutoff, to) = (human::time(cutoff, session.zone()), &target.spec);
    session.confirm(&format!("Remove {count} from before {cutoff} from {spec}? They are complete in {to}.")).await?;
    let ids: Vec<SnapshotId> = gone.iter().map(|copied| copied.from).collect();
    forget::forget(session, opened.indexed.repository(), &ids).await?;
    session.ui.status(format_args!("{count} {} from {spec}", paint(style::GOOD, "removed")));
    Ok(())
}

/// The newest snapshot of every job and source: the next backup builds on it.
fn newest_of_each(snapshots: &[SnapshotInfo]) -> HashSet<SnapshotId> {
    let newest: HashMap<String, SnapshotId> =
        snapshots.iter().map(|info| (Candidate::of(info).group, info.id)).collect();
    newest.into_values().collect()
}
