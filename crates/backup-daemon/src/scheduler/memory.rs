//! What survives a restart: up to which time every task is dealt with, what it owes, whether it is
//! paused, and what came of it last.
//!
//! ```text
//!  STATE/daemon/lock            held as long as the daemon lives
//!  STATE/daemon/tasks.json      written anew, in one step, before anything is begun
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use backup_control::schedule::{DAEMON_DIR, TASKS_FILE};
use backup_control::state;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StartError;
use crate::engine::{Ended, Work};

/// What is remembered of all tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// By the names of tasks.
    pub(super) tasks: BTreeMap<String, Remembered>,
}

/// What is remembered of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// Its schedule: what is remembered of another one says nothing.
    pub(super) schedule: String,
    /// Up to which of its times it is dealt with.
    pub(super) handled: Option<Timestamp>,
    /// By how many seconds that was delayed.
    #[serde(default)]
    pub(super) delay: u64,
    /// The time for which it has to be done, and is not done yet.
    pub(super) owed: Option<Timestamp>,
    /// It is not begun until it is resumed.
    pub(super) paused: bool,
    /// Beginning of the pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) paused_since: Option<Timestamp>,
    /// What came of it last.
    pub(super) last: Option<Last>,
}

/// [`Ended`], as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    id: String,
    task: Option<String>,
    work: Work,
    by: String,
    began: Timestamp,
    ended: Timestamp,
    exit_code: Option<u8>,
    error: String,
}

impl From<&Ended> for Last {
    fn from(ended: &Ended) -> Self {
        // What it said is long, and in the records of the program.
        let Ended { id, task, work, by, began, ended, exit_code, error, said: _ } = ended.clone();
        Self { id, task, work, by, began, ended, exit_code, error }
    }
}

impl From<&Last> for Ended {
    fn from(last: &Last) -> Self {
        let Last { id, task, work, by, began, ended, exit_code, error } = last.clone();
        Self { id, task, work, by, began, ended, exit_code, error, said: Vec::new() }
    }
}

/// The directory, which nobody else uses meanwhile.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Takes the directory below that of the state.
    pub(super) fn open(base: &Path) -> Result<Self, StartError> {
        let dir = base.join(DAEMON_DIR);
        let failed = |error| StartError::State(dir.clone(), error);
        backup_control::cache::create(&dir).map_err(failed)?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StartError::Taken(base.to_path_buf())),
            Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// What is remembered; and where it was put if it could not be understood, in which case
    /// nothing is remembered.
    pub(super) fn read(&self) -> Result<(Memory, Option<PathBuf>), StartError> {
        let file = self.dir.join(TASKS_FILE);
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Memory::default(), None));
            }
            // There may be something in it: it must not be written over.
            Err(error) => return Err(StartError::State(file, error)),
        };
        // A newer program wrote it, and needs it again.
        state::require_known(&text).map_err(|error| StartError::State(file.clone(), error))?;
        Ok(match serde_json::from_slice(&text) {
            Ok(memory) => (memory, None),
            Err(_) => {
                let aside = self.dir.join("tasks.damaged.json");
                let moved = std::fs::rename(&file, &aside);
                (Memory::default(), Some(if moved.is_ok() { aside } else { file }))
            }
        })
    }

    /// Writes what is remembered, so that it is whole at every moment.
    pub(super) fn write(&self, memory: &Memory) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(memory).map_err(io::Error::other)?;
        let new = self.dir.join("tasks.new.json");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&new, self.dir.join(TASKS_FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StartError::Taken(_))));
        let at: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let remembered =
            Remembered { handled: Some(at), owed: Some(at), paused: true, ..Remembered::default() };
        let memory = Memory { tasks: BTreeMap::from([("a/b".to_owned(), remembered)]) };
        store.write(&memory).unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.read().unwrap(), (memory, None));
        std::fs::write(dir.path().join("daemon/tasks.json"), "{").unwrap();
        let (memory, aside) = store.read().unwrap();
        assert!(memory.tasks.is_empty() && aside.unwrap().is_file());
        let newer = r#"{"version":2,"tasks":["a/b"]}"#;
        std::fs::write(dir.path().join("daemon/tasks.json"), newer).unwrap();
        let error = store.read().unwrap_err();
        let text = "written by format 2, this program reads up to 1";
        assert!(error.to_string().contains(text) && error.hint().contains("newer"), "{error}");
        let kept = std::fs::read_to_string(dir.path().join("daemon/tasks.json")).unwrap();
        assert_eq!(kept, newer);
    }
}
