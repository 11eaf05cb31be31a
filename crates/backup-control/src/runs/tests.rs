//! Recordings.

use std::path::Path;

use backup_core::context::Context;
use backup_core::event::{Event, Progress, Stage, WarningKind};
use backup_core::id::SnapshotId;
use jiff::Timestamp;

use super::*;
use crate::catalog::{self, RunFilter, SharedCatalog};
use crate::machine::Machine;

fn machine(host: &str) -> Machine {
    Machine { host: host.into(), user: "me".into(), zone: crate::zone::Zone::UTC }
}

fn run(host: &str) -> Run {
    Run::new(What::Backup, "docs", "/repo", &machine(host), "2026-03-01T12:00:00Z".parse().unwrap())
}

async fn open(dir: &Path) -> SharedCatalog {
    catalog::open(&catalog::Home::Directory(dir.to_path_buf()), Timestamp::UNIX_EPOCH)
        .await
        .unwrap()
        .catalog
}

async fn stored(catalog: &SharedCatalog, id: &RunId) -> Run {
    let mut runs = catalog.named(id.as_str()).await.unwrap();
    assert_eq!(runs.len(), 1);
    runs.remove(0)
}

/// Waits until the catalog knows of a state.
async fn reaches(catalog: &SharedCatalog, id: &RunId, state: State) {
    for _ in 0..500 {
        if stored(catalog, id).await.state == state {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never {state:?}");
}

/// Waits until the catalog knows of a snapshot.
async fn knows_snapshot(catalog: &SharedCatalog, id: &RunId) {
    for _ in 0..500 {
        if stored(catalog, id).await.evidence.snapshot.is_some() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never a snapshot");
}

fn finished(stage: Stage, bytes: u64) -> Event {
    Event::StageFinished {
        stage,
        progress: Progress { done_items: 3, done_bytes: bytes, ..Progress::default() },
    }
}

#[tokio::test]
async fn a_run_is_followed_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, cx) = (open(dir.path()).await, Context::silent());
    let begun = Recording::begin(dir.path(), catalog.clone(), run("here"), &cx).await.unwrap();
    let (recording, id) = (begun.events(), begun.id());
    assert_eq!(stored(&catalog, &id).await.state, State::Running);
    recording.emit(&Event::StageStarted { stage: Stage::Backup });
    recording.warn(WarningKind::Unreadable, "/a", "no");
    recording.emit(&finished(Stage::Backup, 10));
    reaches(&catalog, &id, State::Captured).await;
    recording.emit(&Event::StageStarted { stage: Stage::Commit });
    recording.emit(&finished(Stage::Commit, 20));
    reaches(&catalog, &id, State::Uploaded).await;
    let snapshot: SnapshotId = "a1".repeat(32).parse().unwrap();
    recording.emit(&Event::SnapshotSaved { id: snapshot });
    recording.note("a remark");
    let ended = begun.end(State::Verified, |evidence| evidence.bytes = 10).await.unwrap();
    let known = stored(&catalog, &id).await;
    assert_eq!((known.state, known.evidence.bytes), (State::Verified, 10));
    assert!(ended.finished.is_some() && known.finished.is_some());
    let stages: Vec<_> =
        known.evidence.stages.iter().map(|stage| (stage.stage.as_str(), stage.bytes)).collect();
    assert_eq!(stages, [("backup", 10), ("commit", 20)]);
    let log = Log::read(dir.path(), &id).unwrap().unwrap();
    for words in [
        "backup of job docs",
        "warning: /a: no",
        "backup: 3 done, 10 bytes",
        "a1 saved",
        "a remark",
        " verified",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[tokio::test]
async fn what_died_is_closed_and_what_lives_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, cx) = (open(dir.path()).await, Context::silent());
    let begin = async |host: &str| {
        Recording::begin(dir.path(), catalog.clone(), run(host), &cx).await.unwrap()
    };
    let (dead, lives) = (begin("here").await, begin("here").await);
    let (died, living) = (dead.id(), lives.id());
    // As if its process had ended: nothing holds the lock.
    drop(dead);
    // As a container: its name is not that of the next one, but its lock tells.
    let elsewhere = run("elsewhere");
    catalog.add(&elsewhere).await.unwrap();
    // Done, and interrupted before the catalog knew of it.
    let finished = begin("here").await;
    let done = finished.id();
    finished.events().emit(&Event::SnapshotSaved { id: "a1".repeat(32).parse().unwrap() });
    knows_snapshot(&catalog, &done).await;
    finished.end_unknown("verified");
    let closing = close_dead(dir.path(), &catalog, "here", Timestamp::UNIX_EPOCH).await.unwrap();
    let closed: std::collections::BTreeMap<_, _> =
        closing.runs.iter().map(|closed| (closed.run.id.clone(), closed.cause)).collect();
    let expected = [
        (died.clone(), CloseCause::LockFree),
        (elsewhere.id.clone(), CloseCause::LogMissing),
        (done.clone(), CloseCause::EndLogged),
    ];
    assert_eq!(closed, expected.into());
    // Without a log, there is no evidence of the end of the process.
    let unobserved = stored(&catalog, &elsewhere.id).await.evidence;
    let why = unobserved.failure.unwrap().message;
    assert!(unobserved.is_presumed && why.contains("cannot be observed"), "{why}");
    assert!(!stored(&catalog, &died).await.evidence.is_presumed);
    let known = stored(&catalog, &done).await;
    assert_eq!((known.state, known.finished), (State::Verified, Some(Timestamp::UNIX_EPOCH)));
    assert!(known.evidence.snapshot.is_some() && known.evidence.failure.is_none());
    let closed = stored(&catalog, &died).await;
    assert!(closed.state == State::Failed && closed.finished.is_some());
    assert!(closed.evidence.failure.unwrap().message.contains("died while the run was running"));
    assert_eq!(stored(&catalog, &living).await.state, State::Running);
    let failure = Failure { message: "no".into(), hint: Some("yes".into()) };
    lives.end(State::Failed, |evidence| evidence.failure = Some(failure)).await.unwrap();
    let log = Log::read(dir.path(), &living).unwrap().unwrap();
    assert!(log.contains("failed: no\n  hint: yes"), "{log}");
    let unfinished =
        catalog.runs(&RunFilter { unfinished: true, ..RunFilter::default() }).await.unwrap();
    assert_eq!(unfinished.runs, []);
}

/// A catalog that can be told of no end.
#[derive(Debug)]
struct Away(SharedCatalog);

#[async_trait::async_trait]
impl catalog::Catalog for Away {
    async fn add(&self, run: &Run) -> catalog::Result<()> {
        self.0.add(run).await
    }

    async fn update(&self, _: &Run) -> catalog::Result<()> {
        Err(catalog::Error::Busy("away".into()))
    }

    async fn relocate(&self, run: &RunId, repository: &str) -> catalog::Result<()> {
        self.0.relocate(run, repository).await
    }

    async fn runs(&self, filter: &RunFilter) -> catalog::Result<catalog::Found> {
        self.0.runs(filter).await
    }

    async fn history(&self, of: &catalog::History) -> catalog::Result<catalog::Found> {
        self.0.history(of).await
    }

    async fn jobs(&self, repository: &str) -> catalog::Result<Vec<String>> {
        self.0.jobs(repository).await
    }

    async fn named(&self, beginning: &str) -> catalog::Result<Vec<Run>> {
        self.0.named(beginning).await
    }
}

#[tokio::test]
async fn what_a_catalog_could_not_be_told_it_is_told_later() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, cx) = (open(dir.path()).await, Context::silent());
    let away: SharedCatalog = std::sync::Arc::new(Away(catalog.clone()));
    let begun = Recording::begin(dir.path(), away, run("here"), &cx).await.unwrap();
    let id = begun.id();
    assert!(begun.end(State::Verified, |evidence| evidence.bytes = 7).await.is_err());
    assert_eq!(stored(&catalog, &id).await.finished, None);
    for _ in 0..2 {
        let closed = close_dead(dir.path(), &catalog, "here", Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(closed.runs, [], "nobody has died");
        let known = stored(&catalog, &id).await;
        assert_eq!(
            (known.state, known.evidence.bytes, known.finished.is_some()),
            (State::Verified, 7, true)
        );
        assert!(Log::kept(dir.path()).unwrap().is_empty());
    }
}
