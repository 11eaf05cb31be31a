//! What restores are told that only some kinds of snapshots know.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use backup_core::source::{Delete, Doubtful};

use crate::error::{Error, Result};

/// The tag of logical backups of PostgreSQL.
pub(crate) const LOGICAL: &str = "postgres-logical";
/// A physical backup of which a part is restored into a server, as refusals call it.
pub(super) const PARTS: &str = "postgres with --only";

/// What a restore is told that only some kinds of snapshots know.
#[derive(Debug, Clone, Default)]
pub struct RestoreFlags {
    /// Rules for other names, `from=to`.
    pub renames: Vec<String>,
    /// The moment to restore; the end of the snapshot if none is given.
    pub until: Option<String>,
    /// Leave out users and roles.
    pub no_users: bool,
    /// Remove objects at the target that the backup covered and the snapshot lacks.
    pub delete: bool,
    /// Remove also entries that a backup of files left out by choice.
    pub delete_excluded: bool,
    /// Remove also entries of which it is not known whether a backup of files saw them.
    pub delete_unknown: bool,
    /// Indexes to leave out, by name.
    pub skip_indexes: Vec<String>,
    /// Patterns of collections to create without options.
    pub no_options: Vec<String>,
    /// Convert indexes of old servers.
    pub convert_legacy_indexes: bool,
    /// Leave out who owns what.
    pub no_owner: bool,
    /// Leave out grants.
    pub no_privileges: bool,
    /// Stop at the first object that cannot be restored.
    pub exit_on_error: bool,
    /// Let no document expire.
    pub defer_ttl: bool,
    /// Leave holes in files.
    pub sparse: bool,
    /// Other places for tablespaces, `old=new`.
    pub tablespaces: Vec<String>,
    /// Settings of the restored server (PostgreSQL), or of the restore itself (MongoDB),
    /// `name=value`.
    pub settings: Vec<String>,
    /// Configuration of the restored server.
    pub server_config: Option<ServerConfigFlag>,
    /// Start the restored server, with the programs in this directory if there is one.
    pub start: Option<Option<PathBuf>>,
    /// Time limit for that.
    pub start_timeout: Option<Duration>,
    /// Stop the replay of the restored server at its end, without accepting writes.
    pub pause: bool,
    /// Whether only a part of the snapshot is asked for.
    pub is_part: bool,
    /// Where and how a scratch server runs.
    pub scratch: ScratchFlags,
    /// What only Redis knows.
    pub redis: RedisFlags,
}

/// Where and how a scratch server of PostgreSQL runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScratchFlags {
    /// The directory that it is made in.
    pub directory: Option<PathBuf>,
    /// The user that it runs as: a name or a number.
    pub user: Option<String>,
    /// The directory of its programs.
    pub programs: Option<PathBuf>,
}

/// What a restore is told that only snapshots of Redis and Valkey know.
#[derive(Debug, Clone, Default)]
pub struct RedisFlags {
    /// Make the target a replica of this process, which listens there, or else on a free port.
    pub replica: Option<Option<String>>,
    /// The name or address by which the target reaches this process.
    pub announce: Option<String>,
    /// Addresses that the target may come from, beside those by which it is reached.
    pub replica_from: Vec<IpAddr>,
    /// Other databases, `from=to`.
    pub databases: Vec<String>,
    /// What becomes of keys that expire.
    pub expiry: Option<ExpiryFlag>,
    /// Leave libraries of functions out.
    pub no_functions: bool,
    /// Restore although the target surely has too little memory.
    pub force_memory: bool,
    /// Restore hashes without the times of their fields, where the target has no such times.
    pub drop_field_ttls: bool,
}

/// Configuration of a restored server of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerConfigFlag {
    /// The configuration of the original.
    Original,
    /// Only settings that the server needs.
    Minimal,
}

/// What becomes of keys that expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryFlag {
    /// They do so at their time.
    Absolute,
    /// They have as long as they had at the moment of the snapshot.
    Shifted,
    /// They do not any more.
    Never,
}

impl RestoreFlags {
    /// The requested removal of objects that the snapshot lacks.
    #[must_use]
    pub fn delete(&self) -> Delete {
        let doubtful = Doubtful { excluded: self.delete_excluded, unknown: self.delete_unknown };
        if self.delete || doubtful != Doubtful::default() {
            Delete::Absent(doubtful)
        } else {
            Delete::Nothing
        }
    }

    /// The flags that only some kinds of snapshots know: its name, whether it is given, and these
    /// kinds.
    pub(super) fn of_kinds(&self) -> [(&'static str, bool, &'static [&'static str]); 30] {
        [
            ("--rename", !self.renames.is_empty(), &["mongodb", LOGICAL, PARTS, "redis"]),
            ("--replica", self.redis.replica.is_some(), &["redis"]),
            ("--announce", self.redis.announce.is_some(), &["redis"]),
            ("--replica-from", !self.redis.replica_from.is_empty(), &["redis"]),
            ("--db", !self.redis.databases.is_empty(), &["redis"]),
            ("--expiry", self.redis.expiry.is_some(), &["redis"]),
            ("--no-functions", self.redis.no_functions, &["redis"]),
            ("--force-memory", self.redis.force_memory, &["redis"]),
            ("--drop-field-ttls", self.redis.drop_field_ttls, &["redis"]),
            ("--no-users", self.no_users, &["mongodb", LOGICAL, PARTS]),
            ("--delete", self.delete, &["mongodb", "files", LOGICAL, PARTS]),
            ("--delete-excluded", self.delete_excluded, &["files"]),
            ("--delete-unknown", self.delete_unknown, &["files"]),
            ("--skip-index", !self.skip_indexes.is_empty(), &["mongodb"]),
            ("--no-options", !self.no_options.is_empty(), &["mongodb"]),
            ("--convert-legacy-indexes", self.convert_legacy_indexes, &["mongodb"]),
            ("--no-owner", self.no_owner, &[LOGICAL, PARTS]),
            ("--no-privileges", self.no_privileges, &[LOGICAL, PARTS]),
            ("--exit-on-error", self.exit_on_error, &[LOGICAL, PARTS]),
            ("--scratch", self.scratch.directory.is_some(), &[PARTS]),
            ("--scratch-user", self.scratch.user.is_some(), &[PARTS]),
            ("--scratch-programs", self.scratch.programs.is_some(), &[PARTS]),
            ("--defer-ttl", self.defer_ttl, &["mongodb"]),
            ("--sparse", self.sparse, &["files"]),
            ("--tablespace", !self.tablespaces.is_empty(), &["postgres"]),
            ("--set", !self.settings.is_empty(), &["postgres", "mongodb"]),
            ("--server-config", self.server_config.is_some(), &["postgres"]),
            ("--start", self.start.is_some(), &["postgres"]),
            ("--pause", self.pause, &["postgres"]),
            ("--start-timeout", self.start_timeout.is_some(), &["postgres"]),
        ]
    }

    /// What of them is for snapshots of `kind`, one of several `kinds` that are restored together.
    /// Settings are for PostgreSQL, if that is among them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what means nothing to any of the kinds.
    pub fn of_kind(&self, kind: &str, kinds: &[&str]) -> Result<Self> {
        let means_something = |owners: &[&str]| owners.iter().any(|owner| kinds.contains(owner));
        if let Some((flag, ..)) = self
            .of_kinds()
            .into_iter()
            .find(|(_, given, owners)| *given && !means_something(owners))
        {
            return Err(Error::invalid(format!("{flag} applies to none of these sources"))
                .with_hint("leave the flag out"));
        }
        let is = |owners: &[&str]| owners.contains(&kind);
        let settings = if kinds.contains(&"postgres") { &["postgres"] } else { &["mongodb"] };
        Ok(Self {
            no_users: self.no_users && is(&["mongodb", LOGICAL]),
            delete: self.delete && is(&["mongodb", "files", LOGICAL]),
            delete_excluded: self.delete_excluded && is(&["files"]),
            delete_unknown: self.delete_unknown && is(&["files"]),
            skip_indexes: self.skip_indexes.iter().filter(|_| is(&["mongodb"])).cloned().collect(),
            no_options: self.no_options.iter().filter(|_| is(&["mongodb"])).cloned().collect(),
            convert_legacy_indexes: self.convert_legacy_indexes && is(&["mongodb"]),
            no_owner: self.no_owner && is(&[LOGICAL]),
            no_privileges: self.no_privileges && is(&[LOGICAL]),
            exit_on_error: self.exit_on_error && is(&[LOGICAL]),
            defer_ttl: self.defer_ttl && is(&["mongodb"]),
            sparse: self.sparse && is(&["files"]),
            settings: self.settings.iter().filter(|_| is(settings)).cloned().collect(),
            server_config: self.server_config.filter(|_| is(&["postgres"])),
            start: self.start.clone().filter(|_| is(&["postgres"])),
            pause: self.pause && is(&["postgres"]),
            start_timeout: self.start_timeout.filter(|_| is(&["postgres"])),
            redis: if is(&["redis"]) { self.redis.clone() } else { RedisFlags::default() },
            ..Self::default()
        })
    }

    /// Refuses what is given and means nothing to snapshots of `kind`.
    pub(super) fn require_meaning(&self, kind: &str) -> Result<()> {
        let refused = |flag: &str, hint: String| {
            Err(Error::invalid(format!("{flag} does not apply to a snapshot of `{kind}`"))
                .with_hint(hint))
        };
        if matches!(kind, "files" | LOGICAL | "redis") && self.until.is_some() {
            return refused(
                "--at",
                "leave --at out: it is for snapshots of databases that have a log".to_owned(),
            );
        }
        if kind == "mongodb" && self.delete && !self.renames.is_empty() {
            return Err(Error::invalid("--delete and --rename cannot be combined for MongoDB")
                .with_hint("leave one of the flags out"));
        }
        match self
            .of_kinds()
            .into_iter()
            .find(|(_, given, owners)| *given && !owners.contains(&kind))
        {
            None => Ok(()),
            Some((flag, _, owners)) => refused(
                flag,
                format!("leave the flag out: it is for snapshots of `{}`", owners.join("` and `")),
            ),
        }
    }
}
