//! Numbers of rows by the server's own estimates, of tables by name.

use std::collections::HashMap;

use backup_core::context::Context;
use backup_core::source::SourceResult;

use super::PostgresSource;
use super::error::of_sql;
use super::options::PostgresOptions;
use super::unless_cancelled;
use super::wire::Sql;

/// Rows of tables and materialized views, partitions included; -1 if no estimate exists, because
/// the table was not analyzed. Versions before 14 note 0 rows then. An empty file has no rows,
/// also if the estimate differs.
const ROWS: &str = "SELECT name, min(CASE WHEN size > 0 AND (reltuples < 0 OR reltuples = 0 AND \
                    relpages = 0) THEN -1 ELSE 0 END)::bigint, sum(CASE WHEN size > 0 THEN \
                    greatest(reltuples, 0) ELSE 0 END)::bigint FROM (SELECT t.name, l.reltuples, \
                    l.relpages, pg_relation_size(l.oid) AS size FROM (SELECT c.oid, n.nspname || \
                    '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = \
                    c.relnamespace WHERE c.relkind IN ('r', 'p', 'm')) t JOIN LATERAL (SELECT t.oid \
                    UNION SELECT relid FROM pg_partition_tree(t.oid)) parts(oid) ON true JOIN \
                    pg_class l ON l.oid = parts.oid AND l.relkind IN ('r', 'm') WHERE t.name = \
                    ANY($1)) rows GROUP BY name";

impl PostgresSource {
    /// Estimated numbers of rows of `tables`, each `database.schema.table`. A table that was never
    /// analyzed is left out; a table that does not exist has no rows.
    ///
    /// # Errors
    /// [`Unavailable`](backup_core::source::SourceErrorKind::Unavailable) and
    /// [`Invalid`](backup_core::source::SourceErrorKind::Invalid) if a database cannot be read.
    pub async fn estimated_rows(
        &self,
        cx: &Context,
        tables: &[String],
    ) -> SourceResult<HashMap<String, u64>> {
        let options = self.options.reporting_to(&cx.events);
        unless_cancelled(cx, estimated(&options, tables)).await
    }
}

async fn estimated(
    options: &PostgresOptions,
    tables: &[String],
) -> SourceResult<HashMap<String, u64>> {
    const DATABASES: &str = "SELECT datname FROM pg_database WHERE datallowconn";
    let doing = "cannot list the databases";
    let sql = Sql::open(options, &options.database).await?;
    let rows = sql.client.query(DATABASES, &[]).await.map_err(|error| of_sql(&error, doing))?;
    let mut found: HashMap<String, u64> = tables.iter().map(|table| (table.clone(), 0)).collect();
    for row in rows {
        let database: String = row.try_get(0).map_err(|error| of_sql(&error, doing))?;
        let inside =
            |table: &String| table.strip_prefix(&*database)?.strip_prefix('.').map(str::to_owned);
        let names: Vec<String> = tables.iter().filter_map(inside).collect();
        if names.is_empty() {
            continue;
        }
        for (table, rows) in estimated_in(options, &database, &names).await? {
            match rows {
                Some(rows) => found.insert(table, rows),
                None => found.remove(&table),
            };
        }
    }
    Ok(found)
}

/// Numbers of rows of tables that exist; `None` if a table was never analyzed.
async fn estimated_in(
    options: &PostgresOptions,
    database: &str,
    names: &[String],
) -> SourceResult<Vec<(String, Option<u64>)>> {
    let failed = |error: &tokio_postgres::Error| {
        of_sql(error, format!("cannot read the estimates of {database}"))
    };
    let sql = Sql::open(options, database).await?;
    let rows = sql.client.query(ROWS, &[&names]).await.map_err(|error| failed(&error))?;
    let mut found = Vec::new();
    for row in rows {
        let name: String = row.try_get(0).map_err(|error| failed(&error))?;
        let least: i64 = row.try_get(1).map_err(|error| failed(&error))?;
        let sum: i64 = row.try_get(2).map_err(|error| failed(&error))?;
        let is_known = least == 0;
        let rows = is_known.then(|| u64::try_from(sum).unwrap_or(0));
        found.push((format!("{database}.{name}"), rows));
    }
    Ok(found)
}
