//! `backup verify`.

use backup_core::error::ErrorKind;
use backup_core::pipeline::{self, VerifyReport};
use backup_core::repository::SnapshotInfo;
use serde::Serialize;

use super::view::{self, Summary};
use crate::args::FilterArgs;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::{Opened, Session};
use crate::style::{self, paint};

/// Verify snapshots: read everything they hold and compare it with its hashes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshots: `latest`, beginnings of identifiers, or moments (`yesterday`, `2h ago`)
    #[arg(value_name = "SNAPSHOT", required_unless_present_any = ["all", "date"])]
    snapshots: Vec<String>,
    /// All snapshots
    #[arg(long, conflicts_with = "snapshots")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Serialize)]
struct Verified<'a> {
    snapshot: String,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = session.repository()?;
    let opened = session.open_indexed().await?;
    let filter = args.filter.choice(session)?;
    let mut worst = Outcome::Success;
    let meant: Vec<&SnapshotInfo> = if args.snapshots.is_empty() {
        worst = view::warn_of_damaged(&session.ui, &opened.snapshots);
        opened.snapshots.snapshots.iter().filter(|info| filter.matches(info)).collect()
    } else {
        session.find_all(&opened.snapshots, &args.snapshots, &filter)?
    };
    if meant.is_empty() {
        session.ui.status("No snapshots.");
    }
    for info in meant {
        let report = verify(session, &opened, info, &spec.to_string()).await?;
        if !report.problems.is_empty() {
            worst = Outcome::Damage;
        }
    }
    Ok(worst)
}

/// Verifies one snapshot and says what came of it.
pub(super) async fn verify(
    session: &Session,
    opened: &Opened,
    info: &SnapshotInfo,
    repository: &str,
) -> CommandResult<VerifyReport> {
    let ui = &session.ui;
    let report = match pipeline::verify(&opened.indexed.snapshot(info), &session.cx).await {
        Ok(report) => report,
        // What keeps a snapshot from being read at all is damage like any other.
        Err(error) if error.kind() == ErrorKind::Damaged => {
            let affects = vec![format!("snapshot {}", info.id.short())];
            let problem =
                backup_core::check::Problem { object: "snapshot".to_owned(), message: error.chain(), affects };
            VerifyReport { problems: vec![problem], ..VerifyReport::default() }
        }
        Err(error) => return Err(error.into()),
    };
    if ui.is_json() {
        let verified = Verified { snapshot: info.id.to_hex(), report: &report };
        ui.event(&Summary::new("verify", repository.to_owned(), &verified));
        return Ok(report);
    }
    let id = paint(style::SNAPSHOT, info.id.short());
    if report.problems.is_empty() {
        let entries = human::count(report.entries, "entry", "entries");
        let verified = paint(style::GOOD, "verified");
        ui.summary(format_args!("Snapshot {id} {verified}: {entries}, {}", human::size(report.bytes)))?;
        return Ok(report);
    }
    for line in view::problems(&report.problems) {
        ui.line(line)?;
    }
    let found = human::count(report.problems.len() as u64, "problem", "problems");
    ui.print(format_args!("Snapshot {id} is {}: {found}", paint(style::ERROR, "damaged")))?;
    Ok(report)
}
