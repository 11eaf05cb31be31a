//! What every catalog must do, and what SQLite does besides.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::SignedDuration;

use super::*;
use crate::machine::Machine;
use crate::runs::{Evidence, Failure, RunId, StageTime, State, What};

fn now() -> Timestamp {
    "2026-03-01T12:00:00.123Z".parse().unwrap()
}

fn run(job: &str, minute: i64) -> Run {
    let machine = Machine { host: "host".into(), user: "me".into(), time_zone: jiff::tz::TimeZone::UTC };
    Run::new(What::Backup, job, "/repo", &machine, now() + SignedDuration::from_mins(minute))
}

fn ids(runs: &[Run]) -> Vec<RunId> {
    runs.iter().map(|run| run.id.clone()).collect()
}

async fn fresh(dir: &Path) -> SharedCatalog {
    let opened = open(dir, now()).await.unwrap();
    assert_eq!(opened.put_aside, None);
    opened.catalog
}

/// The suite: what a catalog must do wherever it keeps its rows.
async fn remembers(catalog: &dyn Catalog) {
    let (mut docs, other) = (run("docs", 0), run("other", 1));
    let later = Run { what: What::Restore, ..run("docs", 2) };
    for run in [&docs, &other, &later] {
        catalog.add(run).await.unwrap();
    }
    assert!(catalog.add(&docs).await.is_err(), "a name stands for one run");
    docs.state = State::Failed;
    docs.finished = Some(now());
    docs.evidence = Evidence {
        subject: "'; DROP TABLE runs; -- \u{1f41f}".to_owned(),
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
    assert_eq!(catalog.runs(&all).await.unwrap().runs, [later.clone(), other.clone(), docs.clone()]);
    let of = async |filter: RunFilter| ids(&catalog.runs(&filter).await.unwrap().runs);
    let job = Some("docs".to_owned());
    assert_eq!(of(RunFilter { job: job.clone(), ..all.clone() }).await, [later.id.clone(), docs.id.clone()]);
    assert_eq!(of(RunFilter { job, backups: true, ..all.clone() }).await, std::slice::from_ref(&docs.id));
    assert_eq!(of(RunFilter { unfinished: true, ..all.clone() }).await, [later.id.clone(), other.id.clone()]);
    assert_eq!(of(RunFilter { successful: true, ..all.clone() }).await, []);
    assert_eq!(of(RunFilter { failed: true, ..all.clone() }).await, std::slice::from_ref(&docs.id));
    assert_eq!(of(RunFilter { host: Some("elsewhere".into()), ..all.clone() }).await, []);
    assert_eq!(of(RunFilter { host: Some("host".into()), ..all.clone() }).await.len(), 3);
    catalog.update(&Run { state: State::Verified, finished: Some(now()), ..other.clone() }).await.unwrap();
    assert_eq!(of(RunFilter { successful: true, ..all.clone() }).await, std::slice::from_ref(&other.id));
    assert_eq!(of(RunFilter { limit: Some(1), ..all.clone() }).await, std::slice::from_ref(&later.id));
    assert_eq!(of(RunFilter { repository: Some("/x".into()), ..all.clone() }).await, []);
    assert_eq!(catalog.jobs(&docs.repository).await.unwrap(), ["docs", "other"]);
    assert!(catalog.jobs("/x").await.unwrap().is_empty());
    let within = Some(other.started..later.started);
    assert_eq!(of(RunFilter { within, ..all.clone() }).await, std::slice::from_ref(&other.id));

    let named = async |text: &str| ids(&catalog.named(text).await.unwrap());
    assert_eq!(named(docs.id.as_str()).await, std::slice::from_ref(&docs.id));
    assert_eq!(named("20260301-1201").await, std::slice::from_ref(&other.id));
    assert_eq!(named("20260301").await.len(), 2, "no more than that it is ambiguous");
    assert_eq!(named("2027").await, []);
}

#[tokio::test]
async fn sqlite_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/state");
    remembers(&*fresh(&state).await).await;
    assert_eq!(fresh(&state).await.runs(&RunFilter::default()).await.unwrap().runs.len(), 3, "it lasts");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&state).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

/// Others may need what lies in a directory that was there before.
#[tokio::test]
async fn the_directory_of_others_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    remembers(&*fresh(dir.path()).await).await;
    assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777, 0o1777);
}

/// Each with a connection of its own, as processes have.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_write_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let write = |writer: i64| {
        let dir = dir.path().to_path_buf();
        tokio::spawn(async move {
            let catalog = fresh(&dir).await;
            for at in 0..20 {
                let mut run = run("docs", writer * 100 + at);
                catalog.add(&run).await.unwrap();
                run.state = State::Verified;
                run.finished = Some(now());
                catalog.update(&run).await.unwrap();
            }
        })
    };
    for writer in (0..8).map(write).collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let runs = fresh(dir.path()).await.runs(&RunFilter::default()).await.unwrap().runs;
    assert_eq!(runs.iter().filter(|run| run.state == State::Verified).count(), 160);
}

#[tokio::test]
async fn a_damaged_one_is_put_aside() {
    for damage in [b"not a database, and long enough to be looked at as one: ".repeat(100), vec![0; 8192]] {
        let dir = tempfile::tempdir().unwrap();
        fresh(dir.path()).await.add(&run("docs", 0)).await.unwrap();
        std::fs::write(dir.path().join("catalog.db"), &damage).unwrap();
        for end in ["-wal", "-shm"] {
            _ = std::fs::remove_file(dir.path().join(format!("catalog.db{end}")));
        }
        let opened = open(dir.path(), now()).await.unwrap();
        let aside = opened.put_aside.unwrap();
        assert_eq!(std::fs::read(&aside).unwrap(), damage);
        assert!(opened.catalog.runs(&RunFilter::default()).await.unwrap().runs.is_empty());
        opened.catalog.add(&run("docs", 1)).await.unwrap();
        assert_eq!(fresh(dir.path()).await.runs(&RunFilter::default()).await.unwrap().runs.len(), 1);
    }
}

/// Damage where the first look does not see it.
#[tokio::test]
async fn damage_found_in_use_is_mended_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = fresh(dir.path()).await;
    for at in 0..2000 {
        catalog.add(&run("docs", at)).await.unwrap();
    }
    drop(catalog);
    let file = dir.path().join("catalog.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 20, "{pages}");
    // The first pages hold the roots.
    bytes[8 * 4096..(pages - 8) * 4096].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    let opened = open(dir.path(), now()).await.unwrap();
    if opened.put_aside.is_none() {
        assert!(opened.catalog.runs(&RunFilter::default()).await.is_err());
        drop(opened);
        assert!(open(dir.path(), now()).await.unwrap().put_aside.is_some());
    }
    assert!(fresh(dir.path()).await.runs(&RunFilter::default()).await.unwrap().runs.is_empty());
}

#[tokio::test]
async fn a_newer_one_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(fresh(dir.path()).await);
    let connection = rusqlite::Connection::open(dir.path().join("catalog.db")).unwrap();
    connection.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    drop(connection);
    let error = open(dir.path(), now()).await.unwrap_err();
    assert!(matches!(error, Error::Newer(_)), "{error:?}");
    assert!(
        !std::fs::read_dir(dir.path()).unwrap().any(|file| file.unwrap().path().to_string_lossy().contains("damaged"))
    );
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    assert!(matches!(open(&file.join("state"), now()).await, Err(Error::Place(..))));
}

/// Whoever still has the old one open must not take away what lies beside the new one.
#[tokio::test]
async fn closing_one_that_was_put_aside_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let old = fresh(dir.path()).await;
    old.add(&run("docs", 0)).await.unwrap();
    std::fs::write(dir.path().join("catalog.suspect"), "").unwrap();
    let opened = open(dir.path(), now()).await.unwrap();
    assert!(opened.put_aside.is_some());
    opened.catalog.add(&run("docs", 1)).await.unwrap();
    drop(old);
    assert_eq!(fresh(dir.path()).await.runs(&RunFilter::default()).await.unwrap().runs.len(), 1);
    assert!(dir.path().join("catalog.db-wal").exists());
}

#[test]
fn nobody_waits_at_the_door_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let door = std::fs::File::create(dir.path().join("catalog.lock")).unwrap();
    door.lock().unwrap();
    let patience = std::time::Duration::from_millis(100);
    let error = sqlite::open(dir.path(), now(), patience).unwrap_err();
    assert!(matches!(&error, Error::Busy(_)) && error.hint().contains("catalog.lock"), "{error:?}");
    drop(door);
    sqlite::open(dir.path(), now(), patience).unwrap();
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = fresh(dir.path()).await;
    for minute in 0..3 {
        catalog.add(&run("docs", minute)).await.unwrap();
    }
    let database = rusqlite::Connection::open(dir.path().join("catalog.db")).unwrap();
    let at = run("docs", 1).started.as_millisecond();
    assert_eq!(database.execute("UPDATE runs SET evidence = 'x' WHERE started = ?", [at]).unwrap(), 1);
    let found = catalog.runs(&RunFilter::default()).await.unwrap();
    assert_eq!((found.runs.len(), found.unreadable), (2, 1));
}
