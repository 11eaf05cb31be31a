//! `backup man`.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::session::Session;

/// Write a manual page for every verb into a directory
///
/// Packagers of this program use it: it writes `backup.1`, `backup-run.1`, `backup-logs-follow.1`
/// and the like. Creates the directory if it does not exist, and replaces pages of the same names.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory, for instance /usr/share/man/man1
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(session: &Session, args: &Args) -> CommandResult {
    if session.ui.is_json() {
        return Err(CommandError::usage("manual pages have no JSON form"));
    }
    let written = std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir));
    written.map_err(|error| {
        CommandError::io(format!("cannot write pages to {}", args.dir.display()), &error)
    })?;
    session.ui.status(format_args!(
        "Manual pages written to {}; show one with `man -l FILE`",
        args.dir.display()
    ));
    Ok(Outcome::Success)
}
