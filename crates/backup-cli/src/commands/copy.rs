//! `backup copy`.

use std::path::PathBuf;

use backup_control::passphrase::PassphraseFlags;
use backup_control::repositories::RepositorySpec;
use backup_core::copy::{self, CopyOptions, CopyReport};
use backup_core::repository::{IndexedRepository, Repository, SnapshotInfo};
use serde::Serialize;

use super::view::{self, Summary};
use crate::args::NamingArgs;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::records;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::facts;

/// Copy snapshots into another repository
///
/// Data that the other repository has is neither read nor sent. Every blob is checked against its
/// hash on the way. Snapshots are written last, and an interrupted copy continues where it stopped.
/// Create the other repository with `backup init --like`, so that both cut data into the same
/// chunks.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Snapshots: `latest`, beginnings of identifiers, or moments (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT", required_unless_present_any = ["all", "job", "date"])]
    snapshots: Vec<String>,
    /// All snapshots
    #[arg(long, conflicts_with = "snapshots")]
    all: bool,
    /// Copy from this repository [default: --repo]
    #[arg(long, value_name = "REPOSITORY", conflicts_with = "repo")]
    from: Option<String>,
    #[command(flatten)]
    to: ToArgs,
    /// Show the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    filter: NamingArgs,
}

/// The other repository.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ToArgs {
    /// Copy into this repository: a directory, a URL, or a name in the configuration
    #[arg(long, value_name = "REPOSITORY")]
    pub(super) to: String,
    /// File that holds the pass phrase of --to [default: as for --repo]
    #[arg(long, value_name = "FILE", conflicts_with = "to_password_command")]
    pub(super) to_password_file: Option<PathBuf>,
    /// Shell command that prints the pass phrase of --to
    #[arg(long, value_name = "COMMAND")]
    pub(super) to_password_command: Option<String>,
}

impl ToArgs {
    /// The flags of the first repository serve for both, unless this one has its own.
    fn flags(&self, session: &Session) -> PassphraseFlags {
        if self.to_password_file.is_none() && self.to_password_command.is_none() {
            return session.passphrase_flags();
        }
        PassphraseFlags {
            file: self.to_password_file.clone(),
            command: self.to_password_command.clone(),
        }
    }

    /// Notes where copies go, also if it cannot be opened.
    pub(super) fn note(&self, session: &Session) -> CommandResult<()> {
        session.trail.note("to", records::place(&session.resolve(&self.to)?));
        Ok(())
    }

    /// Opens it, to put copies from another one into that class of its store.
    pub(super) async fn open(
        &self,
        session: &Session,
        from: &IndexedRepository,
        storage_class: Option<&str>,
    ) -> CommandResult<Target> {
        let spec = session.resolve(&self.to)?.with_storage_class(storage_class)?;
        match session.open_with(&spec, &self.flags(session)).await {
            Err(error) if error.is_missing_repository() => {
                let from = human::shell(&from.repository().sink().to_string());
                let (program, to) = (human::shell(&session.program), human::shell(&self.to));
                let command = format!("{program} init -r {to} --like {from}");
                Err(error.with_hint(format!("create the repository first: {command}")))
            }
            opened => Ok(Target { repository: opened?, spec }),
        }
    }
}

/// Where copies go.
pub(super) struct Target {
    pub(super) spec: RepositorySpec,
    pub(super) repository: Repository,
}

const EXAMPLES: &str = "\
Examples:
  backup init -r s3://bucket/backup --like ./repo
  backup copy -r ./repo --all --to s3://bucket/backup
  backup copy -r ./repo latest --to offsite";

/// A copy in JSON.
#[derive(Serialize)]
struct CopyJson<'a> {
    to: String,
    dry_run: bool,
    #[serde(flatten)]
    report: &'a CopyReport,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let from = match &args.from {
        Some(name) => session.resolve(name)?,
        None => session.repository()?,
    };
    session.trail.note("repository", records::place(&from));
    args.to.note(session)?;
    let opened = session.open_indexed_at(&from).await?;
    let filter = args.filter.choice(session)?;
    let mut worst = Outcome::Success;
    let meant: Vec<SnapshotInfo> = if args.snapshots.is_empty() {
        worst = view::warn_of_damaged(&session.ui, &opened.snapshots);
        session.require_job(&opened.snapshots, filter.filter.job.as_deref())?;
        opened.snapshots.snapshots.iter().filter(|info| filter.matches(info)).cloned().collect()
    } else {
        opened.find_all(session, &args.snapshots, &filter).await?.into_iter().cloned().collect()
    };
    let target = args.to.open(session, &opened.indexed, None).await?;
    let copied = copy_to(session, &opened.indexed, &meant, &target, args.dry_run, "copy").await?;
    let worst = worst.max(Outcome::with_warnings(copied.unfit.len() as u64));
    Ok(worst.max(if copied.problems.is_empty() { Outcome::Success } else { Outcome::Damage }))
}

/// Copies snapshots and says what came of it.
pub(super) async fn copy_to(
    session: &Session,
    from: &IndexedRepository,
    snapshots: &[SnapshotInfo],
    target: &Target,
    dry_run: bool,
    verb: &'static str,
) -> CommandResult<CopyReport> {
    let Target { spec, repository } = target;
    if snapshots.is_empty() {
        session.ui.status("No snapshots.");
    }
    let options = CopyOptions { write: spec.write_settings(), dry_run };
    let report = copy::copy(from, snapshots, repository, &options, &session.cx).await?;
    let ui = &session.ui;
    if ui.is_json() {
        let json = CopyJson { to: spec.to_string(), dry_run, report: &report };
        ui.event(&Summary::new(verb, from.repository().sink().to_string(), &json));
        return Ok(report);
    }
    ui.summary(describe(&report, &spec.to_string(), dry_run))?;
    for line in [view::problems(&report.problems), view::problems(&report.unfit)].concat() {
        ui.line(line)?;
    }
    Ok(report)
}

fn describe(report: &CopyReport, to: &str, dry_run: bool) -> String {
    let count = human::count(report.copied.len() as u64, "snapshot", "snapshots");
    let heading = match dry_run {
        true => format!("Dry run, nothing was stored. Would copy {count} to {to}"),
        false => format!("{count} {} to {to}", paint(style::GOOD, "copied")),
    };
    let there = match report.present.len() {
        0 => String::new(),
        some => human::count(some as u64, "snapshot", "snapshots"),
    };
    let missing = match report.blobs {
        0 => "nothing new".to_owned(),
        blobs => format!("{}, {}", human::count(blobs, "blob", "blobs"), human::size(report.bytes)),
    };
    let rows = [
        ("Already there", there),
        (if dry_run { "To copy" } else { "Copied" }, missing),
        (
            "Left out",
            if report.problems.is_empty() {
                String::new()
            } else {
                format!("{}, damaged", report.problems.len())
            },
        ),
        (
            "Copied as they are",
            if report.unfit.is_empty() {
                String::new()
            } else {
                let count = report.unfit.len() as u64;
                human::count(
                    count,
                    "entry that cannot be restored",
                    "entries that cannot be restored",
                )
            },
        ),
    ];
    format!("{heading}\n{}", facts(&rows))
}

/// Fails if something could not be copied: what depends on the copy must not go on.
pub(super) fn require_whole(report: &CopyReport) -> CommandResult<()> {
    if report.problems.is_empty() {
        return Ok(());
    }
    Err(CommandError::refused("some snapshots are damaged and were not copied; nothing is removed")
        .with_hint("list the affected snapshots with `backup check`"))
}
