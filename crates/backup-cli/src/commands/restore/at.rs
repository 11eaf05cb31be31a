//! A moment of a log: which snapshot a restore of it begins with, and what is applied to that.

use std::sync::Arc;
use std::time::Duration;

use backup_control::config::SourceKind;
use backup_control::logs::{self, Answer};
use backup_control::snapshots::Choice;
use backup_control::sources::is_event;
use backup_core::error::ErrorKind;
use backup_core::log::{LogReplay, Plan, Position, Refusal};
use backup_core::repository::SnapshotInfo;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::args::NamingArgs;
use crate::before::Before;
use crate::command_error::{CommandError, CommandResult, Kind};
use crate::commands::logs::position;
use crate::human;
use crate::opened::Opened;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// What is restored: a snapshot, and what is applied to it.
pub(in crate::commands) struct Chosen {
    pub(in crate::commands) info: SnapshotInfo,
    pub(in crate::commands) log: Option<Arc<LogReplay>>,
    /// The moment, if only the source knows whether the snapshot stands for it.
    pub(in crate::commands) until: Option<String>,
}

/// A plan in JSON.
#[derive(Debug, Serialize)]
pub(super) struct LogJson<'a> {
    base: String,
    pieces: usize,
    bytes: u64,
    estimate_ms: Option<u64>,
    stop: &'a Position,
    /// The same as servers of PostgreSQL write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    lsn: Option<String>,
    time: Option<Timestamp>,
    until: Option<Timestamp>,
}

#[derive(Serialize)]
struct RefusalEvent<'a> {
    schema_version: u32,
    event: &'static str,
    #[serde(flatten)]
    refusal: &'a Refusal,
}

/// What somebody asks for.
pub(in crate::commands) struct Asked<'a> {
    pub(in crate::commands) snapshot: Option<&'a str>,
    pub(in crate::commands) at: Option<&'a str>,
    /// A position of MongoDB before which the restore ends, in place of `at`.
    pub(in crate::commands) before: Option<&'a Before>,
    pub(in crate::commands) filter: &'a NamingArgs,
}

/// Chooses what is restored.
pub(in crate::commands) async fn choose(
    session: &Session,
    opened: &Opened,
    asked: Asked<'_>,
) -> CommandResult<Chosen> {
    let choice = asked.filter.choice(session)?;
    let named = match asked.snapshot {
        Some(name) => opened.find(session, name, &choice).await?,
        None => newest_with_log(session, opened, &choice)?,
    };
    let (info, log) = (named.clone(), None);
    let at = match asked.before {
        Some(before) => Some(before.of(named)?),
        None => asked.at,
    };
    match at {
        None => match end_of(named) {
            Some(end) => planned(session, opened, named, &end.to_string()).await,
            None => Ok(Chosen { info, log, until: None }),
        },
        Some(at) if is_event(named.snapshot.tag("source"), at) => {
            let begin = asked.snapshot.map(|_| named);
            match logs::plan_from(
                &opened.indexed,
                named,
                begin,
                "latest",
                &session.now(),
                &session.cx,
            )
            .await?
            {
                Answer::Planned { base, replay } => {
                    Ok(Chosen { info: *base, log: Some(replay), until: Some(at.to_owned()) })
                }
                Answer::Refused(refusal) => Err(refused(&refusal, session.zone())),
            }
        }
        Some(at) if named.snapshot.x_log.is_some() => planned(session, opened, named, at).await,
        // A snapshot from before there was a log, or of a server that has none: its source says
        // whether it stands for that moment.
        Some(at) if named.snapshot.tag("source") == Some("mongodb") => {
            Ok(Chosen { info, log, until: Some(at.to_owned()) })
        }
        Some(_) => Err(logs::without_log(named).into()),
    }
}

/// Where the log ends that a snapshot of PostgreSQL or Redis holds: the snapshot stands for that,
/// and restoring gets there.
pub(in crate::commands) fn end_of(named: &SnapshotInfo) -> Option<Position> {
    let kinds = [SourceKind::Postgres.as_str(), SourceKind::Redis.as_str()];
    let is_one = named.snapshot.tag("source").is_some_and(|kind| kinds.contains(&kind));
    let extents = named.snapshot.x_log.as_ref().filter(|_| is_one)?.extents.iter();
    let newest = extents.max_by_key(|extent| (extent.last.map(|last| last.time), extent.to))?;
    Some(Position::new(newest.branch.clone(), newest.to))
}

/// Without a name, the only source with a log is meant.
fn newest_with_log<'a>(
    session: &Session,
    opened: &'a Opened,
    choice: &Choice,
) -> CommandResult<&'a SnapshotInfo> {
    let logged = |info: &&SnapshotInfo| info.snapshot.x_log.is_some() && choice.matches(info);
    let mut logged = opened.snapshots.snapshots.iter().rev().filter(logged);
    let Some(newest) = logged.next() else {
        session.require_job(&opened.snapshots, choice.filter.job.as_deref())?;
        let message = match &choice.filter.job {
            Some(job) => format!("no snapshot of job {} has a log", human::text(job.as_bytes())),
            None => "no snapshot has a log".to_owned(),
        };
        return Err(CommandError::usage(message)
            .with_hint("leave out --at, and name a snapshot; `backup list` shows all"));
    };
    let stream = |info: &SnapshotInfo| info.snapshot.x_log.as_ref().map(|log| log.stream.clone());
    let job = |info: &SnapshotInfo| info.snapshot.tag("job").unwrap_or_default().to_owned();
    match logged.find(|info| stream(info) != stream(newest) || job(info) != job(newest)) {
        None => Ok(newest),
        Some(other) => {
            let jobs = [job(newest), job(other)].map(|job| human::text(job.as_bytes()));
            Err(CommandError::usage("several jobs have a log").with_hint(format!(
                "choose one with --job, for instance {} or {}, or name a snapshot",
                jobs[0], jobs[1]
            )))
        }
    }
}

async fn planned(
    session: &Session,
    opened: &Opened,
    named: &SnapshotInfo,
    at: &str,
) -> CommandResult<Chosen> {
    match logs::plan(&opened.indexed, named, at, &session.now(), &session.cx).await? {
        Answer::Planned { base, replay } => {
            Ok(Chosen { info: *base, log: Some(replay), until: None })
        }
        Answer::Refused(refusal) => {
            if let Some(info) = built_over(opened, named, &refusal) {
                return Ok(Chosen { info: info.clone(), log: None, until: Some(at.to_owned()) });
            }
            if session.ui.is_json() {
                let (schema_version, event) = (SCHEMA_VERSION, "refused");
                session.ui.event(&RefusalEvent { schema_version, event, refusal: &refusal });
            }
            Err(refused(&refusal, session.zone()))
        }
    }
}

/// The first snapshot behind the moment, if it holds the log since the one that it builds on: then
/// its source finds the moment in it, or refuses it as well.
fn built_over<'a>(
    opened: &'a Opened,
    named: &SnapshotInfo,
    refusal: &Refusal,
) -> Option<&'a SnapshotInfo> {
    let (after, _) = refusal.after.as_ref()?;
    let is_there = |info: &SnapshotInfo| {
        info.snapshot.x_log.as_ref().is_some_and(|log| log.start.at == *after)
    };
    let same = |info: &SnapshotInfo, tag: &str| info.snapshot.tag(tag) == named.snapshot.tag(tag);
    opened.snapshots.snapshots.iter().find(|info| {
        same(info, "source") && same(info, "job") && holds_log_since(info) && is_there(info)
    })
}

/// Returns `true` if a snapshot holds the log since the one that it builds on, and can be restored
/// to any moment of it.
pub(in crate::commands) fn holds_log_since(info: &SnapshotInfo) -> bool {
    let snapshot = &info.snapshot;
    let is_built = matches!(snapshot.tag("type"), Some("incremental" | "differential"));
    let is_plain = snapshot.x_log.as_ref().is_some_and(|log| log.extents.is_empty());
    snapshot.tag("source") == Some(SourceKind::Mongodb.as_str()) && is_built && is_plain
}

/// The moment cannot be restored: why, and which can.
pub(in crate::commands) fn refused(refusal: &Refusal, zone: &TimeZone) -> CommandError {
    let moment = |(at, time): &(Position, Option<Timestamp>)| match time {
        Some(time) => {
            format!("{} (--at {})", human::full_time(*time, zone), human::shell(&position(at)))
        }
        None => format!("--at {}", human::shell(&position(at))),
    };
    let nearest: Vec<String> = [("last before", &refusal.before), ("first after", &refusal.after)]
        .into_iter()
        .filter_map(|(which, found)| Some(format!("{which}: {}", moment(found.as_ref()?))))
        .collect();
    let hint = match nearest[..] {
        [] => "list the restorable moments with `backup timeline JOB`".to_owned(),
        _ => format!("choose a restorable moment: {}", nearest.join("; ")),
    };
    let reason = human::text(refusal.reason.as_bytes());
    let message = format!("the moment cannot be restored: {reason}");
    CommandError::new(Kind::Core(ErrorKind::NotFound), message).with_hint(hint)
}

impl<'a> From<&'a Plan> for LogJson<'a> {
    fn from(plan: &'a Plan) -> Self {
        Self {
            base: plan.base.id.to_hex(),
            pieces: plan.log.len(),
            bytes: plan.bytes,
            estimate_ms: plan.estimate_ms,
            stop: &plan.stop,
            lsn: logs::lsn_of(&plan.stop),
            time: plan.time,
            until: plan.until,
        }
    }
}

/// Lines about the log: before a restore with `dry_run`, else after it.
pub(super) fn words(plan: &Plan, is_part: bool, dry_run: bool, zone: &TimeZone) -> Vec<String> {
    let base = paint(style::SNAPSHOT, plan.base.id.short());
    let pieces = match plan.log.len() {
        0 => "no log".to_owned(),
        some => human::count(some as u64, "piece of the log", "pieces of the log"),
    };
    let last = match plan.time {
        Some(time) => format!("{} ({})", human::full_time(time, zone), position(&plan.stop)),
        None => position(&plan.stop),
    };
    let from = format!("snapshot {base}, of {}", human::full_time(plan.base.time, zone));
    // How many pieces concern a selection is known only when they are read.
    let (pieces, read) = match (is_part, human::size(plan.bytes)) {
        (true, read) if !plan.log.is_empty() => {
            (format!("the parts of {pieces} that concern the selection"), format!("at most {read}"))
        }
        (_, read) => (pieces, read),
    };
    let mut lines = if dry_run {
        let estimate = plan.estimate_ms.map_or_else(String::new, |ms| {
            let time = human::duration(Duration::from_millis(ms));
            format!(", in about {time} at the speed of a backup")
        });
        vec![
            format!("  begin with: {from}"),
            format!("  then apply: {pieces}; reads {read} in total{estimate}"),
            format!("  stop at: {last}"),
        ]
    } else {
        vec![
            format!("  began with: {from}"),
            format!("  applied: {pieces}; {read} in total"),
            format!("  stopped at: {last}"),
        ]
    };
    if let Some(until) = plan.until {
        let verb = if dry_run { "are" } else { "were" };
        let until = human::full_time(until, zone);
        lines.push(format!("  changes after {until} {verb} not applied"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use backup_core::log::Base;

    use super::*;
    use crate::exit_code;

    #[test]
    fn refusals_name_the_nearest_moments() {
        let at = |offset: u64, time: Option<&str>| {
            (Position::new("a b", offset), time.map(|time| time.parse().unwrap()))
        };
        let refusal = Refusal {
            reason: "the log is missing there: power cut".to_owned(),
            before: Some(at(7, Some("2026-03-01T12:00:00Z"))),
            after: Some(at(9, None)),
        };
        let error = refused(&refusal, &TimeZone::UTC);
        assert_eq!(error.exit_code(), exit_code::FAILURE);
        assert_eq!(
            error.message(),
            "the moment cannot be restored: the log is missing there: power cut"
        );
        let hint = "choose a restorable moment: last before: 2026-03-01 12:00:00 UTC (--at 'a \
                    b@7'); first after: --at 'a b@9'";
        assert_eq!(error.hint(), Some(hint));
        let none = refused(&Refusal { before: None, after: None, ..refusal }, &TimeZone::UTC);
        assert!(none.hint().unwrap().contains("backup timeline"));
    }

    #[test]
    fn plans_in_words() {
        let base = Base {
            id: "a1".repeat(32).parse().unwrap(),
            needs: 3,
            at: Position::new("", 5),
            is_whole: false,
            time: "2026-03-01T12:00:00Z".parse().unwrap(),
            bytes: 1024,
            rate: None,
        };
        let until = Some("2026-03-01T13:00:00Z".parse().unwrap());
        let time = Some("2026-03-01T12:59:00Z".parse().unwrap());
        let (log, turns, stop) = (Vec::new(), Vec::new(), Position::new("", 8));
        let plan =
            Plan { base, log, turns, stop, until, time, bytes: 2048, estimate_ms: Some(90_000) };
        let text = words(&plan, false, true, &TimeZone::UTC).join("\n");
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            text,
            "  begin with: snapshot a1a1a1a1, of 2026-03-01 12:00:00 UTC\n  then apply: no log; \
             reads 2.0 KiB in total, in about 1 min 30 s at the speed of a backup\n  stop at: \
             2026-03-01 12:59:00 UTC (@8)\n  changes after 2026-03-01 13:00:00 UTC are not applied"
        );
    }
}
