//! The flags of `backup restore`.

use std::net::IpAddr;
use std::path::PathBuf;

use backup_control::patterns;
use backup_control::sources::{
    ExpiryFlag, RedisFlags, RestoreFlags, ScratchFlags, ServerConfigFlag,
};
use backup_control::units::Time;
use backup_core::source::IfExists;

use super::promote;
use super::thaw::ThawArg;
use super::values::{ExpiryArg, IfExistsArg, ServerConfigArg};
use crate::args::NamingArgs;
use crate::before::Before;
use crate::command_error::{CommandError, CommandResult};

/// Restore a snapshot, or part of it
///
/// Files are restored below --target, at their original paths. MongoDB is restored into a server.
/// PostgreSQL is restored as a new data directory; a logical backup, or a part (--only), into a
/// server. Redis is restored into a server, or as files for starting one.
///
/// Existing data at the target stays untouched without --if-exists. With --if-exists or --in-place,
/// the plan is shown first and needs confirmation. Of an incomplete snapshot, the rest is restored
/// with a warning and exit code 3.
///
/// With --at, any moment of a captured log is restored: the nearest snapshot before it, and the
/// changes since. `backup timeline` shows the moments. A moment that cannot be restored is refused,
/// with the nearest ones that can.
///
/// A group of the configuration is restored to one moment: that of --at, or the latest of all its
/// members. Each member has its own target, and writing begins only after all members pass the
/// checks.
///
/// On a terminal, `backup restore` alone prompts for the snapshot and the target. It shows the plan
/// and the equivalent command line, and writes after confirmation. Escape and Ctrl-C stop it with
/// exit code 130 and no changes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[group(id = "place", args = ["target", "in_place"])]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
    /// Snapshot (`latest`, the beginning of its identifier, `yesterday`, `2h ago`) or group
    ///
    /// With --at, a snapshot only selects the source, and can be left out if only one job has a
    /// log. Without a snapshot and --at, a terminal prompts for both.
    #[arg(value_name = "SNAPSHOT_OR_GROUP")]
    pub(super) snapshot: Option<String>,
    /// Moment of a captured log to restore: a time, `latest`, or a position
    ///
    /// Changes at the moment itself are restored. A day means its end; a time may also be given in
    /// seconds since 1970, except for Redis. `backup timeline` shows positions: branch@offset, for MongoDB also
    /// seconds:increment, for Redis the offset alone. For PostgreSQL also: a place in its log
    /// (16/B374D848, or timeline@place), the end of a transaction (xid:NUMBER) or a restore point
    /// (name:TEXT). `before:` in front of these two excludes them (before:xid:NUMBER). The search for
    /// them begins at SNAPSHOT, or at the newest one.
    #[arg(long, value_name = "MOMENT", visible_alias = "until")]
    pub(super) at: Option<String>,
    /// MongoDB: restore the last moment before this position, seconds:increment
    ///
    /// Exclusive, as `mongorestore --oplogLimit`; --at includes its moment. Seconds alone mean the
    /// beginning of that second.
    #[arg(long, value_name = "POSITION", conflicts_with = "at")]
    pub(super) before: Option<Before>,
    /// Directory to restore below, or server to restore into
    ///
    /// The directory is created if it does not exist. PostgreSQL: the new data directory. MongoDB,
    /// Redis, logical PostgreSQL and, with --only, physical PostgreSQL: a server, mongodb://…,
    /// redis://… or postgres://…, or the name of a source in the configuration [env:
    /// BACKUP_TARGET_PASSWORD, BACKUP_TARGET_PASSWORD_FILE, BACKUP_TARGET_PASSWORD_COMMAND: the
    /// password of the server's user]. Group: JOB=DIR_OR_SERVER for each of its jobs whose target
    /// is not in the configuration.
    #[arg(long, value_name = "DIR_OR_SERVER")]
    pub(super) target: Vec<String>,
    /// Restore to the original location; for MongoDB and Redis, into the server of the job's
    /// configuration
    #[arg(long, conflicts_with = "target")]
    pub(super) in_place: bool,
    /// Only objects that match this glob, or, of databases, a list with commas; repeat for several
    ///
    /// Globs match paths, database.collection, database.schema.table or /database/key.
    #[arg(long, value_name = "GLOB", visible_alias = "include", value_parser = crate::args::glob)]
    pub(super) only: Vec<String>,
    /// Leave out objects that match this glob, or, of databases, a list with commas; repeat for
    /// several
    #[arg(long, value_name = "GLOB", value_parser = crate::args::glob)]
    pub(super) exclude: Vec<String>,
    /// Action if data exists at the target [default: fail]
    #[arg(long, value_name = "WHAT")]
    pub(super) if_exists: Option<IfExistsArg>,
    /// With --if-exists replace, also remove objects that the backup saw to be absent (files,
    /// MongoDB, PostgreSQL)
    ///
    /// Files: entries of the restored directories. MongoDB: collections and views that the backup
    /// covered. PostgreSQL: tables, views, functions and types of replaced databases and schemas;
    /// without --delete, such a replacement is refused. The plan names each of them. Redis has no
    /// such flag: its `replace` removes these objects.
    #[arg(long, requires = "if_exists")]
    pub(super) delete: bool,
    /// As --delete, and also remove entries that the backup left out by choice
    ///
    /// By choice: excluded or not included, marked by `.nobackup`, too large, or on another file
    /// system.
    #[arg(long, requires = "if_exists", help_heading = "Files")]
    pub(super) delete_excluded: bool,
    /// As --delete, and also remove entries that the backup could not read
    ///
    /// Snapshots of restic, of older versions of this program, and repaired ones have no record of
    /// skipped entries: all entries that they lack count as unread.
    #[arg(long, requires = "if_exists", help_heading = "Files")]
    pub(super) delete_unknown: bool,
    /// Read back the restored data and compare it
    #[arg(long)]
    pub(super) verify: bool,
    /// Leave holes where the content is zeros
    #[arg(long, help_heading = "Files")]
    pub(super) sparse: bool,
    /// Restore under other names; repeat for several, the first match applies
    ///
    /// MongoDB: for instance 'shop.*=shop_test.*'. PostgreSQL, into a server: databases, schemas or
    /// tables, for instance 'shop=shop_test' or 'shop.public.orders=shop.public.orders_old'. Redis:
    /// one rule for the beginning of keys, for instance 'shop:*=shop_test:*'.
    #[arg(long, value_name = "FROM=TO")]
    pub(super) rename: Vec<String>,
    /// Leave out users and roles (MongoDB and PostgreSQL, into a server)
    #[arg(long)]
    pub(super) no_users: bool,
    /// Leave out owners, so that the restoring user owns everything (into a server)
    #[arg(long, help_heading = "PostgreSQL")]
    pub(super) no_owner: bool,
    /// Leave out grants (into a server)
    #[arg(long, help_heading = "PostgreSQL")]
    pub(super) no_privileges: bool,
    /// Stop at the first object that the target refuses (into a server)
    ///
    /// Without it such objects are tried again, reported, and the rest is restored (exit code 3).
    #[arg(long, help_heading = "PostgreSQL")]
    pub(super) exit_on_error: bool,
    /// Keep TTL indexes from deleting until their expiry is set again
    #[arg(long, help_heading = "MongoDB")]
    pub(super) defer_ttl: bool,
    /// Leave out an index that the target refuses: NAME, or DATABASE.COLLECTION.NAME; repeat for
    /// several
    ///
    /// With --rename, collections have their names in the snapshot or their new ones.
    #[arg(long, value_name = "NAME", help_heading = "MongoDB")]
    pub(super) skip_index: Vec<String>,
    /// Create collections without options, all or those that match GLOB, or a list with commas;
    /// repeat for several
    ///
    /// Options are, for instance, a validator or a collation. Time-series collections, views and the
    /// limits of capped collections stay.
    #[arg(long, value_name = "GLOB", num_args = 0..=1, require_equals = true,
          default_missing_value = "*", help_heading = "MongoDB")]
    pub(super) no_options: Vec<String>,
    /// Convert indexes of old servers: directions other than numbers become 1, unknown options are
    /// left out, and `geoHaystack` becomes `2d`
    #[arg(long, help_heading = "MongoDB")]
    pub(super) convert_legacy_indexes: bool,
    /// New place of a tablespace, named by its identifier or old place; repeat for several
    /// [default: directories beside the data directory]
    #[arg(long, value_name = "OLD=NEW", help_heading = "PostgreSQL")]
    pub(super) tablespace: Vec<String>,
    /// Setting of the restored server, or of the restore; repeat for several
    ///
    /// PostgreSQL: a setting of the restored server, for instance port=5433. MongoDB:
    /// `write_concern`, `max_bytes_per_second` or `replay` for the restore, as in the
    /// configuration. Group: settings of PostgreSQL.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) set: Vec<String>,
    /// Configuration of the restored server [default: original]
    #[arg(long, value_name = "WHICH", help_heading = "PostgreSQL")]
    pub(super) server_config: Option<ServerConfigArg>,
    /// Start the restored server, and wait until it accepts writes
    ///
    /// Uses the programs in DIR, or else the installed ones of the server's version.
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true,
          help_heading = "PostgreSQL")]
    pub(super) start: Option<Option<PathBuf>>,
    /// Stop at the moment without accepting writes: look at the data first, then `backup restore
    /// promote DIR`
    ///
    /// The server accepts queries when it has reached the moment.
    #[arg(long, help_heading = "PostgreSQL")]
    pub(super) pause: bool,
    /// Time limit of the start, for instance 2h [default: 15min, and a second more for each MiB of
    /// log]
    #[arg(long, value_name = "TIME", requires = "start", help_heading = "PostgreSQL")]
    pub(super) start_timeout: Option<Time>,
    /// Directory for a temporary copy of the cluster, to restore a part of a physical backup into a
    /// server [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR", help_heading = "PostgreSQL")]
    pub(super) scratch: Option<PathBuf>,
    /// User of the scratch server, by name or number; required for root, because the server refuses
    /// to run as root
    #[arg(long, value_name = "USER", help_heading = "PostgreSQL")]
    pub(super) scratch_user: Option<String>,
    /// Directory of postgres, pg_ctl and pg_dump for the scratch server, of the cluster's version
    /// [default: the installed ones]
    #[arg(long, value_name = "DIR", help_heading = "PostgreSQL")]
    pub(super) scratch_programs: Option<PathBuf>,
    /// Make the target a replica of this program during the restore
    ///
    /// Replaces all data of the target, and reaches any moment exactly. The target must be able to
    /// connect to this machine, at ADDRESS:PORT or else at a free port.
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true,
          help_heading = "Redis")]
    pub(super) replica: Option<Option<String>>,
    /// Name or address of this machine, as seen from the target
    #[arg(long, value_name = "HOST", requires = "replica", help_heading = "Redis")]
    pub(super) announce: Option<String>,
    /// Further address that the target may connect from, for instance behind address translation;
    /// repeat for several
    ///
    /// A client that connects from this address receives all data.
    #[arg(long, value_name = "ADDRESS", requires = "replica", help_heading = "Redis")]
    pub(super) replica_from: Vec<IpAddr>,
    /// Restore one database into another, for instance 0=7; repeat for several
    #[arg(long, value_name = "FROM=TO", help_heading = "Redis")]
    pub(super) db: Vec<String>,
    /// Treatment of keys that expire [default: absolute]
    #[arg(long, value_name = "WHEN", help_heading = "Redis")]
    pub(super) expiry: Option<ExpiryArg>,
    /// Leave out libraries of functions
    #[arg(long, help_heading = "Redis")]
    pub(super) no_functions: bool,
    /// Restore although the target surely has too little memory: it evicts or refuses keys
    #[arg(long, help_heading = "Redis")]
    pub(super) force_memory: bool,
    /// Restore hashes without the times of their fields, if the target does not support these times
    #[arg(long, help_heading = "Redis")]
    pub(super) drop_field_ttls: bool,
    /// Request readable copies of archived data first, and wait for them
    #[arg(long, value_name = "SPEED", num_args = 0..=1, default_missing_value = "standard")]
    pub(super) thaw: Option<ThawArg>,
    /// Days for which thawed data stays readable
    #[arg(long, value_name = "DAYS", default_value_t = 7, requires = "thaw")]
    pub(super) thaw_days: u32,
    /// Request the thaw without waiting; the same command later restores
    #[arg(long, requires = "thaw")]
    pub(super) no_wait: bool,
    /// Show the plan, and change nothing
    #[arg(long, visible_alias = "check")]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) filter: NamingArgs,
    /// Set if prompts produced these arguments.
    #[arg(skip)]
    pub(super) asked: Option<super::asked::Before>,
}

/// Steps after a restore.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Promote(promote::Args),
}

const EXAMPLES: &str = "\
Examples:
  Answer prompts for the snapshot and the target:
    backup restore
  Restore files below a directory:
    backup restore latest --target /tmp/restored
    backup restore latest --target /tmp/restored --only /home/me/letters
  Restore files to their original location:
    backup restore 1a2b3c4d --in-place --if-exists merge --only '/etc/**/*.conf'
  Restore collections under other names:
    backup restore latest --job shop --target mongodb://admin@db1/ --rename 'shop.*=shop_test.*'
  Show the plan for a moment:
    backup restore --job shop --at '2026-11-21 14:30' --target mongodb://admin@db1/ --dry-run
  Restore a cluster and start its server:
    backup restore --job crm --at '2026-11-21 14:30' --target /srv/crm --start --set port=5433
  Look at the moment before the server accepts writes:
    backup restore --job crm --at before:xid:8812 --target /srv/crm --start --pause
    backup restore promote /srv/crm
  Restore one table into a server:
    backup restore --job crm --at latest --only crm.public.orders --target postgres://admin@db1/
  Restore keys into another database of Redis:
    backup restore latest --job cache --target redis://db2 --only '/0/session:*' --db 0=7
  Restore all of Redis at a moment:
    backup restore --job cache --at '2026-11-21 14:30' --target redis://db2 --replica
  Restore a group to one moment:
    backup restore platform --at yesterday --target crm=/srv/crm --target cache=/srv/cache --dry-run";

impl Args {
    /// Whether something may be replaced that is there.
    pub(super) fn overwrites(&self) -> bool {
        self.in_place || self.if_exists() != IfExists::Fail
    }

    /// What becomes of what exists at the target.
    pub(super) fn if_exists(&self) -> IfExists {
        self.if_exists.map_or(IfExists::Fail, IfExists::from)
    }

    /// Refuses flags that contradict each other.
    pub(super) fn require_sense(&self) -> CommandResult<()> {
        let flags = [
            ("--delete", self.delete),
            ("--delete-excluded", self.delete_excluded),
            ("--delete-unknown", self.delete_unknown),
        ];
        match flags.iter().find(|(_, given)| *given) {
            Some((flag, _)) if self.if_exists() != IfExists::Replace => {
                let message = format!("{flag} applies to --if-exists replace only");
                let hint = format!("give --if-exists replace, or leave out {flag}");
                Err(CommandError::usage(message).with_hint(hint))
            }
            _ => Ok(()),
        }
    }

    /// The operation in the audit log.
    pub(crate) fn operation(&self) -> &'static str {
        match &self.verb {
            Some(Verb::Promote(_)) => "restore promote",
            None => "restore",
        }
    }

    /// Whether it is not said what to restore.
    pub(in crate::commands) fn is_open(&self) -> bool {
        let is_named = self.snapshot.is_some() || self.at.is_some() || self.before.is_some();
        self.verb.is_none() && !is_named
    }

    /// What only some kinds of snapshots know, but for the moment.
    pub(super) fn flags(&self) -> RestoreFlags {
        RestoreFlags {
            renames: self.rename.clone(),
            until: None,
            no_users: self.no_users,
            delete: self.delete,
            delete_excluded: self.delete_excluded,
            delete_unknown: self.delete_unknown,
            no_owner: self.no_owner,
            no_privileges: self.no_privileges,
            exit_on_error: self.exit_on_error,
            defer_ttl: self.defer_ttl,
            skip_indexes: self.skip_index.clone(),
            no_options: patterns::split_for(Some("mongodb"), &self.no_options),
            convert_legacy_indexes: self.convert_legacy_indexes,
            sparse: self.sparse,
            tablespaces: self.tablespace.clone(),
            settings: self.set.clone(),
            server_config: self.server_config.map(ServerConfigFlag::from),
            start: self.start.clone(),
            start_timeout: self.start_timeout.as_ref().map(Time::length),
            pause: self.pause,
            is_part: !self.only.is_empty() || !self.exclude.is_empty(),
            scratch: ScratchFlags {
                directory: self.scratch.clone(),
                user: self.scratch_user.clone(),
                programs: self.scratch_programs.clone(),
            },
            redis: RedisFlags {
                replica: self.replica.clone(),
                announce: self.announce.clone(),
                replica_from: self.replica_from.clone(),
                databases: self.db.clone(),
                expiry: self.expiry.map(ExpiryFlag::from),
                no_functions: self.no_functions,
                force_memory: self.force_memory,
                drop_field_ttls: self.drop_field_ttls,
            },
        }
    }
}
