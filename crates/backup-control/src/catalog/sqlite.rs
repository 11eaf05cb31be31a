//! The catalog in a file: SQLite with a write-ahead log, so that those who read do not wait for
//! those who write.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params_from_iter};

use super::{Catalog, Error, Found, History, Result, RunFilter, before, future, rows, schema};
use crate::runs::{Run, RunId};
use crate::{cache, state};

/// Name of the file in the state directory.
const FILE: &str = "catalog.db";
/// What SQLite keeps beside it.
const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// Exists if somebody has found the catalog damaged while it was used.
const SUSPECT: &str = "catalog.suspect";
/// Name of the file whose lock is held while a catalog is opened or put aside.
const DOOR: &str = "catalog.lock";
/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for another process that opens the catalog, which takes no time unless that
/// process stands still.
pub(super) const AT_THE_DOOR: Duration = Duration::from_secs(5);
/// How often to look whether it has.
const KNOCK: Duration = Duration::from_millis(20);
/// Runs that are remembered: more are thinned out to nine tenths of it, so that this is seldom
/// done.
const MAX_RUNS: u32 = 100_000;

/// A catalog in a file.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    file: PathBuf,
    connection: Arc<Mutex<Connection>>,
    /// Runs that are remembered.
    most: u32,
}

/// Opens the catalog in `dir`, and says where a damaged one was put. Blocks, at the door for as
/// long as `patience`.
pub(super) fn open(
    dir: &Path,
    now: Timestamp,
    patience: Duration,
) -> Result<(Sqlite, Option<PathBuf>)> {
    let door = prepare(dir, patience)?;
    let (file, suspect) = (dir.join(FILE), dir.join(SUSPECT));
    let opened = if suspect.exists() { None } else { Some(connect(&file)) };
    let is_damaged = match &opened {
        None => true,
        Some(Err(Error::Database(_, error))) => is_damage(error),
        Some(_) => false,
    };
    let opened = match opened {
        Some(opened) if !is_damaged => opened.map(|catalog| (catalog, None)),
        _ => {
            let aside = put_aside(&file, &suspect, now)
                .map_err(|error| Error::Place(file.clone(), error))?;
            connect(&file).map(|catalog| (catalog, Some(aside)))
        }
    };
    drop(door);
    opened
}

/// Makes the directory and lets one process at a time through: of two that find a catalog damaged,
/// the second must not put aside what the first has made anew.
fn prepare(dir: &Path, patience: Duration) -> Result<File> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        |error| Error::Place(path, error)
    };
    // Somebody else may need what is there already, with the permissions that it has.
    cache::create(dir).map_err(failed(dir))?;
    let at = dir.join(DOOR);
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
    let door = options.open(&at).map_err(failed(&at))?;
    let since = Instant::now();
    loop {
        match door.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if since.elapsed() < patience => {
                std::thread::sleep(KNOCK);
            }
            Err(TryLockError::WouldBlock) => return Err(Error::Busy(at)),
            Err(TryLockError::Error(error)) => return Err(failed(&at)(error)),
        }
    }
    let file = dir.join(FILE);
    create(&file).map_err(failed(&file))?;
    Ok(door)
}

/// Makes the file if it is not there: SQLite gives those beside it the permissions of this one. One
/// that is there is not even opened: closing it would take away the locks that this process may
/// hold on it already.
fn create(file: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn connect(file: &Path) -> Result<Sqlite> {
    let failed = |error| Error::Database(file.to_path_buf(), error);
    let mut connection = Connection::open_with_flags(file, OpenFlags::default()).map_err(failed)?;
    // The write-ahead log needs memory that all processes share, which other machines do not.
    let journal = if state::is_local(file) { "WAL" } else { "DELETE" };
    let set_up = |connection: &Connection| {
        connection.busy_timeout(PATIENCE)?;
        // Whoever closes a catalog last would remove what lies beside it, by name: what lies beside
        // the new one, if the catalog was put aside meanwhile.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "journal_mode", journal)?;
        // A crash of the machine may cost the last rows, and nothing else.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        schema::version(connection)
    };
    let (version, known) = (set_up(&connection).map_err(failed)?, i64::from(schema::VERSION));
    if version > known {
        return Err(Error::Newer { catalog: file.display().to_string(), version, known });
    }
    if (1..known).contains(&version) {
        before::copy(&connection, file, version)?;
    }
    schema::migrate(&mut connection).map_err(failed)?;
    // Whatever else is damaged shows where it is read; that the table is there at all is asked
    // here.
    let probe = format!("SELECT {} FROM runs ORDER BY started DESC LIMIT 1", rows::COLUMNS);
    let probed =
        connection.prepare(&probe).and_then(|mut query| query.query([])?.next().map(|_| ()));
    probed.map_err(failed)?;
    Ok(Sqlite {
        file: file.to_path_buf(),
        connection: Arc::new(Mutex::new(connection)),
        most: MAX_RUNS,
    })
}

/// Whether an error says that a row holds what no run has: a row more or less, not the catalog.
fn is_of_row(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(
        error,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)
    )
}

/// Whether an error says that the file is no catalog any more. A table that is not there, or is
/// another one, has no code of its own.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
            ErrorCode::Unknown => {
                message.as_deref().is_some_and(|message| message.starts_with("no such"))
            }
            _ => false,
        },
        rusqlite::Error::SqlInputError { msg, .. } => msg.starts_with("no such"),
        _ => false,
    }
}

fn put_aside(file: &Path, suspect: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let second = now.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S");
    let with = |path: &Path, end: &str| PathBuf::from(format!("{}{end}", path.display()));
    let free = |at: &u32| !with(file, &format!(".damaged-{second}-{at}")).exists();
    let number = (1..).find(free).unwrap_or(u32::MAX);
    let aside = with(file, &format!(".damaged-{second}-{number}"));
    for end in BESIDE {
        match std::fs::rename(with(file, end), with(&aside, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(file, &aside)?;
    create(file)?;
    match std::fs::remove_file(suspect) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(aside),
    }
}

/// Adds rows to what was found. One that holds no run is counted only.
fn collect(
    runs: impl Iterator<Item = rusqlite::Result<Run>>,
    found: &mut Found,
) -> rusqlite::Result<()> {
    for run in runs {
        match run {
            Ok(run) => found.runs.push(run),
            Err(error) if is_of_row(&error) => found.unreadable += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Sqlite {
    /// Does something with the database, on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        let work = move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        let done = tokio::task::spawn_blocking(work).await?;
        done.map_err(|error| {
            if is_damage(&error) {
                // Whoever opens it next makes it anew; that it cannot be noted is told all the
                // same, by the error.
                _ = File::create(self.file.with_file_name(SUSPECT));
            }
            match is_known(&error) {
                true => Error::Known(self.file.display().to_string()),
                false => Error::Database(self.file.clone(), error),
            }
        })
    }
}

/// Returns `true` if a row was refused because its name stands for another one.
fn is_known(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY)
}

impl Sqlite {
    /// Runs by a filter.
    async fn selected(&self, filter: RunFilter) -> Result<Found> {
        self.with(move |connection| {
            let (text, parameters) = rows::query(&filter);
            let mut found = Found::default();
            let mut query = connection.prepare(&text)?;
            collect(query.query_map(params_from_iter(parameters), rows::read)?, &mut found)?;
            Ok(found)
        })
        .await
    }

    /// The history of jobs.
    async fn history_of(&self, of: History) -> Result<Found> {
        let History { jobs, host, until } = of;
        let until = until.map(Timestamp::as_millisecond);
        self.with(move |connection| {
            let mut query = connection.prepare(&rows::history())?;
            let mut found = Found::default();
            for (job, repository) in jobs {
                let parameters = rusqlite::params![job, repository, host, until];
                collect(query.query_map(parameters, rows::read)?, &mut found)?;
            }
            found.runs.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
            Ok(found)
        })
        .await
    }
}

#[async_trait]
impl Catalog for Sqlite {
    async fn add(&self, run: &Run) -> Result<()> {
        let run = run.clone();
        self.with(move |connection| {
            let text =
                format!("INSERT INTO runs ({}) VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows::COLUMNS);
            connection.prepare(&text)?.execute(params_from_iter(rows::values(&run)?)).map(|_| ())
        })
        .await?;
        let most = self.most;
        // The next run tries again. That the old ones stay is no reason to forget this one.
        _ = self.with(move |connection| thin_out(connection, most)).await;
        Ok(())
    }

    async fn update(&self, run: &Run) -> Result<()> {
        let run = run.clone();
        self.with(move |connection| {
            // A presumed end is replaced by the real one. Within texts, quotes have a backslash
            // before them.
            let text = "UPDATE runs SET state = ?, finished = ?, evidence = ? WHERE id = ? AND \
                        (finished IS NULL OR evidence LIKE '%\"is_presumed\":true%')";
            let [id, _, _, _, state, _, finished, _, _, _, evidence] = rows::values(&run)?;
            let parameters = params_from_iter([state, finished, evidence, id]);
            connection.prepare(text)?.execute(parameters).map(|_| ())
        })
        .await
    }

    async fn relocate(&self, run: &RunId, repository: &str) -> Result<()> {
        let (run, repository) = (run.clone(), repository.to_owned());
        self.with(move |connection| {
            let text = "UPDATE runs SET repository = ? WHERE id = ?";
            connection.prepare(text)?.execute([&repository, run.as_str()]).map(|_| ())
        })
        .await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Found> {
        future::runs(filter, |filter| self.selected(filter)).await
    }

    async fn history(&self, of: &History) -> Result<Found> {
        future::history(of, |of| self.history_of(of)).await
    }

    async fn jobs(&self, repository: &str) -> Result<Vec<String>> {
        let repository = repository.to_owned();
        self.with(move |connection| {
            let text = "SELECT DISTINCT job FROM runs WHERE repository = ? AND what = 'backup' \
                        ORDER BY job";
            connection.prepare(text)?.query_map([&repository], |row| row.get(0))?.collect()
        })
        .await
    }

    async fn named(&self, beginning: &str) -> Result<Vec<Run>> {
        let beginning = beginning.to_owned();
        self.with(move |connection| {
            // Names are of ASCII, before the end of which everything that begins so sorts.
            let text = format!(
                "SELECT {} FROM runs WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT 2",
                rows::COLUMNS
            );
            connection.prepare(&text)?.query_map([&beginning], rows::read)?.collect()
        })
        .await
    }
}

/// Removes the oldest runs if there are more than `most`. The newest of every job stays, and so do
/// those that have not ended.
fn thin_out(connection: &Connection, most: u32) -> rusqlite::Result<()> {
    let nth = "SELECT started FROM runs ORDER BY started DESC, id DESC LIMIT 1 OFFSET ?";
    let of = |at: u32| connection.query_row(nth, [at], |row| row.get::<_, i64>(0)).optional();
    if of(most)?.is_none() {
        return Ok(());
    }
    let Some(before) = of(most - most / 10)? else { return Ok(()) };
    let text = "DELETE FROM runs WHERE started < ?1 AND finished IS NOT NULL AND EXISTS (SELECT 1 \
                FROM runs AS other WHERE other.job = runs.job AND other.started > runs.started)";
    connection.execute(text, [before]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::runs::What;

    #[tokio::test]
    async fn the_oldest_go_but_the_last_of_a_job() {
        let dir = tempfile::tempdir().unwrap();
        let machine =
            Machine { host: "host".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
        let (catalog, _) = open(dir.path(), Timestamp::UNIX_EPOCH, AT_THE_DOOR).unwrap();
        let add = async |job: &str, second: i64, finished: bool| {
            let at = Timestamp::from_second(second).unwrap();
            let run = Run {
                finished: finished.then_some(at),
                ..Run::new(What::Backup, job, "/repo", &machine, at)
            };
            catalog.add(&run).await.unwrap();
        };
        add("yearly", 1, true).await;
        add("docs", 2, false).await;
        for second in 3..=22 {
            add("docs", second, true).await;
        }
        let count = async || catalog.runs(&RunFilter::default()).await.unwrap().runs.len();
        catalog.with(|connection| thin_out(connection, 22)).await.unwrap();
        assert_eq!(count().await, 22, "there are not too many");
        catalog.with(|connection| thin_out(connection, 10)).await.unwrap();
        let left = catalog.runs(&RunFilter::default()).await.unwrap().runs;
        let oldest: Vec<i64> =
            left.iter().rev().take(3).map(|run| run.started.as_second()).collect();
        // Ten of the newest, and the two that must not go.
        assert_eq!((left.len(), oldest), (12, vec![1, 2, 13]));
    }

    #[tokio::test]
    async fn a_run_is_remembered_also_if_the_oldest_cannot_go() {
        let dir = tempfile::tempdir().unwrap();
        let machine =
            Machine { host: "host".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
        let (mut catalog, _) = open(dir.path(), Timestamp::UNIX_EPOCH, AT_THE_DOOR).unwrap();
        catalog.most = 10;
        let trigger =
            "CREATE TRIGGER no BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'no'); END";
        catalog.with(move |connection| connection.execute_batch(trigger)).await.unwrap();
        let count = async || catalog.runs(&RunFilter::default()).await.unwrap().runs.len();
        let add = async |second: i64| {
            let at = Timestamp::from_second(second).unwrap();
            let run =
                Run { finished: Some(at), ..Run::new(What::Backup, "docs", "/repo", &machine, at) };
            catalog.add(&run).await.unwrap();
        };
        for second in 1..=12 {
            add(second).await;
        }
        assert_eq!(count().await, 12);
        catalog.with(|connection| connection.execute_batch("DROP TRIGGER no")).await.unwrap();
        add(13).await;
        assert!(count().await < 12);
    }
}
