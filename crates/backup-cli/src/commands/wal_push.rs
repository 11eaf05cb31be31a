//! `backup wal-push`.

use std::path::PathBuf;

use backup_control::logs::{self, files};
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::log::Stream;
use backup_core::repository::SnapshotList;

use crate::command_error::{CommandResult, Outcome};
use crate::session::Session;

/// Store a segment of the log of a PostgreSQL server, as its `archive_command`
///
/// Where a connection for replication is not possible, this takes the place of
/// `backup logs follow`. The segment, or the history of a timeline, is verified, and stored for
/// good when this ends with exit code 0; one that is stored already must be the same. Labels of
/// backups and unfinished segments are accepted and left out: the first segment of a timeline has
/// what the one before had not completed. Unlike following the log, this loses what the server had
/// not completed a segment of: see archive_timeout.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The segment: what PostgreSQL writes for %p
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Refuse the log of another cluster than the one that snapshots of this job are of
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
}

const EXAMPLES: &str = "\
Example, in postgresql.conf:
  archive_mode = on
  archive_command = 'backup --config /etc/backup/backup.toml --repo main --quiet wal-push --job crm %p'";

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let Some(file) = files::read(&args.file)? else { return Ok(Outcome::Success) };
    let repository = session.open(&session.repository()?).await?;
    if let Some(job) = &args.job {
        let snapshots = repository.snapshots(&session.cx).await?;
        require_job(&snapshots, job, &files::stream_of(&file))?;
    }
    let new = files::push(&repository, &file, &session.holder(), &session.cx).await?;
    let what = if new { "stored" } else { "stored already" };
    session.ui.status(format_args!("{file}: {what}"));
    Ok(Outcome::Success)
}

/// Fails if the snapshots of a job are of another cluster. Before the first one there is nothing to
/// compare with.
pub(super) fn require_job(
    snapshots: &SnapshotList,
    job: &str,
    stream: &Stream,
) -> CommandResult<()> {
    let newest = logs::newest_of_job(&snapshots.snapshots, job)
        .and_then(|info| info.snapshot.x_log.as_ref());
    if newest.is_none_or(|log| log.stream == stream.name()) {
        return Ok(());
    }
    let text = format!("the snapshots of job {job} are of another cluster than this log");
    Err(CoreError::new(ErrorKind::Invalid, text)
        .with_hint(
            "name the job of this cluster, or leave --job out if it was made anew on purpose",
        )
        .into())
}
