//! `backup import`.

use std::path::PathBuf;

use backup_control::jobs::{self, Job, JobFlags};
use backup_control::moment::Moment;
use backup_control::repositories::RepositorySpec;
use backup_control::sources::{self, DumpPlace, Import, ImportFlags, SourceSpec, TimeSource};
use backup_core::error::ErrorKind;
use backup_core::pipeline::{self, BackupOptions, BackupReport};
use backup_core::repository::Repository;
use backup_core::source::BackupKind;
use jiff::Timestamp;
use serde::Serialize;

use super::run::told::describe;
use super::view::Summary;
use crate::args;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::records;
use crate::session::Session;

/// Store an old dump of mongodump or Redis as a snapshot of a job
///
/// The snapshot gets the time of the dump and joins the other snapshots of the job, so that
/// retention begins with the history. It can be restored, exported, verified and compared like any
/// other. It does not extend a captured log: only its own moment can be restored from it. A dump
/// that is truncated or damaged becomes no snapshot.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory or archive (`--archive`) of mongodump, compressed or not, with or without its oplog
    #[arg(long, value_name = "PATH", required_unless_present = "rdb", conflicts_with = "rdb")]
    mongodump: Option<PathBuf>,
    /// RDB file of Redis or Valkey, for instance of `redis-cli --rdb`, compressed or not
    #[arg(long, value_name = "FILE")]
    rdb: Option<PathBuf>,
    /// Refuse a dump that is not compressed with gzip; compressed dumps are always recognised
    #[arg(long)]
    gzip: bool,
    /// Job that the snapshot joins
    #[arg(long, value_name = "NAME")]
    job: String,
    /// Server of the job, mongodb://… or redis://… [default: that of the configuration] [env:
    /// BACKUP_SOURCE_PASSWORD, BACKUP_SOURCE_PASSWORD_FILE, BACKUP_SOURCE_PASSWORD_COMMAND: the
    /// password of its user]
    ///
    /// The server is contacted only if the job has no snapshot yet.
    #[arg(long, value_name = "URL", conflicts_with = "name")]
    source: Option<String>,
    /// Name of the replica set, or HOST:PORT of the server, if it cannot be reached [default: that of
    /// the job's newest snapshot, else the server reports it]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Time of the dump, for instance `2026-01-31 03:00` [default: the end of its oplog or the time
    /// in the RDB file, else the newest change of its files]
    #[arg(long, value_name = "MOMENT")]
    time: Option<String>,
    /// Tier of the snapshot, for instance daily, weekly, monthly, yearly [default: that of the job,
    /// else manual]
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// Tag of the snapshot; repeat for several
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Read the whole dump, but store nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup import --mongodump /old/dump-2026-01-31 --job shop
  backup import --mongodump /old/shop.archive.gz --gzip --job shop --time '2026-01-31 03:00'
  backup import -r ./repo --mongodump /old/dump --job shop --name rs0
  backup import --rdb /old/dump.rdb.gz --job cache --tier monthly";

/// An import in JSON.
#[derive(Serialize)]
struct ImportJson<'a> {
    #[serde(flatten)]
    summary: Summary<'a, BackupReport>,
    /// The moment that the snapshot stands for.
    time: Timestamp,
    time_source: TimeSource,
    /// True if the dump may hold less than the job selects.
    is_part: bool,
}

/// The job that a dump joins, as far as it is known.
struct Target {
    repository: RepositorySpec,
    options: BackupOptions,
    server: Option<SourceSpec>,
    /// None of an ad hoc job.
    configured: Option<Box<Job>>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    session.trail.note("job", &args.job);
    let flags = flags(session, args)?;
    let target = target(session, args)?;
    session.trail.note("repository", records::place(&target.repository));
    let opened = session.open_indexed_at(&target.repository).await?;
    let repository = opened.indexed.repository().clone();
    let include = match &target.configured {
        Some(job) => job.options.selection.include().to_vec(),
        None => Vec::new(),
    };
    let stream = sources::stream(
        (&args.job, flags.place.kind()),
        args.name.as_deref(),
        target.server.as_ref(),
        (&opened.snapshots, &opened.indexed),
        (&session.env, &session.cx),
    );
    let identity = session.unless_cancelled(stream).await?;
    session.ui.status(format_args!("Importing {} into {}", shown(args), target.repository));
    let import = sources::import(&flags, identity, &include, &session.cx).await?;
    let stored = store(session, &repository, &target, &import, args.dry_run);
    let report = Box::pin(stored).await?;
    show(session, &target, &import, &report)?;
    let of_clock = match report.clock_doubt {
        Some(_) => Outcome::Warnings,
        None => Outcome::Success,
    };
    Ok(of_clock.max(match report.lost_packs {
        0 => Outcome::with_warnings(report.warnings),
        _ => Outcome::Damage,
    }))
}

/// Prints the snapshot and its moment.
fn show(
    session: &Session,
    target: &Target,
    import: &Import,
    report: &BackupReport,
) -> CommandResult<()> {
    if session.ui.is_json() {
        let summary = Summary::new("import", target.repository.to_string(), report);
        let summary = Summary { job: Some(&target.options.job), ..summary };
        let (time, time_source, is_part) = (import.time, import.time_source, import.is_part);
        session.ui.event(&ImportJson { summary, time, time_source, is_part });
        return Ok(());
    }
    let origin = match import.time_source {
        TimeSource::Given => "as given",
        TimeSource::Dump => "from the dump",
        TimeSource::Files => "the newest change of its files",
    };
    let time = human::full_time(import.time, session.zone());
    session.ui.summary(format_args!("{}\nMoment: {time} ({origin})", describe(report)))?;
    if import.is_part {
        session.ui.hint(
            "the dump is not one of the whole server: the snapshot is a part of its job, and \
             `latest` never means it",
        );
    }
    Ok(())
}

fn flags(session: &Session, args: &Args) -> CommandResult<ImportFlags> {
    let place = match (&args.mongodump, &args.rdb) {
        (Some(path), _) => DumpPlace::Mongodump(path.clone()),
        (None, Some(path)) => DumpPlace::Rdb(path.clone()),
        (None, None) => return Err(CommandError::usage("no dump is given")),
    };
    let time = match args.time.as_deref().map(|text| session.moment(text)).transpose()? {
        None => None,
        Some(Moment::Instant(instant)) => Some(instant),
        Some(Moment::Day(day)) => Some(day.start),
    };
    Ok(ImportFlags { place, must_be_gzip: args.gzip, time })
}

/// The dump as it was given.
fn shown(args: &Args) -> String {
    let path = args.mongodump.as_ref().or(args.rdb.as_ref());
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

/// The job of the configuration, or the one that the flags describe.
fn target(session: &Session, args: &Args) -> CommandResult<Target> {
    let flags =
        JobFlags { tier: args.tier.clone(), tags: args.tags.clone(), ..JobFlags::default() };
    let loaded = session.config()?.filter(|loaded| loaded.config.jobs.contains_key(&args.job));
    let server = match &args.source {
        Some(address) => Some(SourceSpec::of_addresses(
            std::slice::from_ref(address),
            &session.machine,
            &session.env,
        )?),
        None => None,
    };
    if let Some(loaded) = loaded {
        let repository = session.named_repository()?;
        let job = Job::from_config(&args.job, &loaded.config, repository, &flags, session.place())?;
        let server = server.or_else(|| Some(job.source.clone()));
        let (repository, options) = (job.repository.clone(), job.options.clone());
        let configured = Some(Box::new(job));
        return Ok(Target { repository, options, server, configured });
    }
    let repository = session.repository_of(Some(&args.job))?;
    let options = jobs::options_without_source(&args.job, &repository, &flags, session.place())?;
    Ok(Target { repository, options, server, configured: None })
}

/// Stores the dump as a snapshot.
async fn store(
    session: &Session,
    repository: &Repository,
    target: &Target,
    import: &Import,
    dry_run: bool,
) -> CommandResult<BackupReport> {
    let age = target.configured.as_ref().and_then(|job| job.minimum_age).filter(|_| !dry_run);
    if let Some(age) = age {
        // Before there is a snapshot that could be forgotten.
        match repository.protect_job(&target.options.job, age, &session.cx).await {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => session.ui.warning(
                "the credentials may not store the promise `compliance`; the next `backup cleanup` \
                 stores it",
            ),
            promised => promised?,
        }
    }
    let options = BackupOptions {
        kind: Some(BackupKind::Full),
        selection: args::selection(&import.include, &[])?,
        is_part: import.is_part,
        is_import: true,
        dry_run,
        ..target.options.clone()
    };
    Ok(pipeline::backup(repository, &*import.source, &options, &session.cx).await?)
}
