//! The messages of a run, in a file beside the catalog: one line each, with the time. While the run
//! goes on, its process holds a lock on the file, which the operating system takes away when the
//! process dies: so others tell the living from the dead.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Run, RunId, SavedRun, State};
use crate::cache;

/// Bytes of messages that are kept of one run.
pub const MAX_LOG: u64 = 1 << 20;
/// Logs that are kept: those of the newest runs.
const MAX_LOGS: usize = 1000;
/// The directory of the logs, in that of the catalog.
const DIR: &str = "runs";
/// The directory of what came of runs that the catalog could not be told of; it is not there while
/// there is nothing.
const ENDED: &str = "runs-ended";

/// The log of a run that goes on. Dropping it frees the lock.
#[derive(Debug)]
pub struct Log {
    file: File,
    /// Where what came of the run is kept, if the catalog cannot be told.
    ended: PathBuf,
    written: u64,
    left_out: u64,
}

impl Log {
    /// Begins the log of a run, in the state directory `dir`; logs of the oldest runs go.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn begin(dir: &Path, id: &RunId) -> io::Result<Self> {
        cache::create(&dir.join(DIR))?;
        remove_oldest(&dir.join(DIR))?;
        let file = File::options().write(true).create_new(true).mode(0o600).open(path(dir, id))?;
        file.try_lock()?;
        Ok(Self {
            file,
            ended: dir.join(ENDED).join(format!("{id}.json")),
            written: 0,
            left_out: 0,
        })
    }

    /// Adds a message, unless there are too many.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn add(&mut self, now: Timestamp, message: &str) -> io::Result<()> {
        let line = format!("{now:.3} {}\n", message.replace('\n', "\n  "));
        if self.written + line.len() as u64 > MAX_LOG {
            self.left_out += 1;
            return Ok(());
        }
        self.written += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }

    /// Adds the last message, also if there are too many, and how many were left out.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn end(&mut self, now: Timestamp, message: &str) -> io::Result<()> {
        if self.left_out > 0 {
            writeln!(self.file, "{now:.3} (messages left out: {})", self.left_out)?;
        }
        writeln!(self.file, "{now:.3} {}", message.replace('\n', "\n  "))
    }

    /// Keeps what came of a run until the catalog can be told.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn keep(&self, run: &Run) -> io::Result<()> {
        self.ended.parent().map_or(Ok(()), cache::create)?;
        let new = self.ended.with_extension("new");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let kept = (&run.repository, SavedRun::from(run));
        file.write_all(&serde_json::to_vec(&kept).map_err(io::Error::other)?)?;
        std::fs::rename(new, &self.ended)
    }

    /// What is kept so in the state directory `dir`, and where.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn kept(dir: &Path) -> io::Result<Vec<(PathBuf, Run)>> {
        let entries = match std::fs::read_dir(dir.join(ENDED)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut kept = Vec::new();
        for path in entries.map(|entry| entry.map(|entry| entry.path())) {
            let path = path?;
            if path.extension().is_some_and(|extension| extension == "json")
                && let Ok(json) = std::fs::read(&path)
                && let Ok((repository, saved)) = serde_json::from_slice::<(String, SavedRun)>(&json)
            {
                kept.push((path, saved.at(&repository)));
            }
        }
        Ok(kept)
    }

    /// The log of a run; none if it is not kept any more.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(dir: &Path, id: &RunId) -> io::Result<Option<String>> {
        match std::fs::read(path(dir, id)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How a run ended, as its messages tell; none if they do not.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn end_of(dir: &Path, id: &RunId) -> io::Result<Option<End>> {
        Ok(Self::read(dir, id)?.as_deref().and_then(end_in))
    }

    /// Whether the log of a run is kept here.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn is_here(dir: &Path, id: &RunId) -> io::Result<bool> {
        path(dir, id).try_exists()
    }

    /// Whether the process of a run lives, if it is of this host or the directory is on a disk of
    /// this machine. Whoever removed the log made it look dead.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn is_alive(dir: &Path, id: &RunId) -> io::Result<bool> {
        is_locked(&path(dir, id))
    }
}

/// How a run ended, as its messages tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) state: State,
    pub(super) time: Timestamp,
    /// Why, if it failed.
    pub(super) message: Option<String>,
}

/// What the last line tells, if it is one that ends a run.
fn end_in(text: &str) -> Option<End> {
    let line = text.lines().rev().find(|line| !line.starts_with("  "))?;
    let (time, words) = line.split_once(' ')?;
    let (state, message) = match words.split_once(": ") {
        Some((state, message)) => (state, Some(message.to_owned())),
        None => (words, None),
    };
    let state = State::stored(state).filter(|state| state.is_end())?;
    Some(End { state, time: time.parse().ok()?, message })
}

fn is_locked(log: &Path) -> io::Result<bool> {
    let file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn path(dir: &Path, id: &RunId) -> PathBuf {
    dir.join(DIR).join(format!("{id}.log"))
}

/// Names sort by time. Without its log, a run that goes on would look dead: those are kept.
fn remove_oldest(dir: &Path) -> io::Result<()> {
    let names = std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut logs = names.collect::<io::Result<Vec<_>>>()?;
    logs.retain(|name| name.as_encoded_bytes().ends_with(b".log"));
    logs.sort_unstable();
    // One more is about to be made.
    for name in &logs[..(logs.len() + 1).saturating_sub(MAX_LOGS)] {
        if is_locked(&dir.join(name))? {
            continue;
        }
        match std::fs::remove_file(dir.join(name)) {
            // Another process that begins a run does the same.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn id(text: &str) -> RunId {
        RunId::stored(text.to_owned())
    }

    #[test]
    fn is_kept_within_its_limit_and_for_its_user() {
        let (dir, now) = (tempfile::tempdir().unwrap(), Timestamp::UNIX_EPOCH);
        let mut log = Log::begin(dir.path(), &id("1")).unwrap();
        log.add(now, "first\nmore of it").unwrap();
        for _ in 0..2000 {
            log.add(now, &"x".repeat(1000)).unwrap();
        }
        log.end(now, "the end").unwrap();
        let text = Log::read(dir.path(), &id("1")).unwrap().unwrap();
        assert!(
            text.starts_with("1970-01-01T00:00:00.000Z first\n  more of it\n"),
            "{}",
            &text[..80]
        );
        assert!(
            text.len() as u64 <= MAX_LOG + 200 && text.len() as u64 > MAX_LOG - 2000,
            "{}",
            text.len()
        );
        let last: Vec<&str> = text.lines().rev().take(2).collect();
        assert!(last[0].ends_with(" the end") && last[1].contains("left out: 9"), "{last:?}");
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(path(dir.path(), &id("1"))), mode(dir.path().join(DIR))), (0o600, 0o700));
    }

    #[test]
    fn the_lock_tells_whether_its_process_lives() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::begin(dir.path(), &id("1")).unwrap();
        assert!(Log::is_alive(dir.path(), &id("1")).unwrap());
        assert!(Log::is_alive(dir.path(), &id("1")).unwrap(), "asking does not take the lock");
        drop(log);
        assert!(!Log::is_alive(dir.path(), &id("1")).unwrap());
        assert!(!Log::is_alive(dir.path(), &id("2")).unwrap(), "there never was one");
        assert_eq!(Log::read(dir.path(), &id("2")).unwrap(), None);
    }

    #[test]
    fn the_last_line_tells_how_a_run_ended() {
        let end = |text: &str| end_in(text).map(|end| (end.state, end.message));
        assert_eq!(
            end("1970-01-01T00:00:00.000Z a\n1970-01-01T00:00:01.000Z verified\n"),
            Some((State::Verified, None))
        );
        let failed = Some((State::Failed, Some("no: none".to_owned())));
        assert_eq!(end("1970-01-01T00:00:01.000Z failed: no: none\n  hint: yes\n"), failed);
        for other in [
            "",
            "1970-01-01T00:00:00.000Z verified by hand",
            "x verified",
            "1970-01-01T00:00:00.000Z running",
            "1970-01-01T00:00:00.000Z commit: 3 done",
        ] {
            assert_eq!(end(other), None, "{other}");
        }
    }

    #[test]
    fn the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        cache::create(&dir.path().join(DIR)).unwrap();
        for at in 0..MAX_LOGS + 5 {
            std::fs::write(path(dir.path(), &id(&format!("{at:06}"))), "").unwrap();
        }
        std::fs::write(dir.path().join(DIR).join("0"), "somebody else's").unwrap();
        drop(Log::begin(dir.path(), &id("999999")).unwrap());
        assert_eq!(std::fs::read_dir(dir.path().join(DIR)).unwrap().count(), MAX_LOGS + 1);
        assert_eq!(Log::read(dir.path(), &id("000005")).unwrap(), None);
        assert!(Log::read(dir.path(), &id("000006")).unwrap().is_some());
    }
}
