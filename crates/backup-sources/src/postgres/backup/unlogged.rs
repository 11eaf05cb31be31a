//! Unlogged tables, of which a data directory comes back without rows.

use std::collections::BTreeSet;

use backup_core::context::Context;
use backup_core::source::SourceResult;
use backup_core::words;

use super::super::error::of_sql;
use super::super::options::PostgresOptions;
use super::super::wire::Sql;

/// Tables that a note names.
const NAMED: usize = 10;
/// Databases that are read for names.
const MAX_DATABASES: usize = 20;

/// Notes the unlogged tables of `databases`, given by OID. Databases that the user cannot connect to
/// are named instead of their tables.
pub(super) async fn note(cx: &Context, options: &PostgresOptions, databases: &BTreeSet<u32>) {
    if databases.is_empty() {
        return;
    }
    let tables = match names_of(options, databases).await {
        Ok(databases) => tables_of(options, &databases).await,
        // The backup itself needs no SQL.
        Err(_) => Vec::new(),
    };
    let tables = if tables.is_empty() {
        format!("in {}", words::count(databases.len() as u64, "database", "databases"))
    } else {
        words::few(&tables, NAMED)
    };
    cx.events.note(format!(
        "Rows of unlogged tables are not in the snapshot, as the server itself empties them after a \
         crash: {tables}."
    ));
}

async fn names_of(
    options: &PostgresOptions,
    databases: &BTreeSet<u32>,
) -> SourceResult<Vec<String>> {
    const READING: &str = "SELECT datname FROM pg_database WHERE oid = ANY($1) ORDER BY 1";
    let doing = "cannot list the databases";
    let sql = Sql::open(options, &options.database).await?;
    let oids: Vec<u32> = databases.iter().copied().collect();
    let rows = sql.client.query(READING, &[&oids]).await.map_err(|error| of_sql(&error, doing))?;
    rows.iter().map(|row| row.try_get(0).map_err(|error| of_sql(&error, doing))).collect()
}

/// Names of unlogged tables with schema and database, a database at a time.
async fn tables_of(options: &PostgresOptions, databases: &[String]) -> Vec<String> {
    let mut tables = Vec::new();
    for database in databases.iter().take(MAX_DATABASES) {
        match tables_in(options, database).await {
            Ok(found) => tables.extend(found),
            Err(_) => tables.push(format!("{database}.*")),
        }
    }
    tables.extend(databases.iter().skip(MAX_DATABASES).map(|database| format!("{database}.*")));
    tables
}

async fn tables_in(options: &PostgresOptions, database: &str) -> SourceResult<Vec<String>> {
    const READING: &str = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n \
                           ON n.oid = c.relnamespace WHERE c.relpersistence = 'u' AND c.relkind IN \
                           ('r', 'm') ORDER BY 1 LIMIT 1000";
    let doing = "cannot list unlogged tables";
    let sql = Sql::open(options, database).await?;
    let rows = sql.client.query(READING, &[]).await.map_err(|error| of_sql(&error, doing))?;
    let name = |row: &tokio_postgres::Row| {
        let name: String = row.try_get(0).map_err(|error| of_sql(&error, doing))?;
        Ok(format!("{database}.{name}"))
    };
    rows.iter().map(name).collect()
}
