//! `backup wal-fetch`.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use backup_control::logs::files;
use futures::FutureExt as _;

use super::wal_push::require_job;
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::exit_code;
use crate::session::Session;

/// Fetch a segment of the captured log for a PostgreSQL server, as its `restore_command`
///
/// For servers that are restored by other means; `backup restore --at` puts the log into place
/// itself. The exit code is 0 if the file was written, 1 if there is none and the log ends there,
/// or the server has it in pg_wal, and 200 for everything else, such as a storage that cannot be
/// reached or log that is damaged or missing in the middle: PostgreSQL then stops, instead of
/// taking the log for ended and going on without the rest. Always name a recovery target, too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The name of the file: what PostgreSQL writes for %f
    #[arg(value_name = "NAME")]
    name: String,
    /// Where it goes: what PostgreSQL writes for %p
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory of the server, which says of which cluster it is
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_directory: PathBuf,
    /// Refuse the log of another cluster than the one that snapshots of this job are of
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
}

const EXAMPLES: &str = "\
Example, in postgresql.conf:
  restore_command = 'backup --config /etc/backup/backup.toml --repo main --quiet wal-fetch --job crm %f %p'";

/// No failure looks like the end of the log: whoever calls this sees to the exit codes of errors.
pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    match AssertUnwindSafe(fetch(session, args)).catch_unwind().await {
        Ok(Ok(true)) => Ok(Outcome::Success),
        Ok(Ok(false)) => Ok(Outcome::Failed(exit_code::FAILURE)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(CommandError::new(
            Kind::Core(backup_core::error::ErrorKind::Internal),
            "the program failed",
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
