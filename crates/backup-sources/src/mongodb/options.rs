//! What the source can be told.

use std::fmt;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use bson::{Document, doc};

use super::raw::Fields;
use super::rename::Renames;
use crate::waits::Waits;

/// Whether a backup may read everything at one moment of the server's history.
///
/// Such reads need no oplog in the snapshot, but the server keeps the history only for
/// `minSnapshotHistoryWindowInSeconds` (default 300).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotReads {
    /// If the scan is expected to be short enough (data files up to 4 GiB), on replica sets from
    /// 5.0 on.
    #[default]
    Auto,
    /// Never: each collection as it is when it is read, with the oplog that brings all of them to
    /// one moment.
    Never,
}

/// What brings restored documents to the moment, if their snapshot needs that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replay {
    /// This program, which then writes every document once: for every version of the target, with
    /// ordinary rights.
    #[default]
    Fold,
    /// The server, by `applyOps`, which needs the right to run it; it cannot be verified at once,
    /// and the target must not be older than 5.0 if the origin is not.
    ApplyOps,
}

/// Number of the target's members that must have a batch of documents, or a definition, before the
/// next one is sent in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteConcern {
    /// So many; at least one.
    Members(NonZeroU8),
    /// A majority.
    Majority,
}

impl Default for WriteConcern {
    /// One: the fastest.
    fn default() -> Self {
        Self::Members(NonZeroU8::MIN)
    }
}

impl WriteConcern {
    /// As commands take it.
    pub(super) fn document(self) -> Document {
        match self {
            Self::Members(count) => doc! { "w": i32::from(count.get()) },
            Self::Majority => doc! { "w": "majority" },
        }
    }

    /// As commands in bytes take it.
    pub(super) fn fields(self) -> Fields {
        match self {
            Self::Members(count) => Fields::default().with("w", i32::from(count.get())),
            Self::Majority => Fields::default().with("w", "majority"),
        }
    }
}

/// Silence of a member after which another one is read, unless a source sets another limit.
pub const DEFAULT_MEMBER_TIMEOUT: Duration = Duration::from_secs(10);

/// Indexes and options of the snapshot that a restore leaves out or changes, because the target
/// refuses them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adjustments {
    /// Names of indexes to leave out: `name` in every collection, or `database.collection.name`.
    pub skip_indexes: Vec<String>,
    /// Globs over `database.collection` of collections to create without options.
    pub no_options: Vec<String>,
    /// Turn values and options of indexes that servers accepted long ago into their present form.
    pub convert_legacy_indexes: bool,
}

impl Adjustments {
    /// Returns `true` if nothing is left out or changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings of a [`MongoSource`](super::MongoSource).
#[derive(Clone)]
pub struct MongoOptions {
    /// `mongodb://` or `mongodb+srv://` with everything that connection strings know: credentials,
    /// TLS, read preference, compressors. It is never shown.
    pub uri: String,
    /// Password, in place of one in the address.
    pub password: Option<String>,
    /// Certificates (PEM) that the server's must be signed by; switches TLS on.
    pub tls_ca_file: Option<PathBuf>,
    /// Certificate and key (PEM) to show to the server; switches TLS on.
    pub tls_certificate_key_file: Option<PathBuf>,
    /// Whether all collections may be read at one moment.
    pub snapshot_reads: SnapshotReads,
    /// Most cursors for one large collection whose documents lie in order of `_id`; they read ahead
    /// of each other, with up to 32 MiB of memory each. 1 reads every collection with one cursor.
    pub cursors: usize,
    /// Collections that a restore creates, indexes or renames at the same time; at least 1.
    pub parallel: usize,
    /// Most bytes of documents per second that are read in a backup, or written in a restore.
    pub max_bytes_per_second: Option<u64>,
    /// The only database that backups read and digests cover; `None` for all.
    pub database: Option<String>,
    /// The database that a restore writes to; `None` for those of the snapshot. Users and roles are
    /// then left out.
    pub into_database: Option<String>,
    /// Restore other names than those in the snapshot.
    pub renames: Renames,
    /// Restore users and roles too, if the selection covers `admin.system.users` and
    /// `admin.system.roles`.
    pub restore_users: bool,
    /// Restore TTL indexes with an expiry so far away that nothing is deleted at once.
    pub defer_ttl: bool,
    /// Indexes and options that a restore leaves out or changes.
    pub adjustments: Adjustments,
    /// What brings restored documents to the moment.
    pub replay: Replay,
    /// When an insertion or a definition counts as done. At the end of a restore, a majority has
    /// everything in any case.
    pub write_concern: WriteConcern,
    /// How much of the log may wait to be captured: what
    /// [`probe`](backup_core::source::Source::probe) compares the oplog with. `None` if it is not
    /// captured.
    pub log_interval: Option<Duration>,
    /// Silence after which another member of the replica set is read.
    pub member_timeout: Duration,
    /// Time-out without progress, and where long waits are reported.
    pub waits: Waits,
    /// Bring the restored data to this moment instead of the end of the snapshot.
    pub until: Option<super::Position>,
    /// A fault of the fold, on purpose.
    #[cfg(feature = "testing")]
    pub fold_fault: Option<super::FoldFault>,
}

impl MongoOptions {
    /// Name of the deployment in reports: the hosts of the address, without anything else of it.
    pub(super) fn label(&self) -> String {
        let hosts = self.hosts();
        if hosts.is_empty() { "MongoDB".to_owned() } else { format!("MongoDB at {hosts}") }
    }

    /// The hosts of the address; empty if they cannot be told from its secrets.
    pub(super) fn hosts(&self) -> &str {
        let rest = self.uri.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        match authority.rsplit_once('@') {
            Some((_, hosts)) => hosts,
            // The text may be a part of a password with a slash.
            None if self.uri.contains('@') => "",
            None => authority,
        }
    }

    /// The settings for an address and nothing else.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            password: None,
            tls_ca_file: None,
            tls_certificate_key_file: None,
            snapshot_reads: SnapshotReads::Auto,
            cursors: 4,
            parallel: 8,
            max_bytes_per_second: None,
            database: None,
            into_database: None,
            renames: Renames::default(),
            restore_users: true,
            defer_ttl: false,
            adjustments: Adjustments::default(),
            replay: Replay::Fold,
            write_concern: WriteConcern::default(),
            log_interval: None,
            member_timeout: DEFAULT_MEMBER_TIMEOUT,
            waits: Waits::default(),
            until: None,
            #[cfg(feature = "testing")]
            fold_fault: None,
        }
    }
}

impl fmt::Debug for MongoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoOptions")
            .field("snapshot_reads", &self.snapshot_reads)
            .field("cursors", &self.cursors)
            .field("parallel", &self.parallel)
            .field("max_bytes_per_second", &self.max_bytes_per_second)
            .field("database", &self.database)
            .field("into_database", &self.into_database)
            .field("renames", &self.renames)
            .field("adjustments", &self.adjustments)
            .field("replay", &self.replay)
            .field("write_concern", &self.write_concern)
            .field("log_interval", &self.log_interval)
            .field("member_timeout", &self.member_timeout)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_concerns_are_said_as_the_server_takes_them() {
        assert_eq!(WriteConcern::default().document(), doc! { "w": 1 });
        assert_eq!(WriteConcern::Members(NonZeroU8::new(3).unwrap()).document(), doc! { "w": 3 });
        assert_eq!(WriteConcern::Majority.document(), doc! { "w": "majority" });
    }

    #[test]
    fn labels_hold_hosts_only() {
        for (uri, label) in [
            ("mongodb://h:1,i:2/db?x=1", "MongoDB at h:1,i:2"),
            ("mongodb://u:hush@h/", "MongoDB at h"),
            ("mongodb://u:hu@sh@h:1", "MongoDB at h:1"),
            ("mongodb://u:hu/sh@h", "MongoDB"),
            ("mongodb+srv://u:hush@cluster.example/?x", "MongoDB at cluster.example"),
        ] {
            assert_eq!(MongoOptions::new(uri).label(), label);
        }
    }

    #[test]
    fn debug_hides_secrets() {
        let mut options = MongoOptions::new("mongodb://u:hunter2@h");
        options.password = Some("hunter3".to_owned());
        assert!(!format!("{options:?}").contains("hunter"));
    }
}
