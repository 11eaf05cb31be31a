//! Logs of jobs: which log is meant, how it is captured, and what a moment of it takes to be
//! restored.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`follow_options`], [`stream_of`], [`plan()`] |
//! | `capturers.rs` | captures on this machine whose processes have died |
//! | `files.rs` | logs of PostgreSQL file by file: [`files::push`], [`files::fetch`] |
//! | `tests.rs` | tests of all that |

mod capturers;
#[cfg_attr(not(feature = "postgres"), path = "without_files.rs")]
pub mod files;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::error::Error as CoreError;
use backup_core::log::{
    CaptureOptions, DeadHolders, FollowOptions, LogReplay, LogView, Position, Refusal,
    RollUpOptions, SpoolOptions, Stream, Target, Timeline,
};
use backup_core::repository::{IndexedRepository, SnapshotInfo};

use crate::config::{LogsConfig, SourceKind};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::jobs::Job;
use crate::moment::{self, MIN_OPLOG_SECONDS, hint_at_day};
use crate::snapshots::Now;
use crate::{cache, state};
use capturers::Capturer;

/// Room of a spool if nothing is said: ten minutes at 5 MB/s, and a third more.
const SPOOL_SIZE: u64 = 4 << 30;
/// What helps after something that is no moment of a log.
const HINT: &str = "write `latest`, a position as `backup timeline` shows it (branch@offset), or a \
                    time such as `2026-11-21 14:30` or `2h ago`";

/// How the log of a job is followed into the repository called `repository`. The directory of the
/// spool is made.
///
/// # Errors
/// [`Error::Invalid`] if there is no place for a spool, or it cannot be made.
pub fn follow_options(
    job: &Job,
    repository: &str,
    holder: &str,
    env: &Environment,
) -> Result<FollowOptions> {
    let (logs, default) = (&job.logs, FollowOptions::default());
    let spool = match spool_dir(logs, repository, env)? {
        Some(dir) => {
            make_spool(&dir).map_err(|error| {
                Error::invalid(format!("cannot create the spool {}: {error}", dir.display()))
                    .with_hint("set `spool` of the job to a directory that this user may write to")
            })?;
            Some(SpoolOptions { dir, max_bytes: logs.spool_size.map_or(SPOOL_SIZE, |size| size.0) })
        }
        None => None,
    };
    let flush_bytes = logs.flush_size.and_then(|size| usize::try_from(size.0).ok());
    let capture = CaptureOptions {
        flush_bytes: flush_bytes.unwrap_or(default.capture.flush_bytes),
        flush_after: logs
            .flush_after
            .as_ref()
            .map_or(default.capture.flush_after, crate::units::Time::length),
        acknowledge: logs.acknowledge.map_or(default.capture.acknowledge, Into::into),
        spool,
        holder: holder.to_owned(),
        dead: dead_holders(job, repository, holder, env),
        lease_period: logs.lease_period(job.repository.idle_record()),
        ..default.capture
    };
    Ok(FollowOptions {
        capture,
        roll_up: roll_up_options(job, holder),
        roll_up_every: logs
            .roll_up_every
            .as_ref()
            .map_or(default.roll_up_every, crate::units::Time::length),
        retry: default.retry,
        waits: default.waits,
    })
}

/// Captures of this job on this machine whose processes have died.
fn dead_holders(job: &Job, repository: &str, holder: &str, env: &Environment) -> DeadHolders {
    let Some(state) = state::dir(env) else { return DeadHolders::default() };
    let file = state.join("capture").join(repository).join(&job.options.job);
    let capturer = Capturer::new(file, holder);
    DeadHolders::new(move || capturer.dead())
}

/// How the log of a job is rolled up.
#[must_use]
pub fn roll_up_options(job: &Job, holder: &str) -> RollUpOptions {
    let default = RollUpOptions::default();
    RollUpOptions {
        write: job.options.write.clone(),
        program: job.options.program.clone(),
        holder: holder.to_owned(),
        grace: job.logs.keep_slices.as_ref().map_or(default.grace, crate::units::Time::length),
    }
}

/// Every repository has a spool of its own: what waits in one is sealed with its key.
fn spool_dir(logs: &LogsConfig, repository: &str, env: &Environment) -> Result<Option<PathBuf>> {
    let base = match &logs.spool {
        Some(dir) => dir.clone(),
        None if logs.has_spool() => state::dir(env)
            .ok_or_else(|| {
                Error::invalid("no directory for the spool is known")
                    .with_hint("set `spool` of the job, or BACKUP_STATE_DIR, to a directory")
            })?
            .join("spool"),
        None => return Ok(None),
    };
    Ok(Some(base.join(repository)))
}

/// For this user only, also if it was there already.
fn make_spool(dir: &Path) -> io::Result<()> {
    cache::create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

/// The newest snapshot of each job that has a position in a log.
#[must_use]
pub fn newest_by_job(snapshots: &[SnapshotInfo]) -> HashMap<&str, &SnapshotInfo> {
    let with_log = snapshots.iter().filter(|info| info.snapshot.x_log.is_some());
    // The last one of a job, which is the newest, stays.
    with_log.filter_map(|info| Some((info.snapshot.tag("job")?, info))).collect()
}

/// The newest snapshot of a job that says where it is in a log.
#[must_use]
pub fn newest_of_job<'a>(snapshots: &'a [SnapshotInfo], job: &str) -> Option<&'a SnapshotInfo> {
    snapshots
        .iter()
        .rev()
        .find(|info| info.snapshot.x_log.is_some() && info.snapshot.tag("job") == Some(job))
}

/// The log that a snapshot has a place in.
///
/// # Errors
/// [`Error::Invalid`] if it has none; [`Error::Core`] if it cannot be read.
pub async fn stream_of(indexed: &IndexedRepository, info: &SnapshotInfo) -> Result<Stream> {
    let short = info.id.short();
    let log = info.snapshot.x_log.as_ref().ok_or_else(|| without_log(info))?;
    let manifest = indexed.snapshot(info).manifest().await?;
    let manifest =
        manifest.ok_or_else(|| CoreError::damaged(format!("snapshot {short} has no manifest")))?;
    let stream = Stream::of(&manifest.source);
    if stream.name() != log.stream {
        return Err(CoreError::damaged(format!("snapshot {short} names two different logs")).into());
    }
    Ok(stream)
}

/// The error for a snapshot that no log goes on from.
#[must_use]
pub fn without_log(info: &SnapshotInfo) -> Error {
    Error::invalid(format!(
        "snapshot {} has no log: it holds one moment only",
        info.id.short()
    ))
    .with_hint(
        "leave --at out, and name the last snapshot before the moment, as `backup list` shows it",
    )
}

/// What a moment of a log takes.
#[derive(Debug)]
pub enum Answer {
    /// It can be restored.
    Planned {
        /// Begin with this snapshot.
        base: Box<SnapshotInfo>,
        /// Then apply this.
        replay: Arc<LogReplay>,
    },
    /// It cannot.
    Refused(Box<Refusal>),
}

/// Plans a restore of the moment `at` (`latest`, a position or a time) of the log that `named` has
/// a place in, from the snapshots of its job.
///
/// # Errors
/// [`Error::Invalid`] for what is no moment, and a snapshot without a log; [`Error::Core`] if
/// something cannot be read.
pub async fn plan(
    indexed: &IndexedRepository,
    named: &SnapshotInfo,
    at: &str,
    now: &Now<'_>,
    cx: &Context,
) -> Result<Answer> {
    plan_from(indexed, named, None, at, now, cx).await
}

/// The same, beginning with the snapshot `begin` and no other.
///
/// # Errors
/// As [`plan()`].
pub async fn plan_from(
    indexed: &IndexedRepository,
    named: &SnapshotInfo,
    begin: Option<&SnapshotInfo>,
    at: &str,
    now: &Now<'_>,
    cx: &Context,
) -> Result<Answer> {
    let stream = stream_of(indexed, named).await?;
    let mut view = LogView::load(indexed.repository(), &stream, cx).await?;
    // Snapshots of other jobs may hold something else.
    if let Some(job) = named.snapshot.tag("job") {
        view = view.of_job(job);
    }
    let indexed = &indexed.including(view.snapshots(), cx).await?;
    // The times of a server that was replaced are those of its own history.
    let history = named.snapshot.x_log.as_ref().map(|log| log.start.at.branch.as_str());
    let timeline = view.timeline();
    let branches = timeline.branch_names();
    let current = in_history(timeline, history).current_branch();
    let moment = target(at, named.snapshot.tag("source"), current.as_deref(), now)?;
    let target = full_name(moment, &branches, current.as_deref());
    if let Target::Time(time) = target {
        view.refine(indexed, time).await?;
    }
    answer(indexed, stream, view, (begin, history), &target)
}

/// The history that the named branch belongs to.
fn in_history(timeline: Timeline, branch: Option<&str>) -> Timeline {
    match branch {
        Some(branch) => timeline.of_history(branch),
        None => timeline,
    }
}

/// What `target` takes, of a view that was refined for it: beginning with a snapshot, and for a time
/// in the history of a branch.
pub(crate) fn answer(
    indexed: &IndexedRepository,
    stream: Stream,
    view: LogView,
    (begin, history): (Option<&SnapshotInfo>, Option<&str>),
    target: &Target,
) -> Result<Answer> {
    let mut timeline = match target {
        Target::Position(_) | Target::Latest => view.timeline(),
        Target::Time(_) => in_history(view.timeline(), history),
    };
    if let Some(begin) = begin {
        timeline = timeline.beginning_with(begin.id);
    }
    let plan = match timeline.plan(target) {
        Ok(plan) => plan,
        Err(refusal) => return Ok(Answer::Refused(refusal)),
    };
    let gone = || CoreError::damaged(format!("snapshot {} is missing", plan.base.id.short()));
    let base = view.snapshots().find(|info| info.id == plan.base.id).cloned().ok_or_else(gone)?;
    let replay = Arc::new(LogReplay::new(indexed.clone(), stream, view, plan));
    Ok(Answer::Planned { base: Box::new(base), replay })
}

/// Which moment is meant: `latest`, `branch@offset`, for MongoDB also `seconds:increment`, for
/// PostgreSQL a place as its servers write it, also `timeline@place`, for Redis an offset alone,
/// else a time, also in seconds since 1970; a day means its end.
///
/// # Errors
/// [`Error::Invalid`] for anything else.
pub fn target(
    text: &str,
    source: Option<&str>,
    branch: Option<&str>,
    now: &Now<'_>,
) -> Result<Target> {
    let text = text.trim();
    if text == "latest" {
        return Ok(Target::Latest);
    }
    if let Ok(position) = text.parse::<Position>() {
        return Ok(Target::Position(position));
    }
    if source == Some(SourceKind::Mongodb.as_str())
        && let Some((seconds, increment)) = text.split_once(':')
        && let (Ok(seconds), Ok(increment)) = (seconds.parse::<u32>(), increment.parse::<u32>())
        && seconds >= MIN_OPLOG_SECONDS
    {
        let offset = u64::from(seconds) << 32 | u64::from(increment);
        return Ok(Target::Position(Position::new(branch.unwrap_or_default(), offset)));
    }
    if source == Some(SourceKind::Postgres.as_str()) {
        let (timeline, place) = text.split_once('@').unwrap_or((branch.unwrap_or_default(), text));
        if let Some(offset) = lsn(place) {
            return Ok(Target::Position(Position::new(timeline, offset)));
        }
    }
    if source == Some(SourceKind::Redis.as_str())
        && let Ok(offset) = text.parse::<u64>()
    {
        return Ok(Target::Position(Position::new(branch.unwrap_or_default(), offset)));
    }
    let moment = moment::of_log(text, now.time, now.zone).map_err(|_| {
        let hint = hint_at_day(text).unwrap_or_else(|| HINT.to_owned());
        Error::invalid(format!("{text:?} is not a moment of a log")).with_hint(hint)
    })?;
    Ok(Target::Time(moment.end()))
}

/// Shortest beginning of a branch that stands for its name: tables show eight characters.
const MIN_PREFIX: usize = 8;

/// Replaces the beginning of a branch by its name, if it is the beginning of one branch only. No
/// name at all means the current one, if no branch is without a name.
fn full_name(target: Target, branches: &[String], current: Option<&str>) -> Target {
    let Target::Position(at) = target else { return target };
    if let Some(current) = current
        && at.branch.is_empty()
        && branches.iter().all(|name| !name.is_empty())
    {
        return Target::Position(Position::new(current, at.offset));
    }
    let mut named = branches.iter().filter(|name| name.starts_with(&at.branch));
    match (named.next(), named.next()) {
        (Some(name), None) if at.branch.len() >= MIN_PREFIX => {
            Target::Position(Position::new(name.clone(), at.offset))
        }
        _ => Target::Position(at),
    }
}

/// A position in a log of PostgreSQL as its servers write it: `16/B374D848`; `None` of other logs.
/// Only the branches of PostgreSQL are numbers, those of timelines: the others have no name, or
/// identifiers of 32 or 40 digits.
#[must_use]
pub fn lsn_of(position: &Position) -> Option<String> {
    let Position { branch, offset } = position;
    let is_number = (1..=10).contains(&branch.len()) && branch.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| format!("{:X}/{:X}", offset >> 32, offset & u64::from(u32::MAX)))
}

/// A place in the log of PostgreSQL: `16/B374D848`.
fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |text: &str| u32::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'));
    Some(u64::from(half(high)?) << 32 | u64::from(half(low)?))
}

#[cfg(test)]
mod tests;
