//! The figures of a report.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::by_job::ByJob;
use super::model::{Day, JobReport, LogEntry, Report, RepositoryReport, RestoreReport, Totals};
use super::{Given, checklist, copies, loss};
use crate::audit::{Record, Status};
use crate::config::JobConfig;
use crate::runs::{Run, State, What};
use crate::units::Time;
use crate::words;

/// The version of the JSON form; fields may be added without a new one.
const SCHEMA_VERSION: u32 = 1;
/// Bytes of a GiB, which prices are for.
const GIB: f64 = 1_073_741_824.0;

impl Report {
    /// Makes a report.
    #[must_use]
    pub fn of(given: &Given<'_>) -> Self {
        let repositories = given
            .config
            .repositories
            .keys()
            .map(|name| of_repository(given, name))
            .collect::<Vec<_>>();
        let sorted = ByJob::of(given);
        let jobs = given
            .config
            .jobs
            .iter()
            .map(|(name, job)| of_job(given, &sorted, name, job))
            .collect::<Vec<_>>();
        let mut restores: Vec<&Run> =
            given.runs.iter().filter(|run| run.what == What::Restore).collect();
        restores.sort_by_key(|run| run.started);
        let costs: Option<Vec<f64>> =
            repositories.iter().map(|repository| repository.cost_per_month).collect();
        let cost_per_month =
            costs.filter(|costs| !costs.is_empty()).map(|costs| costs.into_iter().sum());
        let (log, log_left_out) = log(given);
        let mut report = Self {
            log,
            log_left_out,
            schema_version: SCHEMA_VERSION,
            from: given.from,
            to: given.to,
            host: given.host.clone(),
            totals: Totals { cost_per_month, ..totals(backups(given)) },
            jobs,
            restores: restores.into_iter().map(restore).collect(),
            repositories,
            checklist: Vec::new(),
            currency: given.config.report.currency.clone().unwrap_or_else(|| "USD".to_owned()),
            days: days(given),
        };
        report.checklist = checklist::of(given, &sorted, &report);
        report
    }
}

/// Entries of the log that are shown.
const LOG: usize = 100;

/// Backups, copies and restores that succeeded are in the figures; the rest is here.
fn log(given: &Given<'_>) -> (Vec<LogEntry>, usize) {
    let is_usual = |record: &&Record| {
        let is_figure = matches!(
            record.operation.as_str(),
            "backup" | "backup group" | "copy" | "restore" | "report"
        );
        is_figure && matches!(record.status, Status::Success | Status::Started)
    };
    let within = |record: &&Record| record.timestamp >= given.from && record.timestamp < given.to;
    let meant: Vec<&Record> =
        given.records.iter().filter(within).filter(|record| !is_usual(record)).collect();
    let left_out = meant.len().saturating_sub(LOG);
    let shown = meant.into_iter().skip(left_out).map(|record| {
        let detail =
            |name: &str| record.details.get(name).filter(|value| !value.is_empty()).cloned();
        let subject = ["job", "repository", "file", "rule", "key"].into_iter().find_map(detail);
        let why = detail("error").or_else(|| detail("reason"));
        let about = [subject, why].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let (operation, user) = (record.operation.clone(), record.user.clone());
        LogEntry { time: record.timestamp, operation, user, status: record.status, about }
    });
    (shown.collect(), left_out)
}

/// Ended backups of whole jobs: one of a part is neither a success nor a failure of its job.
fn backups<'a>(given: &'a Given<'_>) -> impl Iterator<Item = &'a Run> {
    given.runs.iter().filter(|run| is_ended_backup(run))
}

fn is_ended_backup(run: &Run) -> bool {
    run.what == What::Backup && run.finished.is_some() && !run.evidence.is_part
}

fn totals<'a>(runs: impl Iterator<Item = &'a Run>) -> Totals {
    let mut totals = Totals::default();
    for run in runs {
        totals.backups += 1;
        match run.state {
            State::Cancelled => totals.cancelled += 1,
            state if state.is_success() => totals.succeeded += 1,
            _ => totals.failed += 1,
        }
        totals.stored_bytes += run.evidence.stored_bytes;
    }
    let counted = totals.succeeded + totals.failed;
    totals.success_rate = (counted > 0).then(|| totals.succeeded as f64 / counted as f64);
    totals
}

/// All days of the time, also those on which nothing happened.
fn days(given: &Given<'_>) -> Vec<Day> {
    let date = |moment: Timestamp| moment.to_zoned(given.zone.clone()).date();
    let mut days = BTreeMap::new();
    let (mut day, last) = (date(given.from), date(given.to));
    while day <= last {
        days.insert(day, Day { date: day, succeeded: 0, failed: 0, stored_bytes: 0 });
        let Ok(next) = day.tomorrow() else { break };
        day = next;
    }
    for run in backups(given) {
        let Some(day) = days.get_mut(&date(run.started)) else { continue };
        day.stored_bytes += run.evidence.stored_bytes;
        match run.state {
            State::Cancelled => {}
            state if state.is_success() => day.succeeded += 1,
            _ => day.failed += 1,
        }
    }
    days.into_values().collect()
}

fn seconds(time: Duration) -> u64 {
    time.as_secs()
}

fn took(run: &Run) -> Option<Duration> {
    run.finished.map(|finished| words::between(run.started, finished))
}

fn of_job<'a>(
    given: &'a Given<'_>,
    sorted: &ByJob<'a>,
    name: &'a str,
    job: &'a JobConfig,
) -> JobReport {
    let all = sorted.runs(name);
    let mut runs: Vec<&Run> = all.iter().copied().filter(|run| is_ended_backup(run)).collect();
    runs.sort_by_key(|run| run.started);
    let Totals { backups, succeeded, failed, success_rate, stored_bytes, .. } =
        totals(runs.iter().copied());
    let successes: Vec<&Run> = runs.iter().copied().filter(|run| run.state.is_success()).collect();
    let (first, last) = (successes.first(), successes.last());
    let times: Vec<u64> = successes.iter().filter_map(|run| took(run)).map(seconds).collect();
    let read: u64 = successes.iter().map(|run| run.evidence.bytes).sum();
    let restores = all.iter().copied().filter(|run| {
        run.what == What::Restore && run.state.is_success() && run.evidence.is_whole == Some(true)
    });
    let failure = runs
        .iter()
        .rev()
        .find(|run| run.state == State::Failed)
        .and_then(|run| run.evidence.failure.as_ref());
    let growth = |first: &Run, last: &Run| {
        let (first, last) =
            (i64::try_from(first.evidence.bytes).ok()?, i64::try_from(last.evidence.bytes).ok()?);
        Some(last - first)
    };
    let copies = copies::of_job(given, sorted, name, job);
    let loss = loss::of_job(given, name, job, &successes);
    JobReport {
        job: name.to_owned(),
        repository: job.repository.clone(),
        backups,
        succeeded,
        failed,
        success_rate,
        last_success: last.map(|run| run.started).or(given.before.get(name).copied()),
        last_failure: failure.map(|failure| failure.message.clone()),
        average_seconds: (times.iter().sum::<u64>()).checked_div(times.len() as u64),
        longest_seconds: times.iter().max().copied(),
        bytes: last.map(|run| run.evidence.bytes),
        growth_bytes: first.zip(last).and_then(|(first, last)| growth(first, last)),
        stored_bytes,
        ratio: (stored_bytes > 0).then(|| read as f64 / stored_bytes as f64),
        rpo_seconds: job.rpo.as_ref().map(Time::length).map(seconds),
        rpo_measured_seconds: loss.worst.map(seconds),
        rpo_known_since: loss.known_since,
        rto_seconds: job.rto.as_ref().map(Time::length).map(seconds),
        rto_measured_seconds: restores.filter_map(took).map(seconds).max(),
        is_offsite: copies.as_ref().is_some_and(|copies| copies.is_offsite),
        copies: copies.map(|copies| copies.fewest),
    }
}

pub(super) fn is_done(record: &Record) -> bool {
    matches!(record.status, Status::Success | Status::Warnings)
}

fn restore(run: &Run) -> RestoreReport {
    RestoreReport {
        run: run.id.to_string(),
        started: run.started,
        job: run.job.clone(),
        target: run.evidence.subject.clone(),
        user: run.user.clone(),
        state: run.state.as_str(),
        seconds: took(run).map(seconds),
        bytes: run.evidence.bytes,
        snapshot: run.evidence.snapshot.clone(),
        is_whole: run.evidence.is_whole,
        warnings: run.evidence.warnings,
        compared_bytes: run.evidence.compared_bytes,
    }
}

fn of_repository(given: &Given<'_>, name: &str) -> RepositoryReport {
    let known = given.repositories.get(name).cloned().unwrap_or_default();
    let of_it = || {
        given.records.iter().filter(|record| record.details.get("repository") == Some(&known.place))
    };
    let is_copy = |record: &&Record| {
        matches!(record.operation.as_str(), "copy" | "archive") && is_done(record)
    };
    let copied = of_it().filter(is_copy).map(|record| record.timestamp).max();
    let standing = crate::audit::standing(of_it());
    let price = given.config.report.prices.get(name);
    RepositoryReport {
        repository: name.to_owned(),
        used_bytes: known.used,
        left_bytes: known.left,
        cost_per_month: price.zip(known.used).map(|(price, used)| price * used as f64 / GIB),
        verified: standing.filter(|record| is_done(record)).map(|record| record.timestamp),
        is_damaged: standing.is_some_and(|record| !is_done(record)),
        copied,
        place: known.place,
    }
}
