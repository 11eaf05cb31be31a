//! The last valid configuration: a private copy in the state directory, for the tasks of the daemon.
//! A mistake in the file stops neither backups nor the alert about the mistake.
//!
//! ```text
//!  backup.toml ─▶ load ─▶ LastGood::keep ─▶ STATE/daemon/configuration.json ─▶ load (in tasks)
//!                                           file, text with references resolved, broken since
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::load::LoadedConfig;
use crate::cache;
use crate::error::Error;
use crate::schedule::DAEMON_DIR;

/// Its name in the directory of the daemon.
const FILE: &str = "configuration.json";

/// The text of a configuration with its references resolved. It may hold secrets, and is shown
/// nowhere.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resolved(pub(super) String);

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolved(…)")
    }
}

/// Why a configuration file cannot be used, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// When the daemon noticed it.
    pub since: Timestamp,
    /// The error of the last attempt to load the file.
    pub error: String,
    /// The hint of this error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The stored form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The configuration file; its directory is where relative paths start.
    pub(super) file: PathBuf,
    pub(super) toml: Resolved,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broken: Option<Broken>,
}

impl Kept {
    /// The copy in a text; none if the text is a configuration itself: no TOML begins with a brace.
    pub(super) fn of_text(text: &str) -> Option<serde_json::Result<Self>> {
        text.starts_with('{').then(|| serde_json::from_str(text))
    }
}

/// The last valid configuration of the daemon of a state directory.
#[derive(Debug, Clone)]
pub struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// The copy of this state directory.
    #[must_use]
    pub fn in_state(state: &Path) -> Self {
        Self { path: state.join(DAEMON_DIR).join(FILE) }
    }

    /// The file that [`load`](super::load) accepts in place of the original. Error messages,
    /// alerts and relative paths stay those of the original.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores a valid configuration. A note that its file is broken stays. Blocks.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn keep(&self, loaded: &LoadedConfig) -> io::Result<()> {
        let before = self.read()?.filter(|kept| kept.file == loaded.file);
        let broken = before.as_ref().and_then(|kept| kept.broken.clone());
        let kept = Kept { file: loaded.file.clone(), toml: loaded.resolved.clone(), broken };
        if before.as_ref() == Some(&kept) { Ok(()) } else { self.write(&kept) }
    }

    /// Notes that the file of the copy is broken, or no more. Returns the note: it keeps the time
    /// of an earlier one. None if there is no copy of this file. Blocks.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn note(
        &self,
        file: &Path,
        error: Option<&Error>,
        now: Timestamp,
    ) -> io::Result<Option<Broken>> {
        let Some(kept) = self.read()?.filter(|kept| kept.file == file) else { return Ok(None) };
        let since = kept.broken.as_ref().map_or(now, |broken| broken.since);
        let broken = error.map(|error| Broken {
            since,
            error: error.to_string(),
            hint: error.hint().map(str::to_owned),
        });
        if broken != kept.broken {
            self.write(&Kept { broken: broken.clone(), ..kept })?;
        }
        Ok(broken)
    }

    /// The note that `file` is broken, if there is one. Blocks.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn broken(&self, file: &Path) -> io::Result<Option<Broken>> {
        Ok(self.read()?.filter(|kept| kept.file == file).and_then(|kept| kept.broken))
    }

    /// The file that the copy was made of. Blocks.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn file(&self) -> io::Result<Option<PathBuf>> {
        Ok(self.read()?.map(|kept| kept.file))
    }

    /// None if there is no copy, or one that makes no sense: the next valid configuration replaces
    /// it.
    fn read(&self) -> io::Result<Option<Kept>> {
        match std::fs::read_to_string(&self.path).map(Zeroizing::new) {
            Ok(text) => Ok(Kept::of_text(&text).and_then(Result::ok)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        self.path.parent().map_or(Ok(()), cache::create)?;
        let text = Zeroizing::new(serde_json::to_vec(kept)?);
        let new = self.path.with_extension("new");
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}

/// The configuration file behind `file`: of a copy of the daemon the original, else `file` itself.
#[must_use]
pub fn original(file: PathBuf) -> PathBuf {
    let text = std::fs::read_to_string(&file).map(Zeroizing::new).unwrap_or_default();
    match Kept::of_text(&text) {
        Some(Ok(kept)) => kept.file,
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::load;
    use crate::environment::Environment;

    const TEXT: &str = "[repositories.main]\nurl = \"repo\"\n[sources.docs]\nkind = \
                        \"files\"\npaths = [\"${DOCS:-docs}\", \"$${literal}\"]\n[jobs.docs]\nsource = \
                        \"docs\"\nrepository = \"main\"\nhooks = { before = \"echo ${TOKEN}\" }\n";

    #[test]
    fn load_of_the_copy_needs_neither_original_nor_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("etc/backup.toml");
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(&file, TEXT).unwrap();
        let env: Environment = [("DOCS", "hush")].into_iter().collect();
        let loaded = load(&file, &env).unwrap();
        assert!(!format!("{loaded:?}").contains("Resolved(\""), "{loaded:?}");
        let last_good = LastGood::in_state(&dir.path().join("state"));
        last_good.keep(&loaded).unwrap();
        let mode = std::fs::metadata(last_good.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        std::fs::remove_file(&file).unwrap();
        let copy = load(last_good.path(), &Environment::default()).unwrap();
        assert_eq!((&copy.file, &copy.config), (&file, &loaded.config));
        let etc = dir.path().join("etc");
        assert_eq!(copy.config.repositories["main"].url, etc.join("repo").to_str().unwrap());
        let paths = [etc.join("hush"), etc.join("${literal}")];
        assert_eq!(copy.config.sources["docs"].paths, paths);
        let before = copy.config.jobs["docs"].hooks.as_ref().unwrap().before.as_deref();
        assert_eq!(before, Some("echo ${TOKEN}"), "the shell expands it");
        assert_eq!(original(last_good.path().to_path_buf()), file);
        assert_eq!(original(file.clone()), file);
    }

    #[test]
    fn last_good_keeps_the_time_of_the_first_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup.toml");
        std::fs::write(&file, TEXT).unwrap();
        let loaded = load(&file, &Environment::default()).unwrap();
        let last_good = LastGood::in_state(dir.path());
        let at = |second| Timestamp::from_second(second).unwrap();
        std::fs::write(&file, "[jobs").unwrap();
        let error = load(&file, &Environment::default()).unwrap_err();
        assert_eq!(last_good.note(&file, Some(&error), at(1)).unwrap(), None, "there is no copy");
        last_good.keep(&loaded).unwrap();
        let first = last_good.note(&file, Some(&error), at(1)).unwrap().unwrap();
        assert!(first.since == at(1) && first.error.contains("backup.toml:1: "), "{first:?}");
        last_good.keep(&loaded).unwrap();
        assert_eq!(last_good.note(&file, Some(&error), at(2)).unwrap(), Some(first.clone()));
        assert_eq!(last_good.broken(&file).unwrap(), Some(first));
        assert_eq!(last_good.broken(Path::new("/other.toml")).unwrap(), None);
        assert_eq!(last_good.note(&file, None, at(3)).unwrap(), None);
        assert_eq!(last_good.broken(&file).unwrap(), None);
    }
}
