//! What servers say while data is read or written, with what to do about it.

use std::fmt::Display;

use backup_core::source::{SourceError, SourceErrorKind};
use tokio_postgres::Error;

use super::super::error::of_sql;

/// The SQLSTATE of an error, if it is one of the server's.
pub(super) fn code_of(error: &Error) -> &str {
    error.code().map_or("", |code| code.code())
}

/// Our error for one of the SQL driver's, while reading.
pub(super) fn reading(error: &Error, doing: impl Display) -> SourceError {
    let message = error.as_db_error().map_or("", |error| error.message());
    let (kind, hint) = match code_of(error) {
        "42501" if message.contains("row-level security") => (
            SourceErrorKind::Invalid,
            "row-level security would hide rows: ALTER ROLE … BYPASSRLS for who backs up, or leave \
             the table out",
        ),
        "42501" if message.contains("large object") => (
            SourceErrorKind::Invalid,
            "large objects are read by their owners and superusers, or with lo_compat_privileges = \
             on; or leave pg_catalog.pg_largeobject out",
        ),
        "42501" => (
            SourceErrorKind::Invalid,
            "GRANT pg_read_all_data TO …; before version 14 GRANT USAGE on schemas and SELECT on \
             tables and sequences; or leave it out",
        ),
        "55P03" => (
            SourceErrorKind::Unavailable,
            "somebody holds a lock on it (pg_stat_activity, pg_locks): try again later, or wait \
             longer (lock_timeout)",
        ),
        "53200" => (
            SourceErrorKind::Unavailable,
            "raise max_locks_per_transaction, then restart the server",
        ),
        "53300" => {
            (SourceErrorKind::Unavailable, "raise max_connections, or read less at a time (jobs)")
        }
        "40001" | "40P01" => (
            SourceErrorKind::Unavailable,
            "on a standby, set hot_standby_feedback = on or raise max_standby_streaming_delay",
        ),
        _ => return of_sql(error, doing),
    };
    said(error, doing, kind, hint)
}

/// Our error for one of the SQL driver's, while writing.
pub(super) fn writing(error: &Error, doing: impl Display) -> SourceError {
    let message = error.as_db_error().map_or("", |error| error.message());
    let hint = match code_of(error) {
        "42501" => {
            "restore as a superuser, or leave owners and grants out (--no-owner, --no-privileges)"
        }
        "42704" if message.starts_with("role") => {
            "create the role first, restore roles as well, or leave owners and grants out \
             (--no-owner, --no-privileges)"
        }
        "0A000" | "58P01" | "22023" if message.contains("extension") => {
            "install the extension at the target's server"
        }
        "42P07" | "42723" | "42710" | "42P06" => {
            "the target has it already: choose --if-exists replace or merge, or other names \
             (--rename)"
        }
        "42P01" | "42883" | "3F000" | "42704" => {
            "what it needs is not part of what is restored: restore the whole schema or database"
        }
        "23503" => {
            "the rows to which they refer are neither at the target nor restored before them: \
             restore those tables, too, or choose --if-exists replace for all of them"
        }
        "2BP01" => {
            "something that is not restored depends on it: drop that first, or restore under \
             another name"
        }
        "55006" => "end the sessions that use the database, then restore again",
        "22023" if message.contains("locale") => {
            "make the locale known to the target's system, or create the database first"
        }
        "53200" => "raise max_locks_per_transaction, then restart the server",
        "42601" => "is the target's version older than the one that was backed up?",
        _ => {
            let error = of_sql(error, doing);
            return match error.kind() {
                SourceErrorKind::Unavailable => error,
                _ => retold(&error, SourceErrorKind::Target),
            };
        }
    };
    said(error, doing, SourceErrorKind::Target, hint)
}

fn said(error: &Error, doing: impl Display, kind: SourceErrorKind, hint: &str) -> SourceError {
    SourceError::new(kind, of_sql(error, doing).to_string()).with_hint(hint)
}

/// The same error of another kind.
fn retold(error: &SourceError, kind: SourceErrorKind) -> SourceError {
    let retold = SourceError::new(kind, error.chain());
    match error.hint() {
        Some(hint) => retold.with_hint(hint),
        None => retold,
    }
}
