//! Demands, and the evidence that they are met.

use serde::Serialize;

use super::figures::is_done;
use super::{Given, Report};
use crate::alerts::Condition;
use crate::config::AlertConfig;
use crate::words;

/// Whether a demand is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Met {
    /// There is evidence that it is.
    Yes,
    /// There is evidence that it is not, or none that it is.
    No,
    /// This program cannot know: somebody has to say so.
    ByHand,
}

impl Met {
    /// As a mark in a list.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Self::Yes => "✓",
            Self::No => "✗",
            Self::ByHand => "?",
        }
    }
}

/// A demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is demanded.
    pub demand: &'static str,
    /// Whether it is met.
    pub met: Met,
    /// By what evidence, or what is missing.
    pub evidence: String,
}

fn check(demand: &'static str, is_met: bool, evidence: impl Into<String>) -> Check {
    Check { demand, met: if is_met { Met::Yes } else { Met::No }, evidence: evidence.into() }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}

/// All demands, in the order in which they are shown.
pub(super) fn of(given: &Given<'_>, report: &Report) -> Vec<Check> {
    let by_hand =
        |demand, evidence: &str| Check { demand, met: Met::ByHand, evidence: evidence.to_owned() };
    vec![
        documented(given),
        successes(report),
        within("Data loss is within its target (RPO)", report, |job| {
            (job.rpo_seconds, job.rpo_measured_seconds)
        }),
        within("Restores are within their target (RTO)", report, |job| {
            (job.rto_seconds, job.rto_measured_seconds)
        }),
        retention(given, report),
        keys(given),
        check(
            "Backups are encrypted",
            true,
            "every repository: AES-256-CTR with Poly1305, with a key of its own",
        ),
        offsite(report),
        audit(given),
        verified(report),
        restores(report),
        alerts(given),
        by_hand("Procedures are up to date", "to be confirmed by the person in charge"),
        by_hand("Staff is trained", "to be confirmed by the person in charge"),
        by_hand(
            "Compliance is verified",
            "to be confirmed by the person in charge, with this report and `backup audit`",
        ),
    ]
}

fn documented(given: &Given<'_>) -> Check {
    let jobs = given.config.jobs.len();
    check(
        "Backed-up data is documented",
        jobs > 0,
        format!(
            "{} in the configuration, each recorded in its snapshots",
            words::count(jobs as u64, "job", "jobs")
        ),
    )
}

fn successes(report: &Report) -> Check {
    let without =
        names(report.jobs.iter().filter(|job| job.succeeded == 0).map(|job| job.job.as_str()));
    let rate =
        report.totals.success_rate.map(|rate| format!("{:.1}% of backups succeeded", rate * 100.0));
    let evidence = match (&rate, without.is_empty()) {
        (None, _) => "no backup was made".to_owned(),
        (Some(rate), true) => format!("{rate}; every job succeeded at least once"),
        (Some(rate), false) => format!("{rate}; without success: {}", without.join(", ")),
    };
    check("Every job is backed up", rate.is_some() && without.is_empty(), evidence)
}

fn within(
    demand: &'static str,
    report: &Report,
    of: impl Fn(&super::JobReport) -> (Option<u64>, Option<u64>),
) -> Check {
    let (mut missed, mut unknown, mut kept) = (Vec::new(), Vec::new(), 0);
    for job in &report.jobs {
        match of(job) {
            (None, _) => {}
            (Some(_), None) => unknown.push(job.job.clone()),
            (Some(target), Some(measured)) if measured > target => {
                let time = |seconds| words::duration(std::time::Duration::from_secs(seconds));
                missed.push(format!("{} ({} of {})", job.job, time(measured), time(target)));
            }
            (Some(_), Some(_)) => kept += 1,
        }
    }
    if missed.is_empty() && unknown.is_empty() && kept == 0 {
        return check(demand, false, "no job sets a target");
    }
    let mut evidence = vec![format!("met by {}", words::count(kept, "job", "jobs"))];
    evidence.extend((!missed.is_empty()).then(|| format!("missed by {}", missed.join(", "))));
    evidence.extend((!unknown.is_empty()).then(|| format!("not measured: {}", unknown.join(", "))));
    check(demand, missed.is_empty() && unknown.is_empty(), evidence.join("; "))
}

fn retention(given: &Given<'_>, report: &Report) -> Check {
    let without = names(
        report
            .jobs
            .iter()
            .map(|job| job.job.as_str())
            .filter(|job| given.config.keep_of(job).is_none()),
    );
    let last = given
        .records
        .iter()
        .filter(|record| record.operation == "cleanup" && is_done(record))
        .map(|record| record.timestamp)
        .max();
    let evidence = match (without.is_empty(), last) {
        (false, _) => format!("no policy: {}", without.join(", ")),
        (true, None) => "every job has a policy, but no cleanup was run".to_owned(),
        (true, Some(last)) => format!("every job has a policy; last cleanup {last:.0}"),
    };
    check("Retention policies are enforced", without.is_empty() && last.is_some(), evidence)
}

fn keys(given: &Given<'_>) -> Check {
    let kept = |name: &&String| {
        let known = &given.config.repositories[*name];
        known.passphrase_file.is_some()
            || known.passphrase_env.is_some()
            || known.passphrase_command.is_some()
    };
    let without =
        names(given.config.repositories.keys().filter(|name| !kept(name)).map(String::as_str));
    let changes =
        given.records.iter().filter(|record| record.operation.starts_with("key ")).count();
    let evidence = match without.is_empty() {
        true => format!(
            "pass phrases are in files, variables or commands, never in the configuration; {} of \
             keys, all recorded",
            words::count(changes as u64, "change", "changes")
        ),
        false => {
            format!("the configuration names no source of the pass phrase: {}", without.join(", "))
        }
    };
    check("Keys are kept apart", without.is_empty(), evidence)
}

fn offsite(report: &Report) -> Check {
    let fits = |job: &&super::JobReport| job.copies >= 3 && job.is_offsite;
    let without = names(report.jobs.iter().filter(|job| !fits(job)).map(|job| job.job.as_str()));
    let evidence = match without.is_empty() {
        true => "every job has three copies with its source, one of them off-site".to_owned(),
        false => format!("without three copies, one of them off-site: {}", without.join(", ")),
    };
    check(
        "Three copies, one of them off-site (3-2-1)",
        without.is_empty() && !report.jobs.is_empty(),
        evidence,
    )
}

fn audit(given: &Given<'_>) -> Check {
    let records = given.records.len();
    let (is_met, what) = match given.audit_is_whole {
        Some(true) => (true, "the chain is intact"),
        Some(false) => (false, "the chain is NOT intact: run `backup audit verify`"),
        None => (false, "the chain could not be verified: a repository is unreachable"),
    };
    check(
        "Access is logged",
        is_met && records > 0,
        format!("{}; {what}", words::count(records as u64, "record", "records")),
    )
}

fn verified(report: &Report) -> Check {
    let without = names(
        report
            .repositories
            .iter()
            .filter(|known| known.verified.is_none())
            .map(|known| known.repository.as_str()),
    );
    let damaged = names(
        report
            .repositories
            .iter()
            .filter(|known| known.is_damaged)
            .map(|known| known.repository.as_str()),
    );
    let evidence = match (damaged.is_empty(), without.is_empty()) {
        (false, _) => {
            format!("failed verification, not verified successfully since: {}", damaged.join(", "))
        }
        (true, true) => "every repository was verified in this period".to_owned(),
        (true, false) => format!("not verified in this period: {}", without.join(", ")),
    };
    check("Backups are verified", without.is_empty() && !report.repositories.is_empty(), evidence)
}

fn restores(report: &Report) -> Check {
    let done = report.restores.iter().filter(|restore| restore.state == "completed").count();
    check(
        "Restores are tested",
        done > 0,
        format!(
            "{} of {} succeeded",
            done,
            words::count(report.restores.len() as u64, "restore", "restores")
        ),
    )
}

fn alerts(given: &Given<'_>) -> Check {
    let (rules, channels) = (given.config.alerts.len(), given.config.notify.len());
    let is_about_failures =
        |rule: &AlertConfig| matches!(rule.condition, Condition::Failure | Condition::Stale(_));
    check(
        "Failures are reported",
        given.config.alerts.values().any(is_about_failures) && channels > 0,
        format!(
            "{}, {}",
            words::count(rules as u64, "rule", "rules"),
            words::count(channels as u64, "channel", "channels")
        ),
    )
}
