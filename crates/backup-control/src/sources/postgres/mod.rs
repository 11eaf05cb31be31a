//! PostgreSQL clusters.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`PostgresSpec`]: a cluster that is meant; where snapshots of one are restored to |
//! | `parts.rs` | databases, schemas and tables out of a data directory, by a scratch server |
//! | `compare.rs` | a snapshot beside a server |

mod compare;
mod parts;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::Events;
use backup_core::pipeline::{BackupOptions, BackupReport};
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::source::Source;
use backup_sources::DEFAULT_TIMEOUT;
use backup_sources::postgres::{
    ClientEnvironment, LogicalOptions, LogicalSource, PostgresDirectory, PostgresOptions,
    PostgresSource, RecoveryTarget, Renames, RestoredConfiguration, ScratchOptions, SlotHealth,
    SlotState as ServerSays, TlsMode,
};
use backup_storage::settings::Rate;
use jiff::Timestamp;

use parts::Parts;

use super::{RestoreFlags, ScratchFlags, ServerConfigFlag};
use crate::address::ServerAddress;
use crate::alerts::{SlotFacts, SlotState};
use crate::config::{MethodConfig, SourceConfig};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::exposed;
use crate::passphrase::PassphraseOrigin;

/// Where distributions put the programs of their major versions, below which each has its own
/// `bin`.
const INSTALLATIONS: [&str; 3] =
    ["/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/postgresql"];

/// A PostgreSQL cluster that is meant.
#[derive(Debug, Clone)]
pub struct PostgresSpec {
    address: ServerAddress,
    password: Option<PassphraseOrigin>,
    config: SourceConfig,
    /// Completes the address.
    client: ClientEnvironment,
}

impl PostgresSpec {
    /// `variable` gives the password if the configuration names no place for it.
    pub(super) fn new(config: SourceConfig, variable: &str, env: &Environment) -> Result<Self> {
        let address = config
            .url
            .clone()
            .ok_or_else(|| Error::invalid("the address of the server is missing"))?;
        let password = PassphraseOrigin::of_source(&config, variable, env);
        let spec = Self { address, password, config, client: client(env) };
        // A mistake in the address is found before anything is connected.
        spec.options(None)?;
        Ok(spec)
    }

    pub(super) fn names_cluster(&self) -> bool {
        self.config.system_id.is_some()
    }

    async fn fetch_password(&self, env: &Environment) -> Result<Option<String>> {
        match &self.password {
            Some(origin) => Ok(Some(origin.fetch_password(env).await?.reveal().to_owned())),
            None => Ok(None),
        }
    }

    /// How its slot is; none if it has none, because its log is not captured by one.
    pub(super) async fn slot(&self, env: &Environment, cx: &Context) -> Result<Option<SlotFacts>> {
        if self.config.method == Some(MethodConfig::Logical) {
            return Ok(None);
        }
        let options = self.reporting(self.fetch_password(env).await?, &cx.events)?;
        let Some(name) = options.slot.clone() else { return Ok(None) };
        let core = backup_core::error::Error::from;
        let source = PostgresSource::connect(options).await.map_err(core)?;
        let health = source.slot_health(cx).await.map_err(core)?;
        let now = cx.clock.now();
        Ok(Some(health.map_or_else(
            || SlotFacts::missing(&name),
            |health| slot_facts(name.clone(), &health, now),
        )))
    }

    /// Estimated numbers of rows of tables; `None` for logical backups, which count rows.
    pub(super) async fn estimated_rows(
        &self,
        env: &Environment,
        cx: &Context,
        names: &[String],
    ) -> Result<Option<HashMap<String, u64>>> {
        if self.config.method == Some(MethodConfig::Logical) {
            return Ok(None);
        }
        let options = self.reporting(self.fetch_password(env).await?, &cx.events)?;
        let core = backup_core::error::Error::from;
        let source = PostgresSource::connect(options).await.map_err(core)?;
        Ok(Some(source.estimated_rows(cx, names).await.map_err(core)?))
    }

    /// The files that hold its secrets.
    pub(super) fn secret_files(&self) -> Vec<&Path> {
        exposed::files_of_spec(self.password.as_ref(), &self.config)
    }

    pub(super) async fn open(&self, env: &Environment, events: &Events) -> Result<Arc<dyn Source>> {
        let password = self.fetch_password(env).await?;
        self.note_ignored(events)?;
        match self.config.method {
            Some(MethodConfig::Logical) => {
                let connected = LogicalSource::connect(self.logical(password, events)?).await;
                Ok(Arc::new(connected.map_err(backup_core::error::Error::from)?))
            }
            None | Some(MethodConfig::Physical) => {
                let connected = PostgresSource::connect(self.reporting(password, events)?).await;
                Ok(Arc::new(connected.map_err(backup_core::error::Error::from)?))
            }
        }
    }

    fn logical(&self, password: Option<String>, events: &Events) -> Result<LogicalOptions> {
        let mut options = LogicalOptions::new(self.reporting(password, events)?);
        let config = &self.config;
        options.programs.clone_from(&config.programs);
        options.jobs = config.parallel.unwrap_or(options.jobs);
        options.lock_timeout = config
            .lock_timeout
            .map_or(options.lock_timeout, |seconds| Duration::from_secs(u64::from(seconds)));
        options.digests = config.digests.unwrap_or(options.digests);
        Ok(options)
    }

    /// The server that a logical backup is restored into, as `flags` say.
    pub(super) async fn restorer(
        &self,
        flags: &RestoreFlags,
        env: &Environment,
        events: &Events,
    ) -> Result<Arc<LogicalSource>> {
        let mut options = self.logical(self.fetch_password(env).await?, events)?;
        self.note_ignored(events)?;
        options.renames = Renames::new(&flags.renames).map_err(backup_core::error::Error::from)?;
        options.owners = !flags.no_owner;
        options.privileges = !flags.no_privileges;
        options.exit_on_error = flags.exit_on_error;
        options.roles = !flags.no_users;
        let connected = LogicalSource::connect(options).await;
        Ok(Arc::new(connected.map_err(backup_core::error::Error::from)?))
    }

    /// The server that parts of a data directory are restored into, by a scratch server.
    pub(super) async fn of_parts(
        &self,
        flags: &RestoreFlags,
        env: &Environment,
        events: &Events,
    ) -> Result<Arc<dyn Source>> {
        let scratch = scratch_options(&flags.scratch, flags.until.as_deref(), env)?;
        Ok(Arc::new(Parts::new(self.restorer(flags, env, events).await?, scratch)))
    }

    /// Names parameters of the address that have no effect.
    fn note_ignored(&self, events: &Events) -> Result<()> {
        let ignored = self.options(None)?.connection.ignored;
        if !ignored.is_empty() {
            let names = ignored.join(", ");
            events.note(format!("parameters of the address without effect: {names}"));
        }
        Ok(())
    }

    /// The address without secrets.
    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    fn reporting(&self, password: Option<String>, events: &Events) -> Result<PostgresOptions> {
        let waits = super::waits(&self.config, DEFAULT_TIMEOUT, events);
        Ok(PostgresOptions { waits, ..self.options(password)? })
    }

    fn options(&self, password: Option<String>) -> Result<PostgresOptions> {
        let parsed = PostgresOptions::parse_in(self.address.reveal(), &self.client)
            .map_err(backup_core::error::Error::from)?;
        let config = &self.config;
        let by_name = |id: &String| {
            id.parse::<u64>()
                .map_err(|_| Error::invalid(format!("{id:?} is not an identifier of a cluster")))
        };
        let mut options = PostgresOptions {
            password: password.or(parsed.password),
            max_bytes_per_second: config.max_bytes_per_second.map(Rate::get),
            fast_checkpoint: config.fast_checkpoint.unwrap_or(parsed.fast_checkpoint),
            weak_passwords: config.weak_passwords.unwrap_or(parsed.weak_passwords),
            system_id: config.system_id.as_ref().map(by_name).transpose()?,
            ..parsed
        };
        if let Some(slot) = &config.slot {
            options.slot = Some(slot.clone()).filter(|slot| !slot.is_empty());
        }
        if let Some(file) = &config.tls_ca_file {
            options.tls_ca_file = Some(file.clone());
            // Whoever names an authority wants it to be asked.
            if options.tls != TlsMode::VerifyCa {
                options.tls = TlsMode::VerifyFull;
            }
        }
        Ok(options)
    }
}

/// The names of the hosts of an address; none if it is invalid.
pub(crate) fn host_names(address: &str) -> Vec<String> {
    let hosts = backup_sources::postgres::hosts_of(address).unwrap_or_default();
    hosts.into_iter().map(|host| host.name).collect()
}

/// The variables of libpq, and the user by whom the program runs.
fn client(env: &Environment) -> ClientEnvironment {
    let is_libpq = |(name, _): &(String, String)| name.starts_with("PG") || name == "HOME";
    let user = env.text("LOGNAME").or_else(|| env.text("USER")).map(str::to_owned);
    ClientEnvironment::new(env.texts().filter(is_libpq), user)
}

impl fmt::Display for PostgresSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL at {}", self.address)
    }
}

/// Puts a snapshot together with those that it builds on.
pub(super) async fn compact(
    repository: &Repository,
    snapshot: &SnapshotReader,
    options: &BackupOptions,
    cx: &Context,
) -> Result<BackupReport> {
    Ok(backup_sources::postgres::synthetic_full(repository, snapshot, options, cx).await?)
}

fn slot_facts(name: String, health: &SlotHealth, now: Timestamp) -> SlotFacts {
    SlotFacts {
        name,
        state: match health.state {
            ServerSays::Reserved | ServerSays::Extended => SlotState::Kept,
            ServerSays::Unreserved => SlotState::InDanger,
            ServerSays::Lost => SlotState::Lost,
        },
        is_read: health.active,
        unread_since: health.unread_for.and_then(|length| now.checked_sub(length).ok()),
        retained_bytes: health.retained_bytes,
    }
}

/// Where a snapshot is restored to, as a source.
pub(super) fn directory(flags: &RestoreFlags, env: &Environment) -> Result<Arc<dyn Source>> {
    let options = PostgresOptions {
        tablespaces: pairs("--tablespace", "OLD=NEW", &flags.tablespaces)?
            .into_iter()
            .map(|(old, new)| (old, PathBuf::from(new)))
            .collect(),
        settings: pairs("--set", "NAME=VALUE", &flags.settings)?,
        configuration: match flags.server_config {
            None | Some(ServerConfigFlag::Original) => RestoredConfiguration::Original,
            Some(ServerConfigFlag::Minimal) => RestoredConfiguration::Minimal,
        },
        start: flags
            .start
            .as_ref()
            .map(|dir| dir.clone().map_or_else(|| installations(env), |dir| vec![dir])),
        start_timeout: flags.start_timeout,
        pause: flags.pause,
        recovery: recovery_of(flags.until.as_deref())?,
        ..PostgresOptions::default()
    };
    Ok(Arc::new(PostgresDirectory::new(options)))
}

/// How a scratch server is made that stands for the moment `until`.
fn scratch_options(
    flags: &ScratchFlags,
    until: Option<&str>,
    env: &Environment,
) -> Result<ScratchOptions> {
    let programs = flags.programs.clone();
    Ok(ScratchOptions {
        directory: flags.directory.clone().unwrap_or_else(std::env::temp_dir),
        programs: programs.map_or_else(|| installations(env), |dir| vec![dir]),
        user: flags.user.as_deref().map(user).transpose()?,
        recovery: recovery_of(until)?,
        start_timeout: None,
    })
}

/// Where the log is left, if only reading it can tell that.
fn recovery_of(until: Option<&str>) -> Result<RecoveryTarget> {
    match until.map(recovery) {
        None => Ok(RecoveryTarget::Planned),
        Some(Some(target)) => Ok(target),
        Some(None) => Err(Error::invalid("the snapshot has no log to restore to a moment")),
    }
}

/// A user by name or number, and the group.
fn user(text: &str) -> Result<(u32, u32)> {
    use nix::unistd::{Uid, User};
    let found = match text.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(text),
    };
    match (found, text.parse()) {
        (Ok(Some(user)), _) => Ok((user.uid.as_raw(), user.gid.as_raw())),
        // Nobody has to be called by that number.
        (Ok(None), Ok(number)) => Ok((number, number)),
        _ => Err(Error::invalid(format!("there is no user {text:?} on this machine"))
            .with_hint("name an existing user with --scratch-user")),
    }
}

/// Moments that only reading the log can find: `xid:NUMBER`, the end of a transaction, and
/// `name:TEXT`, a restore point; with `before:`, the moment before these.
pub(super) fn recovery(text: &str) -> Option<RecoveryTarget> {
    use RecoveryTarget::{BeforeRestorePoint, BeforeTransaction, RestorePoint, Transaction};
    let event = text.strip_prefix("before:");
    let is_before = event.is_some();
    match event.unwrap_or(text).split_once(':')? {
        ("xid", number) => {
            let number = number.trim().parse().ok()?;
            Some(if is_before { BeforeTransaction(number) } else { Transaction(number) })
        }
        ("name", name) if !name.is_empty() => {
            let name = name.to_owned();
            Some(if is_before { BeforeRestorePoint(name) } else { RestorePoint(name) })
        }
        _ => None,
    }
}

/// Makes the server of a paused restore accept writes, with the programs in `programs` or the
/// installed ones; returns where it runs, in words.
///
/// # Errors
/// If `directory` is no paused restore, or the server does not start.
pub async fn promote(
    cx: &Context,
    directory: &Path,
    programs: Option<PathBuf>,
    limit: Option<Duration>,
    env: &Environment,
) -> Result<String> {
    let programs = programs.map_or_else(|| installations(env), |dir| vec![dir]);
    let promoted = backup_sources::postgres::promote(cx, directory, &programs, limit).await;
    Ok(promoted.map_err(backup_core::error::Error::from)?)
}

fn pairs(flag: &str, form: &str, texts: &[String]) -> Result<Vec<(String, String)>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((left, right)) if !left.is_empty() => Ok((left.to_owned(), right.to_owned())),
        _ => Err(Error::invalid(format!("invalid value {text:?} of {flag}"))
            .with_hint(format!("write {flag} {form}"))),
    };
    texts.iter().map(pair).collect()
}

/// Directories that may hold programs of the server: those that programs are looked for in, and
/// those of the distribution.
fn installations(env: &Environment) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        env.get("PATH").map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    for root in INSTALLATIONS {
        let versions = std::fs::read_dir(root).into_iter().flatten().flatten();
        dirs.extend(versions.map(|version| version.path().join("bin")));
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url: &str, change: impl FnOnce(&mut SourceConfig)) -> Result<PostgresOptions> {
        let mut config = SourceConfig::postgres(ServerAddress::new(url));
        change(&mut config);
        PostgresSpec::new(config, "X", &Environment::default())?.options(None)
    }

    #[test]
    fn every_setting_is_used() {
        let options = spec("postgres://me:hush@one,two:5433/?sslmode=require", |config| {
            config.max_bytes_per_second = Some("1MiB".parse().unwrap());
            config.slot = Some("other".to_owned());
            config.system_id = Some("7".to_owned());
            config.tls_ca_file = Some("/ca.pem".into());
            config.fast_checkpoint = Some(false);
            config.weak_passwords = Some(true);
        });
        let options = options.unwrap();
        assert_eq!(options.hosts.len(), 2);
        assert_eq!(
            (options.password.as_deref(), options.slot.as_deref()),
            (Some("hush"), Some("other"))
        );
        assert_eq!((options.max_bytes_per_second, options.system_id), (Some(1 << 20), Some(7)));
        assert_eq!(
            (options.tls, options.tls_ca_file),
            (TlsMode::VerifyFull, Some("/ca.pem".into()))
        );
        assert!(!options.fast_checkpoint && options.weak_passwords);
        let without =
            spec("postgresql://me@one/", |config| config.slot = Some(String::new())).unwrap();
        assert_eq!((without.slot, without.tls), (None, TlsMode::Prefer));
        let only_authority =
            spec("postgres://me@one/?sslmode=verify-ca", |c| c.tls_ca_file = Some("/ca".into()));
        assert_eq!(only_authority.unwrap().tls, TlsMode::VerifyCa);
    }

    #[test]
    fn addresses_are_looked_at_first() {
        for url in
            ["postgres://one/", "postgres://me:hush@one/?sslmode=yes", "postgres://me:hush@one:x/"]
        {
            let error = spec(url, |_| {}).unwrap_err();
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn moments_in_the_log() {
        assert_eq!(recovery("xid:771"), Some(RecoveryTarget::Transaction(771)));
        assert_eq!(recovery("before:xid:7"), Some(RecoveryTarget::BeforeTransaction(7)));
        let before = RecoveryTarget::BeforeRestorePoint("xid:7".to_owned());
        assert_eq!(recovery("before:name:xid:7"), Some(before));
        assert_eq!(recovery("name:a: b"), Some(RecoveryTarget::RestorePoint("a: b".to_owned())));
        for other in ["latest", "2026-01-01 12:30", "xid:x", "name:", "0/3000028"] {
            assert_eq!(recovery(other), None, "{other}");
        }
    }

    #[test]
    fn users_have_names_or_numbers() {
        assert_eq!(user("0").unwrap().0, 0);
        assert_eq!(user("root").unwrap(), user("0").unwrap());
        assert_eq!(user("4000000001").unwrap(), (4_000_000_001, 4_000_000_001));
        assert!(user("no such user").unwrap_err().hint().is_some());
    }

    #[test]
    fn flags_are_understood_or_refused() {
        assert_eq!(
            pairs("--set", "N=V", &["a=b=c".to_owned()]).unwrap(),
            [("a".to_owned(), "b=c".to_owned())]
        );
        assert_eq!(
            pairs("--set", "N=V", &["a=".to_owned()]).unwrap(),
            [("a".to_owned(), String::new())]
        );
        for wrong in ["a", "=b"] {
            assert!(pairs("--set", "N=V", &[wrong.to_owned()]).unwrap_err().hint().is_some());
        }
    }
}
