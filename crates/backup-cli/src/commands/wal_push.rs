//! `backup wal-push`.

use std::path::PathBuf;

use backup_control::logs::{self, files};
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::log::Stream;
use backup_core::repository::SnapshotList;

use crate::command_error::{CommandResult, Outcome};
use crate::session::Session;

/// Store a WAL segment, as PostgreSQL's `archive_command`
///
/// Replaces `backup logs follow` where a replication connection is not possible. Verifies the
/// segment, or the history of a timeline; exit code 0 means that it is stored durably. A segment
/// that is already stored must be identical. Backup labels and unfinished segments are accepted and
/// left out. The first segment of a timeline has the data that the previous timeline did not
/// complete.
///
/// Unlike `backup logs follow`, this loses the part of a segment that the server has not completed;
/// see archive_timeout.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Segment; PostgreSQL replaces %p with its path
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Refuse the log of a cluster other than that of this job's snapshots
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
    let what = if new { "stored" } else { "already stored" };
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
    let text = format!("the snapshots of job {job} belong to another cluster than this log");
    Err(CoreError::new(ErrorKind::Invalid, text)
        .with_hint(
            "name the job of this cluster, or leave out --job if the cluster was recreated on \
             purpose",
        )
        .into())
}
