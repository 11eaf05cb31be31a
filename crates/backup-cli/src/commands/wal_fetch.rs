//! `backup wal-fetch`.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use backup_control::logs::files;
use futures::FutureExt as _;

use super::wal_push::require_job;
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::exit_code;
use crate::session::Session;

/// Fetch a captured WAL segment, as PostgreSQL's `restore_command`
///
/// Use it for servers that are restored by other means; `backup restore --at` puts the log into
/// place itself. Always set a recovery target, too.
///
/// The exit code is 0 if the file was written. It is 1 if the log ends before this file, or if the
/// server has the file in pg_wal. It is 200 for all other failures, for instance an unreachable
/// store, or a damaged or missing segment. PostgreSQL then stops, instead of ending recovery
/// without the rest of the log.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// File name; PostgreSQL replaces %f with it
    #[arg(value_name = "NAME")]
    name: String,
    /// Destination; PostgreSQL replaces %p with it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Data directory of the server, which identifies its cluster
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_directory: PathBuf,
    /// Refuse the log of a cluster other than that of this job's snapshots
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
}

const EXAMPLES: &str = "\
Example, in postgresql.conf:
  restore_command = 'backup --config /etc/backup/backup.toml --repo main --quiet wal-fetch --job crm %f %p'";

/// No failure looks like the end of the log: the caller sets the exit codes of errors.
pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    match AssertUnwindSafe(fetch(session, args)).catch_unwind().await {
        Ok(Ok(true)) => Ok(Outcome::Success),
        Ok(Ok(false)) => Ok(Outcome::Failed(exit_code::FAILURE)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(CommandError::new(
            Kind::Core(backup_core::error::ErrorKind::Internal),
            "wal-fetch failed unexpectedly",
        )),
    }
}

async fn fetch(session: &Session, args: &Args) -> CommandResult<bool> {
    let (stream, id) = files::of_data_directory(&args.data_directory)?;
    let opened = session.open_indexed().await?;
    if let Some(job) = &args.job {
        require_job(&opened.snapshots, job, &stream)?;
    }
    let fetching = files::fetch(
        &opened.indexed,
        (&stream, id),
        &args.data_directory,
        &args.name,
        &args.file,
        &session.cx,
    );
    Ok(fetching.await?)
}
