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
use crate::units::Size;

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

/// Whether a backup of MongoDB may read everything at one moment of the server's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotReadsConfig {
    /// If the scan is expected to be short enough.
    Auto,
    /// Never: each collection when it is read, with the oplog that brings all of them to one
    /// moment.
    Never,
}

/// What brings restored documents of MongoDB to their moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayConfig {
    /// This program, which then writes every document once.
    Fold,
    /// The server restored into, by `applyOps`.
    ApplyOps,
}

/// How many members of the target must have what a restore of MongoDB inserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number of members, at least 1, or \"majority\"")]
pub enum WriteConcernConfig {
    /// So many.
    Members(NonZeroU8),
    /// A majority.
    Word(MajorityConfig),
}

/// The word for a majority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MajorityConfig {
    /// A majority of the members.
    Majority,
}

/// How PostgreSQL is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MethodConfig {
    /// The data directory of the whole cluster, and its log.
    Physical,
    /// Databases by SQL: definitions and rows.
    Logical,
}

/// How snapshots of Redis are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReaderConfig {
    /// As a replica does: of one moment.
    Replica,
    /// Key by key.
    Scan,
}

/// `[sources.NAME]`: something to back up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What kind of source it is: `files`, `mongodb`, `postgres`, or `redis`, which is also
    /// `valkey`.
    pub kind: SourceKind,

    /// `files`: directories and files. Relative ones start at the configuration file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathBuf>,
    /// `files`: files with exclude patterns, one per line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_files: Vec<PathBuf>,
    /// `files`: directories that hold a file of one of these names are left empty. Default:
    /// `[".nobackup"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_if_present: Option<Vec<String>>,
    /// `files`: do not go into other file systems. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_file_system: Option<bool>,
    /// `files`: leave out larger files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file_size: Option<Size>,

    /// Servers: the address, `mongodb://` or `mongodb+srv://`; `postgres://` or `postgresql://`,
    /// with all hosts of the cluster; `redis://` or `valkey://`, with TLS `rediss://` or
    /// `valkeys://`, and `unix://` for a socket of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub url: Option<ServerAddress>,
    /// Servers: file that holds the password of the address's user. At most one of the `password_…`
    /// keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Servers: environment variable that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// Servers: shell command whose output's first line is the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_command: Option<String>,
    /// Servers: certificates (PEM) that the server's must be signed by; switches TLS on. For
    /// `postgres` it must be for the host, too, unless the address says `sslmode=verify-ca`; for
    /// `redis` always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca_file: Option<PathBuf>,
    /// `mongodb`: certificate and key (PEM) to show to the server; switches TLS on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_certificate_key_file: Option<PathBuf>,
    /// `mongodb`: whether everything may be read at one moment of the server's history: `auto` or
    /// `never`. Default: `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_reads: Option<SnapshotReadsConfig>,
    /// `mongodb`: most cursors for one large collection, from 1 to 64; each may take 32 MiB of
    /// memory. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursors: Option<usize>,
    /// `mongodb`, `postgres`: most bytes per second that are read in a backup (digests of logical
    /// ones are computed in the server, and do not count); for `mongodb` also that are written in a
    /// restore. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub max_bytes_per_second: Option<Rate>,
    /// `mongodb`: what brings restored documents to their moment: `fold` or `apply_ops`. Default:
    /// `fold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayConfig>,
    /// `mongodb`: how many members must have what a restore inserts before it goes on: a number or
    /// `majority`. At its end a majority has everything in any case. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_concern: Option<WriteConcernConfig>,

    /// `postgres`: what is backed up: `physical` (the data directory) or `logical` (databases, by
    /// SQL). Default: `physical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodConfig>,
    /// `postgres`: replication slot that keeps the log until it is captured; an empty name means
    /// none. Default: `backup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// `postgres`: the identifier that the cluster must have, as `pg_controldata` shows it: another
    /// one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// `postgres`: begin backups with a checkpoint at once, not spread over time. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_checkpoint: Option<bool>,
    /// `postgres`: send a password that can be read along, or its MD5, over connections that others
    /// may read. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weak_passwords: Option<bool>,
    /// `postgres`, logical: directory of `pg_dump` and `pg_dumpall`. Default: the oldest that fit
    /// the server, from PATH and from where packages put them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<PathBuf>,
    /// `postgres`, logical: tables, or parts of them, that are read at a time, from 1 to 64: as
    /// many connections, and one more for each database. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<usize>,
    /// `postgres`, logical: seconds to wait for a lock that somebody else holds. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_timeout: Option<u32>,
    /// `postgres`, logical: record digests of tables: the server reads every row once more.
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<bool>,

    /// `redis`: a name for the server that stays when its address changes, as with a failover: by
    /// it its snapshots and its log belong together. Default: the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `redis`: what the command PSYNC is called, where a service has renamed it. Default: `PSYNC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psync: Option<String>,
    /// `redis`: how snapshots are read: `replica` (of one moment) or `scan` (key by key, not of one
    /// moment). Default: `replica`, and `scan` with a warning where the server refuses to be
    /// followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<ReaderConfig>,
    /// `redis`, `scan`: most of the server's time that is taken, in percent, from 1 to 100.
    /// Default: 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_percent: Option<u8>,
    /// `redis`: certificate (PEM) to show to the server, with `tls_key_file`; switches TLS on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_certificate_file: Option<PathBuf>,
    /// `redis`: the key (PEM) of `tls_certificate_file`.
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
            tls_ca_file: None,
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
            reader: None,
            scan_percent: None,
            tls_certificate_file: None,
            tls_key_file: None,
        }
    }

    /// Directories and files.
    #[must_use]
    pub fn files(paths: Vec<PathBuf>) -> Self {
        Self { paths, ..Self::new(SourceKind::Files) }
    }

    /// A MongoDB server.
    #[must_use]
    pub fn mongodb(url: ServerAddress) -> Self {
        Self { url: Some(url), ..Self::new(SourceKind::Mongodb) }
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
