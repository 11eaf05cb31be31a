//! `backup version`.

use std::collections::BTreeMap;

use backup_control::formats::{FORMATS, Format};
use serde::Serialize;

use crate::command_error::{CommandResult, Outcome};
use crate::session::Session;
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Show the version of the program and of every format
///
/// A format that a newer program wrote is refused: the message names its version and the newest one
/// that this program reads. Compare the lists of two machines before they share a repository, a
/// catalog or a state directory.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {}

const EXAMPLES: &str = "\
Examples:
  backup version
  backup version --json";

#[derive(Serialize)]
struct VersionJson {
    schema_version: u32,
    version: &'static str,
    formats: BTreeMap<&'static str, Format>,
}

pub(crate) fn run(session: &Session, _: &Args) -> CommandResult {
    let version = env!("CARGO_PKG_VERSION");
    if session.ui.is_json() {
        let formats = FORMATS.into_iter().map(|form| (form.name, form)).collect();
        let schema_version = SCHEMA_VERSION;
        session.ui.json(&VersionJson { schema_version, version, formats })?;
        return Ok(Outcome::Success);
    }
    session.ui.print(format_args!("backup {version}\n\n{}", table().lines().join("\n")))?;
    Ok(Outcome::Success)
}

fn table() -> Table {
    let columns = [("Format", Align::Left), ("Reads", Align::Left), ("Writes", Align::Left)];
    let mut table = Table::new(columns);
    for Format { name, reads_from, reads_up_to, writes } in FORMATS {
        let reads = if reads_from == reads_up_to {
            reads_from.to_string()
        } else {
            format!("{reads_from} to {reads_up_to}")
        };
        table.row([name.replace('_', " "), reads, writes.to_string()]);
    }
    table
}
