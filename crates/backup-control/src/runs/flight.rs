//! One execution of a job at a time, among the processes that share a state directory. The
//! operating system keeps the lock, so nobody waits for a process that died. What other machines do
//! is told by [`Agreed`](super::Agreed).

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use backup_core::error::{Error as CoreError, ErrorKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Run;
use crate::cache;
use crate::error::Result;

/// The directory of the locks, in that of the catalog.
const DIR: &str = "flights";
/// Processes in a row that died before they had the right among machines, which are remembered.
const MOST: usize = 100;

/// Who executes a job, as it is told to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The name of the run.
    pub run: String,
    /// The user whose process it is.
    pub user: String,
    /// The host that it runs on.
    pub host: String,
    /// The number of the process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
}

impl Holder {
    /// The process of a run.
    pub(super) fn of(run: &Run) -> Self {
        let (user, host) = (run.user.clone(), run.host.clone());
        Self { run: run.id.to_string(), user, host, pid: run.pid, since: run.started }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, user, host, pid, since } = self;
        write!(f, "{user}@{host}, process {pid}, since {since:.0} (run {run})")
    }
}

/// The right to execute a job. Dropping it gives it back.
#[derive(Debug)]
pub struct Flight {
    file: File,
    before: Vec<Holder>,
    own: Holder,
}

impl Flight {
    /// Takes the right to execute the job of `run`, whose source is `source`, into the repository
    /// with the address `repository`. An error of the file system inside if it cannot be told
    /// whether anybody else does: the file system knows no locks, or the directory cannot be
    /// written.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if somebody else does it: who, and since when.
    pub fn take(dir: &Path, repository: &str, source: &str, run: &Run) -> Result<io::Result<Self>> {
        let name = name(repository, source, run);
        let (mut file, is_free) = match cache::lock(&dir.join(DIR).join(name)) {
            Ok(locked) => locked,
            Err(error) => return Ok(Err(error)),
        };
        // Whoever has just taken it may not have written yet who it is.
        let mut before = read(&mut file);
        if !is_free {
            return Err(busy(before.last(), run).into());
        }
        before.drain(..before.len().saturating_sub(MOST));
        let own = Holder::of(run);
        let all: Vec<&Holder> = before.iter().chain([&own]).collect();
        Ok(write(&mut file, &all).map(|()| Self { file, before, own }))
    }

    /// Whose right it was before, whose processes have ended therefore. Each of them may have died
    /// before it had what the one before it still has among machines.
    #[must_use]
    pub fn before(&self) -> &[Holder] {
        &self.before
    }

    /// Nobody of those before has anything any more. That it cannot be written does no harm.
    pub fn settle(&mut self) {
        if !self.before.is_empty() && write(&mut self.file, &[&self.own]).is_ok() {
            self.before.clear();
        }
    }
}

/// What stands for executing the job of a run. One name may stand for several sources:
/// `backup run --source` calls every one `manual`.
pub(super) fn name(repository: &str, source: &str, run: &Run) -> String {
    let key = Sha256::digest(format!("{repository}\0{}\0{source}", run.job));
    key[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(file: &mut File, holders: &[&Holder]) -> io::Result<()> {
    let text = serde_json::to_vec(holders).map_err(io::Error::other)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

/// What cannot be read was being written by a process that died.
fn read(file: &mut File) -> Vec<Holder> {
    let mut text = Vec::new();
    if file.read_to_end(&mut text).is_err() {
        return Vec::new();
    }
    serde_json::from_slice(&text).unwrap_or_default()
}

/// An error that says who executes the job.
pub(super) fn busy(holder: Option<&Holder>, run: &Run) -> CoreError {
    let who =
        holder.map_or_else(|| "by another process".to_owned(), |holder| format!("by {holder}"));
    CoreError::new(ErrorKind::Busy, format!("job {} is already being run {who}", run.job))
        .with_hint("wait until that process has finished, or stop it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::runs::What;

    fn run(job: &str) -> Run {
        let machine =
            Machine { host: "host".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
        Run::new(What::Backup, job, "/repo", &machine, "2026-03-01T12:00:00.5Z".parse().unwrap())
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (docs, other) = (run("docs"), run("other"));
        let first = Flight::take(dir.path(), "r", "s", &docs).unwrap().unwrap();
        let error = Flight::take(dir.path(), "r", "s", &docs).unwrap_err();
        for word in [
            "job docs",
            "me@host",
            &format!("process {}", std::process::id()),
            "2026-03-01T12:00:00Z",
        ] {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
        assert!(
            matches!(&error, crate::error::Error::Core(core) if core.kind() == ErrorKind::Busy)
        );
        for (repository, source, run) in [("r", "s", &other), ("r", "t", &docs), ("q", "s", &docs)]
        {
            Flight::take(dir.path(), repository, source, run).unwrap().unwrap();
        }
        drop(first);
        Flight::take(dir.path(), "r", "s", &docs).unwrap().unwrap();
    }

    /// One after the other that dies early: all of them are known to be dead, until one has settled
    /// what they have left.
    #[test]
    fn all_that_died_in_a_row_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let take = || Flight::take(dir.path(), "r", "s", &run("docs")).unwrap().unwrap();
        let died: Vec<Holder> = (0..3).map(|_| take().own).collect();
        let mut settles = take();
        assert_eq!(settles.before(), died);
        settles.settle();
        let own = settles.own.clone();
        drop(settles);
        assert_eq!(take().before(), [own]);
        assert_eq!((0..2 * MOST).map(|_| take().before.len()).max(), Some(MOST));
    }

    #[test]
    fn where_nothing_can_be_locked_that_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(DIR), "in the way").unwrap();
        assert!(Flight::take(dir.path(), "r", "s", &run("docs")).unwrap().is_err());
    }
}
