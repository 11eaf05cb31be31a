//! A backup by SQL: `pg_backup_start` and `pg_backup_stop` stand around it, in one session. A
//! backup whose session is lost is lost.

use std::collections::BTreeMap;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use tokio_postgres::Statement;

use super::super::cluster::Cluster;
use super::super::error::{malformed, of_sql};
use super::super::lsn::Lsn;
use super::super::options::PostgresOptions;
use super::super::wire::{Connection, Sql};
use super::listing::{Found, list, tablespaces};

/// A backup between its start and its end.
pub(super) struct Fetch {
    pub(super) sql: Sql,
    /// Reads a part of a file.
    pub(super) read: Statement,
    pub(super) from: Lsn,
    pub(super) timeline: u32,
    pub(super) found: Vec<Found>,
    pub(super) tablespaces: BTreeMap<u32, String>,
    pub(super) has_checksums: bool,
}

impl Fetch {
    /// Begins one on the server that `beside` is connected to; what `Err` within says is in the way
    /// of it.
    pub(super) async fn begin(
        cluster: &Cluster,
        options: &PostgresOptions,
        beside: &Connection,
        has_checksums: bool,
    ) -> SourceResult<Result<Self, String>> {
        if options.max_bytes_per_second.is_some() {
            return Ok(Err("the server enforces max_bytes_per_second".to_owned()));
        }
        let begun = async {
            let sql = Sql::open(options, &options.database).await?;
            if sql.host != beside.host {
                return Err(malformed("host: SQL and replication reach different ones"));
            }
            if let Some(missing) = missing(&sql, cluster.version / 10_000).await? {
                return Err(SourceError::new(
                    SourceErrorKind::Invalid,
                    format!("no privilege to execute {missing}"),
                ));
            }
            let read = sql.client.prepare("SELECT pg_read_binary_file($1, $2, $3, true)").await;
            let read = read.map_err(|error| of_sql(&error, "cannot check the privileges"))?;
            let (from, timeline) =
                start(&sql, cluster.version / 10_000, options.fast_checkpoint).await?;
            let (found, tablespaces) = (list(&sql).await?, tablespaces(&sql).await?);
            Ok(Self { sql, read, from, timeline, found, tablespaces, has_checksums })
        };
        match begun.await {
            Err(error) if error.kind() != SourceErrorKind::Cancelled => Ok(Err(error.chain())),
            begun => begun.map(Ok),
        }
    }
}

/// The first function that is needed and may not be used.
async fn missing(sql: &Sql, major: u32) -> SourceResult<Option<String>> {
    const MAY: &str = "SELECT name FROM unnest($1::text[]) AS name WHERE NOT \
                       has_function_privilege(name, 'EXECUTE') LIMIT 1";
    let own = match major {
        ..15 => ["pg_start_backup(text,boolean,boolean)", "pg_stop_backup(boolean,boolean)"],
        _ => ["pg_backup_start(text,boolean)", "pg_backup_stop(boolean)"],
    };
    let files = [
        "pg_ls_dir(text,boolean,boolean)",
        "pg_stat_file(text,boolean)",
        "pg_read_binary_file(text,bigint,bigint,boolean)",
    ];
    let names: Vec<&str> = own.into_iter().chain(files).collect();
    let row = sql
        .client
        .query_opt(MAY, &[&names])
        .await
        .map_err(|error| of_sql(&error, "cannot check the privileges"))?;
    row.map(|row| row.try_get(0))
        .transpose()
        .map_err(|error| of_sql(&error, "cannot check the privileges"))
}

async fn start(sql: &Sql, major: u32, fast: bool) -> SourceResult<(Lsn, u32)> {
    let begin = if major < 15 {
        "pg_start_backup('backup', $1, false)"
    } else {
        "pg_backup_start('backup', $1)"
    };
    let doing = |error| of_sql(&error, "cannot begin a backup");
    let row =
        sql.client.query_one(&format!("SELECT {begin}::text"), &[&fast]).await.map_err(doing)?;
    let from: &str = row.try_get(0).map_err(doing)?;
    let row = sql
        .client
        .query_one("SELECT timeline_id FROM pg_control_checkpoint()", &[])
        .await
        .map_err(doing)?;
    let timeline: i32 = row.try_get(0).map_err(doing)?;
    Ok((from.parse()?, timeline.cast_unsigned()))
}
