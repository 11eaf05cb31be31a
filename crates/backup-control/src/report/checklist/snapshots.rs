//! Demands on the snapshots of jobs.

use std::collections::{BTreeSet, HashSet};

use backup_core::words::few;

use super::{Check, Evidence, restores_by_job, short};
use crate::audit::Record;
use crate::config::JobConfig;
use crate::report::by_job::ByJob;
use crate::report::figures::is_done;
use crate::report::{Given, Report, RestoreReport, SnapshotGiven, copies};
use crate::runs::Run;
use crate::words;

const NO_JOBS: &str = "the configuration has no job";
const UNVERIFIED: &str = "no verification that read data of its snapshots";
/// Snapshots that are listed in one line.
const LISTED: usize = 5;

pub(super) fn offsite<'a>(given: &'a Given<'_>, sorted: &ByJob<'a>) -> Check {
    let subjects = given.config.jobs.iter().map(|(name, job)| {
        let Some(copies) = copies::of_job(given, sorted, name, job) else {
            return Evidence::not_known(name, "its repository could not be read");
        };
        if copies.snapshots.is_empty() {
            return Evidence::no(name, "no snapshot");
        }
        let all = words::count(copies.snapshots.len() as u64, "snapshot", "snapshots");
        if copies.lacking.is_empty() {
            let held: Vec<&str> = copies.held_by.iter().map(String::as_str).collect();
            let (held, which) = (held.join(", "), few(&copies.snapshots, LISTED));
            return Evidence::yes(name, format!("{all} ({which}), each in {held}"));
        }
        let (lacking, which) = (copies.lacking.len(), few(&copies.lacking, LISTED));
        let text = format!("{lacking} of {all} without three copies, one off-site: {which}");
        match copies.unknown {
            Some(reason) => Evidence::not_known(name, format!("{reason}; {text}")),
            None => Evidence::no(name, text),
        }
    });
    let subjects = subjects.collect();
    Check::of_each("Three copies, one of them off-site (3-2-1)", NO_JOBS, subjects)
}

pub(super) fn verified<'a>(given: &'a Given<'_>, sorted: &ByJob<'a>, report: &Report) -> Check {
    let verifications: Vec<&Record> = given
        .records
        .iter()
        .filter(|record| matches!(record.operation.as_str(), "verify" | "check"))
        .filter(|record| is_done(record))
        .collect();
    let damaged: HashSet<&String> = report
        .repositories
        .iter()
        .filter(|known| known.is_damaged)
        .map(|known| &known.repository)
        .collect();
    let of_job = |(name, job): (&'a String, &'a JobConfig)| {
        if damaged.contains(&job.repository) {
            let text = format!("repository {}: damage is not settled", job.repository);
            return Evidence::no(name, text);
        }
        let Some(own) = given.repositories.get(&job.repository) else {
            return Evidence::not_known(name, "its repository could not be read");
        };
        let mut of_it = verifications
            .iter()
            .rev()
            .filter(|record| record.details.get("repository") == Some(&own.place))
            .peekable();
        if of_it.peek().is_none() {
            return Evidence::no(name, UNVERIFIED);
        }
        let snapshots = sorted.snapshots(&job.repository, name);
        let ids = ids_of(&snapshots, sorted.runs(name));
        let found = of_it.find_map(|record| {
            let what = looked_at(record, &snapshots, &ids)?;
            Some(format!("{what} at {:.0}", record.timestamp))
        });
        match found {
            Some(text) => Evidence::yes(name, text),
            None => Evidence::no(name, UNVERIFIED),
        }
    };
    let subjects = given.config.jobs.iter().map(of_job).collect();
    Check::of_each("Backups are verified", NO_JOBS, subjects)
}

/// The short names of all snapshots of a job that are known: those in its repository, and those
/// that its runs made.
fn ids_of(snapshots: &[&SnapshotGiven], runs: &[&Run]) -> BTreeSet<String> {
    let made = runs.iter().filter(|run| !run.evidence.is_part);
    let made = made.filter_map(|run| run.evidence.snapshot.as_deref()).map(short);
    let listed = snapshots.iter().map(|snapshot| snapshot.short());
    listed.chain(made).map(str::to_owned).collect()
}

/// The data of a job that a verification read; none if it read none.
fn looked_at(
    record: &Record,
    snapshots: &[&SnapshotGiven],
    ids: &BTreeSet<String>,
) -> Option<String> {
    let detail = |name: &str| record.details.get(name).map(String::as_str);
    match record.operation.as_str() {
        "verify" => {
            let mut snapshots = detail("snapshots")?.split_whitespace();
            let found = snapshots.find(|snapshot| ids.contains(*snapshot))?;
            Some(format!("snapshot {found} verified"))
        }
        "check" if detail("data") == Some("all") => {
            let newest = snapshots
                .iter()
                .filter(|snapshot| snapshot.time <= record.timestamp)
                .max_by_key(|snapshot| snapshot.time)?;
            Some(format!("all data checked, with snapshot {}", newest.short()))
        }
        _ => None,
    }
}

pub(super) fn restores(report: &Report) -> Check {
    let restores = restores_by_job(report);
    let of_job = |job: &crate::report::JobReport| {
        let of_it = restores.get(&*job.job).into_iter().flatten().copied();
        let (sound, other): (Vec<&RestoreReport>, Vec<&RestoreReport>) =
            of_it.partition(|restore| restore.state == "completed" && restore.warnings == 0);
        let Some(last) = sound.last() else {
            let text = match other.len() as u64 {
                0 => "no restore in this period".to_owned(),
                other => format!(
                    "{} failed, or with missing entries",
                    words::count(other, "restore", "restores")
                ),
            };
            return Evidence::no(&job.job, text);
        };
        let part = match last.is_whole {
            Some(true) => "whole snapshot",
            Some(false) => "part of snapshot",
            None => "snapshot",
        };
        let snapshot = last.snapshot.as_deref().map_or("?", short);
        let compared = if last.compared_bytes > 0 { ", compared with it" } else { "" };
        Evidence::yes(
            &job.job,
            format!(
                "{part} {snapshot} restored at {:.0}{compared}, run {}",
                last.started, last.run
            ),
        )
    };
    let subjects = report.jobs.iter().map(of_job).collect();
    Check::of_each("Restores are tested", NO_JOBS, subjects)
}
