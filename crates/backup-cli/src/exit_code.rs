//! Exit codes: a contract with scripts and service managers. They follow restic's where the meaning
//! is the same.

/// Everything that was asked for was done.
pub const SUCCESS: u8 = 0;
/// It could not be done.
pub const FAILURE: u8 = 1;
/// The command line or the configuration makes no sense, also to the server that it names: it
/// refuses the credentials.
pub const USAGE: u8 = 2;
/// It was done, but something is missing or incomplete: the snapshot, or the restored copy, exists
/// all the same.
pub const WARNINGS: u8 = 3;
/// Stored data is damaged or lost.
pub const DAMAGE: u8 = 4;
/// Refused: it needs `--yes`, something exists where it would be written, or what would go must be
/// kept.
pub const REFUSED: u8 = 5;
/// There is no repository at this place.
pub const NO_REPOSITORY: u8 = 10;
/// Somebody else does it at the moment, and only one may: the same job, maintenance, log capture.
pub const BUSY: u8 = 11;
/// The pass phrase is wrong, or it or the password of a server cannot be had.
pub const PASSPHRASE: u8 = 12;
/// Stopped by Ctrl-C or by a request to terminate.
pub const INTERRUPTED: u8 = 130;
/// Whoever read the output has gone away.
pub const BROKEN_PIPE: u8 = 141;

/// `wal-fetch` cannot tell whether there is more log. PostgreSQL takes what is not above 125 for
/// the end of the log.
pub const STOP: u8 = 200;

/// The table that `backup --help` shows.
pub(crate) const HELP: &str = "\
Exit codes:
  0    success
  1    failure
  2    command line or configuration makes no sense, or a server refuses the credentials in it
  3    done, but something is missing or incomplete (the snapshot exists)
  4    stored data is damaged or lost
  5    refused: needs --yes, something exists at the target, or what would go must be kept
  10   there is no repository at this place
  11   somebody else is at it, and only one may be
  12   the pass phrase is wrong, or it or the password of a server cannot be had
  130  interrupted
  141  the reader of the output has gone away
  200  wal-fetch: whether there is more log is not known, and PostgreSQL must stop";
