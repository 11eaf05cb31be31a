//! `backup check`.

use backup_core::check::{self, CheckOptions, CheckReport, ReadData};

use super::view::{self, Summary};
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};

/// Check a repository: is everything there that snapshots need, and with --read-data, is it intact
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also read all data and compare it with its hashes
    #[arg(long)]
    read_data: bool,
    /// Also read some of the data: a share (5%), one part of several (1/12), or an amount (10G)
    #[arg(long, value_name = "SUBSET", conflicts_with = "read_data", value_parser = subset)]
    read_data_subset: Option<ReadData>,
}

fn subset(text: &str) -> Result<ReadData, String> {
    text.parse().map_err(|error: backup_core::error::Error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    let read_data = match &args.read_data_subset {
        Some(subset) => *subset,
        None if args.read_data => ReadData::All,
        None => ReadData::None,
    };
    let report = check::check(&repository, &CheckOptions { read_data, ..CheckOptions::default() }, &session.cx).await?;
    let outcome = if report.problems.is_empty() { Outcome::Success } else { Outcome::Damage };
    if session.ui.is_json() {
        session.ui.event(&Summary::new("check", spec.to_string(), &report));
        return Ok(outcome);
    }
    print(session, &report)?;
    Ok(outcome)
}

fn print(session: &Session, report: &CheckReport) -> CommandResult<()> {
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
        packs => format!("; {} read, {}", human::count(packs, "pack", "packs"), human::size(report.read_bytes)),
    };
    match report.problems.len() as u64 {
        0 => ui.summary(format_args!("{}: {counts}{read}", paint(style::GOOD, "No damage found"))),
        found => {
            let found = human::count(found, "problem", "problems");
            ui.print(format_args!("{}: {counts}{read}", paint(style::ERROR, format_args!("{found} found"))))
        }
    }
}
