//! From a name or an address to an opened repository.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::maintenance::{MaxUnused, PruneOptions};
use backup_core::repository::{InitOptions, Repository, WriteSettings};
use backup_core::sink::{Key, Sink, SinkError, SinkErrorKind, SinkOps};
use backup_storage::resolver;
use backup_storage::{Location, StoreSettings};

use crate::address::without_secrets;
use crate::config::{Config, RepositoryConfig};
use crate::disk::Medium;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::passphrase::{PassphraseFlags, PassphraseOrigin};
use crate::suggest;
use crate::units::{Time, UnusedLimit};

/// A repository somebody means: where it is, how it is opened, how it is written.
#[derive(Debug, Clone)]
pub struct RepositorySpec {
    /// Its name in the configuration, if it has one.
    pub name: Option<String>,
    /// Where it is.
    pub location: Location,
    /// What the configuration says about it, if anything.
    pub config: Option<RepositoryConfig>,
    /// A name in the configuration that looks like the address: perhaps that was meant.
    similar: Option<String>,
    /// Goes before the configuration's.
    storage_class: Option<String>,
}

/// Understands an address.
///
/// # Errors
/// [`Error::Invalid`] if it is none, or of a kind that this program does not know.
pub fn location(address: &str) -> Result<Location> {
    address.parse().map_err(|error| unusable(address, &error))
}

/// The error for a place that cannot hold a repository.
fn unusable(address: &str, error: &SinkError) -> Error {
    let why =
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let address = without_secrets(address);
    let unusable =
        Error::invalid(format!("{address:?} is not an address of a repository")).with_source(why);
    match error.hint() {
        Some(hint) => unusable.with_hint(hint),
        None => unusable,
    }
}

/// As the data plane wants it.
#[must_use]
pub fn max_unused(limit: UnusedLimit) -> MaxUnused {
    match limit {
        UnusedLimit::Share(share) => MaxUnused::Percent(share.0 * 100.0),
        UnusedLimit::Size(size) => MaxUnused::Bytes(size.0),
        UnusedLimit::Unlimited => MaxUnused::Unlimited,
    }
}

impl RepositorySpec {
    /// The repository in a directory of this machine.
    #[must_use]
    pub fn at(dir: &std::path::Path) -> Self {
        Self {
            name: None,
            location: Location::local(dir),
            config: None,
            similar: None,
            storage_class: None,
        }
    }

    /// Its address as runs record it: the same from every directory, also with a slash at its end,
    /// without secrets.
    #[must_use]
    pub fn place(&self) -> String {
        let shown = self.to_string();
        let path = if shown.contains("://") { None } else { std::path::absolute(&shown).ok() };
        // Collecting the components drops a slash at the end.
        let path = path.map(|path| path.components().collect::<std::path::PathBuf>());
        path.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or(shown)
    }

    /// Where it lies. An object store on this machine, as in tests, counts as unknown.
    #[must_use]
    pub fn medium(&self) -> Medium {
        if let Location::Local(path) = &self.location {
            return Medium::of(path);
        }
        let configured = self.config.as_ref().and_then(|config| config.store.endpoint.as_deref());
        let endpoint = format!("{self} {}", configured.unwrap_or_default());
        let loopback = ["://localhost", "://127.", "://[::1]"];
        match loopback.iter().any(|host| endpoint.contains(host)) {
            true => Medium::Unknown,
            false => Medium::Store,
        }
    }

    /// Whether it lies on a disk of this machine alone: what another machine calls the same is
    /// another one.
    #[must_use]
    pub fn is_of_machine(&self) -> bool {
        let place = self.place();
        let there = Path::new(&place).ancestors().find(|path| path.exists());
        !place.contains("://") && there.is_some_and(crate::state::is_local)
    }

    /// The repository called `text`: a name in the configuration, else an address.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is neither.
    pub fn resolve(text: &str, config: Option<&Config>) -> Result<Self> {
        let names =
            || config.into_iter().flat_map(|config| config.repositories.keys()).map(String::as_str);
        match config.and_then(|config| config.repositories.get(text)) {
            Some(section) => Self::from_config(text, section),
            None => Ok(Self {
                name: None,
                location: location(text)?,
                config: None,
                similar: suggest::closest(text, names()).map(str::to_owned),
                storage_class: None,
            }),
        }
    }

    /// The repository to use if none is named: the only one in the configuration.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none, or several.
    pub fn only(config: Option<&Config>) -> Result<Self> {
        let repositories = config.map(|config| &config.repositories);
        let mut all = repositories.into_iter().flatten();
        match (all.next(), all.next()) {
            (Some((name, section)), None) => Self::from_config(name, section),
            (None, _) => Err(Error::invalid("no repository is given")
                .with_hint("name one with `-r DIR`, with BACKUP_REPO, or in a configuration file")),
            (Some(_), Some(_)) => {
                let names: Vec<&str> =
                    repositories.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                Err(Error::invalid("no repository is given, and the configuration has several")
                    .with_hint(format!("name one with `-r`: {}", names.join(", "))))
            }
        }
    }

    /// The repository `name` of the configuration.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such section.
    pub fn named(name: &str, config: &Config) -> Result<Self> {
        match config.repositories.get(name) {
            Some(section) => Self::from_config(name, section),
            None => {
                let error = Error::invalid(format!("the configuration has no repository `{name}`"));
                Err(match suggest::hint(name, config.repositories.keys().map(String::as_str)) {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                })
            }
        }
    }

    fn from_config(name: &str, section: &RepositoryConfig) -> Result<Self> {
        let (name, config) = (Some(name.to_owned()), Some(section.clone()));
        Ok(Self {
            name,
            location: location(&section.url)?,
            config,
            similar: None,
            storage_class: None,
        })
    }

    /// Where its pass phrase comes from; `None`: somebody has to be asked.
    #[must_use]
    pub fn passphrase(
        &self,
        flags: &PassphraseFlags,
        env: &Environment,
    ) -> Option<PassphraseOrigin> {
        PassphraseOrigin::choose(flags, self.config.as_ref(), env)
    }

    /// How blobs are stored in it.
    #[must_use]
    pub fn write_settings(&self) -> WriteSettings {
        let mut settings = WriteSettings::default();
        if self.is_local() {
            settings.pack_size = WriteSettings::LOCAL_PACK_SIZE;
        }
        let Some(config) = &self.config else {
            return settings;
        };
        settings.compression = config.compression.unwrap_or(settings.compression);
        settings.verify_sample =
            config.verify_sample.map_or(settings.verify_sample, |share| share.0);
        settings.uploads = config.uploads.or(settings.uploads);
        if let Some(size) = config.pack_size {
            // Checked with the configuration: it fits everywhere.
            settings.pack_size = usize::try_from(size.0).unwrap_or(WriteSettings::MAX_PACK_SIZE);
        }
        settings
    }

    /// How data that nothing needs is removed from it; `holder` is who does it, for people.
    #[must_use]
    pub fn prune_options(&self, holder: String) -> PruneOptions {
        let mut options =
            PruneOptions { write: self.write_settings(), holder, ..PruneOptions::default() };
        let Some(prune) = self.config.as_ref().map(|config| &config.prune) else {
            return options;
        };
        options.grace = prune.grace.as_ref().map_or(options.grace, Time::length);
        options.max_unused = prune.max_unused.map_or(options.max_unused, max_unused);
        options.max_repack = prune.max_repack.map(|size| size.0);
        options.max_time = prune.max_time.as_ref().map(Time::length);
        options
    }

    /// Puts what is written into this storage class, whatever the configuration says.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a directory, which has none.
    pub fn with_storage_class(mut self, class: Option<&str>) -> Result<Self> {
        if class.is_some() && self.is_local() {
            return Err(Error::invalid(format!(
                "{self} is a directory: it has no storage classes"
            )));
        }
        if let Some(class) = class {
            self.location = self.location.without("storage_class");
            self.storage_class = Some(class.to_owned());
        }
        Ok(self)
    }

    /// Interval at which the capturer of an idle log records that it is complete: requests to object
    /// stores cost money.
    #[must_use]
    pub fn idle_record(&self) -> Duration {
        Duration::from_secs(if self.is_local() { 10 } else { 30 })
    }

    fn is_local(&self) -> bool {
        matches!(self.location, Location::Local(_))
    }

    /// How its store is reached.
    fn store(&self, env: &Environment) -> StoreSettings {
        let mut settings =
            self.config.as_ref().map(|config| config.store.clone()).unwrap_or_default();
        settings.environment = env.texts().collect();
        if self.storage_class.is_some() {
            settings.storage_class.clone_from(&self.storage_class);
        }
        settings
    }

    /// Whether there is a repository.
    ///
    /// # Errors
    /// [`Error::Core`]: storage.
    pub async fn exists(&self, env: &Environment) -> Result<bool> {
        let config = Key::new("config").map_err(|error| Error::invalid(error.to_string()))?;
        match resolver::open(&self.location, &self.store(env)).await {
            Ok(sink) => Ok(sink.exists(&config).await.map_err(CoreError::from)?),
            Err(error) if error.kind() == SinkErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Its storage, for what needs no pass phrase.
    ///
    /// # Errors
    /// [`Error::Core`]: storage.
    pub async fn sink(&self, env: &Environment) -> Result<Arc<dyn Sink>> {
        resolver::open(&self.location, &self.store(env)).await.map_err(|error| self.failed(error))
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`Error::Core`]: no repository, wrong pass phrase, storage.
    pub async fn open(&self, passphrase: &Passphrase, env: &Environment) -> Result<Repository> {
        Ok(Repository::open(self.sink(env).await?, passphrase).await?)
    }

    /// Creates it.
    ///
    /// # Errors
    /// [`Error::Core`]: there is one already, storage.
    pub async fn init(
        &self,
        passphrase: &Passphrase,
        options: &InitOptions,
        env: &Environment,
        cx: &Context,
    ) -> Result<Repository> {
        let sink = resolver::create(&self.location, &self.store(env))
            .await
            .map_err(|error| self.failed(error))?;
        Ok(Repository::init(sink, passphrase, options, cx).await?)
    }

    /// Finds out what the store of a new repository really does; returns what users should know. A
    /// directory needs no probe: the system calls it relies upon do what they say.
    ///
    /// # Errors
    /// [`Error::Core`]: storage.
    pub async fn probe(&self, repository: &Repository, cx: &Context) -> Result<Vec<String>> {
        if self.is_local() {
            return Ok(Vec::new());
        }
        Ok(repository.probe_store(cx).await?.concerns())
    }

    fn failed(&self, error: SinkError) -> Error {
        match error.kind() {
            SinkErrorKind::NotFound => {
                let hint = match (&self.similar, error.hint()) {
                    (Some(name), _) => format!("did you mean `{name}` of the configuration?"),
                    // Not even the place is there.
                    (None, Some(hint)) => hint.to_owned(),
                    (None, None) => {
                        "check the address, or create a repository with `backup init`".to_owned()
                    }
                };
                CoreError::new(ErrorKind::NoRepository, format!("there is no repository at {self}"))
                    .with_hint(hint)
                    .into()
            }
            SinkErrorKind::Invalid | SinkErrorKind::Unsupported => {
                unusable(&self.to_string(), &error)
            }
            _ => CoreError::from(error).into(),
        }
    }
}

impl std::fmt::Display for RepositorySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.location.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_names_the_same_place() {
        let place = |address: &str| RepositorySpec::resolve(address, None).unwrap().place();
        assert_eq!(place("/srv/backup//main/"), "/srv/backup/main");
        assert_eq!(place("/srv/backup/main"), "/srv/backup/main");
        assert_eq!(place("/"), "/");
        assert_eq!(place("s3://bucket/main/"), place("s3://bucket/main"));
    }

    #[test]
    fn what_cannot_be_understood_is_named_without_its_secrets() {
        for address in [
            "s3://user:hush@bucket/x",
            "s3://user:hu/hush@bucket",
            "s3://user:hu?hush@bucket",
            "s3://bucket/x?secret_access_key=hush",
        ] {
            let error = location(address).unwrap_err();
            let mut text = format!("{error} {error:?}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text.push_str(&error.to_string());
                cause = error.source();
            }
            assert!(!text.contains("hush"), "{text}");
            assert!(text.contains("bucket"), "{text}");
        }
    }
}
