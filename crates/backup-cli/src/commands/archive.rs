//! `backup archive`.

use std::collections::{HashMap, HashSet};

use backup_control::age;
use backup_control::repositories::RepositorySpec;
use backup_core::copy::{CopiedSnapshot, CopyReport, require_complete};
use backup_core::id::SnapshotId;
use backup_core::maintenance;
use backup_core::repository::{Present, SnapshotInfo};
use backup_core::retention::Candidate;
use serde::Serialize;

use super::copy::{self, Target, ToArgs};
use super::{forget, view};
use crate::args::FilterArgs;
use crate::clock::ClockArgs;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::opened::Opened;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::Align;
use crate::ui::SCHEMA_VERSION;

/// Copy old snapshots into an archive, and remove them with --remove
///
/// A snapshot is removed only after its copy was checked and found complete. The newest snapshot of
/// each job and source stays. Held snapshots, and those within the retention promise of their job,
/// stay too; the exit code is then 3. The next prune removes the data from this repository.
///
/// --storage-class stores the data in a cold class of the archive's store. Metadata for listing and
/// browsing stays hot, and `backup restore --thaw` brings the data back.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only snapshots older than this, for instance 90d, 6mo or 2y
    #[arg(long, value_name = "AGE")]
    older_than: String,
    #[command(flatten)]
    to: ToArgs,
    /// Storage class for the data, for instance GLACIER or DEEP_ARCHIVE on S3, ARCHIVE on Google
    /// Cloud Storage
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// Remove the snapshots from this repository after copying them
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    clock: ClockArgs,
    /// Show the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup archive -r ./repo --older-than 90d --to s3://archive/backup --storage-class GLACIER --remove";

/// Treatment of a snapshot in the repository that it was copied from.
#[derive(Serialize)]
struct Fate<'a> {
    id: String,
    #[serde(skip)]
    info: &'a SnapshotInfo,
    /// Reason why the snapshot stays; `None` if it is removed.
    stays: Option<String>,
    /// True if the snapshot stays although --remove is given.
    is_kept_back: bool,
}

#[derive(Serialize)]
struct PlanEvent<'a> {
    schema_version: u32,
    event: &'static str,
    verb: &'static str,
    repository: String,
    dry_run: bool,
    snapshots: &'a [Fate<'a>],
}

impl Args {
    /// True if archived snapshots are removed here.
    pub(crate) fn removes(&self) -> bool {
        self.remove
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let before = |now| age::before(&args.older_than, now, &session.calendar_zone());
    before(session.cx.clock.now())?;
    let spec = session.repository()?;
    args.to.note(session)?;
    let opened = session.open_indexed_at(&spec).await?;
    if args.remove && !args.dry_run {
        // Not only after hours of copying.
        session.require_confirmable()?;
    }
    if args.remove {
        let repository = opened.indexed.repository();
        maintenance::require_available(repository, &opened.snapshots, &session.cx).await?;
    }
    let repository = opened.indexed.repository();
    let present = match args.remove {
        true => args.clock.require(session, repository, args.dry_run).await?,
        false => Present::certain(session.cx.clock.now()),
    };
    let cutoff = before(present.time())?;
    let mut worst = view::warn_of_damaged(&session.ui, &opened.snapshots);
    let filter = args.filter.choice(session)?;
    session.require_job(&opened.snapshots, filter.filter.job.as_deref())?;
    let old = |info: &&SnapshotInfo| info.time() < cutoff && filter.matches(info);
    let meant: Vec<SnapshotInfo> = opened.snapshots.snapshots.iter().filter(old).cloned().collect();
    let fates = if args.remove { fates(session, &opened, &meant).await? } else { Vec::new() };
    let target = args.to.open(session, &opened.indexed, args.storage_class.as_deref()).await?;
    if !fates.is_empty() {
        show(session, &spec, &fates, args.dry_run)?;
        if fates.iter().any(|fate| fate.is_kept_back) {
            worst = worst.max(Outcome::Warnings);
        }
    }
    let report =
        copy::copy_to(session, &opened.indexed, &meant, &target, args.dry_run, "archive").await?;
    let outcome =
        worst.max(if report.problems.is_empty() { Outcome::Success } else { Outcome::Damage });
    if args.dry_run || !args.remove {
        return Ok(outcome);
    }
    copy::require_whole(&report)?;
    remove(session, &opened, &report, &target, &spec, &fates).await?;
    Ok(outcome)
}

/// What becomes of the snapshots that are archived: known before anything is copied.
async fn fates<'a>(
    session: &Session,
    opened: &Opened,
    meant: &'a [SnapshotInfo],
) -> CommandResult<Vec<Fate<'a>>> {
    let newest = newest_of_each(&opened.snapshots.snapshots);
    let protected = opened.indexed.repository().protected(meant, &session.cx).await?;
    let protected: HashMap<SnapshotId, String> =
        protected.into_iter().map(|(id, error)| (id, because(id, &error.to_string()))).collect();
    let fate = |info: &'a SnapshotInfo| {
        // Of an unknown age.
        let misdated = info.effective.is_disputed().then(|| "date not confirmed".to_owned());
        let must = protected.get(&info.id).cloned().or(misdated);
        let is_newest = newest.contains(&info.id);
        let is_kept_back = must.is_some() && !is_newest;
        let stays =
            if is_newest { Some("the newest of its job and source".to_owned()) } else { must };
        Fate { id: info.id.to_hex(), info, stays, is_kept_back }
    };
    Ok(meant.iter().map(fate).collect())
}

/// The reason alone: the row of the table says which snapshot it is about.
fn because(id: SnapshotId, refusal: &str) -> String {
    let about = format!("snapshot {} is ", id.short());
    human::text(refusal.strip_prefix(&about).unwrap_or(refusal).as_bytes())
}

/// Shows what goes, and what stays and why.
fn show(
    session: &Session,
    spec: &RepositorySpec,
    fates: &[Fate<'_>],
    dry_run: bool,
) -> CommandResult<()> {
    let ui = &session.ui;
    if ui.is_json() {
        let (schema_version, repository) = (SCHEMA_VERSION, spec.to_string());
        let (event, verb, snapshots) = ("plan", "archive", fates);
        ui.event(&PlanEvent { schema_version, event, verb, repository, dry_run, snapshots });
        return Ok(());
    }
    let mut table = view::snapshot_table(&[("", Align::Left), ("Reason", Align::Left)]);
    for fate in fates {
        let mut row = view::snapshot_row(session, fate.info);
        row.push(if fate.stays.is_some() { "keep" } else { "remove" }.to_owned());
        row.push(fate.stays.clone().unwrap_or_default());
        table.row(row);
    }
    let going = fates.iter().filter(|fate| fate.stays.is_none()).count();
    let all = human::count(fates.len() as u64, "snapshot", "snapshots");
    let heading = format!("Plan: after the copy, remove {going} of {all} from {spec}");
    ui.print(format_args!("{heading}\n{}", table.lines().join("\n")))
}

/// Removes what is in the archive, after a look whether it really is.
async fn remove(
    session: &Session,
    opened: &Opened,
    report: &CopyReport,
    target: &Target,
    spec: &RepositorySpec,
    fates: &[Fate<'_>],
) -> CommandResult<()> {
    let going: HashSet<SnapshotId> =
        fates.iter().filter(|fate| fate.stays.is_none()).map(|fate| fate.info.id).collect();
    let pairs = report.copied.iter().chain(&report.present);
    let gone: Vec<CopiedSnapshot> =
        pairs.copied().filter(|copied| going.contains(&copied.from)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let count = human::count(gone.len() as u64, "snapshot", "snapshots");
    let there: Vec<SnapshotId> = gone.iter().filter_map(|copied| copied.to).collect();
    require_complete(&target.repository, &there, &session.cx).await?;
    session
        .confirm(&format!("Remove {count} from {spec}? Complete copies are in {}.", target.spec))
        .await?;
    let ids: HashSet<SnapshotId> = gone.iter().map(|copied| copied.from).collect();
    let fates = fates.iter().map(|fate| fate.info);
    let infos: Vec<SnapshotInfo> = fates.filter(|info| ids.contains(&info.id)).cloned().collect();
    forget::forget(session, opened.indexed.repository(), &infos).await?;
    session.ui.status(format_args!("{count} {} from {spec}", paint(style::GOOD, "removed")));
    Ok(())
}

/// The newest snapshot of every job and source: the next backup builds on it.
fn newest_of_each(snapshots: &[SnapshotInfo]) -> HashSet<SnapshotId> {
    let newest: HashMap<String, SnapshotId> =
        snapshots.iter().map(|info| (Candidate::group_of(&info.snapshot), info.id)).collect();
    newest.into_values().collect()
}
