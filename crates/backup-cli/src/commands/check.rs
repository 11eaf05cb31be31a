//! `backup check`.

use backup_control::audit::Class;
use backup_control::repositories::RepositorySpec;
use backup_core::check::{CheckOptions, CheckReport, ReadData};
use backup_core::error::Error as CoreError;
use backup_core::maintenance::DamageMark;
use backup_core::repository::Repository;

use super::view::{self, Summary};
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::records;
use crate::repositories::{self, Holding, InRepository};
use crate::session::Session;
use crate::style::{self, paint};
use crate::trail::Action;

/// Check that a repository is complete and, with --read-data, intact
///
/// If the configuration has several repositories and neither --repo nor --job names one, checks
/// each.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Also read all data and compare it with its hashes
    #[arg(long)]
    read_data: bool,
    /// Also read some of the data: a share (5%), one part of several (1/12), or an amount (10G)
    #[arg(long, value_name = "SUBSET", conflicts_with = "read_data", value_parser = subset)]
    read_data_subset: Option<ReadData>,
    /// Record progress; a repeated call continues an interrupted check
    #[arg(long)]
    resume: bool,
    /// Only the repository of this job
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  backup check
  backup check --read-data-subset 1/12 --resume";

fn subset(text: &str) -> Result<ReadData, String> {
    text.parse().map_err(|error: backup_core::error::Error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let read_data = match &args.read_data_subset {
        Some(subset) => *subset,
        None if args.read_data => ReadData::All,
        None => ReadData::None,
    };
    let notes = if args.resume { Some(notes(read_data)?) } else { None };
    // Only another one like it says that what it found is mended.
    match read_data {
        ReadData::All => session.trail.note("data", "all"),
        ReadData::Part { index, of } => session.trail.note("data", format!("{index}/{of}")),
        ReadData::Percent(_) | ReadData::Bytes(_) => session.trail.note("data", "some"),
        ReadData::None => {}
    }
    session.require_configured(args.job.as_deref())?;
    let places = Holding::all(session, args.job.as_deref())?;
    let action = Action::new("check", Class::Operation);
    let work =
        async |place: &Holding| check(session, &place.spec, read_data, notes.as_deref()).await;
    repositories::each(session, &places, Some(action), work).await
}

/// Checks one repository; progress is recorded in a file with the name `notes`.
async fn check(
    session: &Session,
    spec: &RepositorySpec,
    read_data: ReadData,
    notes: Option<&str>,
) -> CommandResult {
    let repository = session.open(spec).await?;
    let resume = match notes {
        Some(name) => Some(session.cache_of(&repository)?.join(name)),
        None => None,
    };
    let report =
        backup_core::check::check(&repository, &CheckOptions { read_data, resume }, &session.cx)
            .await?;
    record_damage(session, &repository, &report, read_data).await;
    let outcome = if report.problems.is_empty() { Outcome::Success } else { Outcome::Damage };
    if session.ui.is_json() {
        let summary = Summary::new("check", spec.to_string(), &report);
        session.ui.event(&InRepository::new(spec, summary));
        return Ok(outcome);
    }
    print(session, &report)?;
    Ok(outcome)
}

/// Marks the snapshots that are damaged, and removes the marks of those that are not, as far as
/// this check could see. A user who may read and not write gets a warning: exit
/// code 3 unless there is damage.
async fn record_damage(
    session: &Session,
    repository: &Repository,
    report: &CheckReport,
    read_data: ReadData,
) {
    let record = async {
        let mark = DamageMark {
            found: session.cx.clock.now(),
            by: "check".to_owned(),
            by_content: read_data != ReadData::None,
            problems: None,
        };
        let known = repository.damage_marks().await?;
        for id in &report.damaged_snapshots {
            repository.record_damage(id, &mark).await?;
        }
        let can_disprove = |mark: &DamageMark| !mark.by_content || read_data == ReadData::All;
        for (id, mark) in known {
            if !report.damaged_snapshots.contains(&id) && can_disprove(&mark) {
                repository.clear_damage(&id).await?;
            }
        }
        Ok::<_, CoreError>(())
    };
    if let Err(error) = record.await {
        let what = "cannot record which snapshots are damaged";
        records::warn_unrecorded(session, what, &error.into());
    }
}

/// Name of the file with the progress: one for each part of the data.
fn notes(read_data: ReadData) -> CommandResult<String> {
    match read_data {
        ReadData::All => Ok("check-all".to_owned()),
        ReadData::Part { index, of } => Ok(format!("check-{index}-of-{of}")),
        ReadData::None | ReadData::Percent(_) | ReadData::Bytes(_) => Err(CommandError::usage(
            "only a check of all data, or of one part of several, can be resumed",
        )
        .with_hint(
            "add --read-data or --read-data-subset 1/12; a random subset differs on every run",
        )),
    }
}

pub(crate) fn print(session: &Session, report: &CheckReport) -> CommandResult<()> {
    let ui = &session.ui;
    for line in view::problems(&report.problems) {
        ui.line(line)?;
    }
    for note in &report.notes {
        ui.status(format_args!("{} {note}", paint(style::FAINT, "Note:")));
    }
    let counts = [
        human::count(report.snapshots, "snapshot", "snapshots"),
        human::count(report.trees, "directory", "directories"),
        human::count(report.blobs, "blob", "blobs"),
        human::count(report.packs, "pack", "packs"),
    ]
    .join(", ");
    let read = match report.read_packs {
        0 => "; no data was read".to_owned(),
        packs => format!(
            "; {} read, {}",
            human::count(packs, "pack", "packs"),
            human::size(report.read_bytes)
        ),
    };
    let before = match report.read_before {
        0 => String::new(),
        packs => format!(
            ", {} by the check that this one continues",
            human::count(packs, "pack", "packs")
        ),
    };
    let read = read + &before;
    match report.problems.len() as u64 {
        0 => ui.summary(format_args!("{}: {counts}{read}", paint(style::GOOD, "No damage found"))),
        found => {
            let found = human::count(found, "problem", "problems");
            let found = paint(style::ERROR, format_args!("{found} found"));
            ui.print(format_args!("{found}: {counts}{read}"))?;
            ui.hint(view::REPAIR_HINT);
            Ok(())
        }
    }
}
