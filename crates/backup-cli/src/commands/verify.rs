//! `backup verify`.

use std::path::PathBuf;

use backup_control::audit::Class;
use backup_control::repositories::RepositorySpec;
use backup_control::snapshots::Choice;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::maintenance::DamageMark;
use backup_core::pipeline::{self, VerifyLevel, VerifyReport};
use backup_core::repository::SnapshotInfo;
use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use super::report_file::ReportFile;
use super::view::{self, Summary};
use crate::args::NamingArgs;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::job_names::JobNames;
use crate::opened::Opened;
use crate::records;
use crate::repositories::{self, Holding, InRepository};
use crate::session::Session;
use crate::style::{self, paint};
use crate::trail::Action;
use crate::ui::SCHEMA_VERSION;

/// Verify snapshots: read all their data and compare it with its hashes
///
/// A successful verification is saved in the repository. A cleanup never removes the newest
/// verified snapshot of a job.
///
/// If the configuration has several repositories, --repo or --job selects one. Without them, an
/// identifier is looked up in all; `latest`, moments and --all mean snapshots of each.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Snapshots: `latest`, beginnings of identifiers, or moments (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT", required_unless_present_any = ["all", "date"])]
    snapshots: Vec<String>,
    /// All snapshots
    #[arg(long, conflicts_with = "snapshots")]
    all: bool,
    /// Depth of the verification
    #[arg(long, value_name = "LEVEL", default_value = "checksum")]
    level: LevelArg,
    /// Also write the result to this file as JSON, replacing it if it exists
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    filter: NamingArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup verify latest
  backup verify --date yesterday --level structure --report /var/log/backup/verify.json";

/// Depth of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelArg {
    /// Compare every byte with its hash
    Checksum,
    /// Also read the description of the snapshot, `.backup/manifest.json`
    Structure,
    /// Also count the entries and bytes again, and compare them with the description
    Deep,
}

impl From<LevelArg> for VerifyLevel {
    fn from(arg: LevelArg) -> Self {
        match arg {
            LevelArg::Checksum => Self::Checksum,
            LevelArg::Structure => Self::Structure,
            LevelArg::Deep => Self::Deep,
        }
    }
}

/// The result of one snapshot, with its report or a reference to it.
#[derive(Serialize)]
struct Verified<R> {
    snapshot: String,
    level: VerifyLevel,
    #[serde(flatten)]
    report: R,
}

impl<R> Verified<R> {
    fn new(info: &SnapshotInfo, level: VerifyLevel, report: R) -> Self {
        Self { snapshot: info.id.to_hex(), level, report }
    }
}

/// The content of the report file.
#[derive(Serialize)]
struct ReportJson<T> {
    schema_version: u32,
    #[serde(flatten)]
    repositories: T,
    started: Timestamp,
    finished: Timestamp,
    sound: bool,
}

/// The results of one repository.
#[derive(Serialize)]
struct VerifiedRepository {
    repository: String,
    snapshots: Vec<Verified<VerifyReport>>,
    /// The error that ended the verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct VerifiedRepositories<'a> {
    repositories: Vec<InRepository<'a, VerifiedRepository>>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let started = session.cx.clock.now();
    let file = args.report.as_deref().map(ReportFile::create).transpose()?;
    let filter = args.filter.choice(session)?;
    let specs = session.repositories(args.filter.job())?;
    let places = repositories::holding(session, specs, &args.snapshots, &filter).await?;
    session.trail.note("level", VerifyLevel::from(args.level).as_str());
    let mut all = Vec::new();
    let mut jobs = JobNames::default();
    let work = async |place: &Holding| {
        let mut verified = Vec::new();
        let result = verify_in(session, args, place, (&filter, &mut jobs), &mut verified).await;
        let error = result.as_ref().err().map(CommandError::chain);
        let repository = place.spec.to_string();
        all.push(VerifiedRepository { repository, snapshots: verified, error });
        result
    };
    let action = Action::new("verify", Class::Operation);
    let worst = repositories::each(session, &places, Some(action), work).await?;
    if worst == Outcome::Success && all.iter().all(|one| one.snapshots.is_empty()) {
        jobs.require(session, args.filter.job())?;
        require_any(session, args)?;
    }
    if let Some(file) = file {
        let (sound, finished) = (worst == Outcome::Success, session.cx.clock.now());
        let path = write(file, &places, all, (started, finished), sound)?;
        session.ui.status(format_args!("Report written to {}", path.display()));
    }
    Ok(worst)
}

/// Writes the report file: of one repository, or with a list of several.
fn write(
    file: ReportFile,
    places: &[Holding],
    mut all: Vec<VerifiedRepository>,
    (started, finished): (Timestamp, Timestamp),
    sound: bool,
) -> CommandResult<PathBuf> {
    let schema_version = SCHEMA_VERSION;
    if places.len() == 1
        && let Some(repositories) = all.pop()
    {
        return file.write(&ReportJson { schema_version, repositories, started, finished, sound });
    }
    let named = places.iter().map(|place| &place.spec).zip(all);
    let repositories = VerifiedRepositories {
        repositories: named.map(|(spec, one)| InRepository::new(spec, one)).collect(),
    };
    file.write(&ReportJson { schema_version, repositories, started, finished, sound })
}

/// Verifies the snapshots of one repository that are meant, and adds the results to `verified`.
async fn verify_in(
    session: &Session,
    args: &Args,
    place: &Holding,
    (filter, jobs): (&Choice, &mut JobNames),
    verified: &mut Vec<Verified<VerifyReport>>,
) -> CommandResult {
    let opened = session.open_indexed_at(&place.spec).await?;
    jobs.add(&opened.snapshots);
    let mut worst = Outcome::Success;
    let meant: Vec<&SnapshotInfo> = if place.names.is_empty() {
        worst = view::warn_of_damaged(&session.ui, &opened.snapshots);
        opened.snapshots.snapshots.iter().filter(|info| filter.matches(info)).collect()
    } else {
        opened.find_all(session, &place.names, filter).await?
    };
    session.trail.snapshots(meant.iter().map(|info| &info.id));
    let level = VerifyLevel::from(args.level);
    for info in meant {
        let report = verify(session, &opened, info, &place.spec, level).await?;
        if !report.problems.is_empty() {
            worst = Outcome::Damage;
        }
        verified.push(Verified::new(info, level, report));
    }
    Ok(worst)
}

/// That nothing was verified is no success where certain snapshots were meant.
fn require_any(session: &Session, args: &Args) -> CommandResult<()> {
    if args.all && args.filter.is_empty() {
        session.ui.status("No snapshots.");
        return Ok(());
    }
    let error = CoreError::new(
        ErrorKind::NotFound,
        "no snapshot matches the filters, so nothing was verified",
    );
    Err(error.with_hint("list the snapshots with `backup list`").into())
}

/// Verifies one snapshot, notes it, and says what came of it.
pub(super) async fn verify(
    session: &Session,
    opened: &Opened,
    info: &SnapshotInfo,
    spec: &RepositorySpec,
    level: VerifyLevel,
) -> CommandResult<VerifyReport> {
    let report = match pipeline::verify(&opened.indexed.snapshot(info), level, &session.cx).await {
        Ok(report) => report,
        // What keeps a snapshot from being read at all is damage like any other.
        Err(error) if error.kind() == ErrorKind::Damaged => {
            let affects = vec![format!("snapshot {}", info.id.short())];
            let problem = backup_core::check::Problem {
                object: "snapshot".to_owned(),
                message: error.chain(),
                affects,
            };
            VerifyReport { problems: vec![problem], ..VerifyReport::default() }
        }
        Err(error) => return Err(error.into()),
    };
    let repository_of = opened.indexed.repository();
    let recorded = match report.problems.len() as u64 {
        0 => repository_of.record_verified(&info.id, level, &session.cx).await,
        problems => {
            let mark = DamageMark {
                found: session.cx.clock.now(),
                by: "verify".to_owned(),
                by_content: true,
                problems: Some(problems),
            };
            repository_of.record_damage(&info.id, &mark).await
        }
    };
    // A user who may read and not write has verified the snapshot, but no other command knows.
    if let Err(error) = recorded {
        records::warn_unrecorded(session, "cannot record the verification", &error.into());
    }
    show(session, info, spec, level, &report)?;
    Ok(report)
}

fn show(
    session: &Session,
    info: &SnapshotInfo,
    spec: &RepositorySpec,
    level: VerifyLevel,
    report: &VerifyReport,
) -> CommandResult<()> {
    let ui = &session.ui;
    if ui.is_json() {
        let verified = Verified::new(info, level, report);
        let summary = Summary::new("verify", spec.to_string(), &verified);
        ui.event(&InRepository::new(spec, summary));
        return Ok(());
    }
    print(session, &info.id.short(), report)
}

/// Says in words what came of it for the snapshot with this short name.
pub(crate) fn print(session: &Session, id: &str, report: &VerifyReport) -> CommandResult<()> {
    let (ui, id) = (&session.ui, paint(style::SNAPSHOT, id));
    if report.problems.is_empty() {
        let entries = human::count(report.entries, "entry", "entries");
        let verified = paint(style::GOOD, "verified");
        return ui.summary(format_args!(
            "Snapshot {id} {verified}: {entries}, {}",
            human::size(report.bytes)
        ));
    }
    for line in view::problems(&report.problems) {
        ui.line(line)?;
    }
    let found = human::count(report.problems.len() as u64, "problem", "problems");
    ui.print(format_args!("Snapshot {id} is {}: {found}", paint(style::ERROR, "damaged")))?;
    ui.hint(view::REPAIR_HINT);
    Ok(())
}
