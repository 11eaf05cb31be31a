//! Groups: jobs that are backed up together, and restored to one moment.
//!
//! Every member stops before its first event behind the moment, by the clock of its own source. If
//! somebody wrote to one, waited for the answer, and then wrote to another, a moment that has the
//! second has the first: a moment is the end of a millisecond, because the clock of MongoDB has no
//! finer one. Clocks of several machines have to agree for that. Events of Redis have the time at
//! which they were received, which is never too early.
//!
//! Files and logical backups of PostgreSQL have no log: a moment takes their newest snapshot before
//! it.

use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::log::{
    LogReplay, LogView, Position, Refusal, Stream, Target, Timeline, latest_common,
};
use backup_core::repository::{IndexedRepository, SnapshotInfo, SnapshotList};
use jiff::{SignedDuration, Timestamp};

use crate::config::SourceKind;
use crate::error::{Error, Result};
use crate::logs::{self, Answer};
use crate::moment as moments;
use crate::snapshots::Now;
use crate::sources::LOGICAL;

/// What helps after something that is no moment of a group.
const HINT: &str = "write `latest`, or a time such as `2026-11-21 14:30` or `2h ago`; a position \
                    belongs to one source only";

/// A member of a group, and what its repository has of it.
#[derive(Debug)]
pub struct Member {
    /// Its job.
    pub job: String,
    /// The kind of its snapshots, as in their tag `source`.
    pub source: &'static str,
    indexed: IndexedRepository,
    /// Its snapshots, oldest first.
    snapshots: Vec<SnapshotInfo>,
    /// Files and logical backups have none.
    log: Option<(Stream, LogView)>,
}

/// The latest moment of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The moment.
    pub moment: Timestamp,
    /// Why it is not later, if members have changes that it leaves out.
    pub limit: Option<Limit>,
}

/// Changes that the latest moment of a group leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The member that is known the least far.
    pub job: String,
    /// Members with later changes, and when their last ones were.
    pub newer: Vec<(String, Timestamp)>,
}

impl Limit {
    /// The time between the moment and the last change that it leaves out.
    #[must_use]
    pub fn lost(&self, moment: Timestamp) -> Duration {
        let last = self.newer.iter().map(|(_, last)| *last).max();
        last.and_then(|last| moment.duration_until(last).try_into().ok()).unwrap_or_default()
    }
}

/// What the moment of a group takes from a member.
#[derive(Debug)]
pub enum MemberPlan {
    /// This snapshot, and then the log.
    Log(Box<SnapshotInfo>, Arc<LogReplay>),
    /// The newest snapshot before the moment, of a member without a log.
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
        let mut snapshots: Vec<SnapshotInfo> =
            list.snapshots.iter().filter(is_own).cloned().collect();
        if snapshots.is_empty() {
            let error =
                CoreError::new(ErrorKind::NotFound, format!("there is no snapshot of job {job}"));
            return Err(error
                .with_hint(format!("create the first with `backup run {job}`"))
                .into());
        }
        let source = if is_logical(&snapshots) { LOGICAL } else { kind.as_str() };
        let mut indexed = indexed.clone();
        let log = match (kind, source) {
            (SourceKind::Files, _) => None,
            (_, LOGICAL) => {
                // Earlier ones, of another method, are restored to other targets.
                snapshots.retain(is_of_logical);
                None
            }
            _ => {
                let newest =
                    logs::newest_of_job(&snapshots, job).ok_or_else(|| without_log(job))?;
                let stream = logs::stream_of(&indexed, newest).await?;
                let view = LogView::load(indexed.repository(), &stream, cx).await?.of_job(job);
                indexed = indexed.including(view.snapshots(), cx).await?;
                Some((stream, view))
            }
        };
        Ok(Self { job: job.to_owned(), source, indexed, snapshots, log })
    }

    fn timeline(&self) -> Option<Timeline> {
        self.log.as_ref().map(|(_, view)| view.timeline())
    }

    /// The newest snapshot of a member without a log.
    fn newest_without_log(&self) -> Option<&SnapshotInfo> {
        if self.log.is_some() {
            return None;
        }
        self.snapshots.iter().rfind(|info| !info.snapshot.is_part())
    }

    /// What `moment` takes.
    ///
    /// # Errors
    /// Those of reading what the repository has.
    pub async fn plan(self, moment: Timestamp) -> Result<MemberPlan> {
        let Some((stream, mut view)) = self.log else {
            return Ok(of_snapshots(self.snapshots, moment));
        };
        view.refine(&self.indexed, moment).await?;
        match logs::answer(&self.indexed, stream, view, (None, None), &Target::Time(moment))? {
            Answer::Planned { base, replay } => Ok(MemberPlan::Log(base, replay)),
            Answer::Refused(refusal) => Ok(MemberPlan::Refused(refusal)),
        }
    }
}

/// Returns `true` if the newest snapshot of a job is a logical backup.
fn is_logical(snapshots: &[SnapshotInfo]) -> bool {
    snapshots.iter().rfind(|info| !info.snapshot.is_part()).is_some_and(is_of_logical)
}

fn is_of_logical(info: &SnapshotInfo) -> bool {
    info.snapshot.tag("source") == Some(LOGICAL)
}

/// The part of `moment` in a member without a log.
fn of_snapshots(snapshots: Vec<SnapshotInfo>, moment: Timestamp) -> MemberPlan {
    let mut whole = snapshots.into_iter().filter(|info| !info.snapshot.is_part()).peekable();
    let first = whole.peek().map(SnapshotInfo::time);
    if let Some(newest) = whole.take_while(|info| info.time() <= moment).last() {
        return MemberPlan::Snapshot(Box::new(newest));
    }
    let reason = match first {
        Some(first) => format!("the job has no log, and its first snapshot is of {first}"),
        None => "the job has no log, and no snapshot of all its data".to_owned(),
    };
    MemberPlan::Refused(Box::new(Refusal { reason, before: None, after: None }))
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
    let parsed = moments::of_log(text, now.time, now.zone);
    let wrong = |_| Error::invalid(format!("{text:?} is not a moment for a group")).with_hint(HINT);
    parsed.map(|moment| end_of_millisecond(moment.end())).map_err(wrong)
}

/// The latest moment that all members can be restored to; now, if none has a log.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is none.
pub fn latest(members: &[Member], now: Timestamp) -> Result<Latest> {
    let logged: Vec<(&str, Timeline)> = members
        .iter()
        .filter_map(|member| Some((member.job.as_str(), member.timeline()?)))
        .collect();
    let timelines: Vec<Timeline> = logged.iter().map(|(_, of)| of.clone()).collect();
    if timelines.is_empty() {
        return Ok(Latest { moment: end_of_millisecond(now), limit: None });
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
    let moment = whole.into_iter().find(is_there).ok_or_else(none)?;
    let snapshots: Vec<(&str, Timestamp)> = members
        .iter()
        .filter_map(|member| Some((member.job.as_str(), member.newest_without_log()?.time())))
        .collect();
    Ok(Latest { moment, limit: limit(&logged, &snapshots, moment) })
}

/// The member that limits a group to `moment`, if others have later changes. `snapshots` are the
/// newest ones of members without a log.
fn limit(
    members: &[(&str, Timeline)],
    snapshots: &[(&str, Timestamp)],
    moment: Timestamp,
) -> Option<Limit> {
    let plans: Vec<(&str, Timestamp, Timestamp)> = members
        .iter()
        .filter_map(|(job, timeline)| {
            let plan = timeline.plan(&Target::Latest).ok()?;
            let Position { branch, offset } = &plan.stop;
            let snapshot = Some(plan.base.time).filter(|_| plan.base.at == plan.stop);
            let last = timeline.time_at(branch, *offset).max(snapshot)?;
            Some((*job, plan.time?, last))
        })
        .collect();
    let last = plans.iter().map(|(job, _, last)| (*job, *last)).chain(snapshots.iter().copied());
    let newer: Vec<_> =
        last.filter(|(_, last)| *last > moment).map(|(job, last)| (job.to_owned(), last)).collect();
    let (job, ..) = plans.iter().min_by_key(|(_, complete, _)| *complete)?;
    (!newer.is_empty()).then(|| Limit { job: (*job).to_owned(), newer })
}

/// The first moment at which all of these snapshots are there: from it on the group can be restored
/// with them, as far as its logs go. None if one of them, of a source with a log, has no place in it.
#[must_use]
pub fn first_of<'a>(snapshots: impl IntoIterator<Item = &'a SnapshotInfo>) -> Option<Timestamp> {
    let time = |info: &SnapshotInfo| match info.snapshot.tag("source") {
        None | Some("files" | LOGICAL) => Some(info.time()),
        Some(_) => info.snapshot.x_log.as_ref().map(|log| log.time),
    };
    let times: Option<Vec<Timestamp>> = snapshots.into_iter().map(time).collect();
    times?.into_iter().max().map(end_of_millisecond)
}

#[cfg(test)]
mod tests {
    use backup_core::log::{Base, Place, Stretch, Tick, Watermark};
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
            ("1774778400", "2026-03-29T10:00:00.000999999Z"),
        ] {
            assert_eq!(moment(text, &now).unwrap(), end.parse().unwrap(), "{text}");
        }
        for wrong in ["latest", "main@5", "16/B374D848", "1640995200:1", ""] {
            assert_eq!(moment(wrong, &now).unwrap_err().hint(), Some(HINT), "{wrong}");
        }
        let moment = "2026-03-03T13:00:00.000999999Z".parse().unwrap();
        assert_eq!(latest(&[], now.time).unwrap(), Latest { moment, limit: None });
    }

    /// A log of events at these seconds, followed until `complete`.
    fn timeline(events: &[i64], complete: Option<i64>) -> Timeline {
        let time = |second| Timestamp::from_second(second).unwrap();
        let ticks = events.iter().zip(1..).map(|(at, offset)| Tick { offset, time: time(*at) });
        let (branch, end) = (String::new(), events.len() as u64);
        let (ticks, place) = (ticks.collect(), Place::Slice("1".to_owned()));
        let stretch = Stretch { branch, from: 0, to: end, ticks, place, bytes: 1 };
        let base = Base {
            id: "a1".repeat(32).parse().unwrap(),
            needs: 0,
            at: Position::new("", 0),
            is_whole: false,
            time: time(0),
            bytes: 1,
            rate: None,
        };
        let watermark = complete.map(|at| Watermark::new(Position::new("", end), time(at)));
        Timeline::new(vec![base], [stretch], [], Vec::new()).complete_up_to(watermark)
    }

    #[test]
    fn limit_names_the_oldest_member_and_later_changes() {
        let moment = Timestamp::from_second(600).unwrap();
        let members = [
            ("idle", timeline(&[10], Some(600))),
            ("busy", timeline(&[10, 700], Some(900))),
            ("idle since", timeline(&[10, 500], Some(900))),
        ];
        let found = limit(&members, &[("files", moment)], moment).unwrap();
        let newer = vec![("busy".to_owned(), Timestamp::from_second(700).unwrap())];
        assert_eq!(found, Limit { job: "idle".to_owned(), newer });
        assert_eq!(found.lost(moment), Duration::from_secs(100));
        assert_eq!(limit(&members[..1], &[], moment), None, "its watermark is no change");
        let later = Timestamp::from_second(660).unwrap();
        let found = limit(&members[..1], &[("files", later)], moment).unwrap();
        assert_eq!(
            found,
            Limit { job: "idle".to_owned(), newer: vec![("files".to_owned(), later)] }
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
        SnapshotInfo::new("a1".repeat(32).parse().unwrap(), serde_json::from_value(json).unwrap())
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
        let logical = info(LOGICAL, "2026-03-01T12:00:09Z", None);
        let moment = first_of([&files, &last, &logical]).unwrap();
        assert_eq!(moment, "2026-03-01T12:00:09.000999999Z".parse().unwrap());
    }

    #[test]
    fn member_without_log_takes_the_newest_whole_snapshot_before_the_moment() {
        let at = |time: &str| info(LOGICAL, time, None);
        let (early, late) = (at("2026-03-01T12:00:00Z"), at("2026-03-01T14:00:00Z"));
        let mut part = at("2026-03-01T13:00:00Z");
        let snapshot = Arc::make_mut(&mut part.snapshot);
        snapshot.x_part = Some(serde_json::from_value(serde_json::json!({})).unwrap());
        let all = vec![early.clone(), part.clone(), late.clone()];
        let taken = |moment: &str| match of_snapshots(all.clone(), moment.parse().unwrap()) {
            MemberPlan::Snapshot(info) => Ok(info.time()),
            MemberPlan::Refused(refusal) => Err(refusal.reason),
            MemberPlan::Log(..) => panic!("there is no log"),
        };
        assert_eq!(taken("2026-03-01T13:30:00Z"), Ok(early.time()), "not the part");
        assert_eq!(taken("2026-03-01T14:00:00Z"), Ok(late.time()));
        assert!(taken("2026-03-01T11:00:00Z").unwrap_err().contains("2026-03-01T12:00:00Z"));
        let refused = of_snapshots(vec![part.clone()], late.time());
        assert!(matches!(refused, MemberPlan::Refused(_)), "{refused:?}");
    }

    #[test]
    fn newest_whole_snapshot_decides_the_method_of_a_job() {
        let physical = info("postgres", "2026-03-01T12:00:00Z", Some("2026-03-01T12:00:02Z"));
        let logical = info(LOGICAL, "2026-03-01T13:00:00Z", None);
        assert!(is_logical(&[physical.clone(), logical.clone()]));
        assert!(!is_logical(&[logical, physical]));
        assert!(!is_logical(&[]));
    }
}
