//! `backup cleanup`.

mod shown;

use backup_control::cleanup::{self, Cleanup};
use backup_control::repositories::RepositorySpec;
use backup_control::runs;
use backup_core::id::SnapshotId;
use backup_core::maintenance::{CleanupEvidence, CleanupPlan};
use backup_core::repository::Repository;
use serde::Serialize;

use super::prune;
use super::view::Summary;
use crate::clock::ClockArgs;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::reserve;
use crate::session::Session;
use crate::style::{self, paint};

/// Apply retention policies: forget snapshots and remove their data
///
/// Shows for each snapshot the reason why it stays, or that it is removed. Executes exactly this
/// plan after confirmation. `keep` in the configuration decides which snapshots stay; snapshots of
/// other jobs are not touched. Only data that no other snapshot needs is removed, after the grace
/// period of prune. Until then `backup undo-forget` brings snapshots back.
///
/// A snapshot whose date the store does not confirm within 48 hours stays and replaces no other one.
/// --adopt vouches for such dates: after a repository was moved with another program, or snapshots
/// were imported. With --yes, a job is stopped (exit code 5) if a day has many more snapshots than
/// usual, or if sizes collapse. --adopt declares these snapshots expected, too.
///
/// Age is measured with the clock of the object store. On a disk, the clock of this machine counts.
/// If it contradicts the latest known time, nothing is removed (exit code 5), until a person or
/// --clock-is-right vouches for it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Jobs whose snapshots to clean up, or groups of jobs
    #[arg(value_name = "JOB_OR_GROUP", required_unless_present_any = ["all", "named"])]
    jobs: Vec<String>,
    /// Earlier form of the names
    #[arg(id = "named", long = "job", value_name = "NAME", hide = true)]
    named: Vec<String>,
    /// All jobs of the configuration that have a `keep` policy
    #[arg(long, conflicts_with_all = ["jobs", "named"])]
    all: bool,
    /// Vouch for unconfirmed dates and unusual snapshots of the jobs
    #[arg(long)]
    adopt: bool,
    #[command(flatten)]
    clock: ClockArgs,
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
  backup cleanup documents --yes
  backup cleanup documents --adopt --dry-run";

/// What was done, in JSON.
#[derive(Serialize)]
struct DoneJson {
    forgotten: Vec<String>,
    adopted: Vec<String>,
}

/// The plan of one job.
struct Planned {
    cleanup: Cleanup,
    /// Where in the list of repositories its own is.
    at: usize,
    plan: CleanupPlan,
}

impl Planned {
    /// True if the plan must not be followed without a person.
    fn is_stopped(&self, session: &Session) -> bool {
        let removes = !self.plan.dropped().is_empty();
        let is_unusual = !self.plan.anomalies.is_empty() && session.is_unattended();
        self.plan.doubt.is_some() || removes && is_unusual
    }
}

/// A repository that is cleaned up, with the evidence for all its plans.
struct Opened {
    spec: RepositorySpec,
    repository: Repository,
    evidence: CleanupEvidence,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let cleanups = cleanups(session, args)?;
    let jobs: Vec<&str> = cleanups.iter().map(|cleanup| cleanup.job.as_str()).collect();
    session.trail.note("jobs", jobs.join(" "));
    let (mut repositories, mut plans) = (Vec::<Opened>::new(), Vec::new());
    for cleanup in cleanups {
        let at = open(session, &mut repositories, &cleanup, args).await?;
        let Cleanup { filter, policy, .. } = &cleanup;
        let (zone, evidence) = (session.calendar_zone(), &mut repositories[at].evidence);
        let plan = evidence.plan(filter, policy, &zone, args.adopt, &session.cx).await?;
        shown::show(session, &cleanup, &plan, args.dry_run)?;
        plans.push(Planned { cleanup, at, plan });
    }
    if args.dry_run {
        session.ui.status("Dry run: nothing was forgotten.");
        return Ok(Outcome::Success);
    }
    let (mut stopped, mut plans): (Vec<Planned>, Vec<Planned>) =
        plans.into_iter().partition(|planned| planned.is_stopped(session));
    hand_over_first(&mut stopped, &mut plans);
    let adopted = plans.iter().map(|planned| planned.plan.adopted.len()).sum::<usize>();
    if adopted > 0 {
        session.trail.note("adopted", adopted.to_string());
    }
    confirm(session, &plans).await?;
    for planned in &plans {
        let repository = &repositories[planned.at].repository;
        let work = async || apply(session, planned, repository).await;
        reserve::with_room(session, &planned.cleanup.repository, work).await?;
    }
    let has_stopped = |at: usize| stopped.iter().any(|planned| planned.at == at);
    let whole = repositories.iter().enumerate().filter(|(at, _)| !has_stopped(*at));
    for (_, Opened { spec, repository, .. }) in whole.filter(|_| !args.no_prune) {
        let work = async || {
            let options = spec.prune_options(session.holder());
            prune::prune(session, spec, repository, &options).await?;
            repository.thin_out_run_notes(runs::NOTES).await?;
            Ok(repository.thin_out_leases().await?)
        };
        reserve::with_room(session, spec, work).await?;
        reserve::keep(session, spec).await;
    }
    let names: Vec<&str> = stopped.iter().map(|planned| planned.cleanup.job.as_str()).collect();
    if !names.is_empty() {
        session.trail.note("stopped", names.join(" "));
    }
    let stopped = stopped.iter().map(|planned| (planned.cleanup.job.as_str(), &planned.plan));
    shown::refusal(session, stopped).map_or(Ok(Outcome::Success), Err)
}

/// Asks for a confirmation if plans remove or adopt snapshots.
async fn confirm(session: &Session, plans: &[Planned]) -> CommandResult<()> {
    let dropped = plans.iter().map(|planned| planned.plan.dropped().len() as u64).sum::<u64>();
    // The first cleanup of a repository adopts earlier snapshots without a question.
    let chosen = plans.iter().filter(|planned| !planned.plan.is_first);
    let adopted = chosen.map(|planned| planned.plan.adopted.len() as u64).sum::<u64>();
    let forget = format!("Forget {}?", human::count(dropped, "snapshot", "snapshots"));
    match (adopted, dropped) {
        (0, 0) => Ok(()),
        (0, _) => session.confirm(&forget).await,
        (_, _) => {
            let adopt = human::count(adopted, "snapshot", "snapshots");
            session.confirm(&format!("Adopt {adopt}? {forget}")).await
        }
    }
}

fn cleanups(session: &Session, args: &Args) -> CommandResult<Vec<Cleanup>> {
    let loaded = session.require_config()?;
    let config = &loaded.config;
    let names = if args.all {
        cleanup::all_jobs(config)?
    } else {
        config.jobs_of(args.jobs.iter().chain(&args.named))
    };
    let silent: Vec<&String> =
        config.jobs.keys().filter(|name| args.all && !names.contains(name)).collect();
    for name in silent {
        session.ui.status(format_args!("Job {name} has no `keep` policy: all its snapshots stay"));
    }
    Ok(cleanup::of_jobs(config, &names, session.named_repository()?.as_ref())?)
}

/// The adoptions of the first cleanup of a repository are those of its first plan that is executed.
fn hand_over_first(stopped: &mut [Planned], plans: &mut [Planned]) {
    for Planned { at, plan, .. } in stopped.iter_mut().filter(|planned| planned.plan.is_first) {
        if let Some(next) = plans.iter_mut().find(|planned| planned.at == *at) {
            next.plan.is_first = std::mem::take(&mut plan.is_first);
            next.plan.adopted.append(&mut plan.adopted);
        }
    }
}

/// Opens the repository of a cleanup, once, and reads the evidence for all its plans.
async fn open(
    session: &Session,
    opened: &mut Vec<Opened>,
    cleanup: &Cleanup,
    args: &Args,
) -> CommandResult<usize> {
    let spec = &cleanup.repository;
    let place = spec.to_string();
    if let Some(at) = opened.iter().position(|known| known.spec.to_string() == place) {
        return Ok(at);
    }
    let open = async || session.open(spec).await;
    let repository = match args.dry_run {
        true => open().await?,
        false => reserve::with_room(session, spec, open).await?,
    };
    if !args.dry_run {
        // Not only after all snapshots were read.
        session.require_confirmable()?;
    }
    let present = args.clock.present(session, &repository, args.dry_run).await?;
    let evidence = Box::pin(CleanupEvidence::read(&repository, &present, &session.cx)).await?;
    opened.push(Opened { spec: spec.clone(), repository, evidence });
    Ok(opened.len() - 1)
}

/// Adopts and forgets the snapshots of the plan, and no others.
async fn apply(session: &Session, planned: &Planned, repository: &Repository) -> CommandResult<()> {
    let Planned { cleanup, plan, .. } = planned;
    let Cleanup { job, repository: spec, policy, .. } = cleanup;
    if let Some(age) = policy.compliance {
        // A writer may have no right to promise.
        repository.protect_job(job, age, &session.cx).await?;
    }
    let ids = plan.dropped();
    session.trail.snapshots(&ids);
    plan.execute(repository, &session.cx).await.map_err(|error| {
        CommandError::from(error).invalid_is_refused().context(format_args!("job {job}"))
    })?;
    let ui = &session.ui;
    if ui.is_json() {
        let done = DoneJson {
            forgotten: ids.iter().map(SnapshotId::to_hex).collect(),
            adopted: plan.adopted.iter().map(|info| info.id.to_hex()).collect(),
        };
        ui.event(&Summary { job: Some(job), ..Summary::new("cleanup", spec.to_string(), &done) });
        return Ok(());
    }
    let count = human::count(ids.len() as u64, "snapshot", "snapshots");
    ui.summary(format_args!("Job {job}: {count} {}", paint(style::GOOD, "forgotten")))
}
