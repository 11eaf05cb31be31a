//! Looking, and telling who is to be told.

use std::sync::Arc;
use std::time::Duration;

use backup_control::alerts::{self, Condition, Facts, LogFacts, Looked, StorageFacts};
use backup_control::audit::Audit;
use backup_control::config::{Config, LoadedConfig};
use backup_control::state;
use backup_core::log::{Base, LogView, Target};
use backup_core::maintenance;
use backup_core::repository::SnapshotInfo;
use jiff::Timestamp;

use crate::command_error::{CommandResult, Outcome};
use crate::commands::logs;
use crate::commands::logs::figures::Missing;
use crate::human;
use crate::records::{self, Records};
use crate::session::{Opened, Session};

/// How long sending may take if a command waits for it that is done otherwise: what is not sent
/// waits in the outbox.
const BESIDES: Duration = Duration::from_secs(20);
/// How long it may take if it is what the command is for.
const ASKED_FOR: Duration = Duration::from_secs(120);

/// Looks at everything that rules can see.
pub(super) async fn everything(session: &Session) -> CommandResult {
    let loaded = super::configured(session)?;
    let config = &loaded.config;
    let records = Records::require(session).await?;
    let mut looked_into = remembered(session, config, &records).await?;
    let mut worst = Outcome::Success;
    for name in config.repositories.keys() {
        match of_repository(session, config, name, &mut looked_into).await {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                worst = Outcome::Warnings;
                let of_it = looked_into.jobs.values_mut().filter(|job| job.repository == *name);
                of_it.for_each(|job| job.is_out_of_reach = true);
                records::warn(session, &format!("cannot examine repository {name}"), &error);
            }
        }
    }
    worst = worst.max(of_slots(session, config, &mut looked_into).await?);
    // Looking into repositories takes its time: what came of runs meanwhile counts.
    let mut facts = remembered(session, config, &records).await?;
    facts.take_over(looked_into);
    let looked = alerts::look(
        &loaded,
        &session.env,
        &session.machine,
        &records.dir,
        facts,
        ASKED_FOR,
        &session.cx,
    )
    .await?;
    worst = worst.max(say(session, &looked));
    super::list(session).await?;
    Ok(worst)
}

/// Looks at what this machine remembers, when a command is done that changed it. Nothing fails
/// because of it.
pub(crate) async fn afterwards(session: &Session) {
    // A mistake in the configuration is told by whoever needs it.
    if let Some(loaded) =
        session.config().ok().flatten().filter(|loaded| !loaded.config.alerts.is_empty())
    {
        besides(session, &loaded, BESIDES).await;
    }
}

/// The same when a restore has begun, if a rule is about that. What cannot be sent at once is sent
/// when the restore is over.
pub(crate) async fn restore_began(session: &Session) {
    let is_about_it = |loaded: &Arc<LoadedConfig>| {
        loaded
            .config
            .alerts
            .values()
            .any(|rule| matches!(rule.condition, Condition::RestoreStarted))
    };
    if let Some(loaded) = session.config().ok().flatten().filter(is_about_it) {
        besides(session, &loaded, Duration::ZERO).await;
    }
}

async fn besides(session: &Session, loaded: &LoadedConfig, within: Duration) {
    let config = &loaded.config;
    let (Some(dir), Some(records)) = (state::dir(&session.env), Records::open(session).await)
    else {
        return;
    };
    let looked = async {
        let facts = remembered(session, config, &records).await?;
        let cx = backup_core::context::Context::new(session.cx.events.clone());
        CommandResult::Ok(
            alerts::look(loaded, &session.env, &session.machine, &dir, facts, within, &cx).await?,
        )
    };
    match looked.await {
        Ok(looked) => {
            say(session, &looked);
        }
        Err(error) => records::warn(session, "alert rules were not evaluated", &error),
    }
}

async fn remembered(session: &Session, config: &Config, records: &Records) -> CommandResult<Facts> {
    let audit = Audit::in_state(&records.dir);
    let place = |name: &str| session.resolve(name).ok().map(|spec| records::place(&spec));
    Ok(Facts::remembered(config, &*records.catalog, audit, &session.machine.host, place).await?)
}

/// What a repository itself says: its room, its newest snapshots, the logs in it.
async fn of_repository(
    session: &Session,
    config: &Config,
    name: &str,
    facts: &mut Facts,
) -> CommandResult<()> {
    let spec = session.resolve(name)?;
    let opened = session.open_indexed_at(&spec).await?;
    let repository = opened.indexed.repository();
    let report = maintenance::storage(repository, &session.cx).await?;
    let quota =
        config.repositories.get(name).and_then(|section| section.quota).map(|quota| quota.0);
    if let Some(known) = facts.repositories.get_mut(name) {
        known.storage = StorageFacts::of(&report, quota);
    }
    let jobs = config.jobs.iter().filter(|(_, job)| job.repository == name);
    for (job, _) in jobs {
        let log = log_of(session, &opened, job).await?;
        let Some(known) = facts.jobs.get_mut(job) else { continue };
        // Backups of other machines count, and those of before the catalog was lost.
        known.last_success =
            known.last_success.max(newest(&opened, job).map(|info| info.snapshot.time));
        (known.log, known.is_looked_at) = (log, true);
    }
    if let Some(known) = facts.repositories.get_mut(name) {
        let of_jobs = facts.jobs.values().filter(|job| job.repository == name);
        known.last_success = of_jobs.filter_map(|job| job.last_success).max();
    }
    Ok(())
}

/// What servers say of the slots that they keep their logs for.
async fn of_slots(session: &Session, config: &Config, facts: &mut Facts) -> CommandResult {
    let mut worst = Outcome::Success;
    for job in alerts::jobs_with_slots(config)? {
        let asking = alerts::slot_of(config, job, session.place(), &session.cx);
        match session.unless_cancelled(asking).await {
            Ok(slot) => {
                if let Some(known) = facts.jobs.get_mut(job) {
                    known.slot = slot;
                }
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                worst = Outcome::Warnings;
                records::warn(
                    session,
                    &format!("cannot read the replication slot of job {job}"),
                    &error,
                );
            }
        }
    }
    Ok(worst)
}

fn newest<'a>(opened: &'a Opened, job: &str) -> Option<&'a SnapshotInfo> {
    let is_backup = |info: &&SnapshotInfo| {
        info.snapshot.tag("job") == Some(job) && info.snapshot.tag("type") != Some("log")
    };
    opened.snapshots.snapshots.iter().filter(is_backup).max_by_key(|info| info.snapshot.time)
}

/// The log of a job, if one was captured.
async fn log_of(session: &Session, opened: &Opened, job: &str) -> CommandResult<Option<LogFacts>> {
    let Some(newest) = backup_control::logs::newest_of_job(&opened.snapshots.snapshots, job) else {
        return Ok(None);
    };
    let stream = backup_control::logs::stream_of(&opened.indexed, newest).await?;
    let view = LogView::load(opened.indexed.repository(), &stream, &session.cx).await?.of_job(job);
    let timeline = view.timeline();
    if view.slices().next().is_none() && timeline.gaps().is_empty() {
        return Ok(None);
    }
    let recovery_point = timeline.plan(&Target::Latest).ok().and_then(|plan| plan.time);
    let figures = logs::figures::Figures::of(&view, &timeline);
    let open = figures.gaps.iter().filter(|gap| !is_over(gap, timeline.bases()));
    let gap = open.map(|gap| gap_time(gap, timeline.bases(), session.cx.clock.now())).max();
    Ok(Some(LogFacts { recovery_point, gap }))
}

/// Whether a base snapshot behind a gap begins a new restorable range.
fn is_over(missing: &Missing, bases: &[Base]) -> bool {
    let gap = &missing.gap;
    bases.iter().any(|base| {
        if base.at.branch == gap.branch {
            return gap.to.map_or(base.at.offset > gap.from, |to| base.at.offset >= to);
        }
        missing.to_time.or(missing.from_time).is_some_and(|time| base.time > time)
    })
}

/// A time near a gap: of the last event before it, of the last base snapshot before it, of the first
/// event behind it, or `now`.
fn gap_time(missing: &Missing, bases: &[Base], now: Timestamp) -> Timestamp {
    let gap = &missing.gap;
    let before = bases
        .iter()
        .filter(|base| base.at.branch == gap.branch && base.at.offset <= gap.from)
        .map(|base| base.time)
        .max();
    missing.from_time.or(before).or(missing.to_time).unwrap_or(now)
}

/// Says what was told, and what was not.
fn say(session: &Session, looked: &Looked) -> Outcome {
    let ui = &session.ui;
    for message in &looked.told {
        ui.status(format_args!("Notification: {}", human::text(message.subject().as_bytes())));
    }
    let mut outcome = Outcome::Success;
    let mut warn = |text: String| {
        ui.warning(human::text(text.as_bytes()));
        outcome = Outcome::Warnings;
    };
    for trouble in looked.trouble.iter().chain(&looked.delivered.trouble) {
        warn(format!("alerts: {trouble}"));
    }
    for (channel, waiting) in &looked.delivered.waiting {
        let why = waiting.error.as_deref().unwrap_or("not tried yet");
        let messages = human::count(waiting.messages as u64, "message waits", "messages wait");
        warn(format!("{messages} for channel {channel}: {why}"));
    }
    for given_up in &looked.delivered.given_up {
        warn(format!(
            "channel {} refuses {:?}: {}",
            given_up.channel, given_up.subject, given_up.why
        ));
    }
    if looked.unheard > 0 {
        let messages = human::count(looked.unheard as u64, "alert", "alerts");
        warn(format!(
            "no channel accepts {messages}: check `notify` of the rule and `severity` of the \
             channels"
        ));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use backup_core::log::{Gap, Position};

    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn base(offset: u64) -> Base {
        Base {
            id: "a1".repeat(32).parse().unwrap(),
            needs: offset,
            at: Position::new("1", offset),
            is_whole: true,
            time: time(i64::try_from(offset).unwrap()),
            bytes: 0,
            rate: None,
        }
    }

    /// A gap as PostgreSQL leaves it if no transaction was committed around it.
    fn without_times(to: Option<u64>) -> Missing {
        let gap = Gap { branch: "1".to_owned(), from: 100, to, reason: None };
        Missing { gap, from_time: None, to_time: None }
    }

    #[test]
    fn log_gap_without_times_ends_with_a_later_base() {
        for gap in [without_times(Some(200)), without_times(None)] {
            assert!(!is_over(&gap, &[]) && !is_over(&gap, &[base(50), base(100)]), "{gap:?}");
            assert!(is_over(&gap, &[base(50), base(200)]), "{gap:?}");
            assert_eq!(gap_time(&gap, &[base(50), base(70)], time(999)), time(70));
            assert_eq!(gap_time(&gap, &[], time(999)), time(999));
        }
        assert!(!is_over(&without_times(Some(200)), &[base(150)]), "a base inside the gap");
        let other = Base { at: Position::new("2", 0), ..base(500) };
        assert!(!is_over(&without_times(Some(200)), std::slice::from_ref(&other)));
        let timed = Missing { to_time: Some(time(300)), ..without_times(Some(200)) };
        assert!(is_over(&timed, &[other]), "a later branch");
    }
}
