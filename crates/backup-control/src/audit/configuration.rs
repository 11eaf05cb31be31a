//! Changes of configuration files: who uses one first that is not what it was records that.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::file::{Audit, Error};
use super::line::hex;
use super::{Class, Record, Status};
use crate::machine::Machine;
use crate::state;

impl Audit {
    /// Records that a configuration file is not what it was when a command last used it. `used` is
    /// the hexadecimal SHA-256 of the text that this process loaded; without it the file is read.
    /// Says whether it is another. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn note_configuration(
        &self,
        file: &Path,
        used: Option<String>,
        machine: &Machine,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let read = || Some(hex(&Sha256::digest(std::fs::read(file).ok()?)));
        let Some(digest) = used.or_else(read) else { return Ok(false) };
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
        let name = file.display().to_string();
        let known_at = self.path().with_file_name("audit-configuration.json");
        // Of several that find the same change, one records it.
        let _lock = self.lock_of(&known_at.with_extension("lock"))?;
        let mut known: BTreeMap<String, String> = std::fs::read(&known_at)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default();
        let before = known.insert(name.clone(), digest.clone());
        if before.as_ref() == Some(&digest) {
            return Ok(false);
        }
        let changed = std::fs::metadata(&file).ok().and_then(|data| data.modified().ok());
        let changed = changed
            .and_then(|time| Timestamp::try_from(time).ok())
            .map(|time| format!("{time:.0}"));
        let record = Record::new("config change", Class::Compliance, Status::Success, machine, now)
            .with("file", name)
            .with("sha256", digest)
            .with("before", before.unwrap_or_default())
            .with("changed", changed.unwrap_or_default())
            .with("owner", state::owner(&file).unwrap_or_default());
        self.append(record, machine)?;
        write(&known_at, &known).map_err(|error| self.failed(error))?;
        Ok(true)
    }
}

/// Replaces a file in one step.
pub(super) fn write(file: &Path, known: &impl serde::Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(known).map_err(io::Error::other)?;
    let new = file.with_extension(format!("new-{}", std::process::id()));
    let mut writing =
        std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let written = writing.write_all(&json).and_then(|()| std::fs::rename(&new, file));
    if written.is_err() {
        // Its name has the process in it: on a full disk, one would stay of each command.
        _ = std::fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::super::Filter;
    use super::*;

    #[test]
    fn failed_write_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("note.json");
        std::fs::create_dir_all(target.join("in the way")).unwrap();
        write(&target, &"text").unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_change_is_recorded_once() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { host: "h".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
        let (audit, file) =
            (Audit::in_state(&dir.path().join("state")), dir.path().join("backup.toml"));
        let note_used = |used: Option<&str>| {
            let used = used.map(str::to_owned);
            audit.note_configuration(&file, used, &machine, Timestamp::UNIX_EPOCH).unwrap()
        };
        let note = || note_used(None);
        assert!(!note(), "there is none");
        std::fs::write(&file, "a = 1").unwrap();
        assert!(note() && !note());
        std::fs::write(&file, "a = 2").unwrap();
        assert!(note() && !note());
        // By another program: printf 'a = 2' | sha256sum.
        let used = "d6caeea65266578487abe1370e07a0238918637bd5e81e923e12a24c618ab60e";
        assert!(!note_used(Some(used)), "the text that was loaded is the known one");
        let records = audit
            .read(&Filter { operation: Some("config".into()), ..Filter::default() })
            .unwrap()
            .records;
        assert_eq!(records.len(), 2);
        assert_eq!(records[1].details["before"], records[0].details["sha256"]);
    }
}
