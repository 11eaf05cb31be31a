//! The sign of life of the daemon: a small file in the state directory, written anew again and
//! again. Whoever looks at rules on this machine sees by it that the daemon stands still or is
//! gone, which the daemon itself cannot tell.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache;

/// Its name in the state directory.
pub const FILE: &str = "backupd.alive";
/// How often the daemon writes it.
pub const EVERY: Duration = Duration::from_secs(30);

/// Which daemon lives, and when it did so last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Its process.
    pub pid: u32,
    /// When it wrote this.
    pub at: Timestamp,
    /// Its version.
    pub version: String,
}

impl Alive {
    /// Writes it into the state directory `dir`, which is made if it is not there. Nobody ever sees
    /// half of it. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        cache::create(dir)?;
        let new = dir.join(format!("{FILE}.new"));
        let mut file =
            fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&new, dir.join(FILE))
    }

    /// Reads it from the state directory; none if there is none. Of one that makes no sense, which
    /// a machine leaves that stops at the wrong moment, the time of the file counts. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(FILE);
        let read = fs::read(&path).and_then(|json| Ok((json, fs::metadata(&path)?.modified()?)));
        let (json, modified) = match read {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(serde_json::from_slice(&json).unwrap_or_else(|_| Self {
            pid: 0,
            at: Timestamp::try_from(modified).unwrap_or_default(),
            version: String::new(),
        })))
    }

    /// Takes it away, when the daemon ends because somebody wants it to: then nobody misses it.
    /// Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(dir: &Path) -> io::Result<()> {
        match fs::remove_file(dir.join(FILE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_read_and_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("state");
        assert_eq!(Alive::read(&dir).unwrap(), None);
        Alive::remove(&dir).unwrap();
        let alive =
            Alive { pid: 7, at: "2026-03-01T12:00:00Z".parse().unwrap(), version: "1.2.3".into() };
        alive.write(&dir).unwrap();
        assert_eq!(Alive::read(&dir).unwrap(), Some(alive));
        let text = fs::read_to_string(dir.join(FILE)).unwrap();
        assert_eq!(text, r#"{"pid":7,"at":"2026-03-01T12:00:00Z","version":"1.2.3"}"#);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
        Alive::remove(&dir).unwrap();
        assert_eq!(Alive::read(&dir).unwrap(), None);
    }

    #[test]
    fn of_half_of_it_the_time_of_the_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "").unwrap();
        let then = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        assert_eq!(
            Alive::read(dir.path()).unwrap().unwrap().at,
            Timestamp::from_second(1_000_000_000).unwrap()
        );
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Alive::read(dir.path()).is_err());
    }
}
