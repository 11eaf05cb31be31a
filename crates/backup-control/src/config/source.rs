//! `[sources.NAME]`.
//!
//! One type for all kinds, and not one per kind: so every mistake is found at its own line. Which
//! keys belong to which kind is said by [`SourceConfig::keys_of_kinds`] and checked with everything
//! else.

use std::fmt;
use std::num::NonZeroU8;
use std::path::PathBuf;

use backup_storage::settings::Rate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::ServerAddress;
use crate::units::{Size, Time};

/// Kind of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Directories and files of this machine.
    Files,
    /// A MongoDB replica set or server.
    Mongodb,
    /// A PostgreSQL cluster.
    Postgres,
    /// A server of Redis or Valkey.
    #[serde(alias = "valkey")]
    Redis,
}

impl SourceKind {
    /// The word in the configuration and in the tags of snapshots.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Mongodb => "mongodb",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whole backups of MongoDB at one moment of the server's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotReadsConfig {
    /// If the scan is expected to be short enough.
    Auto,
    /// Never: collections are read one after the other, with the oplog that brings all of them to
    /// one moment.
    Never,
}

/// Method that brings restored documents of MongoDB to their moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayConfig {
    /// This program applies the oplog, and writes every document once.
    Fold,
    /// The target server applies the oplog, by `applyOps`.
    ApplyOps,
}

/// Number of members of the target that must have the inserts of a MongoDB restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number of members, at least 1, or \"majority\"")]
pub enum WriteConcernConfig {
    /// This number of members.
    Members(NonZeroU8),
    /// A majority of the members.
    Word(MajorityConfig),
}

/// The word for a majority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MajorityConfig {
    /// A majority of the members.
    Majority,
}

/// Method of PostgreSQL backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MethodConfig {
    /// The data directory of the whole cluster, and its log.
    Physical,
    /// Databases by SQL: definitions and rows.
    Logical,
}

/// Method of reading snapshots of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReaderConfig {
    /// As a replica: a snapshot of one moment.
    Replica,
    /// Key by key.
    Scan,
}

/// The value of `database` for all databases.
const ALL_DATABASES: &str = "*";

/// `[sources.NAME]`: data to back up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Kind of the source: `files`, `mongodb`, `postgres` or `redis` (also written `valkey`).
    pub kind: SourceKind,

    /// `files`: directories and files. Relative paths start at the directory of the configuration
    /// file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathBuf>,
    /// `files`: files with exclude patterns, one per line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_files: Vec<PathBuf>,
    /// `files`: skip the contents of directories that contain a file with one of these names;
    /// `NAME:HEADER` requires that the file begins with HEADER. Default: `[".nobackup"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_if_present: Option<Vec<String>>,
    /// `files`: do not cross into other file systems. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_file_system: Option<bool>,
    /// `files`: skip larger files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file_size: Option<Size>,

    /// Servers: the address. `mongodb://` or `mongodb+srv://`; `postgres://` or `postgresql://`,
    /// with all hosts of the cluster; `redis://` or `valkey://`, with TLS `rediss://` or
    /// `valkeys://`, and `unix://` for a local socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub url: Option<ServerAddress>,
    /// Servers: file with the password of the user in the address. At most one of the `password_…`
    /// keys is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Servers: environment variable with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// Servers: shell command that prints the password on its first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_command: Option<String>,
    /// Time without progress after which a wait for the server, or for the file system of a `files`
    /// source, fails, at least 15s. A statement that takes longer (a checkpoint, an index build, a
    /// lock) is waited for while the server answers over a second connection. Waits are reported
    /// after 5 seconds. Default: 60s; for `redis` 120s, for `files` 5min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
    /// `mongodb`: silence of a member after which another member of the replica set is read, from 1s
    /// on. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_timeout: Option<Time>,
    /// Servers: CA certificates (PEM) for the certificate of the server; enables TLS. For
    /// `postgres` the host name is verified too, unless the address has `sslmode=verify-ca`; for
    /// `redis` always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca_file: Option<PathBuf>,
    /// `mongodb`: the database to back up; a restore with this source as target writes to it. `*`
    /// for all databases. Default: all; a database in `url` selects nothing without this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// `mongodb`: client certificate and key (PEM); enables TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_certificate_key_file: Option<PathBuf>,
    /// `mongodb`: read everything at one moment of the server's history: `auto` (if the scan is
    /// short enough) or `never`. Default: `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_reads: Option<SnapshotReadsConfig>,
    /// `mongodb`: maximum number of cursors for one large collection, from 1 to 64. Each may use 32
    /// MiB of memory. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursors: Option<usize>,
    /// `mongodb`, `postgres`: maximum of bytes per second that a backup reads; for `mongodb` also
    /// of bytes that a restore writes. Digests of logical backups are computed in the server, and
    /// do not count. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub max_bytes_per_second: Option<Rate>,
    /// `mongodb`: method that brings restored documents to their moment: `fold` (in this program)
    /// or `apply_ops` (in the target server). Default: `fold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayConfig>,
    /// `mongodb`: number of members that must have the inserts of a restore before it continues, or
    /// `majority`. At the end of a restore, a majority has everything in any case. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_concern: Option<WriteConcernConfig>,

    /// `postgres`: `physical` (the data directory) or `logical` (databases, by SQL). Default:
    /// `physical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodConfig>,
    /// `postgres`: replication slot that keeps the log until it is captured; an empty name means
    /// none. Default: `backup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// `postgres`: required system identifier of the cluster, as `pg_controldata` shows it. Another
    /// cluster is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// `postgres`: start backups with an immediate checkpoint, not one spread over time. Default:
    /// true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_checkpoint: Option<bool>,
    /// `postgres`: send a cleartext password, or its MD5, over connections that others may read.
    /// Without it, loopback without verified TLS gives a warning, and will be refused from version
    /// 0.3. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weak_passwords: Option<bool>,
    /// `postgres`, logical: directory of `pg_dump` and `pg_dumpall`. Default: the oldest version
    /// that fits the server, from PATH and the directories of packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<PathBuf>,
    /// `postgres`, logical: number of tables, or parts of tables, to read concurrently, from 1 to
    /// 64. This is also the number of connections, with one more for each database. Default: 4.
    /// `mongodb`: number of collections that a restore creates, indexes or renames concurrently,
    /// from 1 to 64. Default: 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<usize>,
    /// `postgres`, logical: seconds to wait for a lock that another session holds. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_timeout: Option<u32>,
    /// `postgres`, logical: record digests of tables; the server reads every row once more.
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<bool>,

    /// `redis`: a name for the server that stays the same when its address changes, for instance in
    /// a failover. Snapshots and logs with the same name belong together. Default: the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `redis`: name of the command PSYNC, if a service has renamed it. Default: `PSYNC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psync: Option<String>,
    /// `redis`: longest time of a whole dump, from 1min on. Default: 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump_timeout: Option<Time>,
    /// `redis`: method of reading snapshots: `replica` (of one moment) or `scan` (key by key, not
    /// of one moment). Default: `replica`; `scan`, with a warning, if the server refuses replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<ReaderConfig>,
    /// `redis`, `scan`: maximum share of the server's time, in percent, from 1 to 100. Default: 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_percent: Option<u8>,
    /// `redis`: user of the sentinels, if it is not that of the servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel_user: Option<String>,
    /// `redis`: file with the password of the sentinels, if it is not that of the servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel_password_file: Option<PathBuf>,
    /// `redis`: client certificate (PEM), with `tls_key_file`; enables TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_certificate_file: Option<PathBuf>,
    /// `redis`: key (PEM) of `tls_certificate_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<PathBuf>,
}

impl SourceConfig {
    /// A source that nothing else is said about.
    #[must_use]
    pub fn new(kind: SourceKind) -> Self {
        Self {
            kind,
            paths: Vec::new(),
            exclude_files: Vec::new(),
            exclude_if_present: None,
            one_file_system: None,
            max_file_size: None,
            url: None,
            password_file: None,
            password_env: None,
            password_command: None,
            timeout: None,
            member_timeout: None,
            tls_ca_file: None,
            database: None,
            tls_certificate_key_file: None,
            snapshot_reads: None,
            cursors: None,
            max_bytes_per_second: None,
            replay: None,
            write_concern: None,
            method: None,
            slot: None,
            system_id: None,
            fast_checkpoint: None,
            weak_passwords: None,
            programs: None,
            parallel: None,
            lock_timeout: None,
            digests: None,
            name: None,
            psync: None,
            dump_timeout: None,
            reader: None,
            scan_percent: None,
            sentinel_user: None,
            sentinel_password_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
        }
    }

    /// Directories and files.
    #[must_use]
    pub fn files(paths: Vec<PathBuf>) -> Self {
        Self { paths, ..Self::new(SourceKind::Files) }
    }

    /// A MongoDB server, or the database that the address names.
    #[must_use]
    pub fn mongodb(url: ServerAddress) -> Self {
        let database = url.mongodb_database();
        Self { url: Some(url), database, ..Self::new(SourceKind::Mongodb) }
    }

    /// The database of MongoDB that a backup reads; `None` for all of them.
    #[must_use]
    pub fn selected_database(&self) -> Option<&str> {
        self.database.as_deref().filter(|name| *name != ALL_DATABASES)
    }

    /// The database that an address of MongoDB names without a decision about it in `database`.
    #[must_use]
    pub fn undecided_database(&self) -> Option<String> {
        if self.database.is_some() {
            return None;
        }
        self.url.as_ref()?.mongodb_database()
    }

    /// A PostgreSQL cluster.
    #[must_use]
    pub fn postgres(url: ServerAddress) -> Self {
        Self { url: Some(url), ..Self::new(SourceKind::Postgres) }
    }

    /// A server of Redis or Valkey.
    #[must_use]
    pub fn redis(url: ServerAddress) -> Self {
        Self { url: Some(url), ..Self::new(SourceKind::Redis) }
    }

    /// What snapshots record of it: everything but how the password is had.
    #[must_use]
    pub(crate) fn recorded(&self) -> Self {
        Self { password_file: None, password_env: None, password_command: None, ..self.clone() }
    }
}
