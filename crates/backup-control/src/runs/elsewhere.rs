//! Runs that other machines, and this one after it has lost its catalog, can know of: those that
//! were saved in the repository when they ended, and those that made a snapshot.

use std::collections::HashSet;

use backup_core::format::SnapshotSummary;
use backup_core::repository::SnapshotInfo;
use backup_core::source::IMPORTED;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Evidence, Run, RunId, State, What};
use crate::catalog::{self, Catalog, RunFilter};

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
    pub(super) fn at(self, repository: &str) -> Run {
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

/// The difference between a catalog and the runs of a repository.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    /// Runs that the catalog lacks, oldest first.
    missing: Vec<Run>,
    /// Runs that the catalog has under another address of the repository.
    moved: Vec<RunId>,
    /// Runs of the repository that the catalog has, with those that moved.
    known: u64,
}

/// A repository: its identity, and where it lies now.
#[derive(Debug, Clone, Copy)]
pub struct Identified<'a> {
    /// The identity from its config.
    pub id: &'a str,
    /// Its present address, as runs record it.
    pub address: &'a str,
}

/// The result of [`rebuild`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Runs that the catalog lacked.
    pub added: u64,
    /// Runs that the catalog had under another address of the repository.
    pub moved: u64,
    /// Runs of the repository that the catalog had, with those that moved.
    pub known: u64,
}

/// Brings a catalog up to date with the runs of a repository: those that were `saved` in
/// it, and the backups that made its `snapshots`. A run belongs to the repository with the same
/// identity, wherever that lay when it ran: runs that the catalog has under another address get the
/// present one. A second call changes nothing, and one that was interrupted is continued by the
/// next.
///
/// # Errors
/// Those of the catalog.
pub async fn rebuild(
    catalog: &dyn Catalog,
    saved: Vec<SavedRun>,
    snapshots: &[SnapshotInfo],
    repository: Identified<'_>,
) -> catalog::Result<Rebuilt> {
    let catalogued = catalog.runs(&RunFilter::default()).await?.runs;
    let Difference { missing, moved, known } = compare(saved, snapshots, repository, &catalogued);
    let mut rebuilt = Rebuilt { known, ..Rebuilt::default() };
    for run in &missing {
        match catalog.add(run).await {
            Ok(()) => rebuilt.added += 1,
            // Another process added it in the meantime, or its row cannot be read.
            Err(catalog::Error::Known(_)) => rebuilt.known += 1,
            Err(error) => return Err(error),
        }
    }
    for run in &moved {
        catalog.relocate(run, repository.address).await?;
        rebuilt.moved += 1;
    }
    Ok(rebuilt)
}

fn compare(
    saved: Vec<SavedRun>,
    snapshots: &[SnapshotInfo],
    repository: Identified<'_>,
    catalogued: &[Run],
) -> Difference {
    let ids: HashSet<&str> = catalogued.iter().map(|run| run.id.as_str()).collect();
    let of_snapshot =
        |run: &Run| run.evidence.snapshot.clone().filter(|_| run.what == What::Backup);
    let mut made: HashSet<String> = catalogued.iter().filter_map(of_snapshot).collect();
    let here: HashSet<String> = saved.iter().map(|run| run.id.to_string()).collect();
    // A snapshot alone is no evidence: copies with the same master key have the same names.
    let is_here = |run: &&Run| {
        here.contains(run.id.as_str())
            || run.evidence.repository_id.as_deref() == Some(repository.id)
    };
    let known = catalogued.iter().filter(is_here);
    let moved = known.clone().filter(|run| run.repository != repository.address);
    let (moved, known) = (moved.map(|run| run.id.clone()).collect(), known.count() as u64);

    let is_missing = |run: &SavedRun| run.finished.is_some() && !ids.contains(run.id.as_str());
    let mut missing: Vec<Run> =
        saved.into_iter().filter(is_missing).map(|run| run.at(repository.address)).collect();
    made.extend(missing.iter().filter_map(of_snapshot));
    let is_meant = |info: &&SnapshotInfo| {
        let snapshot = &info.snapshot;
        // A log that was rolled up is no backup, a copy was made elsewhere, and an imported dump is
        // of another tool.
        snapshot.tag("type") != Some("log")
            && snapshot.original.is_none()
            && !snapshot.tags.iter().any(|tag| tag == IMPORTED)
            && !made.contains(&info.id.to_hex())
    };
    let of_snapshots =
        snapshots.iter().filter(is_meant).filter_map(|info| made_by(info, repository.address));
    missing.extend(of_snapshots.filter(|run| !ids.contains(run.id.as_str())));
    for run in &mut missing {
        run.evidence.repository_id = Some(repository.id.to_owned());
    }
    missing.sort_by_key(|run| run.started);
    Difference { missing, moved, known }
}

/// The backup that made a snapshot; none if that has no job, as with those of other programs.
fn made_by(info: &SnapshotInfo, repository: &str) -> Option<Run> {
    let snapshot = &info.snapshot;
    let summary = snapshot.summary.as_ref();
    // A run whose clock was wrong counts for the time of its snapshot.
    let recorded = summary.filter(|_| !info.effective.is_replaced());
    let started = recorded.map_or(info.time(), |summary| summary.backup_start);
    let finished = recorded.map_or(info.time(), |summary| summary.backup_end);
    let count = |of: fn(&SnapshotSummary) -> u64| summary.map_or(0, of);
    let evidence = Evidence {
        subject: snapshot.paths.join(" "),
        snapshot: Some(info.id.to_hex()),
        kind: snapshot.tag("type").map(str::to_owned),
        files: count(|summary| summary.total_files_processed),
        bytes: count(|summary| summary.total_bytes_processed),
        new_bytes: count(|summary| summary.data_added),
        stored_bytes: count(|summary| summary.data_added_packed),
        is_part: snapshot.is_part(),
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

    use super::*;
    use crate::machine::Machine;

    fn info(id: &str, tags: &[&str], original: Option<&str>) -> SnapshotInfo {
        let json = serde_json::json!({
            "time": "2026-03-01T12:00:00Z", "tree": "00".repeat(32), "paths": ["/data"], "hostname": "h", "username": "u",
            "tags": tags, "original": original.map(|id| id.repeat(32)),
        });
        SnapshotInfo::new(id.repeat(32).parse().unwrap(), serde_json::from_value(json).unwrap())
    }

    fn run(state: State, snapshot: Option<&str>) -> Run {
        let machine =
            Machine { host: "host".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
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
        let compare = |catalogued: &[Run]| {
            let repository = Identified { id: "1d", address: "/repo" };
            super::compare(saved(), &snapshots, repository, catalogued)
        };
        let all = compare(&[]).missing;
        assert!(all.iter().all(|run| run.repository == "/repo"));
        let found: Vec<_> = all
            .iter()
            .map(|run| (run.state, run.evidence.snapshot.as_deref().map(|id| &id[..2])))
            .collect();
        let expected =
            [(State::Failed, None), (State::Verified, Some("a1")), (State::Verified, Some("a2"))];
        assert!(expected.iter().all(|one| found.contains(one)) && found.len() == 3, "{found:?}");
        let again = compare(&all);
        assert_eq!((again.missing, again.moved, again.known), (Vec::new(), Vec::new(), 3));
        let moved: Vec<Run> =
            all.iter().map(|run| Run { repository: "/old".into(), ..run.clone() }).collect();
        let moved = compare(&moved);
        assert_eq!((moved.missing, moved.moved.len(), moved.known), (Vec::new(), 3, 3));
        // It ran while the repository lay elsewhere.
        let some = compare(std::slice::from_ref(&good));
        assert_eq!(some.missing.len(), 2, "{some:?}");
        assert_eq!((some.moved, some.known), (vec![good.id.clone()], 1));
        let other = Run { evidence: Evidence::default(), ..run(State::Failed, None) };
        assert_eq!(compare(&[other]).known, 0, "nothing shows that it belongs here");
    }
}
