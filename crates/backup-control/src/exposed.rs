//! Files with secrets that other users of the machine can read.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use backup_core::event::{Events, WarningKind};

use crate::config::{Config, RepositoryConfig, SourceConfig};
use crate::environment::Environment;
use crate::passphrase::{PassphraseFlags, PassphraseOrigin};

/// A regular file with a secret that users other than its owner can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposedFile {
    path: PathBuf,
    /// Permission bits.
    mode: u32,
}

impl ExposedFile {
    /// The file at `path`, if others can read it. FIFOs, sockets and devices are never exposed, nor
    /// are files that do not exist. Links are followed.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        if !is_exposed(&data, rustix::process::geteuid().is_root()) {
            return None;
        }
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Some(Self { path, mode: data.mode() & 0o7777 })
    }

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The finding and its remedy, in words.
    #[must_use]
    pub fn warning(&self) -> String {
        format!("{self}; {}", self.remedy())
    }

    /// The command that removes the rights of others.
    #[must_use]
    pub fn remedy(&self) -> String {
        format!("run `chmod go-rwx {}`", self.path.display())
    }
}

impl fmt::Display for ExposedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "other users can read the secret in {path} (mode {:04o})", self.mode)
    }
}

/// True if the group or the world can read a regular file. The group of a file of root is the way to
/// let another user read it, as PostgreSQL permits for its keys.
fn is_exposed(data: &Metadata, is_root: bool) -> bool {
    let is_of_root_for_us = data.uid() == 0 && !is_root;
    let forbidden = if is_of_root_for_us { 0o004 } else { 0o044 };
    data.is_file() && data.mode() & forbidden != 0
}

/// The exposed ones of these files.
pub fn among<'a>(files: impl IntoIterator<Item = &'a Path>) -> impl Iterator<Item = ExposedFile> {
    files.into_iter().filter_map(ExposedFile::at)
}

/// The file with the pass phrase that flags or the environment name.
#[must_use]
pub fn file_of_flags(flags: &PassphraseFlags, env: &Environment) -> Option<PathBuf> {
    let origin = PassphraseOrigin::choose(flags, None, env)?;
    file_of(&origin).map(Path::to_path_buf)
}

/// The file that a secret comes from, if it comes from a file.
#[must_use]
pub fn file_of(origin: &PassphraseOrigin) -> Option<&Path> {
    match origin {
        PassphraseOrigin::File(path) => Some(path),
        PassphraseOrigin::Variable(_) | PassphraseOrigin::Command(_) => None,
    }
}

/// The files with secrets that a section `[repositories.NAME]` names.
fn files_of_repository(config: &RepositoryConfig) -> impl Iterator<Item = &Path> {
    config.passphrase_file.as_deref().into_iter().chain(files_of_store(config))
}

/// The files with credentials and keys of the store of a repository.
pub fn files_of_store(config: &RepositoryConfig) -> impl Iterator<Item = &Path> {
    let store = &config.store;
    let files = [&store.secret_access_key_file, &store.customer_key_file, &store.service_account];
    files.into_iter().filter_map(|file| file.as_deref())
}

/// The files with secrets that a section `[sources.NAME]` names.
fn files_of_source(config: &SourceConfig) -> impl Iterator<Item = &Path> {
    config.password_file.as_deref().into_iter().chain(keys_of_source(config))
}

/// The files with keys for TLS, and with the password of sentinels, that a section
/// `[sources.NAME]` names.
fn keys_of_source(config: &SourceConfig) -> impl Iterator<Item = &Path> {
    let files =
        [&config.sentinel_password_file, &config.tls_certificate_key_file, &config.tls_key_file];
    files.into_iter().filter_map(|file| file.as_deref())
}

/// The files with secrets of a source whose password has this origin.
#[cfg(any(feature = "mongodb", feature = "postgres", feature = "redis"))]
pub(crate) fn files_of_spec<'a>(
    password: Option<&'a PassphraseOrigin>,
    config: &'a SourceConfig,
) -> Vec<&'a Path> {
    password.and_then(file_of).into_iter().chain(keys_of_source(config)).collect()
}

/// Warns about the exposed ones of the files of a target.
pub(crate) fn warn(files: &[&Path], events: &Events) {
    for file in among(files.iter().copied()) {
        events.warn(WarningKind::Other, "", file.warning());
    }
}

/// The exposed files that a configuration names, with the sections that name them.
#[must_use]
pub fn of_config(config: &Config) -> Vec<(String, ExposedFile)> {
    let mut named: Vec<(String, &Path)> = Vec::new();
    for (name, one) in &config.repositories {
        let section = format!("[repositories.{name}]");
        named.extend(files_of_repository(one).map(|file| (section.clone(), file)));
    }
    for (name, one) in &config.sources {
        let section = format!("[sources.{name}]");
        named.extend(files_of_source(one).map(|file| (section.clone(), file)));
    }
    for (name, one) in &config.notify {
        named.extend(one.secret_file.as_deref().map(|file| (format!("[notify.{name}]"), file)));
    }
    let catalog = config.catalog.password_file.as_deref();
    named.extend(catalog.map(|file| ("[catalog]".to_owned(), file)));
    let exposed = named.into_iter().filter_map(|(section, file)| {
        let file = ExposedFile::at(file)?;
        Some((section, file))
    });
    exposed.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn file_is_exposed_if_group_or_world_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "secret").unwrap();
        for (mode, for_owner, for_reader) in [
            (0o600, false, false),
            (0o400, false, false),
            (0o620, false, false),
            (0o640, true, false),
            (0o604, true, true),
            (0o644, true, true),
        ] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let data = std::fs::metadata(&path).unwrap();
            assert_eq!(is_exposed(&data, true), for_owner, "{mode:o}");
            // Only a file of root is read by a group on purpose.
            if data.uid() == 0 {
                assert_eq!(is_exposed(&data, false), for_reader, "{mode:o}");
            }
        }
        let exposed = ExposedFile::at(&path).unwrap();
        let text = format!("other users can read the secret in {} (mode 0644)", path.display());
        assert_eq!(exposed.to_string(), text);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(ExposedFile::at(&link).is_some());
    }

    #[test]
    fn fifo_device_and_missing_file_are_not_exposed() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").args(["-m", "666"]).arg(&fifo).status();
        assert!(made.unwrap().success());
        for path in [fifo.as_path(), Path::new("/dev/null"), Path::new("/nowhere/key")] {
            assert_eq!(ExposedFile::at(path), None, "{}", path.display());
        }
    }

    #[test]
    fn exposed_files_of_a_configuration_are_named_with_their_sections() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "two", "three", "four", "five", "closed"] {
            let path = dir.path().join(name);
            std::fs::write(&path, "secret").unwrap();
            let mode = if name == "closed" { 0o600 } else { 0o644 };
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        }
        let text = "[repositories.a]\nurl = \"x\"\npassphrase_file = \"one\"\n\
                    [repositories.b]\nurl = \"y\"\npassphrase_file = \"closed\"\n\
                    [sources.db]\nkind = \"redis\"\nurl = \"rediss://h\"\npassword_file = \"two\"\n\
                    tls_certificate_file = \"closed\"\ntls_key_file = \"three\"\n\
                    [catalog]\nurl = \"postgres://me@h/db\"\npassword_file = \"five\"\n";
        let file = dir.path().join("backup.toml");
        let config = crate::config::parse(text, &file, &Environment::default()).unwrap();
        let found = of_config(&config);
        let found = found.iter().map(|(section, file)| {
            (section.as_str(), file.path().file_name().unwrap().to_str().unwrap())
        });
        let expected = [
            ("[repositories.a]", "one"),
            ("[sources.db]", "two"),
            ("[sources.db]", "three"),
            ("[catalog]", "five"),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
