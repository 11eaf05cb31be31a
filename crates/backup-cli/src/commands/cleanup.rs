//! `backup cleanup`.

use backup_control::cleanup::{self, Cleanup};
use backup_control::runs;
use backup_core::id::SnapshotId;
use backup_core::maintenance::{CleanupPlan, PlannedSnapshot, plan_cleanup};
use backup_core::repository::Repository;
use backup_core::retention::{Period, Reason};
use jiff::Timestamp;
use serde::Serialize;

use super::view::{self, Summary};
use super::{forget, prune};
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::reserve;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::Align;
use crate::ui::SCHEMA_VERSION;

/// Apply retention policies: forget snapshots and remove their data
///
/// Shows for each snapshot the reason why it stays, or that it is removed. Executes exactly this
/// plan after confirmation. `keep` in the configuration decides which snapshots stay; snapshots of
/// other jobs are not touched. Only data that no other snapshot needs is removed, after the grace
/// period of prune. Until then `backup undo-forget` brings snapshots back.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Job whose snapshots to clean up; repeat for several
    #[arg(long = "job", value_name = "NAME", required_unless_present = "all")]
    jobs: Vec<String>,
    /// All jobs of the configuration that have a `keep` policy
    #[arg(long, conflicts_with = "jobs")]
    all: bool,
    /// Show the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Only forget snapshots, and leave their data to a later `backup prune`
    #[arg(long)]
    no_prune: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup cleanup --all --dry-run
  backup cleanup --job documents --yes";

/// What becomes of a snapshot, in JSON.
#[derive(Serialize)]
struct PlannedJson<'a> {
    id: String,
    short_id: String,
    time: Timestamp,
    tier: Option<&'a str>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    keep: bool,
    reasons: &'a [Reason],
}

#[derive(Serialize)]
struct PlanEvent<'a> {
    schema_version: u32,
    event: &'static str,
    verb: &'static str,
    repository: String,
    job: &'a str,
    dry_run: bool,
    kept: usize,
    dropped: usize,
    snapshots: Vec<PlannedJson<'a>>,
}

/// What was done, in JSON.
#[derive(Serialize)]
struct DoneJson {
    forgotten: Vec<String>,
}

/// The plan of one job.
struct Planned {
    cleanup: Cleanup,
    /// Where in the list of repositories its own is.
    at: usize,
    plan: CleanupPlan,
}

/// The repositories that are cleaned up, each once.
type Repositories = Vec<(backup_control::repositories::RepositorySpec, Repository)>;

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let cleanups = cleanups(session, args)?;
    let jobs: Vec<&str> = cleanups.iter().map(|cleanup| cleanup.job.as_str()).collect();
    session.trail.note("jobs", jobs.join(" "));
    let (mut repositories, mut plans) = (Repositories::new(), Vec::new());
    for cleanup in cleanups {
        let at = open(session, &mut repositories, &cleanup, args.dry_run).await?;
        if !args.dry_run {
            // Not only after all snapshots were read.
            session.require_confirmable()?;
        }
        let (repository, cx) = (&repositories[at].1, &session.cx);
        let plan = plan_cleanup(
            repository,
            &cleanup.filter,
            &cleanup.policy,
            &session.calendar_zone(),
            cx,
        )
        .await?;
        show(session, &cleanup, &plan, args.dry_run)?;
        plans.push(Planned { cleanup, at, plan });
    }
    let dropped = plans.iter().map(|planned| planned.plan.dropped().len() as u64).sum::<u64>();
    if args.dry_run {
        session.ui.status("Dry run: nothing was forgotten.");
        return Ok(Outcome::Success);
    }
    if dropped > 0 {
        session
            .confirm(&format!("Forget {}?", human::count(dropped, "snapshot", "snapshots")))
            .await?;
    }
    for planned in &plans {
        let repository = &repositories[planned.at].1;
        let work = async || apply(session, planned, repository).await;
        reserve::with_room(session, &planned.cleanup.repository, work).await?;
    }
    if !args.no_prune {
        for (spec, repository) in &repositories {
            let work = async || {
                let options = spec.prune_options(session.holder());
                prune::prune(session, spec, repository, &options).await?;
                repository.thin_out_run_notes(runs::NOTES).await?;
                Ok(repository.thin_out_leases().await?)
            };
            reserve::with_room(session, spec, work).await?;
            reserve::keep(session, spec).await;
        }
    }
    Ok(Outcome::Success)
}

fn cleanups(session: &Session, args: &Args) -> CommandResult<Vec<Cleanup>> {
    let loaded = session.require_config()?;
    let config = &loaded.config;
    let names = if args.all { cleanup::all_jobs(config)? } else { args.jobs.clone() };
    let silent: Vec<&String> =
        config.jobs.keys().filter(|name| args.all && !names.contains(name)).collect();
    for name in silent {
        session.ui.status(format_args!("Job {name} has no `keep` policy: all its snapshots stay"));
    }
    Ok(cleanup::of_jobs(config, &names, session.named_repository()?.as_ref())?)
}

async fn open(
    session: &Session,
    opened: &mut Repositories,
    cleanup: &Cleanup,
    dry_run: bool,
) -> CommandResult<usize> {
    let place = cleanup.repository.to_string();
    if let Some(at) = opened.iter().position(|(spec, _)| spec.to_string() == place) {
        return Ok(at);
    }
    let open = async || session.open(&cleanup.repository).await;
    let repository = match dry_run {
        true => open().await?,
        false => reserve::with_room(session, &cleanup.repository, open).await?,
    };
    opened.push((cleanup.repository.clone(), repository));
    Ok(opened.len() - 1)
}

/// Forgets what the plan drops, and nothing else.
async fn apply(session: &Session, planned: &Planned, repository: &Repository) -> CommandResult<()> {
    let ids = planned.plan.dropped();
    let Cleanup { job, repository: spec, .. } = &planned.cleanup;
    if !ids.is_empty() {
        forget::forget(session, repository, &ids)
            .await
            .map_err(|error| error.context(format_args!("job {job}")))?;
    }
    let ui = &session.ui;
    if ui.is_json() {
        let done = DoneJson { forgotten: ids.iter().map(SnapshotId::to_hex).collect() };
        ui.event(&Summary { job: Some(job), ..Summary::new("cleanup", spec.to_string(), &done) });
        return Ok(());
    }
    let count = human::count(ids.len() as u64, "snapshot", "snapshots");
    ui.summary(format_args!("Job {job}: {count} {}", paint(style::GOOD, "forgotten")))
}

fn show(
    session: &Session,
    cleanup: &Cleanup,
    plan: &CleanupPlan,
    dry_run: bool,
) -> CommandResult<()> {
    let (ui, dropped) = (&session.ui, plan.dropped().len());
    let kept = plan.snapshots.len() - dropped;
    if ui.is_json() {
        ui.event(&PlanEvent {
            schema_version: SCHEMA_VERSION,
            event: "plan",
            verb: "cleanup",
            repository: cleanup.repository.to_string(),
            job: &cleanup.job,
            dry_run,
            kept,
            dropped,
            snapshots: plan.snapshots.iter().map(planned_json).collect(),
        });
        return Ok(());
    }
    let heading = format!("Plan for job {} in {}", cleanup.job, cleanup.repository);
    if plan.snapshots.is_empty() {
        return ui.print(format_args!("{heading}: no snapshots"));
    }
    let mut table = view::snapshot_table(&[("", Align::Left), ("Reason", Align::Left)]);
    for planned in &plan.snapshots {
        let mut row = view::snapshot_row(session, &planned.info);
        row.push(if planned.decision.keep() { "keep" } else { "forget" }.to_owned());
        row.push(reasons(&planned.decision.reasons));
        table.row(row);
    }
    ui.print(format_args!(
        "{heading}: forget {dropped} of {}\n{}",
        plan.snapshots.len(),
        table.lines().join("\n")
    ))
}

fn planned_json(planned: &PlannedSnapshot) -> PlannedJson<'_> {
    let PlannedSnapshot { info, decision } = planned;
    PlannedJson {
        id: info.id.to_hex(),
        short_id: info.id.short(),
        time: info.snapshot.time,
        tier: info.snapshot.tag("tier"),
        kind: info.snapshot.tag("type"),
        keep: decision.keep(),
        reasons: &decision.reasons,
    }
}

/// Why a snapshot stays, for people.
fn reasons(reasons: &[Reason]) -> String {
    let reason = |reason: &Reason| match reason {
        Reason::Last => "last".to_owned(),
        Reason::Period { period } => match period {
            Period::Hour => "hourly",
            Period::Day => "daily",
            Period::Week => "weekly",
            Period::Month => "monthly",
            Period::Year => "yearly",
        }
        .to_owned(),
        Reason::Within => "recent enough".to_owned(),
        Reason::Tag { tag } => format!("tag {}", human::text(tag.as_bytes())),
        Reason::Tier { tier } => format!("tier {}", human::text(tier.as_bytes())),
        Reason::Type { kind } => format!("type {}", human::text(kind.as_bytes())),
        Reason::PointInTime => "point in time".to_owned(),
        Reason::Hold { reason } => format!("held: {}", human::text(reason.as_bytes())),
        Reason::Compliance => "compliance".to_owned(),
        Reason::MinCopies => "newest".to_owned(),
        Reason::NewestVerified => "newest verified".to_owned(),
        Reason::WrongClock => "implausible date".to_owned(),
        Reason::NeededBy { id } => format!("needed by {}", id.short()),
        _ => "another rule".to_owned(),
    };
    match reasons.is_empty() {
        true => "no rule keeps it".to_owned(),
        false => reasons.iter().map(reason).collect::<Vec<_>>().join(", "),
    }
}
