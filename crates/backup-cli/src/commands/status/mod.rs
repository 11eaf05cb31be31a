//! `backup status`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the verb: its flags, which jobs are meant |
//! | `job.rs` | what is known of one job, from its repository and from the catalog |
//! | `last_runs.rs` | the newest runs of a job |
//! | `success.rs` | the newest backup of a job |
//! | `runs.rs` | the newest runs |
//! | `nagios.rs` | one line for a monitoring system |

mod job;
mod last_runs;
mod nagios;
mod runs;
mod success;

use std::collections::BTreeSet;
use std::ops::Range;

use backup_control::repositories::RepositorySpec;
use backup_control::schedule::Plan;
use backup_core::error::{Error as CoreError, ErrorKind};
use jiff::Timestamp;
use serde::Serialize;

use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::commands::logs;
use crate::human;
use crate::job_names;
use crate::records::{self, Records};
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;
use job::{JobStatus, Repositories};

/// Show each job's last success, last run and latest restorable moment
///
/// Successes are read from the repositories, so any machine with their addresses and keys can show
/// them. A files snapshot of another host is shown with the name of the host. Runs come from this
/// machine's catalog of runs. The exit code is 0 if the state was determined, even if jobs have
/// failed, and 4 if a snapshot is known to be damaged.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Jobs or groups [default: all jobs of the configuration; with --repo, or without a
    /// configuration, all of the repository]
    #[arg(value_name = "JOB_OR_GROUP")]
    jobs: Vec<String>,
    /// Only snapshots and runs of this day, for instance `yesterday`, `today` or `2026-11-21`
    #[arg(long, value_name = "DAY")]
    date: Option<String>,
    /// Only snapshots and runs of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Show at most this many of the newest runs of this machine instead
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, require_equals = true, default_missing_value = "20",
          value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Print one line with performance data, as a plugin for Nagios, Icinga and the like
    ///
    /// Exit codes: 0 well; 1 an incomplete snapshot, or an alert of severity `warning`; 2 a failed
    /// or missing backup, an exceeded `rpo`, or an alert of severity `high` or `critical`; 3
    /// unknown, because the configuration, a repository or the runs could not be read. These codes
    /// differ from those of other commands. See docs/alerts.md.
    #[arg(long, conflicts_with_all = ["runs", "date"])]
    nagios: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup status
  backup status documents --date yesterday
  backup status --runs=50
  backup status --nagios";

#[derive(Serialize)]
struct StatusJson<'a> {
    schema_version: u32,
    jobs: &'a [JobStatus],
}

/// The state of jobs, and the worst that reading it came to.
struct Examined {
    jobs: Vec<JobStatus>,
    outcome: Outcome,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    if args.nagios {
        return nagios::run(session, args).await;
    }
    if let Some(number) = args.runs {
        let within = within(session, args)?;
        let jobs = named(session, &args.jobs)?;
        let asked = runs::Asked { jobs: &jobs, host: args.host.as_deref(), within, number };
        return runs::run(session, asked).await;
    }
    let Examined { jobs, outcome } = examine(session, args).await?;
    if session.ui.is_json() {
        session.ui.json(&StatusJson { schema_version: SCHEMA_VERSION, jobs: &jobs })?;
        return Ok(outcome);
    }
    if jobs.is_empty() {
        session.ui.status("No jobs.");
        session.ui.hint("create the first snapshot with `backup run`");
        return Ok(outcome);
    }
    session.ui.status(format_args!("Times are in {}.", session.zones().dates));
    let mut lines = table(session, &jobs).lines();
    lines.extend(jobs.iter().flat_map(|status| status.remarks(session.zone())));
    session.ui.print(lines.join("\n"))?;
    Ok(outcome)
}

fn within(session: &Session, args: &Args) -> CommandResult<Option<Range<Timestamp>>> {
    match &args.date {
        Some(date) => Ok(Some(session.moment(date)?.day(session.zone())?)),
        None => Ok(None),
    }
}

async fn examine(session: &Session, args: &Args) -> CommandResult<Examined> {
    let within = within(session, args)?;
    let records = Records::open(session).await;
    let mut repositories = Repositories::default();
    let names = named(session, &args.jobs)?;
    let meant = jobs(session, &names, &mut repositories, records.as_ref()).await?;
    repositories.expect(&meant);
    let (mut known, mut worst) = (Vec::new(), Outcome::Success);
    // It says nothing of the jobs of another repository, or of another time.
    let is_here = session.named_repository()?.is_none() && within.is_none() && args.host.is_none();
    let plan = session
        .config()?
        .filter(|_| is_here)
        .map(|loaded| Plan::new(&loaded.config, &session.machine));
    let next = plan.as_ref().map(|plan| plan.next_backups(session.cx.clock.now()));
    for (name, spec) in &meant {
        let asked = job::Asked { name, spec, host: args.host.as_deref(), within: within.as_ref() };
        let (mut status, outcome) =
            job::status(session, &mut repositories, records.as_ref(), asked).await?;
        status.next_run = next.as_ref().and_then(|next| next.get(name.as_str()).copied());
        if args.jobs.contains(name) && status.is_unknown() && within.is_none() {
            return Err(unknown(session, name, &repositories.job_names())?);
        }
        if status.is_damaged() {
            worst = worst.max(Outcome::Damage);
        }
        known.push(status);
        worst = worst.max(outcome);
    }
    Ok(Examined { jobs: known, outcome: worst.max(repositories.outcome()) })
}

/// The named jobs, and the jobs of the named groups of the configuration, if there is one.
fn named(session: &Session, names: &[String]) -> CommandResult<Vec<String>> {
    Ok(match session.config()?.filter(|_| !names.is_empty()) {
        Some(loaded) => loaded.config.jobs_of(names),
        None => names.to_vec(),
    })
}

/// The error for a job without a snapshot or a run: the configuration has a job that was never run,
/// or the name is wrong. `others` are jobs beside those of the configuration.
fn unknown(
    session: &Session,
    name: &str,
    others: &BTreeSet<String>,
) -> CommandResult<CommandError> {
    let loaded = session.config()?;
    let configured = loaded.iter().flat_map(|loaded| loaded.config.jobs.keys());
    let known: BTreeSet<&str> = configured.chain(others).map(String::as_str).collect();
    if known.contains(name) {
        let message = format!("job {} was never run", human::text(name.as_bytes()));
        let error = CoreError::new(ErrorKind::NotFound, message);
        return Ok(error.with_hint("list all jobs with `backup status`").into());
    }
    Ok(job_names::unknown(name, known))
}

/// The jobs that are meant, and where their snapshots are.
async fn jobs(
    session: &Session,
    names: &[String],
    repositories: &mut Repositories,
    records: Option<&Records>,
) -> CommandResult<Vec<(String, RepositorySpec)>> {
    if !names.is_empty() {
        let spec = |name: &String| Ok((name.clone(), logs::repository_of(session, name)?));
        return names.iter().map(spec).collect();
    }
    if session.named_repository()?.is_none()
        && let Some(loaded) = session.config()?
        && !loaded.config.jobs.is_empty()
    {
        let spec = |name: &String| Ok((name.clone(), logs::repository_of(session, name)?));
        return loaded.config.jobs.keys().map(spec).collect();
    }
    let spec = session.repository()?;
    let snapshots = &repositories.open(session, &spec).await?.snapshots.snapshots;
    let mut names: BTreeSet<String> =
        snapshots.iter().filter_map(|info| info.snapshot.tag("job")).map(str::to_owned).collect();
    // Those that have never succeeded are in no repository.
    if let Some(records) = records {
        names.extend(records.catalog.jobs(&records::place(&spec)).await?);
    }
    Ok(names.into_iter().map(|name| (name, spec.clone())).collect())
}

fn table(session: &Session, jobs: &[JobStatus]) -> Table {
    let mut table = Table::new([
        ("Job", Align::Left),
        ("Last success", Align::Left),
        ("Host", Align::Left),
        ("Age", Align::Left),
        ("Snapshot", Align::Left),
        ("Size", Align::Right),
        ("Last run", Align::Left),
        ("State", Align::Left),
        ("Restorable up to", Align::Left),
        ("Next run", Align::Left),
    ]);
    let (zone, now) = (session.zone(), session.cx.clock.now());
    for job in jobs {
        let success = job.last_success.as_ref();
        let run = job.last_run.as_ref();
        table.row([
            human::text(job.job.as_bytes()),
            success.map_or_else(
                || paint(style::WARNING, "none"),
                |success| human::time(success.time, zone),
            ),
            success.and_then(|success| success.other_host(session)).unwrap_or_default(),
            success.map(|success| human::age(success.time, now)).unwrap_or_default(),
            success.map(|success| success.snapshot.chars().take(8).collect()).unwrap_or_default(),
            success.and_then(|success| success.bytes).map(human::size).unwrap_or_default(),
            run.map(|run| human::time(run.started, zone)).unwrap_or_default(),
            match run {
                _ if job.is_damaged() => paint(style::ERROR, "damaged"),
                Some(run) if job.is_verified() => {
                    format!("{}, verified", runs::state(run.state, run.warnings, run.is_part))
                }
                Some(run) => runs::state(run.state, run.warnings, run.is_part),
                None => String::new(),
            },
            job.recovery_point.map(|time| human::full_time(time, zone)).unwrap_or_default(),
            job.next_run.map(|time| human::time(time, zone)).unwrap_or_default(),
        ]);
    }
    table
}
