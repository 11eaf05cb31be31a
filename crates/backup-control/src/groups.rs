//! Groups: jobs that are backed up together, and restored to one moment.
//!
//! Every member stops before its first event behind the moment, by the clock of its own source. If
//! somebody wrote to one, waited for the answer, and then wrote to another, a moment that has the
//! second has the first: a moment is the end of a millisecond, because the clock of MongoDB has no
//! finer one. Clocks of several machines have to agree for that. Events of Redis have the time at
//! which they were received, which is never too early.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::log::{LogReplay, LogView, Refusal, Stream, Target, Timeline, latest_common};
use backup_core::repository::{IndexedRepository, SnapshotInfo, SnapshotList};
use jiff::{SignedDuration, Timestamp};

use crate::config::SourceKind;
use crate::error::{Error, Result};
use crate::logs::{self, Answer};
use crate::moment::Moment;
use crate::snapshots::Now;

/// What helps after something that is no moment of a group.
const HINT: &str = "write `latest`, or a time such as `2026-11-21 14:30` or `2h ago`; a position \
                    belongs to one source only";

/// A member of a group, and what its repository has of it.
#[derive(Debug)]
pub struct Member {
    /// Its job.
    pub job: String,
    indexed: IndexedRepository,
    /// Its snapshots, oldest first.
    snapshots: Vec<SnapshotInfo>,
    /// Files have none.
    log: Option<(Stream, LogView)>,
}

/// What the moment of a group takes from a member.
#[derive(Debug)]
pub enum MemberPlan {
    /// This snapshot, and then the log.
    Log(Box<SnapshotInfo>, Arc<LogReplay>),
    /// The newest snapshot before the moment: there is no log.
    Snapshot(Box<SnapshotInfo>),
    /// It cannot be restored.
    Refused(Box<Refusal>),
}

impl Member {
    /// What there is of the job `job`, whose source is of `kind`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no snapshot; [`Error::Invalid`] for a database without a
    /// log; those of the sink.
    pub async fn load(
        job: &str,
        kind: SourceKind,
        indexed: &IndexedRepository,
        list: &SnapshotList,
        cx: &Context,
    ) -> Result<Self> {
        let is_own = |info: &&SnapshotInfo| info.snapshot.tag("job") == Some(job);
        let snapshots: Vec<SnapshotInfo> = list.snapshots.iter().filter(is_own).cloned().collect();
        if snapshots.is_empty() {
            let error =
                CoreError::new(ErrorKind::NotFound, format!("there is no snapshot of job {job}"));
            return Err(error
                .with_hint(format!("create the first with `backup run {job}`"))
                .into());
        }
        let log = match kind {
            SourceKind::Files => None,
            _ => {
                let newest =
                    logs::newest_of_job(&snapshots, job).ok_or_else(|| without_log(job))?;
                let stream = logs::stream_of(indexed, newest).await?;
                let view = LogView::load(indexed.repository(), &stream, cx).await?.of_job(job);
                Some((stream, view))
            }
        };
        Ok(Self { job: job.to_owned(), indexed: indexed.clone(), snapshots, log })
    }

    fn timeline(&self) -> Option<Timeline> {
        self.log.as_ref().map(|(_, view)| view.timeline())
    }

    /// What `moment` takes.
    ///
    /// # Errors
    /// Those of reading what the repository has.
    pub async fn plan(self, moment: Timestamp) -> Result<MemberPlan> {
        let Some((stream, mut view)) = self.log else {
            let is_meant =
                |info: &SnapshotInfo| info.snapshot.time <= moment && !info.snapshot.is_part();
            let newest = self.snapshots.into_iter().rev().find(is_meant);
            let reason = || "there is no snapshot before this moment".to_owned();
            return Ok(match newest {
                Some(info) => MemberPlan::Snapshot(Box::new(info)),
                None => MemberPlan::Refused(Box::new(Refusal {
                    reason: reason(),
                    before: None,
                    after: None,
                })),
            });
        };
        view.refine(&self.indexed, moment).await?;
        match logs::answer(&self.indexed, stream, view, None, &Target::Time(moment))? {
            Answer::Planned { base, replay } => Ok(MemberPlan::Log(base, replay)),
            Answer::Refused(refusal) => Ok(MemberPlan::Refused(refusal)),
        }
    }
}

fn without_log(job: &str) -> Error {
    Error::invalid(format!(
        "no snapshot of job {job} has a log: each holds one moment only"
    ))
    .with_hint(
        "capture the logs of all databases of the group with `backup logs follow`: a restore to \
         one moment requires them",
    )
}

/// The last moment of the millisecond in which `moment` lies.
fn end_of_millisecond(moment: Timestamp) -> Timestamp {
    let millis = moment.as_nanosecond().div_euclid(1_000_000);
    // At the end of the calendar there is no later one.
    Timestamp::from_nanosecond(millis * 1_000_000 + 999_999).unwrap_or(moment)
}

/// The moment that somebody means: a time; a day means its end.
///
/// # Errors
/// [`Error::Invalid`] for anything else.
pub fn moment(text: &str, now: &Now<'_>) -> Result<Timestamp> {
    let parsed = Moment::parse(text, now.time, now.zone);
    let wrong = |_| Error::invalid(format!("{text:?} is not a moment for a group")).with_hint(HINT);
    parsed.map(|moment| end_of_millisecond(moment.end())).map_err(wrong)
}

/// The latest moment that all members can be restored to; now, if none has a log.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is none.
pub fn latest(members: &[Member], now: Timestamp) -> Result<Timestamp> {
    let timelines: Vec<Timeline> = members.iter().filter_map(Member::timeline).collect();
    if timelines.is_empty() {
        return Ok(end_of_millisecond(now));
    }
    let none = || {
        CoreError::new(
            ErrorKind::NotFound,
            "there is no moment that all members can be restored \
             to",
        )
        .with_hint(
            "see the moments of each member with `backup timeline JOB`, and capture more with \
             `backup logs follow JOB`",
        )
    };
    let found = latest_common(&timelines).ok_or_else(none)?;
    let before = found.checked_sub(SignedDuration::from_millis(1)).unwrap_or(found);
    let is_there =
        |moment: &Timestamp| timelines.iter().all(|of| of.plan(&Target::Time(*moment)).is_ok());
    let whole = [found, before].map(end_of_millisecond);
    Ok(whole.into_iter().find(is_there).ok_or_else(none)?)
}

/// The first moment at which all of these snapshots are there: from it on the group can be restored
/// with them, as far as its logs go. None if one of them has no log: it stands for another moment.
#[must_use]
pub fn first_of<'a>(snapshots: impl IntoIterator<Item = &'a SnapshotInfo>) -> Option<Timestamp> {
    let time = |info: &SnapshotInfo| match info.snapshot.tag("source") {
        None | Some("files") => Some(info.snapshot.time),
        Some(_) => info.snapshot.x_log.as_ref().map(|log| log.time),
    };
    let times: Option<Vec<Timestamp>> = snapshots.into_iter().map(time).collect();
    times?.into_iter().max().map(end_of_millisecond)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn moments_are_ends_of_milliseconds() {
        let now = Now { time: "2026-03-03T13:00:00Z".parse().unwrap(), zone: &TimeZone::UTC };
        for (text, end) in [
            ("2026-03-01 14:30", "2026-03-01T14:30:00.000999999Z"),
            ("2026-03-01T14:30:00.1234Z", "2026-03-01T14:30:00.123999999Z"),
            ("2026-03-01", "2026-03-01T23:59:59.999999999Z"),
            ("1h ago", "2026-03-03T12:00:00.000999999Z"),
        ] {
            assert_eq!(moment(text, &now).unwrap(), end.parse().unwrap(), "{text}");
        }
        for wrong in ["latest", "main@5", "16/B374D848", "1640995200:1", ""] {
            assert_eq!(moment(wrong, &now).unwrap_err().hint(), Some(HINT), "{wrong}");
        }
        assert_eq!(
            latest(&[], now.time).unwrap(),
            "2026-03-03T13:00:00.000999999Z".parse().unwrap()
        );
    }

    fn info(source: &str, time: &str, log: Option<&str>) -> SnapshotInfo {
        let log = log.map(|time| {
            let start = serde_json::json!({ "at": { "branch": "main", "offset": 5 }, "needs": 5 });
            serde_json::json!({ "stream": "s", "start": start, "time": time, "extents": [] })
        });
        let json = serde_json::json!({
            "time": time, "tree": "00".repeat(32), "paths": ["/data"], "hostname": "h", "username": "u",
            "tags": [format!("source={source}")], "x_log": log,
        });
        SnapshotInfo {
            id: "a1".repeat(32).parse().unwrap(),
            snapshot: serde_json::from_value(json).unwrap(),
        }
    }

    #[test]
    fn the_first_moment_is_that_of_the_last_snapshot() {
        let files = info("files", "2026-03-01T12:00:00Z", None);
        let first = info("postgres", "2026-03-01T12:00:00Z", Some("2026-03-01T12:00:02.5Z"));
        let last = info("mongodb", "2026-03-01T12:00:00Z", Some("2026-03-01T12:00:07.25Z"));
        let moment = first_of([&files, &first, &last]).unwrap();
        assert_eq!(moment, "2026-03-01T12:00:07.250999999Z".parse().unwrap());
        assert_eq!(first_of([&first, &info("redis", "2026-03-01T12:00:00Z", None)]), None);
        assert_eq!(first_of([]), None);
    }
}
