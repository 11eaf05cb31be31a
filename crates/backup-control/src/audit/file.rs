//! The file: adding records and reading them. Writers of several processes wait for each other;
//! readers wait for nobody.

use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::line::{Line, NOTHING, hex};
use super::syslog::Syslog;
use super::{Class, Record, Status};
use crate::cache;
use crate::environment::Environment;
use crate::machine::Machine;

/// The file in the state directory.
const NAME: &str = "audit.jsonl";
/// No line is longer.
pub(super) const MAX_LINE: u64 = 1 << 20;
/// How long others are waited for.
const AT_THE_DOOR: Duration = Duration::from_secs(10);

/// What goes wrong with an audit log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file or its directory cannot be used.
    #[error("cannot use the audit log {}", .0.display())]
    Place(PathBuf, #[source] io::Error),
    /// Another process holds it for too long.
    #[error("another process does not release the lock on the audit log {}", .0.display())]
    Busy(PathBuf),
}

/// The audit log of a state directory.
#[derive(Debug, Clone)]
pub struct Audit {
    path: PathBuf,
    syslog: Option<Syslog>,
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The name of the chain.
    pub chain: String,
    /// The number of the last record.
    pub sequence: u64,
    /// Its hash.
    pub hash: String,
}

/// What came of adding a record.
#[derive(Debug)]
pub struct Appended {
    /// Where the chain ends now.
    pub head: Head,
    /// Where a file was put that nothing can be added to; a new chain has begun.
    pub put_aside: Option<PathBuf>,
    /// The record did not reach the system log; the socket and the error.
    pub not_shipped: Option<(PathBuf, io::Error)>,
}

/// Which records are meant; without anything, all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    /// Of this user.
    pub user: Option<String>,
    /// Of this operation, or of all that begin with its words: `key` means `key add` too.
    pub operation: Option<String>,
    /// With this status.
    pub status: Option<Status>,
    /// At most so many: the newest.
    pub limit: Option<usize>,
}

/// Records that were found.
#[derive(Debug, Default)]
pub struct Found {
    /// They, oldest first.
    pub records: Vec<Record>,
    /// Records whose time is over.
    pub expired: u64,
    /// Lines that cannot be read.
    pub unreadable: u64,
}

impl Audit {
    /// The audit log in the state directory `dir`, which need not be there.
    #[must_use]
    pub fn in_state(dir: &Path) -> Self {
        Self { path: dir.join(NAME), syslog: None }
    }

    /// The same log; new records also go to the system log that `env` names, at once.
    #[must_use]
    pub fn shipped(self, env: &Environment) -> Self {
        Self { syslog: Syslog::of(env), ..self }
    }

    /// The one in this file.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, syslog: None }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn failed(&self, error: io::Error) -> Error {
        Error::Place(self.path.clone(), error)
    }

    /// Waits until no other process writes.
    pub(super) fn lock(&self) -> Result<File, Error> {
        self.lock_of(&self.path.with_extension("lock"))
    }

    /// Waits until no other process has this lock.
    pub(super) fn lock_of(&self, path: &Path) -> Result<File, Error> {
        let failed = |error| self.failed(error);
        cache::create(self.path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        let lock = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let since = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(self.failed(error)),
                Err(TryLockError::WouldBlock) if since.elapsed() < AT_THE_DOOR => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => return Err(Error::Busy(self.path.clone())),
            }
        }
    }

    /// Adds a record, which is on the disk afterwards. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn append(&self, record: Record, machine: &Machine) -> Result<Appended, Error> {
        let _lock = self.lock()?;
        let now = record.timestamp;
        let (mut file, end) = self.open_end().map_err(|error| self.failed(error))?;
        let (mut file, (chain, last), put_aside) = match end {
            End::Line { chain, line } => (file, (chain, (line.sequence, line.hash)), None),
            End::Nothing => {
                let begun = self.begin(&mut file, None, machine, now)?;
                (file, begun, None)
            }
            End::Unreadable => {
                let aside = self.path.with_extension(format!("damaged-{}", now.as_millisecond()));
                std::fs::rename(&self.path, &aside).map_err(|error| self.failed(error))?;
                let (mut file, _) = self.open_end().map_err(|error| self.failed(error))?;
                let begun = self.begin(&mut file, Some(&aside), machine, now)?;
                (file, begun, Some(aside))
            }
        };
        let line = Line::new(last.0 + 1, &last.1, record);
        self.write(&mut file, &line)?;
        file.sync_data().map_err(|error| self.failed(error))?;
        let sent = self.syslog.as_ref().map(|log| (log, log.send(&line, &machine.zone.rules)));
        let not_shipped =
            sent.and_then(|(log, sent)| Some((log.socket().to_path_buf(), sent.err()?)));
        let head = Head { chain, sequence: line.sequence, hash: line.hash };
        Ok(Appended { head, put_aside, not_shipped })
    }

    /// Where the chain ends; none if there is no record, or the end cannot be read.
    ///
    /// # Errors
    /// [`Error`]
    pub fn head(&self) -> Result<Option<Head>, Error> {
        if !self.path.exists() {
            return Ok(None);
        }
        let _lock = self.lock()?;
        match self.open_end().map_err(|error| self.failed(error))?.1 {
            End::Line { chain, line } => {
                Ok(Some(Head { chain, sequence: line.sequence, hash: line.hash }))
            }
            End::Nothing | End::Unreadable => Ok(None),
        }
    }

    /// The first line: it says which chain this is.
    fn begin(
        &self,
        file: &mut File,
        after: Option<&Path>,
        machine: &Machine,
        now: Timestamp,
    ) -> Result<(String, (u64, String)), Error> {
        let chain = hex(&rand::random::<[u8; 16]>());
        let record = Record::new("audit begin", Class::Compliance, Status::Success, machine, now)
            .with("chain", chain.clone())
            .with("after", after.map(|path| path.display().to_string()).unwrap_or_default());
        let line = Line::new(1, NOTHING, record);
        self.write(file, &line)?;
        Ok((chain, (line.sequence, line.hash)))
    }

    fn write(&self, file: &mut File, line: &Line) -> Result<(), Error> {
        let text = serde_json::to_vec(line).map_err(io::Error::other);
        text.and_then(|mut text| {
            text.push(b'\n');
            file.write_all(&text)
        })
        .map_err(|error| self.failed(error))
    }

    /// The file, and its last line. A piece of a line is what a process left that died while it
    /// wrote: it is removed.
    fn open_end(&self) -> io::Result<(File, End)> {
        let mut file =
            File::options().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let length = file.metadata()?.len();
        let tail_at = length.saturating_sub(MAX_LINE);
        file.seek(SeekFrom::Start(tail_at))?;
        let mut tail = Vec::new();
        (&mut file).take(MAX_LINE).read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < tail.len() {
            file.set_len(tail_at + whole as u64)?;
            tail.truncate(whole);
        }
        if tail_at + whole as u64 == 0 {
            return Ok((file, End::Nothing));
        }
        let last = tail.strip_suffix(b"\n").unwrap_or_default();
        let last = last.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = Line::parse(last);
        Ok((
            file,
            match (line, self.chain()?) {
                (Some(line), Some(chain)) => End::Line { chain, line: Box::new(line) },
                _ => End::Unreadable,
            },
        ))
    }

    /// The name of the chain, which the first line says.
    pub(super) fn chain(&self) -> io::Result<Option<String>> {
        let mut first = Vec::new();
        BufReader::new(File::open(&self.path)?.take(MAX_LINE)).read_until(b'\n', &mut first)?;
        let record = first.strip_suffix(b"\n").and_then(Line::parse).and_then(Line::record);
        Ok(record.and_then(|mut record| record.details.remove("chain")))
    }

    /// The records that are meant. Blocks.
    ///
    /// # Errors
    /// [`Error::Place`]
    pub fn read(&self, filter: &Filter) -> Result<Found, Error> {
        let mut found = Found::default();
        for line in self.lines()? {
            let Some(line) = line.map_err(|error| self.failed(error))? else {
                found.unreadable += 1;
                continue;
            };
            match line.record() {
                None => found.expired += 1,
                Some(record) if filter.takes(&record) => found.records.push(record),
                Some(_) => {}
            }
        }
        if let Some(limit) = filter.limit {
            found.records.drain(..found.records.len().saturating_sub(limit));
        }
        Ok(found)
    }

    /// The lines; none for one that cannot be read. No file has no lines.
    pub(super) fn lines(&self) -> Result<impl Iterator<Item = io::Result<Option<Line>>>, Error> {
        let file: Box<dyn Read> = match File::open(&self.path) {
            Ok(file) => Box::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Box::new(io::empty()),
            Err(error) => return Err(self.failed(error)),
        };
        let mut reader = BufReader::new(file);
        Ok(std::iter::from_fn(move || next_line(&mut reader).transpose()))
    }
}

/// The next line; some other one than ours may be as long as it likes.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Option<Line>>> {
    let mut text = Vec::new();
    if (&mut *reader).take(MAX_LINE).read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    match text.strip_suffix(b"\n") {
        Some(line) => Ok(Some(Line::parse(line))),
        // Somebody writes it now, or died while writing it: nothing was recorded.
        None if (text.len() as u64) < MAX_LINE => Ok(None),
        None => reader.skip_until(b'\n').map(|_| Some(None)),
    }
}

enum End {
    Nothing,
    Line { chain: String, line: Box<Line> },
    Unreadable,
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        let is_operation = |wanted: &String| {
            record
                .operation
                .strip_prefix(wanted.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        self.since.is_none_or(|since| record.timestamp >= since)
            && self.until.is_none_or(|until| record.timestamp < until)
            && self.user.as_ref().is_none_or(|user| record.user == *user)
            && self.operation.as_ref().is_none_or(is_operation)
            && self.status.is_none_or(|status| record.status == status)
    }
}
