//! The configuration file of `backupd run`: loading it, and noticing that it breaks or is valid
//! again.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use backup_control::config::{self, Broken, LastGood, LoadedConfig};
use backup_control::environment::Environment;
use backup_control::error::Error;
use backup_core::clock::{Clock, SystemClock};
use jiff::Timestamp;

use crate::run::Failure;

/// The file, and how it was when it was read last.
pub(crate) struct Configuration {
    file: PathBuf,
    env: Environment,
    last_good: LastGood,
    seen: Option<Stamp>,
    /// The first of two failures in a row: a file that is being written is not broken.
    failed: Option<Timestamp>,
    broken: Option<Broken>,
}

/// A version of a file; none of it if there is no file.
type Stamp = Option<[i64; 5]>;

/// A change of the file.
#[derive(Debug)]
pub(crate) enum Change {
    /// The file is valid, and was so before: tasks get it, schedules wait for a reload.
    Edited(LoadedConfig),
    /// The file cannot be used, or for another reason than before.
    Broke(Broken),
    /// The file is valid again.
    Mended(LoadedConfig),
}

impl Configuration {
    /// Finds and loads the configuration; if the file is broken, its last valid copy in the state
    /// directory.
    ///
    /// # Errors
    /// There is no configuration, or it is broken and there is no copy of it.
    pub(crate) fn begin(
        named: Option<&Path>,
        env: &Environment,
        state: Option<&Path>,
    ) -> Result<(Self, LoadedConfig), Failure> {
        let last_good = LastGood::in_state(state.unwrap_or(Path::new("")));
        let kept = state.and_then(|_| last_good.file().ok().flatten());
        let found = config::find(named, env);
        let file = match (&found, &kept) {
            (Ok(Some(file)), _) => absolute(file),
            // A file that is gone is broken, if it is the one of the copy.
            (_, Some(kept)) if is_candidate(kept, named, env) => kept.clone(),
            (Ok(None), _) => return Err(config::not_found(env).into()),
            (Err(_), _) => {
                return Err(found.err().unwrap_or_else(|| config::not_found(env)).into());
            }
        };
        let seen = Some(stamp(&file));
        let mut begun =
            Self { file, env: env.clone(), last_good, seen, failed: None, broken: None };
        match config::load(&begun.file, env) {
            Ok(loaded) => Ok((begun, loaded)),
            Err(error) if kept.as_ref() == Some(&begun.file) => {
                let loaded = config::load(begun.last_good.path(), env)?;
                begun.broken = begun.note(Some(&error)).ok().flatten();
                Ok((begun, loaded))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Notes how the file is, once the copy is that of this daemon. Returns why it is broken.
    pub(crate) fn begun(&mut self) -> io::Result<Option<&Broken>> {
        if self.broken.is_none() {
            self.note(None)?;
        }
        Ok(self.broken.as_ref())
    }

    /// Reads the file again, changed or not.
    pub(crate) fn reload(&mut self) -> Change {
        self.seen = Some(stamp(&self.file));
        match config::load(&self.file, &self.env) {
            Ok(loaded) => self.mended(loaded),
            Err(error) => self.broke(&error, SystemClock.now()),
        }
    }

    /// Reads the file if it has changed. A file that cannot be used is broken at the second look.
    pub(crate) fn look(&mut self) -> Option<Change> {
        let now = Some(stamp(&self.file));
        if now == self.seen && self.failed.is_none() {
            return None;
        }
        self.seen = now;
        match (config::load(&self.file, &self.env), self.failed) {
            (Ok(loaded), _) if self.broken.is_some() => Some(self.mended(loaded)),
            (Ok(loaded), _) => {
                self.failed = None;
                Some(Change::Edited(loaded))
            }
            (Err(_), None) => {
                self.failed = Some(SystemClock.now());
                None
            }
            (Err(error), Some(since)) => Some(self.broke(&error, since)),
        }
    }

    fn mended(&mut self, loaded: LoadedConfig) -> Change {
        (self.failed, self.broken) = (None, None);
        // Without the note, the alert would last until the next daemon: the next look writes it.
        if self.note(None).is_err() {
            self.seen = None;
        }
        Change::Mended(loaded)
    }

    fn broke(&mut self, error: &Error, since: Timestamp) -> Change {
        self.failed = None;
        let noted = self.last_good.note(&self.file, Some(error), since).ok().flatten();
        let broken = noted.unwrap_or_else(|| Broken {
            since: self.broken.as_ref().map_or(since, |broken| broken.since),
            error: error.to_string(),
            hint: error.hint().map(str::to_owned),
        });
        self.broken = Some(broken.clone());
        Change::Broke(broken)
    }

    fn note(&self, error: Option<&Error>) -> io::Result<Option<Broken>> {
        self.last_good.note(&self.file, error, SystemClock.now())
    }
}

fn absolute(file: &Path) -> PathBuf {
    // Processes find it from any directory.
    std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf())
}

/// True if a search finds `file` when it exists.
fn is_candidate(file: &Path, named: Option<&Path>, env: &Environment) -> bool {
    let named =
        named.map(Path::to_path_buf).or_else(|| env.get("BACKUP_CONFIG").map(PathBuf::from));
    match named {
        Some(named) => absolute(&named) == file,
        None => config::search_path(env).iter().any(|place| absolute(place) == file),
    }
}

fn stamp(file: &Path) -> Stamp {
    let data = std::fs::metadata(file).ok()?;
    let inode = data.ino().cast_signed();
    let size = data.size().cast_signed();
    Some([inode, size, data.mtime(), data.mtime_nsec(), data.ctime_nsec() ^ data.ctime()])
}
