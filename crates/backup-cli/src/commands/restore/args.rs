//! The flags of `backup restore`.

use std::net::IpAddr;
use std::path::PathBuf;

use backup_control::sources::{ExpiryFlag, RedisFlags, RestoreFlags, ScratchFlags};
use backup_control::units::Time;
use backup_core::source::IfExists;
use clap::ValueEnum;

use super::thaw::ThawArg;
use crate::args::FilterArgs;

/// Restore a snapshot, or part of it
///
/// Below --target, files lie at the paths they had; MongoDB is restored into a server, PostgreSQL
/// into a new data directory, or a part of it (--only) into a server, Redis into a server or as
/// files that a server is started on. What exists there is never touched unless --if-exists says
/// so; then, and with --in-place, the plan is shown first and has to be confirmed. If a repair left
/// something out of the snapshot, it is restored without that, with a warning and exit code 3.
///
/// With --at, any moment of a captured log is restored: the nearest snapshot before it, and what
/// happened from there. `backup timeline` shows which moments there are. A moment that cannot be
/// restored is refused, with the nearest ones that can.
///
/// A group of the configuration is restored to one moment: that of --at, or else the latest that
/// all its members have. Every member goes to its own target, and nothing is written before it is
/// known that all of them can be restored.
///
/// On a terminal, `backup restore` alone asks what to restore and where to, shows the plan and the
/// command line that says the same, and writes when that is confirmed. Escape and Ctrl-C end it at
/// any time, with exit code 130 and nothing changed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[group(id = "place", args = ["target", "in_place"])]
pub(crate) struct Args {
    /// The snapshot: `latest`, the beginning of its identifier, or a moment (`yesterday`,
    /// `2h ago`). With --at it only says of which source, and can be left out if only one job has a
    /// log. Or a group of the configuration. Without both, on a terminal, it is asked for
    #[arg(value_name = "SNAPSHOT_OR_GROUP")]
    pub(super) snapshot: Option<String>,
    /// The moment to restore of a source whose log is captured: a time (a day means its end),
    /// `latest`, or a position as `backup timeline` shows it (branch@offset; for MongoDB also
    /// seconds:increment, for Redis the offset alone). For PostgreSQL also a place in its log
    /// (16/B374D848, or timeline@place), the end of a transaction (xid:NUMBER) or a restore point
    /// (name:TEXT): these two are looked for from SNAPSHOT on, or the newest one
    #[arg(long, value_name = "MOMENT", visible_alias = "until")]
    pub(super) at: Option<String>,
    /// Restore below this directory, which is made if it does not exist; for PostgreSQL: as this
    /// data directory; for MongoDB, Redis, logical PostgreSQL and, with --only, physical
    /// PostgreSQL: into this server, mongodb://…, redis://… or postgres://…, or the name of a
    /// source of the configuration [env: BACKUP_TARGET_PASSWORD, BACKUP_TARGET_PASSWORD_FILE,
    /// BACKUP_TARGET_PASSWORD_COMMAND: the password of the server's user]. For a group:
    /// JOB=DIR_OR_SERVER for each of its jobs whose target is not in the configuration
    #[arg(long, value_name = "DIR_OR_SERVER")]
    pub(super) target: Vec<String>,
    /// Restore to where the data came from; for MongoDB and Redis: into the server that the
    /// configuration names for the job
    #[arg(long)]
    pub(super) in_place: bool,
    /// Only what matches this glob, of paths, of database.collection, of database.schema.table or
    /// of /database/key; repeat it for several
    #[arg(long, value_name = "GLOB", visible_alias = "include")]
    pub(super) only: Vec<String>,
    /// Leave out what matches this glob; repeat it for several
    #[arg(long, value_name = "GLOB")]
    pub(super) exclude: Vec<String>,
    /// What to do about what exists at the target [default: fail]
    #[arg(long, value_name = "WHAT")]
    pub(super) if_exists: Option<IfExistsArg>,
    /// Read back what was written and compare it
    #[arg(long)]
    pub(super) verify: bool,
    /// Files: leave holes where the content is zeros
    #[arg(long)]
    pub(super) sparse: bool,
    /// MongoDB: restore under other names, for instance 'shop.*=shop_test.*'; PostgreSQL, into a
    /// server: databases, schemas or tables, for instance 'shop=shop_test' or
    /// 'shop.public.orders=shop.public.orders_old'. Repeat it for several, the first that fits
    /// counts. Redis: one rule for the beginning of keys, for instance 'shop:*=shop_test:*'
    #[arg(long, value_name = "FROM=TO")]
    pub(super) rename: Vec<String>,
    /// MongoDB and PostgreSQL, into a server: leave out users and roles
    #[arg(long)]
    pub(super) no_users: bool,
    /// PostgreSQL, into a server: leave out who owns what: all belongs to who restores
    #[arg(long)]
    pub(super) no_owner: bool,
    /// PostgreSQL, into a server: leave out grants
    #[arg(long)]
    pub(super) no_privileges: bool,
    /// MongoDB: let TTL indexes delete nothing until their expiry is set anew
    #[arg(long)]
    pub(super) defer_ttl: bool,
    /// PostgreSQL: where a tablespace goes, by its identifier or where it was; repeat it for
    /// several [default: directories beside the data directory]
    #[arg(long, value_name = "OLD=NEW")]
    pub(super) tablespace: Vec<String>,
    /// PostgreSQL: a setting of the restored server, for instance port=5433; MongoDB: of the
    /// restore, `write_concern`, `max_bytes_per_second` or `replay` as in a configuration; repeat
    /// it for several. In a group it is for PostgreSQL
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) set: Vec<String>,
    /// PostgreSQL: start the restored server and wait until it takes writes, with the programs in
    /// DIR, or else those of its version that are found
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    pub(super) start: Option<Option<PathBuf>>,
    /// PostgreSQL: how long the start may take, for instance 2h [default: 15min, and a second more
    /// for each MiB of log]
    #[arg(long, value_name = "TIME", requires = "start")]
    pub(super) start_timeout: Option<Time>,
    /// PostgreSQL, a part of a physical backup into a server: where the whole cluster is restored
    /// for as long as it takes to read that part of it [default: the system's directory for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    pub(super) scratch: Option<PathBuf>,
    /// PostgreSQL: the user whom the scratch server runs as, by name or number; needed by root, as
    /// whom no server runs
    #[arg(long, value_name = "USER")]
    pub(super) scratch_user: Option<String>,
    /// PostgreSQL: the directory of postgres, pg_ctl and pg_dump for the scratch server, of the
    /// version of the cluster [default: those that are found]
    #[arg(long, value_name = "DIR")]
    pub(super) scratch_programs: Option<PathBuf>,
    /// Redis: make the target a replica of this program for as long as it takes: exactly
    /// everything, at any moment, in place of whatever it has. It has to reach this machine, at
    /// ADDRESS:PORT if that is given, or else at a free port
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true)]
    pub(super) replica: Option<Option<String>>,
    /// Redis: the name or address by which the target reaches this machine
    #[arg(long, value_name = "HOST", requires = "replica")]
    pub(super) announce: Option<String>,
    /// Redis: an address that the target may come from, beside those by which it is reached, as
    /// with translated ones: whoever connects from there gets all data. Repeat it for several
    #[arg(long, value_name = "ADDRESS", requires = "replica")]
    pub(super) replica_from: Vec<IpAddr>,
    /// Redis: restore one database into another, for instance 0=7; repeat it for several
    #[arg(long, value_name = "FROM=TO")]
    pub(super) db: Vec<String>,
    /// Redis: what becomes of keys that expire [default: absolute]
    #[arg(long, value_name = "WHEN")]
    pub(super) expiry: Option<ExpiryArg>,
    /// Redis: leave libraries of functions out
    #[arg(long)]
    pub(super) no_functions: bool,
    /// Ask the store to make archived data readable first, and wait until it is: expedited
    /// (minutes), standard (hours) or bulk (cheapest, up to two days)
    #[arg(long, value_name = "SPEED", num_args = 0..=1, default_missing_value = "standard")]
    pub(super) thaw: Option<ThawArg>,
    /// For how many days thawed data stays readable
    #[arg(long, value_name = "DAYS", default_value_t = 7, requires = "thaw")]
    pub(super) thaw_days: u32,
    /// Ask for the thaw, but do not wait: the same command later restores
    #[arg(long, requires = "thaw")]
    pub(super) no_wait: bool,
    /// Show what would be done, and do nothing
    #[arg(long, visible_alias = "check")]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Given if it was put together by questions.
    #[arg(skip)]
    pub(super) asked: Option<super::asked::Before>,
}

const EXAMPLES: &str = "\
Examples:
  backup restore
  backup restore latest --target /tmp/restored
  backup restore latest --target /tmp/restored --only /home/me/letters
  backup restore 1a2b3c4d --in-place --if-exists merge --only '/etc/**/*.conf'
  backup restore latest --job shop --target mongodb://admin@db1/ --rename 'shop.*=shop_test.*'
  backup restore --job shop --at '2026-11-21 14:30' --target mongodb://admin@db1/ --dry-run
  backup restore --job crm --at '2026-11-21 14:30' --target /srv/crm --start --set port=5433
  backup restore --job crm --at '2026-11-21 14:30' --only crm.public.orders --target postgres://admin@db1/
  backup restore latest --job cache --target redis://db2 --only '/0/session:*' --db 0=7
  backup restore --job cache --at '2026-11-21 14:30' --target redis://db2 --replica
  backup restore platform --at '2026-11-21 14:30' --target crm=/srv/crm --target cache=/srv/cache --dry-run";

/// When keys of Redis expire that are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExpiryArg {
    /// At their time: those whose time has come are left out
    Absolute,
    /// As long from now as they had at the moment of the snapshot
    Shifted,
    /// Never
    Never,
}

impl From<ExpiryArg> for ExpiryFlag {
    fn from(arg: ExpiryArg) -> Self {
        match arg {
            ExpiryArg::Absolute => Self::Absolute,
            ExpiryArg::Shifted => Self::Shifted,
            ExpiryArg::Never => Self::Never,
        }
    }
}

/// What to do about what exists at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfExistsArg {
    /// Refuse to write anything
    Fail,
    /// Make the target equal to the snapshot: replace what differs, remove what the snapshot does
    /// not have
    Replace,
    /// Replace what differs, keep what the snapshot does not have
    Merge,
}

impl From<IfExistsArg> for IfExists {
    fn from(arg: IfExistsArg) -> Self {
        match arg {
            IfExistsArg::Fail => Self::Fail,
            IfExistsArg::Replace => Self::Replace,
            IfExistsArg::Merge => Self::Merge,
        }
    }
}

impl Args {
    /// Whether something may be replaced that is there.
    pub(super) fn overwrites(&self) -> bool {
        self.in_place || self.if_exists() != IfExists::Fail
    }

    /// What becomes of what exists at the target.
    pub(super) fn if_exists(&self) -> IfExists {
        self.if_exists.map_or(IfExists::Fail, IfExists::from)
    }

    /// Whether it is not said what to restore.
    pub(in crate::commands) fn is_open(&self) -> bool {
        self.snapshot.is_none() && self.at.is_none()
    }

    /// What only some kinds of snapshots know, but for the moment.
    pub(super) fn flags(&self) -> RestoreFlags {
        RestoreFlags {
            renames: self.rename.clone(),
            until: None,
            no_users: self.no_users,
            no_owner: self.no_owner,
            no_privileges: self.no_privileges,
            defer_ttl: self.defer_ttl,
            sparse: self.sparse,
            tablespaces: self.tablespace.clone(),
            settings: self.set.clone(),
            start: self.start.clone(),
            start_timeout: self.start_timeout.as_ref().map(Time::length),
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
            },
        }
    }
}
