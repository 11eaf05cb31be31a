//! Sessions that read or write: settings in which values have one form only, and sessions that
//! share a snapshot.

use std::time::Duration;

use backup_core::source::SourceResult;

use super::super::options::{Host, PostgresOptions};
use super::super::wire::Sql;
use super::error::reading;
use super::options::LogicalOptions;

/// As `pg_dump` sets them, and `lc_monetary`, by which amounts of money are written and read;
/// `row_security` off is an error for whoever would be shown less than there is.
const SETTINGS: &str = "SELECT pg_catalog.set_config('search_path', '', false); SET DateStyle = \
                        'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET \
                        extra_float_digits = 3; SET bytea_output = 'hex'; SET xmlbinary = \
                        'base64'; SET xmloption = 'content'; SET quote_all_identifiers = off; SET \
                        lc_monetary = 'C'; SET synchronize_seqscans = off; SET statement_timeout = \
                        0; SET idle_in_transaction_session_timeout = 0; SET row_security = off; \
                        SET default_transaction_read_only = off; SET check_function_bodies = off; \
                        SET client_min_messages = warning; SET standard_conforming_strings = on";

/// A session for reading or writing `database` on the host that others are on already, if there is
/// one.
pub(super) async fn open(
    options: &PostgresOptions,
    host: Option<&Host>,
    database: &str,
) -> SourceResult<Sql> {
    let sql = match host {
        Some(host) => {
            let there = PostgresOptions { hosts: vec![host.clone()], ..options.clone() };
            Sql::open(&there, database).await?
        }
        None => Sql::open(options, database).await?,
    };
    let doing = |error: tokio_postgres::Error| {
        reading(&error, format!("cannot begin a session in {database}"))
    };
    sql.client.batch_execute(SETTINGS).await.map_err(doing)?;
    let version = sql
        .client
        .query_one("SELECT pg_catalog.current_setting('server_version_num')::int", &[])
        .await;
    let version: i32 = version.and_then(|row| row.try_get(0)).map_err(doing)?;
    if version >= 170_000 {
        sql.client.batch_execute("SET transaction_timeout = 0").await.map_err(doing)?;
    }
    Ok(sql)
}

/// The statement that limits how long locks are waited for.
pub(super) fn lock_timeout(limit: Duration) -> String {
    format!("SET lock_timeout = {}", limit.as_millis().min(i32::MAX as u128))
}

/// How long a session waits for a lock on a table that is locked for this backup already: then
/// somebody is in between who waits for that one, and for the end of the backup.
const BEHIND: Duration = Duration::from_millis(500);

/// Marks the state that [`FORGET`] returns to.
pub(super) const REMEMBER: &str = "SAVEPOINT begun";

/// Puts a session back to before what it has done last, without the locks that this took.
pub(super) const FORGET: &str = "ROLLBACK TO SAVEPOINT begun";

/// Forgets that state: locks that are taken now stay.
pub(super) const RELEASE: &str = "RELEASE SAVEPOINT begun";

/// A session that sees what the exported snapshot shows. It locks nothing ahead.
pub(super) async fn join(
    options: &LogicalOptions,
    host: &Host,
    database: &str,
    snapshot: &str,
) -> SourceResult<Sql> {
    let sql = open(&options.connection, Some(host), database).await?;
    let begin = format!(
        "{}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT \
         '{snapshot}'; {REMEMBER}",
        lock_timeout(options.lock_timeout.min(BEHIND))
    );
    let doing = |error: tokio_postgres::Error| {
        reading(&error, format!("cannot import the snapshot of {database}"))
    };
    sql.client.batch_execute(&begin).await.map_err(doing)?;
    Ok(sql)
}
