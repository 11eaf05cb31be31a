//! Demands, and the evidence that they are met.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | [`Check`] and its parts; the list |
//! | `jobs.rs` | demands on jobs: backups, data loss, policies, reports of failures |
//! | `snapshots.rs` | demands on the snapshots of jobs: copies, verifications, restores |
//! | `repositories.rs` | demands on repositories and the audit log |
//!
//! A demand is met by evidence for each of its subjects: a job, a repository. Absent evidence is
//! "no"; a subject that cannot be examined is "not known".

mod jobs;
mod repositories;
mod snapshots;

use std::collections::HashMap;

use serde::Serialize;

use super::by_job::ByJob;
use super::{Given, Report, RestoreReport};

/// Subjects that are listed in the evidence of a demand; the JSON form has all.
const LISTED: usize = 10;

/// The verdict on a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Met {
    /// There is evidence that it is.
    Yes,
    /// Out of reach of this program: a person has to confirm it.
    ByHand,
    /// The evidence cannot be had now, or was never recorded.
    NotKnown,
    /// There is evidence that it is not, or none that it is.
    No,
}

impl Met {
    /// As a mark in a list.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Self::Yes => "✓",
            Self::No => "✗",
            Self::ByHand | Self::NotKnown => "?",
        }
    }
}

/// A demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The demand.
    pub demand: &'static str,
    /// The verdict: that on the subject that meets it least.
    pub met: Met,
    /// The evidence or the lack of it, in one line.
    pub evidence: String,
    /// The evidence by job or repository.
    pub subjects: Vec<Evidence>,
}

/// The evidence for one subject of a demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The job or the repository.
    pub subject: String,
    /// The verdict on this subject.
    pub met: Met,
    /// The evidence or the lack of it.
    pub evidence: String,
}

impl Evidence {
    fn new(subject: &str, met: Met, evidence: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), met, evidence: evidence.into() }
    }

    fn yes(subject: &str, evidence: impl Into<String>) -> Self {
        Self::new(subject, Met::Yes, evidence)
    }

    fn no(subject: &str, evidence: impl Into<String>) -> Self {
        Self::new(subject, Met::No, evidence)
    }

    fn not_known(subject: &str, reason: impl AsRef<str>) -> Self {
        Self::new(subject, Met::NotKnown, format!("not known: {}", reason.as_ref()))
    }
}

impl Check {
    /// A demand on each of `subjects`; `none` is the evidence if there are none.
    fn of_each(demand: &'static str, none: &str, subjects: Vec<Evidence>) -> Self {
        let Some(met) = subjects.iter().map(|subject| subject.met).max() else {
            return Self { demand, met: Met::No, evidence: none.to_owned(), subjects };
        };
        // The worst comes first.
        let mut shown: Vec<&Evidence> = subjects.iter().collect();
        shown.sort_by_key(|subject| std::cmp::Reverse(subject.met));
        let mut texts: Vec<String> = shown
            .iter()
            .take(LISTED)
            .map(|subject| format!("{}: {}", subject.subject, subject.evidence))
            .collect();
        if shown.len() > LISTED {
            texts.push(format!("and {} more, in the JSON form", shown.len() - LISTED));
        }
        Self { demand, met, evidence: texts.join("; "), subjects }
    }

    fn by_hand(demand: &'static str, evidence: &str) -> Self {
        Self { demand, met: Met::ByHand, evidence: evidence.to_owned(), subjects: Vec::new() }
    }
}

/// All demands, in the order in which they are shown.
pub(super) fn of<'a>(given: &'a Given<'_>, sorted: &ByJob<'a>, report: &Report) -> Vec<Check> {
    vec![
        jobs::documented(given, sorted),
        jobs::backed_up(sorted, report),
        jobs::data_loss(report),
        jobs::restore_time(report),
        jobs::retention(given),
        repositories::keys(given),
        repositories::encrypted(given),
        snapshots::offsite(given, sorted),
        repositories::audit(given),
        snapshots::verified(given, sorted, report),
        snapshots::restores(report),
        jobs::failures_reported(given),
        Check::by_hand("Procedures are up to date", "to be confirmed by the person in charge"),
        Check::by_hand("Staff is trained", "to be confirmed by the person in charge"),
        Check::by_hand(
            "Compliance is verified",
            "to be confirmed by the person in charge, with this report and `backup audit`",
        ),
    ]
}

/// The restores of each job, in their order.
fn restores_by_job(report: &Report) -> HashMap<&str, Vec<&RestoreReport>> {
    let mut restores: HashMap<&str, Vec<&RestoreReport>> = HashMap::new();
    for restore in &report.restores {
        restores.entry(&restore.job).or_default().push(restore);
    }
    restores
}

/// The first digits of the name of a snapshot.
fn short(snapshot: &str) -> &str {
    snapshot.get(..8).unwrap_or(snapshot)
}
