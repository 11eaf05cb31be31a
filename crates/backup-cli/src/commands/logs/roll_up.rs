//! `backup logs roll-up`.

use backup_control::logs;
use backup_core::log::{RollUpReport, roll_up};

use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::commands::view::Summary;
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};

/// Put the captured log of a job into a snapshot now
///
/// `backup logs follow` and `backup run` do this automatically. The new snapshot of type `log`
/// replaces the previous one. Slices are removed once they have been in a snapshot for the time of
/// `keep_slices`. The exit code is 11 if another process rolls up the same log.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Job of the configuration
    #[arg(value_name = "JOB")]
    job: String,
}

pub(super) async fn run(session: &Session, args: &Args) -> CommandResult {
    let job = super::configured(session, &args.job)?;
    let opened = session.open_indexed_at(&job.repository).await?;
    let stream = super::stream_of(session, &opened, &args.job).await?;
    let options = logs::roll_up_options(&job, &session.holder());
    let report = roll_up(opened.indexed.repository(), &stream, &options, &session.cx)
        .await
        .map_err(|error| in_use(error.into(), &args.job))?;
    if session.ui.is_json() {
        let summary = Summary::new("logs roll-up", job.repository.to_string(), &report);
        session.ui.event(&Summary { job: Some(&args.job), ..summary });
    } else {
        session.ui.summary(describe(&report))?;
    }
    Ok(Outcome::Success)
}

/// Names the job whose log another process rolls up.
fn in_use(error: CommandError, job: &str) -> CommandError {
    if error.is_busy() {
        error.context(format_args!("job {}", human::text(job.as_bytes())))
    } else {
        error
    }
}

/// What was rolled up, in one line.
fn describe(report: &RollUpReport) -> String {
    let removed = match report.removed {
        0 => String::new(),
        some => format!("; {} removed", human::count(some, "old slice", "old slices")),
    };
    if report.snapshots.is_empty() {
        return format!("Nothing new to roll up{removed}");
    }
    let ids: Vec<String> =
        report.snapshots.iter().map(|id| paint(style::SNAPSHOT, id.short())).collect();
    format!(
        "{} {} ({}) into {}{removed}",
        paint(style::GOOD, "Rolled up"),
        human::count(report.slices, "slice", "slices"),
        human::size(report.bytes),
        ids.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_came_of_it() {
        assert_eq!(describe(&RollUpReport::default()), "Nothing new to roll up");
        let removed = RollUpReport { removed: 1, ..RollUpReport::default() };
        assert_eq!(describe(&removed), "Nothing new to roll up; 1 old slice removed");
        let id = "a1".repeat(32).parse().unwrap();
        let done = RollUpReport { snapshots: vec![id], slices: 3, bytes: 2048, ..removed };
        let text = describe(&done);
        assert!(text.contains("3 slices (2.0 KiB) into") && text.contains("a1a1a1a1"), "{text}");
    }
}
