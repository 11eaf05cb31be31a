//! `backup run`.

use std::path::PathBuf;

use backup_control::jobs::{Job, JobFlags};
use backup_control::units::{Share, Size};
use backup_core::compress::Compression;
use backup_core::pipeline::{self, BackupReport, EntryCounts};
use backup_core::repository::Repository;

use super::view::Summary;
use crate::args::{self, TypeArg};
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::facts;

/// Back up: run jobs of the configuration, or paths given here
///
/// Unchanged files are not read again, and what is stored already is not stored again. The snapshot appears only after
/// everything in it is stored and was checked. Entries that cannot be read are named and left out; the exit code is
/// then 3.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Jobs of the configuration, run one after the other
    #[arg(value_name = "JOB", conflicts_with = "source")]
    jobs: Vec<String>,
    /// Back up this directory or file instead of a job; repeat it for several
    #[arg(long, value_name = "PATH_OR_URL")]
    source: Vec<String>,
    /// Name that snapshots of --source are filed under [default: manual]
    #[arg(long, value_name = "NAME", requires = "source")]
    job: Option<String>,
    /// Type of the snapshot [default: incremental, and full where there is no earlier one]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<TypeArg>,
    /// Tier of the snapshot, for instance daily, weekly, monthly, yearly [default: manual]
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// Tag of the snapshot; repeat it for several
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only what matches this glob; repeat it for several
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out what matches this glob; repeat it for several
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Leave out what matches the globs in this file, one per line; repeat it for several
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out the content of directories that hold a file of this name, besides .nobackup; repeat it for several
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<String>,
    /// Do not go into other file systems
    #[arg(long)]
    one_file_system: bool,
    /// Leave out larger files, for instance 1G
    #[arg(long, value_name = "SIZE")]
    max_file_size: Option<Size>,
    /// How hard to compress: off, fast, auto, max, or a zstd level from 1 to 19 [default: auto]
    #[arg(long, value_name = "HOW", value_parser = args::compression)]
    compression: Option<Compression>,
    /// Share of what was written that is opened or read back and compared [default: 5%]
    #[arg(long, value_name = "SHARE")]
    verify_sample: Option<Share>,
    /// Read and compare everything, but store nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup run documents
  backup run -r ./repo --source ~/documents --exclude '*.tmp'

Globs: `*` does not cross `/`, `**` does; one that begins with `/` is anchored at the root, others match at any depth;
each also covers everything below what it matches; --exclude wins over --include.";

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let jobs = jobs(session, args)?;
    let several = jobs.len() > 1;
    let mut opened: Vec<(String, Repository)> = Vec::new();
    let mut worst = Outcome::Success;
    for job in &jobs {
        match one(session, job, &mut opened).await {
            Ok(outcome) => worst = worst.max(outcome),
            Err(error) if several && !error.is_cancelled() => {
                // The others do not depend on this one.
                let error = error.context(format_args!("job {}", job.options.job));
                session.ui.error(&error);
                if !matches!(worst, Outcome::Failed(_)) {
                    worst = Outcome::Failed(error.exit_code());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(worst)
}

fn jobs(session: &Session, args: &Args) -> CommandResult<Vec<Job>> {
    let flags = JobFlags {
        kind: args.kind.map(Into::into),
        tier: args.tier.clone(),
        tags: args.tags.clone(),
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        exclude_files: args.exclude_file.clone(),
        exclude_if_present: args.exclude_if_present.clone(),
        one_file_system: args.one_file_system,
        max_file_size: args.max_file_size,
        compression: args.compression,
        verify_sample: args.verify_sample,
    };
    let mut jobs = if args.source.is_empty() {
        configured(session, &args.jobs, &flags)?
    } else {
        let repository = session.repository()?;
        vec![Job::ad_hoc(args.job.as_deref(), &args.source, repository, &flags, &session.machine)?]
    };
    for job in &mut jobs {
        job.options.dry_run = args.dry_run;
        job.options.estimate = session.ui.bars().is_some();
    }
    Ok(jobs)
}

fn configured(session: &Session, names: &[String], flags: &JobFlags) -> CommandResult<Vec<Job>> {
    let Some(loaded) = session.config()? else {
        return Err(match names {
            [] => CommandError::usage("nothing to back up is given")
                .with_hint("name directories with --source, or jobs of a configuration file"),
            _ => backup_control::config::not_found(&session.env).into(),
        });
    };
    if names.is_empty() {
        let known: Vec<&str> = loaded.config.jobs.keys().map(String::as_str).collect();
        let hint = match known[..] {
            [] => format!("{} has no jobs; name directories with --source", loaded.file.display()),
            _ => format!("jobs in {}: {}", loaded.file.display(), known.join(", ")),
        };
        return Err(CommandError::usage("no job is given").with_hint(hint));
    }
    let repository = session.named_repository()?;
    let job = |name: &String| Job::from_config(name, &loaded.config, repository.clone(), flags, &session.machine);
    Ok(names.iter().map(job).collect::<Result<_, _>>()?)
}

async fn one(session: &Session, job: &Job, opened: &mut Vec<(String, Repository)>) -> CommandResult {
    let place = job.repository.to_string();
    let repository = match opened.iter().find(|(known, _)| *known == place) {
        Some((_, repository)) => repository.clone(),
        None => {
            let repository = session.open(&job.repository).await?;
            opened.push((place, repository.clone()));
            repository
        }
    };
    let report = back_up(session, &repository, job).await?;
    Ok(Outcome::with_warnings(report.warnings))
}

/// Runs one backup and says what came of it.
pub(super) async fn back_up(session: &Session, repository: &Repository, job: &Job) -> CommandResult<BackupReport> {
    session.ui.status(format_args!("Backing up {} into {}", job.source, job.repository));
    if let Some(age) = job.minimum_age.filter(|_| !job.options.dry_run) {
        // Before there is a snapshot that somebody could forget.
        repository.protect_job(&job.options.job, age, &session.cx).await?;
    }
    let report = pipeline::backup(repository, &*job.source, &job.options, &session.cx).await?;
    if session.ui.is_json() {
        let summary = Summary::new("run", job.repository.to_string(), &report);
        session.ui.event(&Summary { job: Some(&job.options.job), ..summary });
    } else {
        session.ui.summary(describe(&report))?;
    }
    Ok(report)
}

fn describe(report: &BackupReport) -> String {
    let kind = report.kind.as_str();
    let compared = match &report.parent {
        Some(parent) => format!(", compared with {}", paint(style::SNAPSHOT, parent.short())),
        None => String::new(),
    };
    let heading = match &report.snapshot {
        Some(id) => {
            let saved = paint(style::GOOD, "saved");
            format!("Snapshot {} {saved}: {kind}{compared}", paint(style::SNAPSHOT, id.short()))
        }
        None => format!("Dry run, nothing was stored. It would be: {kind}{compared}"),
    };
    let (totals, stored) = (&report.totals, &report.stored);
    let packed = match stored.added_bytes {
        0 => "nothing new".to_owned(),
        added => format!(
            "{} new, {} as stored, in {}",
            human::size(added),
            human::size(stored.packed_bytes),
            human::count(stored.packs, "pack", "packs")
        ),
    };
    let time = human::between(report.started, report.finished);
    let speed = human::rate(totals.bytes, time).map(|rate| format!(", {rate}")).unwrap_or_default();
    let missing = match report.warnings {
        0 => String::new(),
        some => format!("{} missing or incomplete; see the warnings", human::count(some, "entry", "entries")),
    };
    let lines = facts(&[
        ("Files", counts(&report.files)),
        ("Directories", counts(&report.dirs)),
        ("Others", if totals.others == 0 { String::new() } else { totals.others.to_string() }),
        ("Size", human::size(totals.bytes)),
        (if report.snapshot.is_some() { "Stored" } else { "To store" }, packed),
        ("Warnings", missing),
        ("Time", format!("{}{speed}", human::duration(time))),
    ]);
    format!("{heading}\n{lines}")
}

fn counts(counts: &EntryCounts) -> String {
    format!("{} new, {} changed, {} unchanged", counts.new, counts.changed, counts.unmodified)
}
