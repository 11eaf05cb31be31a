//! The changes of members that the latest moment of a group leaves out.

use std::time::Duration;

use backup_control::groups::{Latest, Limit};
use jiff::Timestamp;
use serde::Serialize;

use crate::command_error::CommandResult;
use crate::human;
use crate::session::Session;

/// Length of changes that are left out without a question: the latest moments of members that are
/// all followed differ by some seconds.
const ACCEPTED_LOSS: Duration = Duration::from_secs(60);

/// Why the latest moment of a group is not later.
#[derive(Serialize)]
pub(super) struct LimitJson<'a> {
    /// The member that is known the least far.
    job: &'a str,
    not_restored: Vec<NewerJson<'a>>,
}

/// The last change of a member that the moment leaves out.
#[derive(Serialize)]
struct NewerJson<'a> {
    job: &'a str,
    last: Timestamp,
}

impl<'a> From<&'a Limit> for LimitJson<'a> {
    fn from(limit: &'a Limit) -> Self {
        let newer = limit.newer.iter().map(|(job, last)| NewerJson { job, last: *last });
        Self { job: &limit.job, not_restored: newer.collect() }
    }
}

/// Names the member that limits the moment of a group, and how much newer the others are.
pub(super) fn words(limit: &Limit, moment: Timestamp) -> String {
    let name = |job: &String| human::text(job.as_bytes());
    let newer = limit.newer.iter().map(|(job, last)| {
        let by = human::duration(human::between(moment, *last));
        format!("{} (newer by {by})", name(job))
    });
    format!(
        "Job {} limits this moment: its log is known no further. Not restored are the last changes \
         of {}",
        name(&limit.job),
        newer.collect::<Vec<_>>().join(", ")
    )
}

/// Requires a confirmation to leave out the newest changes of some members.
pub(super) async fn confirm(session: &Session, latest: &Latest) -> CommandResult<()> {
    let Some(limit) = &latest.limit else { return Ok(()) };
    let lost = limit.lost(latest.moment);
    if lost <= ACCEPTED_LOSS {
        return Ok(());
    }
    let question = format!("Restore without up to {} of newer changes?", human::duration(lost));
    session.confirm(&question).await
}
