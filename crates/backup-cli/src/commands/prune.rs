//! `backup prune`.

use backup_control::repositories::RepositorySpec;
use backup_control::units::{Size, Time, UnusedLimit};
use backup_core::maintenance::{self, PruneOptions, PruneReport};
use backup_core::repository::Repository;

use super::view::Summary;
use crate::clock::ClockArgs;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::reserve;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::facts;

/// Remove data that no snapshot needs
///
/// Backups and restores can run at the same time. A prune marks unneeded data, and a later one
/// removes it after the grace period. The data is removed only if it is still unneeded and no
/// running process could need it. Packs with too much unused data are rewritten. Run prune
/// regularly. If the disk is full, the `reserve` of the repository is freed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Time for which marked data stays and can be brought back [default: the configuration's, else
    /// 24h]
    #[arg(long, value_name = "TIME")]
    grace: Option<Time>,
    /// Unused data to leave in packs that are still needed: a share, a size or `unlimited`
    /// [default: the configuration's, else 5%]
    #[arg(long, value_name = "LIMIT")]
    max_unused: Option<UnusedLimit>,
    /// Rewrite at most this much data [default: the configuration's, else no limit]
    #[arg(long, value_name = "SIZE")]
    max_repack: Option<Size>,
    /// Run for at most this time; the next run continues [default: the configuration's, else no
    /// limit]
    #[arg(long, value_name = "TIME")]
    max_time: Option<Time>,
    #[command(flatten)]
    clock: ClockArgs,
    /// Show the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup prune --dry-run
  backup prune --max-repack 50G --max-time 2h";

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = session.repository()?;
    let mut options = spec.prune_options(session.holder());
    options.dry_run = args.dry_run;
    if let Some(grace) = &args.grace {
        options.grace = grace.length();
    }
    if let Some(limit) = args.max_unused {
        options.max_unused = backup_control::repositories::max_unused(limit);
    }
    options.max_repack = args.max_repack.map(|size| size.0).or(options.max_repack);
    options.max_time = args.max_time.as_ref().map(Time::length).or(options.max_time);
    let work = async || {
        let repository = session.open(&spec).await?;
        args.clock.require(session, &repository, args.dry_run).await?;
        prune(session, &spec, &repository, &options).await
    };
    if args.dry_run {
        work().await?;
        return Ok(Outcome::Success);
    }
    reserve::with_room(session, &spec, work).await?;
    reserve::keep(session, &spec).await;
    Ok(Outcome::Success)
}

/// Prunes, and says what came of it.
pub(super) async fn prune(
    session: &Session,
    spec: &RepositorySpec,
    repository: &Repository,
    options: &PruneOptions,
) -> CommandResult<()> {
    let report = maintenance::prune(repository, options, &session.cx)
        .await
        .map_err(|error| CommandError::from(error).invalid_is_refused())?;
    if !options.dry_run {
        repository.thin_out_evidence().await?;
    }
    let ui = &session.ui;
    if ui.is_json() {
        ui.event(&Summary::new("prune", spec.to_string(), &report));
        return Ok(());
    }
    ui.summary(describe(&report, spec))?;
    for waits_for in &report.waits_for {
        ui.status(format_args!(
            "{} {}",
            paint(style::FAINT, "Note:"),
            human::text(waits_for.as_bytes())
        ));
    }
    Ok(())
}

fn describe(report: &PruneReport, spec: &RepositorySpec) -> String {
    let heading = match report.dry_run {
        true => format!("Dry run, nothing was changed. Plan for {spec}:"),
        false => format!("{spec} {}", paint(style::GOOD, "pruned")),
    };
    let packs = |packs: u64, bytes: u64| match packs {
        0 => String::new(),
        some => format!("{}, {}", human::count(some, "pack", "packs"), human::size(bytes)),
    };
    let share = match report.bytes {
        0 => String::new(),
        bytes => format!(" ({:.0}%)", report.unused_bytes as f64 / bytes as f64 * 100.0),
    };
    let indexes = match report.index_objects_before == report.index_objects_after {
        true => String::new(),
        false => {
            format!("{} instead of {}", report.index_objects_after, report.index_objects_before)
        }
    };
    let nonzero =
        |count: u64| if count == 0 { String::new() } else { human::count(count, "pack", "packs") };
    let objects = |count: u64| match count {
        0 => String::new(),
        some => human::count(some, "object", "objects"),
    };
    let uploads = |count: u64| match count {
        0 => String::new(),
        some => human::count(some, "upload", "uploads"),
    };
    let rows = [
        (
            "Before",
            format!(
                "{}, {}",
                human::count(report.packs, "pack", "packs"),
                human::size(report.bytes)
            ),
        ),
        ("Needed", human::size(report.used_bytes)),
        ("Not needed", human::size(report.unused_bytes) + &share),
        ("Marked now", packs(report.marked_packs, report.marked_bytes)),
        ("Marked earlier, waiting", packs(report.waiting_packs, report.waiting_bytes)),
        ("Needed again", nonzero(report.recovered_packs)),
        ("Rewritten", packs(report.repacked_packs, report.repacked_bytes)),
        ("Removed", packs(report.deleted_packs, report.deleted_bytes)),
        ("Locked by the store", nonzero(report.locked_packs)),
        ("Index objects", indexes),
        ("Replaced by repairs, waiting", objects(report.quarantined_waiting)),
        ("Replaced by repairs, removed", objects(report.quarantined_deleted)),
        ("Unfinished uploads removed", uploads(report.cleared_uploads)),
    ];
    format!("{heading}\n{}", facts(&rows))
}
