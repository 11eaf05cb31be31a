//! Runs and snapshots by job: a report looks at each once, however many jobs there are.

use std::collections::{BTreeSet, HashMap};

use super::{Given, SnapshotGiven, copies};
use crate::runs::Run;

/// See the module documentation.
pub(super) struct ByJob<'a> {
    runs: HashMap<&'a str, Vec<&'a Run>>,
    /// By repository and job.
    snapshots: HashMap<(&'a str, &'a str), Vec<&'a SnapshotGiven>>,
    /// Names of the repositories with a snapshot of this origin, and of this identifier.
    by_origin: HashMap<&'a str, BTreeSet<&'a str>>,
    by_id: HashMap<&'a str, BTreeSet<&'a str>>,
    /// Reasons why there may be more copies of the snapshots in a repository than are known.
    unknown: HashMap<&'a str, String>,
}

impl<'a> ByJob<'a> {
    pub(super) fn of(given: &'a Given<'_>) -> Self {
        let mut sorted = Self {
            runs: HashMap::new(),
            snapshots: HashMap::new(),
            by_origin: HashMap::new(),
            by_id: HashMap::new(),
            unknown: HashMap::new(),
        };
        for run in given.runs.iter() {
            sorted.runs.entry(&run.job).or_default().push(run);
        }
        for (repository, known) in &given.repositories {
            if let Some(reason) = copies::unknown(given, known) {
                sorted.unknown.insert(repository, reason);
            }
            for snapshot in known.snapshots.iter().flatten() {
                let key = (repository.as_str(), snapshot.job.as_str());
                sorted.snapshots.entry(key).or_default().push(snapshot);
                sorted.by_origin.entry(&snapshot.origin).or_default().insert(repository);
                sorted.by_id.entry(&snapshot.id).or_default().insert(repository);
            }
        }
        sorted
    }

    /// All runs of a job.
    pub(super) fn runs(&self, job: &str) -> &[&'a Run] {
        self.runs.get(job).map(Vec::as_slice).unwrap_or_default()
    }

    /// The snapshots of a job in a repository.
    pub(super) fn snapshots(&self, repository: &'a str, job: &'a str) -> Vec<&'a SnapshotGiven> {
        self.snapshots.get(&(repository, job)).cloned().unwrap_or_default()
    }

    /// The reason why there may be more copies of the snapshots in a repository than are known.
    pub(super) fn unknown(&self, repository: &str) -> Option<&String> {
        self.unknown.get(repository)
    }

    /// Names of the repositories with a snapshot or a copy of it.
    pub(super) fn holders(&self, snapshot: &SnapshotGiven) -> BTreeSet<&'a str> {
        let found = [self.by_origin.get(&*snapshot.origin), self.by_id.get(&*snapshot.id)];
        found.into_iter().flatten().flatten().copied().collect()
    }
}
