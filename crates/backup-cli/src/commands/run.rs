//! `backup run`.

pub(in crate::commands) mod again;
pub(in crate::commands) mod execute;
mod expected;
mod group;
mod snapshot;
pub(crate) mod told;

pub(in crate::commands) use snapshot::{BackedUp, back_up, require_same_cluster};

use std::path::PathBuf;
use std::time::Duration;

use backup_control::jobs::{Job, JobFlags};
use backup_control::units::{Share, Size};
use backup_core::compress::Compression;
use backup_core::repository::Repository;

use crate::args::{self, MethodArg, TypeArg};
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::records::Records;
use crate::session::Session;
use crate::trail::{self, Action};

/// Back up jobs of the configuration, or a given source
///
/// Unchanged files are not read again, and stored data is not stored again. The snapshot appears
/// only after all its data is stored and checked. Unreadable entries are named and left out; the
/// exit code is then 3.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Jobs to run one after the other, or groups whose jobs run together
    #[arg(value_name = "JOB_OR_GROUP", conflicts_with = "source")]
    jobs: Vec<String>,
    /// Back up this directory, file or server instead of a job
    ///
    /// Repeat for several directories or files, or give one server: mongodb://…, postgres://… or
    /// redis://… [env: BACKUP_SOURCE_PASSWORD, BACKUP_SOURCE_PASSWORD_FILE,
    /// BACKUP_SOURCE_PASSWORD_COMMAND: the password of its user]
    #[arg(long, value_name = "PATH_OR_URL")]
    source: Vec<String>,
    /// Job name for snapshots of --source [default: manual]
    #[arg(long, value_name = "NAME", requires = "source")]
    job: Option<String>,
    /// Type of the snapshot [default: incremental for files, full for databases]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<TypeArg>,
    /// Tier of the snapshot, for instance daily, weekly, monthly, yearly [default: manual]
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// Host name that the snapshot records [default: the job's, else that of the machine or server]
    ///
    /// Set a constant name where the name of the machine changes, as in containers: only snapshots
    /// of one host are compared with each other.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Tag of the snapshot; repeat for several
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only objects that match this glob, or, of databases, a list with commas; repeat for several
    ///
    /// With a job, the globs narrow its selection. The snapshot is then marked as a part: it is
    /// never `latest`, and a cleanup never prefers it to one of the whole job.
    #[arg(long = "only", value_name = "GLOB", visible_alias = "include",
          value_parser = crate::args::glob)]
    include: Vec<String>,
    /// Leave out objects that match this glob, or, of databases, a list with commas; repeat for
    /// several
    #[arg(long, value_name = "GLOB", value_parser = crate::args::glob)]
    exclude: Vec<String>,
    /// Leave out files that match the globs in this file, one per line; repeat for several
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    exclude_file: Vec<PathBuf>,
    /// Leave out the content of directories that hold a file of this name or .nobackup; repeat for
    /// several
    ///
    /// NAME:HEADER requires that the file begins with HEADER.
    #[arg(long, value_name = "NAME", help_heading = "Files")]
    exclude_if_present: Vec<String>,
    /// Stay within the file systems of the given directories
    #[arg(long, help_heading = "Files")]
    one_file_system: bool,
    /// Leave out files that are larger, for instance 1G
    #[arg(long, value_name = "SIZE", help_heading = "Files")]
    max_file_size: Option<Size>,
    /// Fail if the backup is larger than this, for instance 500G
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// Also run jobs outside their window, and beyond their size limit
    #[arg(long, conflicts_with = "max_size")]
    force: bool,
    /// Also run jobs outside their window
    #[arg(long, hide = true)]
    outside_window: bool,
    /// Backup method [default: physical]
    #[arg(long, value_name = "METHOD", requires = "source", help_heading = "PostgreSQL")]
    method: Option<MethodArg>,
    /// Compression: off, fast, auto, max, or a zstd level from 1 to 19 [default: auto]
    #[arg(long, value_name = "HOW", value_parser = args::compression)]
    compression: Option<Compression>,
    /// Share of the written data to open or read back and compare [default: 5%]
    #[arg(long, value_name = "SHARE")]
    verify_sample: Option<Share>,
    /// Read and compare everything, but store nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  Back up a job or a group of the configuration:
    backup run documents
    backup run platform
  Back up a directory without a configuration:
    backup run -r ./repo --source ~/documents --exclude '*.tmp'
  Back up a replica set of MongoDB without a configuration:
    backup run -r ./repo --source 'mongodb://db1/?replicaSet=rs' --job shop --exclude '*.sessions'
  Back up PostgreSQL or Redis:
    backup run -r ./repo --source 'postgres://backup@db1,db2/' --job crm
    backup run -r ./repo --source 'rediss://backup@db1:6379' --job cache

Globs of files: `*` does not cross `/`, `**` does. A glob that begins with `/` is anchored at the root,
others match at any depth. A match includes everything below it.
Globs of databases match `database.collection`, or the database: --only users means the database
`users`, --only '*.users' a collection of every database. --exclude wins over --only.";

/// Jobs that run within this time share a listing of the snapshots.
const LISTING_AGE: Duration = Duration::from_mins(1);

/// What is run one after the other.
enum Task {
    Job(Box<Job>),
    Group(group::Group),
}

/// Repositories that are opened already, by their addresses.
type OpenedRepositories = tokio::sync::Mutex<Vec<(String, Repository)>>;

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let tasks = tasks(session, args)?;
    let several = tasks.len() > 1;
    let records = if args.dry_run { None } else { Records::open(session).await };
    let opened = OpenedRepositories::default();
    let mut worst = Outcome::Success;
    for task in &tasks {
        let before = session.trail.told();
        let done = match task {
            Task::Job(job) => {
                let done = one(session, args, job, &opened, records.as_ref()).await;
                done.map_err(|error| (format!("job {}", job.options.job), error))
                    .map(|done| done.outcome())
            }
            Task::Group(group) => {
                let done = group.run(session, args, &opened, records.as_ref()).await;
                done.map_err(|error| (format!("group {}", group.name), error))
            }
        };
        match done {
            Ok(outcome) => worst = worst.max(outcome),
            // The others do not depend on this one.
            Err((of, error)) if several && !error.is_cancelled() => {
                let error = error.context(of);
                if session.trail.told() == before {
                    trail::failed_or_done(session, Action::BACKUP, Err(&error)).await;
                }
                session.ui.error(&error);
                worst = worst.or_failed(&error);
            }
            Err((_, error)) => return Err(error),
        }
    }
    Ok(worst)
}

fn tasks(session: &Session, args: &Args) -> CommandResult<Vec<Task>> {
    let flags = JobFlags {
        kind: args.kind.map(Into::into),
        tier: args.tier.clone(),
        host: args.host.clone(),
        tags: args.tags.clone(),
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        exclude_files: args.exclude_file.clone(),
        exclude_if_present: args.exclude_if_present.clone(),
        one_file_system: args.one_file_system,
        max_file_size: args.max_file_size,
        max_size: args.max_size,
        force: args.force,
        outside_window: args.outside_window,
        method: args.method.map(Into::into),
        compression: args.compression,
        verify_sample: args.verify_sample,
    };
    let mut tasks = if args.source.is_empty() {
        configured(session, &args.jobs, &flags)?
    } else {
        let repository = session.repository()?;
        let job =
            Job::ad_hoc(args.job.as_deref(), &args.source, repository, &flags, session.place())?;
        vec![Task::Job(Box::new(job))]
    };
    let jobs = tasks.iter_mut().flat_map(|task| match task {
        Task::Job(job) => std::slice::from_mut(&mut **job),
        Task::Group(group) => &mut group.jobs[..],
    });
    for job in jobs {
        job.options.dry_run = args.dry_run;
        job.options.estimate = session.ui.bars().is_some();
        job.options.reuse_listing = LISTING_AGE;
    }
    Ok(tasks)
}

fn configured(session: &Session, names: &[String], flags: &JobFlags) -> CommandResult<Vec<Task>> {
    let Some(loaded) = session.config()? else {
        return Err(match names {
            [] => CommandError::usage("no source or job is given")
                .with_hint("name directories with --source, or jobs of a configuration file"),
            _ => backup_control::config::not_found(&session.env).into(),
        });
    };
    let config = &loaded.config;
    if names.is_empty() {
        let known: Vec<&str> =
            config.jobs.keys().chain(config.groups.keys()).map(String::as_str).collect();
        let hint = match known[..] {
            [] => format!("name directories with --source; {} has no jobs", loaded.file.display()),
            _ if config.groups.is_empty() => {
                format!("name a job in {}: {}", loaded.file.display(), known.join(", "))
            }
            _ => format!("name a job or group in {}: {}", loaded.file.display(), known.join(", ")),
        };
        return Err(CommandError::usage("no job is given").with_hint(hint));
    }
    let repository = session.named_repository()?;
    let job =
        |name: &String| Job::from_config(name, config, repository.clone(), flags, session.place());
    let task = |name: &String| match config.groups.get(name) {
        None => job(name).map(|job| Task::Job(Box::new(job))),
        Some(group) => {
            let jobs = group.jobs.iter().map(job).collect::<Result<_, _>>()?;
            Ok(Task::Group(group::Group { name: name.clone(), jobs, parallel: group.parallel() }))
        }
    };
    Ok(names.iter().map(task).collect::<Result<_, _>>()?)
}

async fn one(
    session: &Session,
    args: &Args,
    job: &Job,
    opened: &OpenedRepositories,
    records: Option<&Records>,
) -> CommandResult<BackedUp> {
    if !args.dry_run
        && let Err(error) = execute::require_window(session, job)
    {
        trail::not_begun(session, &job.options.job, &error).await;
        return Err(error);
    }
    let work = async |session: &Session| execute::open_and_back_up(session, job, opened).await;
    let again = again::words(session, args, job);
    let reach = execute::Reach::Among(opened);
    Box::pin(execute::execute(session, job, again, records, work, reach)).await
}
