//! What every catalog must do, wherever it keeps its rows. Each test takes catalogs with nothing in
//! them.
#![expect(clippy::unwrap_used, reason = "tests: an unexpected result fails them")]

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

use backup_core::repository::SnapshotInfo;

use super::{Catalog, Error, History, RunFilter, SharedCatalog};
use crate::machine::Machine;
use crate::runs::{
    Evidence, Failure, Identified, Rebuilt, Run, RunId, SavedRun, StageTime, State, What, rebuild,
};

/// When the tests begin.
#[must_use]
pub fn now() -> Timestamp {
    "2026-03-01T12:00:00.123Z".parse().unwrap()
}

/// A run of a job that began so many minutes later, on `host`.
#[must_use]
pub fn run_on(host: &str, job: &str, minute: i64) -> Run {
    let machine = Machine { host: host.into(), user: "me".into(), zone: crate::zone::Zone::UTC };
    Run::new(What::Backup, job, "/repo", &machine, now() + SignedDuration::from_mins(minute))
}

/// The same, on some host.
#[must_use]
pub fn run(job: &str, minute: i64) -> Run {
    run_on("host", job, minute)
}

fn ids(runs: &[Run]) -> Vec<RunId> {
    runs.iter().map(|run| run.id.clone()).collect()
}

/// Everything that is asked of one catalog.
pub async fn remembers(catalog: &dyn Catalog) {
    let (mut docs, other) = (run("docs", 0), run("other", 1));
    let later = Run { what: What::Restore, ..run("docs", 2) };
    for run in [&docs, &other, &later] {
        catalog.add(run).await.unwrap();
    }
    let again = catalog.add(&docs).await;
    assert!(matches!(again, Err(Error::Known(_))), "a name stands for one run: {again:?}");
    docs.state = State::Failed;
    docs.finished = Some(now());
    docs.evidence = Evidence {
        subject: "'; DROP TABLE runs; -- \u{1f41f}\u{0}".to_owned(),
        snapshot: Some("a1".repeat(32)),
        bytes: u64::MAX,
        stages: vec![StageTime { stage: "backup".to_owned(), millis: 7, bytes: 8, items: 9 }],
        failure: Some(Failure { message: "no".to_owned(), hint: None }),
        again: Some(vec!["run".to_owned(), "docs".to_owned()]),
        ..Evidence::default()
    };
    catalog.update(&docs).await.unwrap();
    // What has ended stays as it is.
    catalog.update(&Run { state: State::Captured, finished: None, ..docs.clone() }).await.unwrap();
    let all = RunFilter::default();
    assert_eq!(
        catalog.runs(&all).await.unwrap().runs,
        [later.clone(), other.clone(), docs.clone()]
    );
    catalog
        .update(&Run { state: State::Verified, finished: Some(now()), ..other.clone() })
        .await
        .unwrap();
    filters(catalog, &docs, &other, &later).await;
    assert_eq!(catalog.jobs(&docs.repository).await.unwrap(), ["docs", "other"]);
    assert!(catalog.jobs("/x").await.unwrap().is_empty());

    let named = async |text: &str| ids(&catalog.named(text).await.unwrap());
    assert_eq!(named(docs.id.as_str()).await, std::slice::from_ref(&docs.id));
    assert_eq!(named("20260301-1201").await, std::slice::from_ref(&other.id));
    assert_eq!(named("20260301").await.len(), 2, "no more than that it is ambiguous");
    assert_eq!(named("2027").await, []);
}

/// `docs` has failed, `other` has not, and `later` is a restore that goes on.
async fn filters(catalog: &dyn Catalog, docs: &Run, other: &Run, later: &Run) {
    let all = RunFilter::default();
    let of = async |filter: RunFilter| ids(&catalog.runs(&filter).await.unwrap().runs);
    let job = Some("docs".to_owned());
    assert_eq!(
        of(RunFilter { job: job.clone(), ..all.clone() }).await,
        [later.id.clone(), docs.id.clone()]
    );
    assert_eq!(
        of(RunFilter { job, backups: true, ..all.clone() }).await,
        std::slice::from_ref(&docs.id)
    );
    assert_eq!(
        of(RunFilter { restores: true, ..all.clone() }).await,
        std::slice::from_ref(&later.id)
    );
    assert_eq!(
        of(RunFilter { unfinished: true, ..all.clone() }).await,
        std::slice::from_ref(&later.id)
    );
    assert_eq!(
        of(RunFilter { successful: true, ..all.clone() }).await,
        std::slice::from_ref(&other.id)
    );
    assert_eq!(of(RunFilter { failed: true, ..all.clone() }).await, std::slice::from_ref(&docs.id));
    assert_eq!(of(RunFilter { host: Some("elsewhere".into()), ..all.clone() }).await, []);
    assert_eq!(of(RunFilter { host: Some("host".into()), ..all.clone() }).await.len(), 3);
    assert_eq!(
        of(RunFilter { limit: Some(1), ..all.clone() }).await,
        std::slice::from_ref(&later.id)
    );
    let oldest = RunFilter { limit: Some(1), oldest_first: true, ..all.clone() };
    assert_eq!(of(oldest).await, std::slice::from_ref(&docs.id));
    assert_eq!(of(RunFilter { repository: Some("/x".into()), ..all.clone() }).await, []);
    let within = Some(other.started..later.started);
    let both = RunFilter {
        within,
        repository: Some("/repo".into()),
        job: Some("other".into()),
        ..all.clone()
    };
    assert_eq!(of(both).await, std::slice::from_ref(&other.id));
}

/// A run of a clock that was thirty years ahead hides no other one.
pub async fn lists_future_runs_last(catalog: &dyn Catalog) {
    let done = |run: Run| Run { state: State::Verified, finished: Some(run.started), ..run };
    let right: Vec<Run> = (0..3).map(|minute| done(run("docs", minute))).collect();
    let ahead = done(run("docs", 30 * 365 * 24 * 60));
    let only = done(run("other", 30 * 365 * 24 * 60 + 1));
    for run in right.iter().chain([&ahead, &only]) {
        catalog.add(run).await.unwrap();
    }
    let docs = RunFilter { job: Some("docs".into()), ..RunFilter::default() };
    let of = async |filter: RunFilter| ids(&catalog.runs(&filter).await.unwrap().runs);
    let names = |runs: &[&Run]| runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>();
    let newest_first = names(&[&right[2], &right[1], &right[0], &ahead]);
    assert_eq!(of(docs.clone()).await, newest_first);
    assert_eq!(of(RunFilter { limit: Some(1), ..docs.clone() }).await, newest_first[..1]);
    assert_eq!(of(RunFilter { limit: Some(4), ..docs.clone() }).await, newest_first);
    let oldest = names(&[&right[0], &right[1], &right[2], &ahead]);
    assert_eq!(of(RunFilter { oldest_first: true, ..docs.clone() }).await, oldest);
    let within = Some(ahead.started..Timestamp::MAX);
    assert_eq!(of(RunFilter { within, ..docs.clone() }).await, names(&[&ahead]));
    // A job without any other run keeps it: the clock of this machine may be behind.
    let jobs = ["docs", "other"].map(|job| (job.to_owned(), "/repo".to_owned())).to_vec();
    let history = catalog.history(&History { jobs, ..History::default() }).await.unwrap();
    assert_eq!(ids(&history.runs), names(&[&only, &right[2], &right[1], &right[0]]));
}

/// A presumed end is replaced by the real one, and only that.
pub async fn replaces_a_presumed_end(catalog: &dyn Catalog) {
    let run = run("docs", 0);
    catalog.add(&run).await.unwrap();
    let ended = |state, is_presumed| Run {
        state,
        finished: Some(now()),
        evidence: Evidence { is_presumed, ..Evidence::default() },
        ..run.clone()
    };
    catalog.update(&ended(State::Failed, true)).await.unwrap();
    catalog.update(&ended(State::Verified, false)).await.unwrap();
    catalog.update(&ended(State::Failed, false)).await.unwrap();
    let known = catalog.named(run.id.as_str()).await.unwrap();
    assert_eq!(known, [ended(State::Verified, false)]);
}

/// The repository moves between rebuilds. One run was recorded here, one is saved in the repository
/// only, and of one there is a snapshot only.
pub async fn rebuilds_once_wherever_the_repository_lies(catalog: &dyn Catalog) {
    let ended = |run: Run| Run { state: State::Verified, finished: Some(now()), ..run };
    let (recorded, saved) = (ended(run("docs", 0)), ended(run("docs", 1)));
    catalog.add(&recorded).await.unwrap();
    let foreign = Run { repository: "/other".to_owned(), ..ended(run("photos", 2)) };
    catalog.add(&foreign).await.unwrap();
    let json = serde_json::json!({
        "time": "2026-03-01T13:00:00Z", "tree": "00".repeat(32), "paths": ["/data"],
        "hostname": "h", "username": "u", "tags": ["job=docs", "type=full"],
    });
    let snapshot =
        SnapshotInfo::new("a1".repeat(32).parse().unwrap(), serde_json::from_value(json).unwrap());
    let rebuild_at = async |address: &str| {
        let notes = [&recorded, &saved].map(SavedRun::from).to_vec();
        let repository = Identified { id: "1d", address };
        rebuild(catalog, notes, std::slice::from_ref(&snapshot), repository).await.unwrap()
    };
    let found = async |repository: &str| {
        let of = RunFilter { repository: Some(repository.to_owned()), ..RunFilter::default() };
        let runs = catalog.runs(&of).await.unwrap().runs;
        runs.into_iter().map(|run| run.id.to_string()).collect::<Vec<_>>()
    };
    let by_snapshot = "20260301-130000-a1a1a1".to_owned();
    let all = [by_snapshot, saved.id.to_string(), recorded.id.to_string()];
    assert_eq!(rebuild_at("/repo").await, Rebuilt { added: 2, moved: 0, known: 1 });
    assert_eq!(found("/repo").await, all);
    assert_eq!(rebuild_at("/repo").await, Rebuilt { added: 0, moved: 0, known: 3 });
    assert_eq!(rebuild_at("/new").await, Rebuilt { added: 0, moved: 3, known: 3 });
    assert_eq!(rebuild_at("/new").await, Rebuilt { added: 0, moved: 0, known: 3 });
    assert_eq!((found("/new").await, found("/repo").await), (all.to_vec(), Vec::new()));
    assert_eq!(found("/other").await, [foreign.id.to_string()]);
    assert_eq!(catalog.runs(&RunFilter::default()).await.unwrap().runs.len(), 4);
}

/// The history of jobs: the newest backups, the newest successes of each type, the last success and
/// the first backup. `docs` has 2 full backups, 60 incremental ones, 30 that failed since, and one
/// of a part, which is no backup of the job.
pub async fn selects_the_history_of_jobs(catalog: &dyn Catalog) {
    let add = async |job: &str, minute: i64, state: State, kind: Option<&str>| {
        let mut run = run(job, minute);
        (run.state, run.finished) = (state, Some(run.started));
        run.evidence.kind = kind.map(str::to_owned);
        // A quoted key in a text is no key.
        run.evidence.subject = "\"type\":\"other\",\"is_part\":true".to_owned();
        catalog.add(&run).await.unwrap();
    };
    add("docs", 0, State::Failed, None).await;
    add("docs", 1, State::Verified, Some("full")).await;
    add("docs", 2, State::Verified, Some("full")).await;
    for minute in 3..63 {
        add("docs", minute, State::Verified, Some("incremental")).await;
    }
    for minute in 63..93 {
        add("docs", minute, State::Failed, None).await;
    }
    let mut part = run("docs", 94);
    (part.state, part.finished) = (State::Verified, Some(part.started));
    (part.evidence.kind, part.evidence.is_part) = (Some("full".to_owned()), true);
    catalog.add(&part).await.unwrap();
    add("other", 100, State::Verified, Some("full")).await;
    catalog.add(&Run { what: What::Restore, ..run("docs", 101) }).await.unwrap();
    catalog.add(&Run { repository: "/x".into(), ..run("docs", 102) }).await.unwrap();
    let minutes = async |of: History| -> Vec<i64> {
        let runs = catalog.history(&of).await.unwrap().runs;
        runs.iter().map(|run| run.started.duration_since(now()).as_mins()).collect()
    };
    let of = |jobs: &[&str]| History {
        jobs: jobs.iter().map(|job| ((*job).to_owned(), "/repo".to_owned())).collect(),
        ..History::default()
    };
    let docs: Vec<i64> = (68..93).rev().chain((38..63).rev()).chain([2, 1, 0]).collect();
    assert_eq!(minutes(of(&["docs"])).await, docs);
    let both: Vec<i64> = std::iter::once(100).chain(docs).collect();
    assert_eq!(minutes(of(&["docs", "other", "unknown"])).await, both);
    assert_eq!(minutes(History { host: Some("host".into()), ..of(&["other"]) }).await, [100]);
    assert!(minutes(History { host: Some("else".into()), ..of(&["other"]) }).await.is_empty());
    assert!(minutes(History::default()).await.is_empty());
    let last = async |whole| {
        let job = Some("docs".to_owned());
        let filter =
            RunFilter { job, successful: true, whole, limit: Some(1), ..RunFilter::default() };
        catalog.runs(&filter).await.unwrap().runs[0].started.duration_since(now()).as_mins()
    };
    assert_eq!((last(false).await, last(true).await), (94, 62));
}

/// Each writer with a catalog of its own on the same rows, as processes have.
pub async fn several_write_at_once(open: impl AsyncFn() -> SharedCatalog) {
    let mut writers = Vec::new();
    for writer in 0..8 {
        let catalog = open().await;
        writers.push(tokio::spawn(async move {
            for at in 0..20 {
                let mut run = run("docs", writer * 100 + at);
                catalog.add(&run).await.unwrap();
                run.state = State::Verified;
                run.finished = Some(now());
                catalog.update(&run).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let runs = open().await.runs(&RunFilter::default()).await.unwrap().runs;
    assert_eq!(runs.iter().filter(|run| run.state == State::Verified).count(), 160);
}

/// What machines that share a catalog agree on.
pub async fn agrees(here: &dyn Catalog, there: &dyn Catalog) {
    let (here, there) = (here.shared().unwrap(), there.shared().unwrap());
    let (first, second) = (run_on("one", "docs", 0), run_on("two", "docs", 1));
    assert_eq!(here.take_flight("k", &first, &[]).await.unwrap(), None);
    assert_eq!(
        here.take_flight("k", &first, &[]).await.unwrap(),
        None,
        "the second answer is the same"
    );
    let holder = there.take_flight("k", &second, &[]).await.unwrap().unwrap();
    let told =
        (holder.host.as_str(), holder.user.as_str(), holder.pid, holder.since, holder.run.as_str());
    assert_eq!(told, ("one", "me", std::process::id(), first.started, first.id.as_str()));
    assert_eq!(
        there.take_flight("k2", &second, &[]).await.unwrap(),
        None,
        "another job is another one's"
    );
    assert!(
        here.keep_flight("k", &first.id).await.unwrap()
            && !there.keep_flight("k", &second.id).await.unwrap()
    );
    // Nobody gives back what he does not have.
    there.end_flight("k", &second.id).await.unwrap();
    assert!(there.take_flight("k", &second, &["another".to_owned()]).await.unwrap().is_some());
    // Whose process has died has it no more.
    assert_eq!(
        there.take_flight("k", &second, &[first.id.as_str().to_owned()]).await.unwrap(),
        None
    );
    assert!(!here.keep_flight("k", &first.id).await.unwrap());
    there.end_flight("k", &second.id).await.unwrap();
    assert_eq!(here.take_flight("k", &first, &[]).await.unwrap(), None);
}

/// Of many who want the same at once, one gets it.
pub async fn one_of_many_takes_a_flight(open: impl AsyncFn() -> SharedCatalog) {
    let mut rivals = Vec::new();
    for rival in 0..8 {
        let (catalog, run) = (open().await, run_on(&format!("host{rival}"), "docs", rival));
        rivals.push(tokio::spawn(async move {
            let taken = catalog.shared().unwrap().take_flight("many", &run, &[]).await.unwrap();
            taken.map_or_else(|| run.id.to_string(), |holder| holder.run)
        }));
    }
    let mut named = BTreeSet::new();
    for rival in rivals {
        named.insert(rival.await.unwrap());
    }
    assert_eq!(named.len(), 1, "all name the same one: {named:?}");
}
