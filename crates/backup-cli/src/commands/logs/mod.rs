//! `backup logs`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the verbs; from a job to its log |
//! | `follow.rs` | capturing in the foreground |
//! | `lines.rs` | what is said while a log is followed |
//! | `status.rs` | how far captured logs have got |
//! | `figures.rs` | what a repository says of a log, as figures |
//! | `compact.rs` | a full snapshot of the newest one and the log since |
//! | `roll_up.rs` | from slices to snapshots |
//! | `of_run.rs` | something else of the same name: the messages of a run |

mod compact;
pub(super) mod figures;
mod follow;
mod lines;
mod of_run;
mod roll_up;
mod status;

use std::sync::Arc;

use backup_control::jobs::{Job, JobFlags};
use backup_control::logs;
use backup_control::repositories::RepositorySpec;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::log::Stream;
use backup_core::source::Source;

use crate::command_error::{CommandError, CommandResult};
use crate::human;
use crate::opened::Opened;
use crate::reporter::Detail;
use crate::session::Session;

pub(super) use lines::{branch, position};

/// Capture database logs, show their state, or show messages of runs
///
/// `backup run` backs up a job with a log as any other job. Between backups, `follow` stores
/// changes in the source within seconds. `backup timeline` shows which moments can be restored, and
/// `backup restore --at` restores one.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  backup logs follow shop
  backup logs status";

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Follow(follow::Args),
    Status(status::Args),
    RollUp(roll_up::Args),
    Compact(compact::Args),
    Run(of_run::Args),
}

impl Args {
    /// Name of the operation in the audit log.
    pub(crate) fn operation(&self) -> Option<&'static str> {
        match self.verb {
            Verb::Follow(_) => Some("logs follow"),
            Verb::RollUp(_) => Some("logs roll-up"),
            Verb::Compact(_) => Some("logs compact"),
            Verb::Status(_) | Verb::Run(_) => None,
        }
    }

    /// What `--json` prints.
    pub(crate) fn detail(&self) -> Detail {
        match self.verb {
            Verb::Follow(_) | Verb::RollUp(_) | Verb::Compact(_) => Detail::All,
            Verb::Status(_) | Verb::Run(_) => Detail::OneObject,
        }
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    match &args.verb {
        Verb::Follow(args) => follow::follow_job(session, args).await,
        Verb::Status(args) => status::run(session, args).await,
        Verb::Run(args) => of_run::run(session, args).await,
        Verb::RollUp(args) => Box::pin(roll_up::run(session, args)).await,
        Verb::Compact(args) => Box::pin(compact::run(session, args)).await,
    }
}

/// The job `name` of the configuration.
fn configured(session: &Session, name: &str) -> CommandResult<Job> {
    let loaded = session.require_config()?;
    let repository = session.named_repository()?;
    Ok(Job::from_config(name, &loaded.config, repository, &JobFlags::default(), session.place())?)
}

/// The source of a job, connected; it has a log.
async fn source_with_log(session: &Session, job: &Job) -> CommandResult<Arc<dyn Source>> {
    let source = session.connect(&job.source).await?;
    if source.capabilities().log_capture { Ok(source) } else { Err(without_log(job)) }
}

fn without_log(job: &Job) -> CommandError {
    let message =
        format!("job {} backs up {}, which has no log to capture", job.options.job, job.source);
    CommandError::usage(message)
        .with_hint("run the job more often instead; `backup run` stores only new data")
}

/// The repository of a job: the one that the flags name, else that of its configuration, else the
/// usual one.
pub(super) fn repository_of(session: &Session, job: &str) -> CommandResult<RepositorySpec> {
    if let Some(named) = session.named_repository()? {
        return Ok(named);
    }
    match session.config()? {
        Some(loaded) if loaded.config.jobs.contains_key(job) => {
            Ok(RepositorySpec::named(&loaded.config.jobs[job].repository, &loaded.config)?)
        }
        _ => session.repository(),
    }
}

/// The log of a job.
pub(super) async fn stream_of(
    session: &Session,
    opened: &Opened,
    job: &str,
) -> CommandResult<Stream> {
    match find_stream(session, opened, job).await? {
        Some(stream) => Ok(stream),
        None => Err(without_log(&configured(session, job)?)),
    }
}

/// The log of a job, if it has one: as its snapshots name it, so that the source need not be
/// reached; before the first one, as the source does.
async fn find_stream(
    session: &Session,
    opened: &Opened,
    job: &str,
) -> CommandResult<Option<Stream>> {
    if let Some(newest) = logs::newest_of_job(&opened.snapshots.snapshots, job) {
        return Ok(Some(logs::stream_of(&opened.indexed, newest).await?));
    }
    let known = session.config()?.is_some_and(|loaded| loaded.config.jobs.contains_key(job));
    if !known {
        session.require_job(&opened.snapshots, Some(job))?;
        let message = format!("no snapshot of a job {} has a log", human::text(job.as_bytes()));
        let error = CoreError::new(ErrorKind::NotFound, message);
        return Err(error.with_hint("list the jobs that have snapshots with `backup list`").into());
    }
    let source = Box::pin(session.connect(&configured(session, job)?.source)).await?;
    Ok(source.capabilities().log_capture.then(|| Stream::of(&source.identity())))
}
