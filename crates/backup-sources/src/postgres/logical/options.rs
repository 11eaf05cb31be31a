//! What the source can be told.

use std::path::PathBuf;
use std::time::Duration;

use backup_core::event::Events;

use super::super::options::PostgresOptions;
use super::rename::Renames;

/// Settings of a [`LogicalSource`](super::LogicalSource).
#[derive(Debug, Clone)]
pub struct LogicalOptions {
    /// How to connect. Its user reads everything that is selected: `pg_read_all_data` and
    /// BYPASSRLS, or more.
    pub connection: PostgresOptions,
    /// Directory of `pg_dump` and `pg_dumpall`. `None`: the oldest that knows the server's version,
    /// from PATH and from where packages put them.
    pub programs: Option<PathBuf>,
    /// Tables, or parts of them, that are read or written at a time.
    pub jobs: usize,
    /// Tables larger than this are read in parts of so many bytes, several at a time; from
    /// PostgreSQL 14 on.
    pub split_bytes: u64,
    /// How long a backup waits for a lock that somebody else holds on a table.
    pub lock_timeout: Duration,
    /// Record digests of tables, so that a restored copy can be compared: the server reads every
    /// row once more.
    pub digests: bool,
    /// The server has no rows of unlogged tables, whatever the one had that it is a copy of.
    pub is_copy: bool,
    /// Restore other names than those in the snapshot.
    pub renames: Renames,
    /// Restore who owns what.
    pub owners: bool,
    /// Restore grants.
    pub privileges: bool,
    /// Create roles that are missing at the target, when whole databases are restored.
    pub roles: bool,
    /// Stop at the first object that cannot be restored.
    pub exit_on_error: bool,
}

impl LogicalOptions {
    /// The same settings; long waits are reported to `events`.
    pub(super) fn reporting_to(&self, events: &Events) -> Self {
        Self { connection: self.connection.reporting_to(events), ..self.clone() }
    }

    /// The settings for a connection and nothing else.
    #[must_use]
    pub fn new(connection: PostgresOptions) -> Self {
        Self {
            connection,
            programs: None,
            jobs: 4,
            split_bytes: 1 << 30,
            lock_timeout: Duration::from_secs(60),
            digests: true,
            is_copy: false,
            renames: Renames::default(),
            owners: true,
            privileges: true,
            roles: true,
            exit_on_error: false,
        }
    }
}
