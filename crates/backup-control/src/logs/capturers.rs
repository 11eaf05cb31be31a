//! Captures of a log on this machine: the ones whose processes have died.
//!
//! Each capture locks a file in the state directory as long as its process lives, and adds its name
//! to the names in the file. Once another process gets the lock, all of them are dead.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::cache;

/// Names that a file keeps: of processes that died without capturing, the names are of no use.
const MAX_NAMES: usize = 64;

/// One capture of a log among those of this machine.
#[derive(Debug)]
pub(super) struct Capturer {
    path: PathBuf,
    name: String,
    locked: Mutex<Option<Locked>>,
}

#[derive(Debug)]
struct Locked {
    /// Locked until the process ends.
    _file: File,
    dead: Vec<String>,
}

impl Capturer {
    /// A capture that calls itself `name`, which no other process does. `path` is the file of the
    /// log; it and its directory are made when they are needed.
    pub(super) fn new(path: PathBuf, name: &str) -> Self {
        Self { path, name: name.to_owned(), locked: Mutex::default() }
    }

    /// Names of captures whose processes have died. None are known while another one lives, or if
    /// the file cannot be used. Blocks.
    pub(super) fn dead(&self) -> Vec<String> {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        if locked.is_none() {
            // Without the file, the lease of a dead process has to expire.
            *locked = self.lock().unwrap_or_default();
        }
        locked.as_ref().map(|locked| locked.dead.clone()).unwrap_or_default()
    }

    fn lock(&self) -> io::Result<Option<Locked>> {
        let (mut file, is_free) = cache::lock(&self.path)?;
        if !is_free {
            return Ok(None);
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // A file that cannot be read was being written by a process that died.
        let mut names: Vec<String> = serde_json::from_slice(&text).unwrap_or_default();
        let dead = names.clone();
        names.drain(..names.len().saturating_sub(MAX_NAMES - 1));
        names.push(self.name.clone());
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(&names).map_err(io::Error::other)?)?;
        Ok(Some(Locked { _file: file, dead }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capturer_knows_dead_ones_and_none_while_another_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/capture/shop");
        let capturer = |name: &str| Capturer::new(path.clone(), name);
        let first = capturer("first");
        assert!(first.dead().is_empty());
        let second = capturer("second");
        assert!(second.dead().is_empty(), "the first one lives");
        drop(first);
        assert_eq!(second.dead(), ["first"], "known as soon as the first one has ended");
        assert_eq!(second.dead(), ["first"], "and from then on");
        drop(second);
        let third = capturer("third");
        assert_eq!(third.dead(), ["first", "second"]);
        drop(third);
        std::fs::write(&path, "[\"fir").unwrap();
        assert!(capturer("fourth").dead().is_empty(), "a damaged file names none");
        assert_eq!(capturer("fifth").dead(), ["fourth"]);
    }

    #[test]
    fn capturer_without_a_directory_knows_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(Capturer::new(file.join("shop"), "first").dead().is_empty());
    }

    #[test]
    fn capturer_keeps_a_limited_number_of_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop");
        for number in 0..100 {
            Capturer::new(path.clone(), &number.to_string()).dead();
        }
        let dead = Capturer::new(path, "last").dead();
        assert_eq!((dead.len(), &*dead[0], &*dead[63]), (MAX_NAMES, "36", "99"));
    }
}
