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
            "run ALTER ROLE … BYPASSRLS for the backup role, or exclude the table: row-level \
             security would hide rows",
        ),
        "42501" if message.contains("large object") => (
            SourceErrorKind::Invalid,
            "read large objects as their owner or a superuser, set lo_compat_privileges = on, or \
             exclude pg_catalog.pg_largeobject",
        ),
        "42501" => (
            SourceErrorKind::Invalid,
            "GRANT pg_read_all_data TO … (before version 14: USAGE on schemas, SELECT on tables \
             and sequences), or exclude the object",
        ),
        "55P03" => (
            SourceErrorKind::Unavailable,
            "try again later, or wait longer (lock_timeout): another session holds a lock \
             (pg_stat_activity, pg_locks)",
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
        "42501" if message.contains("create database") => {
            "ALTER ROLE … CREATEDB, or create the database first, owned by this role"
        }
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
            "choose --if-exists replace or merge, or other names (--rename): the target already \
             has this object"
        }
        "42P01" | "42883" | "3F000" | "42704" => {
            "restore the whole schema or database: a required object is not part of the restore"
        }
        "23503" => {
            "restore the referenced tables too, or choose --if-exists replace for all of them: the \
             referenced rows are neither at the target nor restored before"
        }
        "2BP01" => {
            "drop the dependent object first, or restore under another name: that object is not \
             restored"
        }
        "55006" => "end the sessions that use the database, then restore again",
        "22023" if message.contains("locale") => {
            "install the locale on the target's system, or create the database first"
        }
        "42601" => "restore to a server of the version that was backed up, or a later one",
        "53200" => {
            let hint = "raise max_locks_per_transaction, then restart the server";
            return said(error, doing, SourceErrorKind::Unavailable, hint);
        }
        code => {
            let told = of_sql(error, doing);
            // Of all that other sessions or the whole server may cause, these are about one object.
            let of_object =
                (code.starts_with("55") && code != "55P03") || matches!(code, "58P01" | "XX000");
            return match told.kind() {
                SourceErrorKind::Unavailable if !of_object => told,
                _ => retold(&told, SourceErrorKind::Target),
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
