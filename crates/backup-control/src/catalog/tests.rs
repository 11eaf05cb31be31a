//! What SQLite does besides.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::conformance::{
    lists_future_runs_last, now, rebuilds_once_wherever_the_repository_lies, remembers,
    replaces_a_presumed_end, run, selects_the_history_of_jobs, several_write_at_once,
};
use super::*;

async fn open_in(dir: &Path) -> Result<Opened> {
    open(&Home::Directory(dir.to_path_buf()), now()).await
}

async fn fresh(dir: &Path) -> SharedCatalog {
    let opened = open_in(dir).await.unwrap();
    assert_eq!(opened.put_aside, None);
    opened.catalog
}

#[tokio::test]
async fn sqlite_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/state");
    remembers(&*fresh(&state).await).await;
    assert_eq!(
        fresh(&state).await.runs(&RunFilter::default()).await.unwrap().runs.len(),
        3,
        "it lasts"
    );
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&state).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            file.file_name()
        );
    }
}

#[tokio::test]
async fn sqlite_lists_future_runs_last() {
    let dir = tempfile::tempdir().unwrap();
    lists_future_runs_last(&*fresh(dir.path()).await).await;
}

#[tokio::test]
async fn sqlite_replaces_a_presumed_end() {
    let dir = tempfile::tempdir().unwrap();
    replaces_a_presumed_end(&*fresh(dir.path()).await).await;
}

#[tokio::test]
async fn sqlite_rebuilds_once_wherever_the_repository_lies() {
    let dir = tempfile::tempdir().unwrap();
    rebuilds_once_wherever_the_repository_lies(&*fresh(dir.path()).await).await;
}

#[tokio::test]
async fn sqlite_selects_the_history_of_jobs() {
    let dir = tempfile::tempdir().unwrap();
    selects_the_history_of_jobs(&*fresh(dir.path()).await).await;
}

/// Others may need what lies in a directory that was there before.
#[tokio::test]
async fn the_directory_of_others_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    remembers(&*fresh(dir.path()).await).await;
    assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777, 0o1777);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_write() {
    let dir = tempfile::tempdir().unwrap();
    several_write_at_once(async || fresh(dir.path()).await).await;
}

#[tokio::test]
async fn a_damaged_one_is_put_aside() {
    for damage in
        [b"not a database, and long enough to be looked at as one: ".repeat(100), vec![0; 8192]]
    {
        let dir = tempfile::tempdir().unwrap();
        fresh(dir.path()).await.add(&run("docs", 0)).await.unwrap();
        std::fs::write(dir.path().join("catalog.db"), &damage).unwrap();
        for end in ["-wal", "-shm"] {
            _ = std::fs::remove_file(dir.path().join(format!("catalog.db{end}")));
        }
        let opened = open_in(dir.path()).await.unwrap();
        let aside = opened.put_aside.unwrap();
        assert_eq!(std::fs::read(&aside).unwrap(), damage);
        assert!(opened.catalog.runs(&RunFilter::default()).await.unwrap().runs.is_empty());
        opened.catalog.add(&run("docs", 1)).await.unwrap();
        assert_eq!(
            fresh(dir.path()).await.runs(&RunFilter::default()).await.unwrap().runs.len(),
            1
        );
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
    let opened = open_in(dir.path()).await.unwrap();
    if opened.put_aside.is_none() {
        assert!(opened.catalog.runs(&RunFilter::default()).await.is_err());
        drop(opened);
        assert!(open_in(dir.path()).await.unwrap().put_aside.is_some());
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
    let error = open_in(dir.path()).await.unwrap_err();
    let text = "written by format 3, this program reads up to 2";
    assert!(matches!(error, Error::Newer { .. }) && error.to_string().contains(text), "{error}");
    assert!(
        !std::fs::read_dir(dir.path()).unwrap().any(|file| file
            .unwrap()
            .path()
            .to_string_lossy()
            .contains("damaged"))
    );
}

/// The tables of version 1, as the first programs made them, written by hand.
const TABLES_OF_VERSION_1: &str = "
    CREATE TABLE runs (
        id TEXT NOT NULL PRIMARY KEY, what TEXT NOT NULL, job TEXT NOT NULL,
        repository TEXT NOT NULL, state TEXT NOT NULL, started INTEGER NOT NULL,
        finished INTEGER, host TEXT NOT NULL, user TEXT NOT NULL, pid INTEGER NOT NULL,
        evidence TEXT NOT NULL
    ) STRICT;
    CREATE INDEX runs_by_time ON runs (started, id);
    CREATE INDEX runs_by_job ON runs (job, started, id);
    CREATE INDEX runs_unfinished ON runs (started, id) WHERE finished IS NULL;
    PRAGMA user_version = 1;";

/// A program of version 1 can use the copy once it has taken the place of the catalog.
#[tokio::test]
async fn migration_keeps_a_copy_that_can_be_restored() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.db");
    // The row of a run, as this program writes it.
    let other = tempfile::tempdir().unwrap();
    fresh(other.path()).await.add(&run("docs", 0)).await.unwrap();
    let old = rusqlite::Connection::open(&file).unwrap();
    old.execute_batch(TABLES_OF_VERSION_1).unwrap();
    let from = other.path().join("catalog.db");
    old.execute("ATTACH ?1 AS other", [from.to_string_lossy()]).unwrap();
    old.execute("INSERT INTO runs SELECT * FROM other.runs", []).unwrap();
    drop(old);

    let catalog = fresh(dir.path()).await;
    assert_eq!(catalog.runs(&RunFilter::default()).await.unwrap().runs.len(), 1);
    catalog.add(&run("docs", 1)).await.unwrap();
    drop(catalog);
    let copy = dir.path().join("catalog.db.1.bak");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let rows_and_version = |file: &Path| -> (i64, i64) {
        let database = rusqlite::Connection::open(file).unwrap();
        let number = |query: &str| database.query_row(query, [], |row| row.get(0)).unwrap();
        (number("SELECT count(*) FROM runs"), number("PRAGMA user_version"))
    };
    assert_eq!(rows_and_version(&copy), (1, 1));
    assert_eq!(rows_and_version(&file), (2, schema::VERSION.into()));

    // An opening without a migration copies nothing.
    std::fs::rename(&copy, &file).unwrap();
    for end in ["-wal", "-shm"] {
        _ = std::fs::remove_file(dir.path().join(format!("catalog.db{end}")));
    }
    assert_eq!(rows_and_version(&file), (1, 1));
    drop(fresh(dir.path()).await);
    std::fs::remove_file(&copy).unwrap();
    drop(fresh(dir.path()).await);
    assert!(!copy.exists());
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    assert!(matches!(open_in(&file.join("state")).await, Err(Error::Place(..))));
}

/// Whoever still has the old one open must not take away what lies beside the new one.
#[tokio::test]
async fn closing_one_that_was_put_aside_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let old = fresh(dir.path()).await;
    old.add(&run("docs", 0)).await.unwrap();
    std::fs::write(dir.path().join("catalog.suspect"), "").unwrap();
    let opened = open_in(dir.path()).await.unwrap();
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
    assert_eq!(
        database.execute("UPDATE runs SET evidence = 'x' WHERE started = ?", [at]).unwrap(),
        1
    );
    let found = catalog.runs(&RunFilter::default()).await.unwrap();
    assert_eq!((found.runs.len(), found.unreadable), (2, 1));
    let of = History { jobs: vec![("docs".into(), "/repo".into())], ..History::default() };
    let found = catalog.history(&of).await.unwrap();
    assert_eq!((found.runs.len(), found.unreadable), (2, 1), "no type, and no failed query");
}
