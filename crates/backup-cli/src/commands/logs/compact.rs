//! `backup logs compact`.

use backup_control::logs::{self, Answer};
use backup_control::sources;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::pipeline::BackupReport;

use crate::command_error::{CommandResult, Outcome};
use crate::commands::view::Summary;
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};

/// Build a full snapshot from the newest one and the log, without the server
///
/// A restore applies incremental snapshots and captured logs, and takes longer the more there are.
/// This command applies them once, in the repository. The originals stay until a policy forgets
/// them; later incremental backups build on the new snapshot.
///
/// MongoDB: temporary files take as much space as the changed documents. PostgreSQL: incremental
/// snapshots are combined. The log behind them stays, because only a server can apply it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Job of the configuration
    #[arg(value_name = "JOB")]
    job: String,
}

pub(super) async fn run(session: &Session, args: &Args) -> CommandResult {
    let job = super::configured(session, &args.job)?;
    let opened = session.open_indexed_at(&job.repository).await?;
    let none = || {
        let message =
            format!("no snapshot of a job {} has a log", human::text(args.job.as_bytes()));
        CoreError::new(ErrorKind::NotFound, message)
            .with_hint("create the first snapshot with `backup run`")
    };
    let newest = logs::newest_of_job(&opened.snapshots.snapshots, &args.job).ok_or_else(none)?;
    let (base, replay) =
        match logs::plan(&opened.indexed, newest, "latest", &session.now(), &session.cx).await? {
            Answer::Planned { base, replay } => (base, replay),
            Answer::Refused(refusal) => {
                return Err(CoreError::new(ErrorKind::NotFound, refusal.reason.clone()).into());
            }
        };
    if sources::is_compact(&base, &replay) {
        let rest = if sources::applies_log(&base) {
            "and no log follows it"
        } else {
            "and only a server can apply the log after it"
        };
        session.ui.status(format_args!(
            "Nothing to apply: {} is a full snapshot, {rest}.",
            base.id.short()
        ));
        return Ok(Outcome::Success);
    }
    let (repository, snapshot) =
        (opened.indexed.repository(), opened.snapshot(&base, Some(&replay)));
    let report = sources::compact(repository, &snapshot, replay, &job.options, &session.cx).await?;
    if session.ui.is_json() {
        let summary = Summary::new("logs compact", job.repository.to_string(), &report);
        session.ui.event(&Summary { job: Some(&args.job), ..summary });
    } else {
        session.ui.summary(describe(&report))?;
    }
    Ok(Outcome::with_warnings(report.warnings))
}

/// What was made, in one line.
fn describe(report: &BackupReport) -> String {
    let id = report.snapshot.map(|id| paint(style::SNAPSHOT, id.short())).unwrap_or_default();
    format!(
        "{} a full snapshot {id}: {}, {} new",
        paint(style::GOOD, "Created"),
        human::size(report.totals.bytes),
        human::size(report.stored.packed_bytes),
    )
}
