//! The facts that only repositories and database servers hold. The work grows with the number of
//! repositories and logs, and not with the product of jobs and snapshots.

use std::collections::BTreeMap;

use backup_control::alerts::{
    self, Condition, Facts, JobFacts, LogFacts, RepositoryFacts, StorageFacts,
};
use backup_control::config::Config;
use backup_control::repositories::RepositorySpec;
use backup_core::context::Context;
use backup_core::log::{Base, LogView, Target};
use backup_core::maintenance;
use backup_core::repository::SnapshotInfo;
use jiff::Timestamp;

use crate::command_error::{CommandResult, Outcome};
use crate::commands::logs::figures::{Figures, Missing};
use crate::opened::Opened;
use crate::records;
use crate::session::Session;

/// Examines all repositories and replication slots of a configuration. An unreachable one is a
/// warning.
pub(super) async fn everything(
    session: &Session,
    config: &Config,
) -> CommandResult<(Facts, Outcome)> {
    let (mut facts, mut worst) = (Facts::default(), Outcome::Success);
    let mut jobs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (job, section) in &config.jobs {
        jobs.entry(section.repository.as_str()).or_default().push(job);
    }
    for (name, section) in &config.repositories {
        let jobs = jobs.remove(name.as_str()).unwrap_or_default();
        let examined = async {
            let opened = session.open_indexed_at(&RepositorySpec::named(name, config)?).await?;
            let quota = section.quota.map(|quota| quota.0);
            let (mut known, of_jobs) = repository(&opened, &jobs, quota, &session.cx).await?;
            // Comparing writes an object for a moment.
            if config.alerts.values().any(|rule| rule.condition == Condition::Clock) {
                known.clock = Some(opened.indexed.repository().present(&session.cx).await?);
            }
            CommandResult::Ok((known, of_jobs))
        };
        match examined.await {
            Ok((known, of_jobs)) => {
                facts.repositories.insert(name.clone(), known);
                facts.jobs.extend(of_jobs);
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                worst = Outcome::Warnings;
                for job in jobs {
                    let unknown = JobFacts { is_out_of_reach: true, ..JobFacts::default() };
                    facts.jobs.insert(job.to_owned(), unknown);
                }
                records::warn(session, &format!("cannot examine repository {name}"), &error);
            }
        }
    }
    let of_slots = slots(session, config, &mut facts).await?;
    Ok((facts, worst.max(of_slots)))
}

/// The space of a repository, and the newest snapshots and logs of its jobs.
async fn repository(
    opened: &Opened,
    jobs: &[&str],
    quota: Option<u64>,
    cx: &Context,
) -> CommandResult<(RepositoryFacts, BTreeMap<String, JobFacts>)> {
    let snapshots = &opened.snapshots.snapshots;
    let report = maintenance::storage_of(&opened.indexed, snapshots, cx).await?;
    let newest = newest_backups(snapshots);
    let mut logs = logs(opened, jobs, cx).await?;
    let mut known =
        RepositoryFacts { storage: StorageFacts::of(&report, quota), ..RepositoryFacts::default() };
    let mut of_jobs = BTreeMap::new();
    for job in jobs {
        // Backups of other machines count, and those of before the catalog was lost.
        let last_success = newest.get(job).copied();
        known.last_success = known.last_success.max(last_success);
        let log = logs.remove(job);
        let facts = JobFacts { last_success, log, is_looked_at: true, ..JobFacts::default() };
        of_jobs.insert((*job).to_owned(), facts);
    }
    Ok((known, of_jobs))
}

/// Time of the newest backup of each job. A snapshot of a part is no backup of the job.
fn newest_backups(snapshots: &[SnapshotInfo]) -> BTreeMap<&str, Timestamp> {
    let mut newest = BTreeMap::new();
    let is_backup =
        |info: &&SnapshotInfo| info.snapshot.tag("type") != Some("log") && !info.snapshot.is_part();
    for info in snapshots.iter().filter(is_backup) {
        let Some(job) = info.snapshot.tag("job") else { continue };
        let time: &mut Timestamp = newest.entry(job).or_insert(info.time());
        *time = info.time().max(*time);
    }
    newest
}

/// The captured logs of jobs.
async fn logs<'a>(
    opened: &Opened,
    jobs: &[&'a str],
    cx: &Context,
) -> CommandResult<BTreeMap<&'a str, LogFacts>> {
    let newest = backup_control::logs::newest_by_job(&opened.snapshots.snapshots);
    let (mut named, mut streams) = (Vec::new(), Vec::new());
    for job in jobs {
        if let Some(info) = newest.get(job) {
            named.push(*job);
            streams.push(backup_control::logs::stream_of(&opened.indexed, info).await?);
        }
    }
    let views = LogView::load_all(opened.indexed.repository(), &streams, cx).await?;
    let mut facts = BTreeMap::new();
    for (job, view) in named.into_iter().zip(views) {
        if let Some(log) = log_facts(&view.of_job(job), cx.clock.now()) {
            facts.insert(job, log);
        }
    }
    Ok(facts)
}

/// The log of a job; none if none was captured.
fn log_facts(view: &LogView, now: Timestamp) -> Option<LogFacts> {
    let timeline = view.timeline();
    if view.slices().next().is_none() && timeline.gaps().is_empty() {
        return None;
    }
    let recovery_point = timeline.plan(&Target::Latest).ok().and_then(|plan| plan.time);
    let figures = Figures::of(view, &timeline);
    let open = figures.gaps.iter().filter(|gap| !is_over(gap, timeline.bases()));
    let gap = open.map(|gap| gap_time(gap, timeline.bases(), now)).max();
    Some(LogFacts { recovery_point, gap })
}

/// Reads the replication slots of jobs from their servers.
async fn slots(session: &Session, config: &Config, facts: &mut Facts) -> CommandResult {
    let mut worst = Outcome::Success;
    for job in alerts::jobs_with_slots(config)? {
        let reading = alerts::slot_of(config, job, session.place(), &session.cx);
        match session.unless_cancelled(reading).await {
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

/// A time near a gap: of the last event before it, of the last base snapshot before it, of the
/// first event behind it, or `now`.
fn gap_time(missing: &Missing, bases: &[Base], now: Timestamp) -> Timestamp {
    let gap = &missing.gap;
    let before = bases
        .iter()
        .filter(|base| base.at.branch == gap.branch && base.at.offset <= gap.from)
        .map(|base| base.time)
        .max();
    missing.from_time.or(before).or(missing.to_time).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backup_core::crypto::Passphrase;
    use backup_core::log::{Gap, Position};
    use backup_core::pipeline::{BackupOptions, backup};
    use backup_core::repository::{InitOptions, Repository};
    use backup_core::sink::Operation;
    use backup_core::testing::{MemorySink, RecordingSink, ScriptedLog};

    use super::*;

    /// A repository with one backup of each job, which all have a log.
    async fn opened(sink: &RecordingSink, jobs: &[&str], cx: &Context) -> Opened {
        let (sink, key) = (Arc::new(sink.clone()), Passphrase::generate());
        let repository = Repository::init(sink, &key, &InitOptions::default(), cx).await.unwrap();
        let source = ScriptedLog::new();
        source.push("2026-03-01T12:00:00Z".parse().unwrap(), "one");
        for job in jobs {
            let options = BackupOptions { job: (*job).to_owned(), ..BackupOptions::default() };
            backup(&repository, &source, &options, cx).await.unwrap();
        }
        let snapshots = repository.snapshots(cx).await.unwrap();
        Opened { snapshots, indexed: repository.load_index(cx).await.unwrap() }
    }

    /// However many jobs have logs, the snapshots are read once more for all of them.
    #[tokio::test]
    async fn examination_reads_each_snapshot_once() {
        for jobs in [&["a"][..], &["a", "b", "c", "d", "e"]] {
            let (cx, sink) = (Context::silent(), RecordingSink::new(Arc::new(MemorySink::new())));
            let opened = opened(&sink, jobs, &cx).await;
            assert_eq!(
                backup_control::logs::newest_by_job(&opened.snapshots.snapshots).len(),
                jobs.len()
            );
            sink.reset();
            let (known, of_jobs) = repository(&opened, jobs, Some(1 << 40), &cx).await.unwrap();
            let snapshots = jobs.len() as u64;
            assert_eq!(sink.count(Operation::Get, "snapshots"), snapshots);
            // Names before and after they are read; all objects.
            assert_eq!(sink.count(Operation::List, "snapshots"), 2);
            assert_eq!(sink.count(Operation::List, ""), 1);
            assert_eq!(sink.count(Operation::Get, "index"), 0);
            assert_eq!(sink.count(Operation::List, "index"), 0);
            assert!(known.storage.is_some_and(|storage| storage.used > 0));
            assert_eq!(of_jobs.len(), jobs.len());
            assert!(of_jobs.values().all(|job| job.is_looked_at && job.last_success.is_some()));
        }
    }

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
