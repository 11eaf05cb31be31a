//! Runs that other machines, and this one after it has lost its catalog, can know of: those that
//! were saved in the repository when they ended, and those that made a snapshot.

use std::collections::HashSet;

use backup_core::format::SnapshotSummary;
use backup_core::repository::SnapshotInfo;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Evidence, Run, RunId, State, What};

/// How many runs stay saved in a repository.
pub const NOTES: usize = 10_000;

/// A run as it is saved in a repository. Fields may be added, and must not be taken away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedRun {
    id: RunId,
    what: What,
    job: String,
    state: State,
    started: Timestamp,
    finished: Option<Timestamp>,
    host: String,
    user: String,
    pid: u32,
    evidence: Evidence,
}

impl From<&Run> for SavedRun {
    fn from(run: &Run) -> Self {
        Self {
            id: run.id.clone(),
            what: run.what,
            job: run.job.clone(),
            state: run.state,
            started: run.started,
            finished: run.finished,
            host: run.host.clone(),
            user: run.user.clone(),
            pid: run.pid,
            evidence: run.evidence.clone(),
        }
    }
}

impl SavedRun {
    /// As a run of the repository with the address `repository`: each machine may have another one
    /// for it.
    pub(super) fn of(self, repository: &str) -> Run {
        Run {
            id: self.id,
            what: self.what,
            job: self.job,
            repository: repository.to_owned(),
            state: self.state,
            started: self.started,
            finished: self.finished,
            host: self.host,
            user: self.user,
            pid: self.pid,
            evidence: self.evidence,
        }
    }
}

/// The runs of the repository with the address `repository` that are not among those `known`: those
/// that were saved in it, and the backups that made its `snapshots`, oldest first.
#[must_use]
pub fn unknown(
    saved: Vec<SavedRun>,
    snapshots: &[SnapshotInfo],
    repository: &str,
    known: &[Run],
) -> Vec<Run> {
    let ids: HashSet<&str> = known.iter().map(|run| run.id.as_str()).collect();
    let of_snapshot =
        |run: &Run| run.evidence.snapshot.clone().filter(|_| run.what == What::Backup);
    let mut made: HashSet<String> = known.iter().filter_map(of_snapshot).collect();
    let is_unknown = |run: &SavedRun| run.finished.is_some() && !ids.contains(run.id.as_str());
    let mut runs: Vec<Run> =
        saved.into_iter().filter(is_unknown).map(|run| run.of(repository)).collect();
    made.extend(runs.iter().filter_map(of_snapshot));
    let is_meant = |info: &&SnapshotInfo| {
        let snapshot = &info.snapshot;
        // A log that was rolled up is no backup, and a copy was made elsewhere.
        snapshot.tag("type") != Some("log")
            && snapshot.original.is_none()
            && !made.contains(&info.id.to_hex())
    };
    let of_snapshots =
        snapshots.iter().filter(is_meant).filter_map(|info| made_by(info, repository));
    runs.extend(of_snapshots.filter(|run| !ids.contains(run.id.as_str())));
    runs.sort_by_key(|run| run.started);
    runs
}

/// The backup that made a snapshot; none if that has no job, as with those of other programs.
fn made_by(info: &SnapshotInfo, repository: &str) -> Option<Run> {
    let snapshot = &info.snapshot;
    let summary = snapshot.summary.as_ref();
    let started = summary.map_or(snapshot.time, |summary| summary.backup_start);
    let finished = summary.map_or(snapshot.time, |summary| summary.backup_end);
    let count = |of: fn(&SnapshotSummary) -> u64| summary.map_or(0, of);
    let evidence = Evidence {
        subject: snapshot.paths.join(" "),
        snapshot: Some(info.id.to_hex()),
        kind: snapshot.tag("type").map(str::to_owned),
        files: count(|summary| summary.total_files_processed),
        bytes: count(|summary| summary.total_bytes_processed),
        new_bytes: count(|summary| summary.data_added),
        stored_bytes: count(|summary| summary.data_added_packed),
        warnings: snapshot.x_warnings.unwrap_or(0),
        ..Evidence::default()
    };
    Some(Run {
        id: RunId::of_snapshot(started, &info.id.to_hex()),
        what: What::Backup,
        job: snapshot.tag("job")?.to_owned(),
        repository: repository.to_owned(),
        state: State::Verified,
        started,
        finished: Some(finished),
        host: snapshot.hostname.clone(),
        user: snapshot.username.clone(),
        // Of a process that nobody knows any more.
        pid: 0,
        evidence,
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::machine::Machine;

    fn info(id: &str, tags: &[&str], original: Option<&str>) -> SnapshotInfo {
        let json = serde_json::json!({
            "time": "2026-03-01T12:00:00Z", "tree": "00".repeat(32), "paths": ["/data"], "hostname": "h", "username": "u",
            "tags": tags, "original": original.map(|id| id.repeat(32)),
        });
        SnapshotInfo {
            id: id.repeat(32).parse().unwrap(),
            snapshot: serde_json::from_value(json).unwrap(),
        }
    }

    fn run(state: State, snapshot: Option<&str>) -> Run {
        let machine = Machine { host: "host".into(), user: "me".into(), time_zone: TimeZone::UTC };
        let started = "2026-03-01T11:00:00Z".parse().unwrap();
        let mut run = Run::new(What::Backup, "docs", "/elsewhere", &machine, started);
        (run.state, run.finished) = (state, Some(started));
        run.evidence.snapshot = snapshot.map(|id| id.repeat(32));
        run
    }

    #[test]
    fn what_is_not_known_is_found_once() {
        let snapshots = [
            info("a1", &["job=docs", "type=full"], None),
            info("a2", &["job=docs", "type=full"], None),
            info("a3", &["job=docs", "type=log"], None),
            info("a4", &["job=docs", "type=full"], Some("b4")),
            info("a5", &[], None),
        ];
        let (failed, good) = (run(State::Failed, None), run(State::Verified, Some("a1")));
        let saved = || [&failed, &good].map(SavedRun::from).to_vec();
        let text = serde_json::to_string(&saved()).unwrap();
        assert_eq!(serde_json::from_str::<Vec<SavedRun>>(&text).unwrap(), saved());
        let all = unknown(saved(), &snapshots, "/repo", &[]);
        assert!(all.iter().all(|run| run.repository == "/repo"));
        let found: Vec<_> = all
            .iter()
            .map(|run| (run.state, run.evidence.snapshot.as_deref().map(|id| &id[..2])))
            .collect();
        let expected =
            [(State::Failed, None), (State::Verified, Some("a1")), (State::Verified, Some("a2"))];
        assert!(expected.iter().all(|one| found.contains(one)) && found.len() == 3, "{found:?}");
        assert_eq!(
            unknown(saved(), &snapshots, "/repo", &all),
            [],
            "nothing is new the second time"
        );
        let some = unknown(saved(), &snapshots, "/repo", std::slice::from_ref(&good));
        assert_eq!(some.len(), 2, "{some:?}");
    }
}
