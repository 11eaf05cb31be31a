//! Exit codes: a contract with scripts and service managers. Codes with the same meaning as in
//! restic have the same number.

/// The command completed everything.
pub const SUCCESS: u8 = 0;
/// The command failed.
pub const FAILURE: u8 = 1;
/// The command line or configuration is invalid, or a server refuses its credentials.
pub const USAGE: u8 = 2;
/// The command completed with missing or incomplete parts, or its result is not recorded; the
/// snapshot or restored copy exists.
pub const WARNINGS: u8 = 3;
/// Stored data is damaged or lost.
pub const DAMAGE: u8 = 4;
/// Refused: the command needs `--yes`, data exists at the target, or retention protects the data.
pub const REFUSED: u8 = 5;
/// The location holds no repository.
pub const NO_REPOSITORY: u8 = 10;
/// Another process holds the lock on the job, the maintenance or the log capture.
pub const BUSY: u8 = 11;
/// The pass phrase is wrong, or the pass phrase or a server password is unavailable.
pub const PASSPHRASE: u8 = 12;
/// Ctrl-C or a termination request stopped the command.
pub const INTERRUPTED: u8 = 130;
/// Standard output was closed (SIGPIPE).
pub const BROKEN_PIPE: u8 = 141;

/// `wal-fetch` cannot determine whether more log exists. PostgreSQL takes codes up to 125 for the
/// end of the log.
pub const STOP: u8 = 200;

/// The table that `backup --help` shows.
pub(crate) const HELP: &str = concat!(
    "Exit codes:\n",
    "  0    success\n",
    "  1    failure\n",
    "  2    invalid command line or configuration, or a server refuses its credentials\n",
    "  3    completed with missing or incomplete parts, or without a record (the snapshot exists)\n",
    "  4    stored data is damaged or lost\n",
    "  5    refused: needs --yes, data exists at the target, or retention protects the data\n",
    "  10   there is no repository at this place\n",
    "  11   another process holds the lock\n",
    "  12   the pass phrase is wrong, or the pass phrase or a server password is unavailable\n",
    "  130  interrupted\n",
    "  141  stdout was closed (SIGPIPE)\n",
    "  200  wal-fetch: cannot determine whether more log exists; PostgreSQL must stop",
);
