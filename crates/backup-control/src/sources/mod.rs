//! From what somebody says is backed up, or restored, to a source that does it.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`SourceSpec`]: a source that is meant, before it is connected; what addresses mean |
//! | `files.rs` | directories and files |
//! | `flags.rs` | [`RestoreFlags`]: what only some kinds of snapshots know |
//! | `mongodb.rs` | MongoDB servers; without the feature `mongodb`, why there are none |
//! | `postgres/` | PostgreSQL clusters; without the feature `postgres`, why there are none |
//! | `redis.rs` | servers of Redis and Valkey; without the feature `redis`, why there are none |
//! | `restore.rs` | [`Restorer`]: the source that restores a snapshot, and where to |
//! | `compact.rs` | [`compact()`]: full snapshots made of earlier ones and their logs |
//! | `export.rs` | [`export()`]: snapshots of databases as files for their own tools |
//! | `import.rs` | [`import()`]: dumps of other tools as sources |
//! | `compare.rs` | [`compare()`]: what a snapshot holds beside what a server holds |
//!
//! To add a kind: its word in `config/source.rs`, a file here, a line in each `match` below.

mod compact;
mod compare;
mod export;
mod files;
mod flags;
mod import;
#[cfg_attr(not(feature = "mongodb"), path = "without_mongodb.rs")]
mod mongodb;
#[cfg_attr(not(feature = "postgres"), path = "without_postgres.rs")]
mod postgres;
#[cfg_attr(not(feature = "redis"), path = "without_redis.rs")]
mod redis;
mod restore;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::Events;
use backup_core::source::{EntryPath, Source};
use backup_sources::files::FilesSource;
use backup_storage::Location;
use jiff::Timestamp;

pub use compact::{applies_log, compact, is_compact};
pub use compare::{CompareFlags, Compared, compare};
pub use export::{ExportFlags, Exported, export, export_archive};
pub(crate) use flags::LOGICAL;
pub use flags::{ExpiryFlag, RedisFlags, RestoreFlags, ScratchFlags, ServerConfigFlag};
pub use import::{DumpPlace, Import, ImportFlags, TimeSource, import, stream};
pub use mongodb::MongoSpec;
pub(crate) use postgres::host_names as postgres_hosts;
pub use postgres::{PostgresSpec, promote};
pub use redis::{RedisSpec, find_keys};
pub use restore::{RestoreTo, Restorer, Surroundings};

use crate::address::{self, ServerAddress};
use crate::alerts::SlotFacts;
use crate::config::{SourceConfig, SourceKind};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::machine::Machine;
#[cfg(any(feature = "mongodb", feature = "postgres", feature = "redis"))]
use crate::units::Time;

/// The variables that give the password of a source's user if nothing else does.
const SOURCE_PASSWORD: &str = "BACKUP_SOURCE_PASSWORD";

/// A source that is meant. Servers are not connected yet: one that is away must not keep other jobs
/// from running.
#[derive(Debug, Clone)]
pub enum SourceSpec {
    /// Directories and files.
    Files(Arc<FilesSource>),
    /// A MongoDB server.
    Mongodb(Box<MongoSpec>),
    /// A PostgreSQL cluster.
    Postgres(Box<PostgresSpec>),
    /// A server of Redis or Valkey.
    Redis(Box<RedisSpec>),
}

impl SourceSpec {
    pub(crate) fn new(source: SourceConfig, machine: &Machine, env: &Environment) -> Result<Self> {
        match source.kind {
            SourceKind::Files => Ok(Self::Files(Arc::new(files::open(source, machine)?))),
            SourceKind::Mongodb => {
                Ok(Self::Mongodb(Box::new(MongoSpec::new(source, SOURCE_PASSWORD, env)?)))
            }
            SourceKind::Postgres => {
                Ok(Self::Postgres(Box::new(PostgresSpec::new(source, SOURCE_PASSWORD, env)?)))
            }
            SourceKind::Redis => {
                Ok(Self::Redis(Box::new(RedisSpec::new(source, SOURCE_PASSWORD, env)?)))
            }
        }
    }

    /// What addresses given on a command line mean: paths, `file://` URLs, or one server.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they make no sense.
    pub fn of_addresses(
        addresses: &[String],
        machine: &Machine,
        env: &Environment,
    ) -> Result<Self> {
        Ok(Self::new(of_addresses(addresses)?, machine, env)?.ad_hoc())
    }

    /// As one whose address was given to a command, not in a configuration: its parts without an
    /// effect are warned of.
    #[must_use]
    pub(crate) fn ad_hoc(self) -> Self {
        match self {
            Self::Mongodb(server) => Self::Mongodb(Box::new(server.ad_hoc())),
            other => other,
        }
    }

    /// What kind of source it is.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Files(_) => SourceKind::Files,
            Self::Mongodb(_) => SourceKind::Mongodb,
            Self::Postgres(_) => SourceKind::Postgres,
            Self::Redis(_) => SourceKind::Redis,
        }
    }

    /// What other machines call the same if it is the same to them: with the name of the machine
    /// `host`, if each has its own.
    #[must_use]
    pub fn among_machines(&self, host: &str) -> String {
        let shown = self.to_string();
        let is_own = match self {
            Self::Files(_) => true,
            // The shown address may lack its hosts.
            Self::Postgres(spec) => address::is_of_machine(spec.address().reveal()),
            _ => {
                let address = shown.split(' ').find(|word| word.contains("://"));
                address.is_none_or(address::is_of_machine)
            }
        };
        if is_own { format!("{host}: {shown}") } else { shown }
    }

    /// As one whose log is captured: up to so much of it may wait to be stored. What probing it
    /// compares its log with.
    #[must_use]
    pub fn capturing(self, interval: Duration) -> Self {
        match self {
            Self::Mongodb(server) => Self::Mongodb(Box::new(server.capturing(interval))),
            other => other,
        }
    }

    /// Whether the configuration says which cluster it must be: then nobody has to wonder about
    /// another one.
    #[must_use]
    pub fn names_cluster(&self) -> bool {
        match self {
            Self::Files(_) | Self::Mongodb(_) | Self::Redis(_) => false,
            Self::Postgres(cluster) => cluster.names_cluster(),
        }
    }

    /// How the replication slot is that capturing its log keeps; none of sources that have no such
    /// thing.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn slot(&self, env: &Environment, cx: &Context) -> Result<Option<SlotFacts>> {
        match self {
            Self::Files(_) | Self::Mongodb(_) | Self::Redis(_) => Ok(None),
            Self::Postgres(cluster) => cluster.slot(env, cx).await,
        }
    }

    /// Estimated numbers of rows of objects at the server, as far as it has estimates; for physical
    /// backups of PostgreSQL, which have no counts. `None` of other sources.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn estimated_rows(
        &self,
        env: &Environment,
        cx: &Context,
        names: &[String],
    ) -> Result<Option<HashMap<String, u64>>> {
        match self {
            Self::Files(_) | Self::Mongodb(_) | Self::Redis(_) => Ok(None),
            Self::Postgres(cluster) => cluster.estimated_rows(env, cx, names).await,
        }
    }

    /// The files that hold its secrets, as far as it names any.
    #[must_use]
    pub fn secret_files(&self) -> Vec<&Path> {
        match self {
            Self::Files(_) => Vec::new(),
            Self::Mongodb(server) => server.secret_files(),
            Self::Postgres(cluster) => cluster.secret_files(),
            Self::Redis(server) => server.secret_files(),
        }
    }

    /// The source, connected. Long waits for its server are reported to `events`.
    ///
    /// # Errors
    /// Its password cannot be had, it cannot be reached, or it refuses the credentials.
    pub async fn open(&self, env: &Environment, events: &Events) -> Result<Arc<dyn Source>> {
        match self {
            Self::Files(files) => Ok(Arc::clone(files) as _),
            Self::Mongodb(server) => server.open(env, events).await,
            Self::Postgres(cluster) => cluster.open(env, events).await,
            Self::Redis(server) => server.open(env, events).await,
        }
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => files.fmt(f),
            Self::Mongodb(server) => server.fmt(f),
            Self::Postgres(cluster) => cluster.fmt(f),
            Self::Redis(server) => server.fmt(f),
        }
    }
}

/// A key of a snapshot of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotKey {
    /// `/<database>/<key>`.
    pub path: EntryPath,
    /// Type of its value.
    pub kind: &'static str,
    /// Bytes of its value in the dump.
    pub bytes: u64,
    /// When it expires.
    pub expires: Option<Timestamp>,
}

/// Whether what `text` names can be found in the log of such a source only by reading it.
#[must_use]
pub fn is_event(kind: Option<&str>, text: &str) -> bool {
    kind == Some(SourceKind::Postgres.as_str()) && postgres::recovery(text).is_some()
}

/// Limits of waits for a server.
#[cfg(any(feature = "mongodb", feature = "postgres", feature = "redis"))]
fn waits(source: &SourceConfig, default: Duration, events: &Events) -> backup_sources::Waits {
    let timeout = source.timeout.as_ref().map_or(default, Time::length);
    backup_sources::Waits::new(timeout, events.clone())
}

/// What addresses given on a command line mean: paths, or one server.
pub(crate) fn of_addresses(addresses: &[String]) -> Result<SourceConfig> {
    let servers: Vec<_> = addresses.iter().filter_map(|address| of_server(address)).collect();
    match (addresses, &servers[..]) {
        ([_], [server]) => Ok(server.clone()),
        (_, []) => {
            let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
            let paths = addresses.iter().map(|address| path_of(address).map(absolute));
            Ok(SourceConfig::files(paths.collect::<Result<_>>()?))
        }
        _ => Err(Error::invalid("a server cannot be backed up together with other sources")
            .with_hint("run the backup once for each source, or define jobs in a configuration")),
    }
}

/// The server that an address leads to, if it leads to one.
fn of_server(address: &str) -> Option<SourceConfig> {
    let address = ServerAddress::new(address);
    match () {
        () if address.is_mongodb() => Some(SourceConfig::mongodb(address)),
        () if address.is_postgres() => Some(SourceConfig::postgres(address)),
        () if address.is_redis() => Some(SourceConfig::redis(address)),
        () => None,
    }
}

/// The path that an address of a source means.
fn path_of(address: &str) -> Result<PathBuf> {
    match address::scheme(address) {
        // It may hold anything: it is not repeated.
        None if address::has_keywords(address) => Err(Error::invalid("not an address of a server")
            .with_hint("write postgres://user@host/database")),
        None => Ok(PathBuf::from(address)),
        Some(scheme) if scheme == "file" => match address.parse() {
            Ok(Location::Local(path)) => Ok(path),
            Ok(_) | Err(_) => {
                Err(Error::invalid(format!("{address:?} is not a path on this machine"))
                    .with_hint("write file:///absolute/path"))
            }
        },
        Some(scheme) => Err(Error::invalid(format!(
            "this program cannot back up `{scheme}` sources"
        ))
        .with_hint(
            "use a directory, a file, or a mongodb://, postgres:// or redis:// server; write ./ in \
             front of a path that looks like an address",
        )),
    }
}
