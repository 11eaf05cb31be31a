//! Demands on jobs.

use std::collections::HashMap;
use std::time::Duration;

use super::{Check, Evidence, Met, restores_by_job, short};
use crate::alerts::Condition;
use crate::audit::Record;
use crate::report::by_job::ByJob;
use crate::report::figures::is_done;
use crate::report::{Given, JobReport, Report, SnapshotGiven};
use crate::runs::{Run, What};
use crate::{notify, words};

const NO_JOBS: &str = "the configuration has no job";

/// The newest snapshot of a job in its repository; none of a repository that could not be read.
fn newest<'a>(
    given: &'a Given<'_>,
    sorted: &ByJob<'a>,
    job: &'a str,
) -> Option<Option<&'a SnapshotGiven>> {
    let repository = &given.config.jobs.get(job)?.repository;
    given.repositories.get(repository)?.snapshots.as_ref()?;
    let snapshots = sorted.snapshots(repository, job).into_iter();
    Some(snapshots.max_by_key(|snapshot| snapshot.time))
}

pub(super) fn documented<'a>(given: &'a Given<'_>, sorted: &ByJob<'a>) -> Check {
    let of_job = |name: &'a String| match newest(given, sorted, name) {
        Some(Some(snapshot)) => {
            Evidence::yes(name, format!("snapshot {} records the job", snapshot.short()))
        }
        Some(None) => Evidence::no(name, "no snapshot records the job"),
        None => Evidence::not_known(name, "its repository could not be read"),
    };
    let subjects = given.config.jobs.keys().map(of_job).collect();
    Check::of_each("Backed-up data is documented", NO_JOBS, subjects)
}

pub(super) fn backed_up(sorted: &ByJob<'_>, report: &Report) -> Check {
    let of_job = |job: &JobReport| {
        let counted = job.succeeded + job.failed;
        let is_success = |run: &&&Run| run.what == What::Backup && run.is_success_of_job();
        let runs = sorted.runs(&job.job).iter();
        let last = runs.filter(is_success).max_by_key(|run| run.started);
        let Some(last) = last else {
            let failed = words::count(job.failed, "failure", "failures");
            return Evidence::no(&job.job, format!("no success, {failed}"));
        };
        let snapshot = last.evidence.snapshot.as_deref().map_or_else(String::new, |snapshot| {
            format!(", the last with snapshot {}", short(snapshot))
        });
        let of = words::count(counted, "backup", "backups");
        Evidence::yes(&job.job, format!("{} of {of} succeeded{snapshot}", job.succeeded))
    };
    Check::of_each("Every job is backed up", NO_JOBS, report.jobs.iter().map(of_job).collect())
}

fn time(seconds: u64) -> String {
    words::duration(Duration::from_secs(seconds))
}

pub(super) fn data_loss(report: &Report) -> Check {
    let of_job = |job: &JobReport| {
        let target = job.rpo_seconds?;
        let name = &job.job;
        let Some(measured) = job.rpo_measured_seconds else {
            return Some(Evidence::no(name, format!("no backup; the target is {}", time(target))));
        };
        let text = format!("at worst {} of {}", time(measured), time(target));
        Some(match job.rpo_known_since {
            _ if measured > target => Evidence::no(name, text),
            Some(since) => {
                let reason = format!("no backup before {since:.0} is recorded; since then {text}");
                Evidence::not_known(name, reason)
            }
            None => Evidence::yes(name, text),
        })
    };
    let subjects = report.jobs.iter().filter_map(of_job).collect();
    Check::of_each("Data loss is within its target (RPO)", "no job sets a target", subjects)
}

pub(super) fn restore_time(report: &Report) -> Check {
    let restores = restores_by_job(report);
    let of_job = |job: &JobReport| {
        let target = job.rto_seconds?;
        let name = &job.job;
        let whole = restores
            .get(&**name)
            .into_iter()
            .flatten()
            .filter(|restore| restore.state == "completed" && restore.is_whole == Some(true))
            .max_by_key(|restore| restore.seconds);
        let Some((longest, measured)) =
            whole.and_then(|longest| Some((longest, job.rto_measured_seconds?)))
        else {
            return Some(Evidence::not_known(name, "no snapshot was restored as a whole"));
        };
        let met = if measured > target { Met::No } else { Met::Yes };
        let (measured, target) = (time(measured), time(target));
        let text = format!("longest restore {measured} of {target}, run {}", longest.run);
        Some(Evidence::new(name, met, text))
    };
    let subjects = report.jobs.iter().filter_map(of_job).collect();
    Check::of_each("Restores are within their target (RTO)", "no job sets a target", subjects)
}

pub(super) fn retention(given: &Given<'_>) -> Check {
    let cleanups = || given.records.iter().filter(|record| record.operation == "cleanup");
    // The newest cleanup of each job, and of equally new ones the last.
    let mut newest: HashMap<&str, &Record> = HashMap::new();
    for record in cleanups() {
        for job in record.details.get("jobs").into_iter().flat_map(|jobs| jobs.split_whitespace()) {
            let known = newest.entry(job).or_insert(record);
            if record.timestamp >= known.timestamp {
                *known = record;
            }
        }
    }
    let names_no_jobs =
        cleanups().any(|record| is_done(record) && !record.details.contains_key("jobs"));
    let of_job = |name: &String| {
        if given.config.keep_of(name).is_none() {
            return Evidence::no(name, "no policy");
        }
        match newest.get(&**name) {
            Some(last) if is_done(last) => {
                Evidence::yes(name, format!("last cleanup {:.0}", last.timestamp))
            }
            Some(last) => {
                Evidence::no(name, format!("the cleanup of {:.0} failed", last.timestamp))
            }
            None if names_no_jobs => {
                Evidence::not_known(name, "the records of cleanups do not name their jobs")
            }
            None => Evidence::no(name, "no cleanup in this period"),
        }
    };
    let subjects = given.config.jobs.keys().map(of_job).collect();
    Check::of_each("Retention policies are enforced", NO_JOBS, subjects)
}

pub(super) fn failures_reported(given: &Given<'_>) -> Check {
    let of_job = |name: &String| {
        for (rule, section) in &given.config.alerts {
            if !matches!(section.condition, Condition::Failure | Condition::Stale(_)) {
                continue;
            }
            let only = notify::patterns(&section.only);
            let is_about = section.only.is_empty() || only.is_ok_and(|only| only.is_match(name));
            let channels = given.channels.route(&section.notify, section.severity, Some(name));
            if is_about && !channels.is_empty() {
                let channels = channels.join(", ");
                return Evidence::yes(name, format!("rule {rule} through {channels}"));
            }
        }
        Evidence::no(name, "no rule for failures or late backups reaches a channel")
    };
    let subjects = given.config.jobs.keys().map(of_job).collect();
    Check::of_each("Failures are reported", NO_JOBS, subjects)
}
