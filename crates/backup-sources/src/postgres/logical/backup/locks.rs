//! Locks on the tables of a database, which keep them from being dropped, emptied or rewritten until
//! their rows are read.
//!
//! `pg_dump` locks all tables once more. A server has room for some thousands of locks, so that the
//! locks of very many tables are released while it runs. They are taken again afterwards, and
//! compared: a table that was rewritten meanwhile would seem empty under the snapshot.

use std::collections::HashSet;

use backup_core::source::SourceResult;

use super::super::super::wire::Sql;
use super::super::catalog::{Catalog, Kind, Relation};
use super::super::error::{code_of, reading};
use super::super::options::LogicalOptions;
use super::super::session;
use super::database::Database;

/// Tables that one statement locks.
const LOCKED: usize = 200;
/// Most tables that are locked by two sessions at a time. With default settings (64 locks for each
/// of 100 connections), a server has room for about 16 000 locks of all sessions.
const MANY: usize = 4000;

/// Name and storage of each covered table.
const STORAGE: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relfilenode FROM pg_class c \
                       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1) ORDER \
                       BY c.oid";

/// Covered tables, which are locked.
pub(super) fn tables<'a>(catalog: &'a Catalog, covered: &HashSet<u32>) -> Vec<&'a Relation> {
    let is_table = |one: &&Relation| {
        matches!(one.kind, Kind::Table | Kind::Partitioned) && covered.contains(&one.oid)
    };
    catalog.relations.iter().filter(is_table).collect()
}

/// Returns `true` for more tables than a server may have room for twice.
fn are_many(tables: &[&Relation]) -> bool {
    tables.len() > MANY
}

/// Locks tables in the transaction of a session. Returns `false` if one of them is gone, or a
/// session locks the same tables in another order.
async fn lock_all(sql: &Sql, tables: &[&Relation], database: &str) -> SourceResult<bool> {
    for some in tables.chunks(LOCKED) {
        match sql.client.batch_execute(&lock(some)).await {
            Ok(()) => {}
            Err(error) if matches!(code_of(&error), "42P01" | "3F000" | "40P01") => {
                return Ok(false);
            }
            Err(error) => {
                return Err(reading(&error, format!("cannot lock the tables of {database}")));
            }
        }
    }
    Ok(true)
}

fn lock(tables: &[&Relation]) -> String {
    let list: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.sql())).collect();
    format!("LOCK TABLE {} IN ACCESS SHARE MODE", list.join(", "))
}

/// A session that holds the locks of very many tables until the snapshot is taken.
pub(super) struct Early(Option<Sql>);

impl Early {
    /// Locks the tables in `sql`, or in another session if they are many. `None` if they have
    /// changed.
    pub(super) async fn lock(
        sql: &Sql,
        options: &LogicalOptions,
        tables: &[&Relation],
        database: &str,
    ) -> SourceResult<Option<Self>> {
        if !are_many(tables) {
            return Ok(lock_all(sql, tables, database).await?.then_some(Self(None)));
        }
        let own = session::open(&options.connection, Some(&sql.host), database).await?;
        let begin = format!("{}; BEGIN", session::lock_timeout(options.lock_timeout));
        let begun = own.client.batch_execute(&begin).await;
        begun.map_err(|error| reading(&error, format!("cannot lock the tables of {database}")))?;
        Ok(lock_all(&own, tables, database).await?.then_some(Self(Some(own))))
    }

    /// Releases the locks of very many tables.
    pub(super) async fn release(self, database: &str) -> SourceResult<()> {
        let Some(own) = self.0 else { return Ok(()) };
        let released = own.client.batch_execute("ROLLBACK").await;
        released.map_err(|error| reading(&error, format!("cannot unlock the tables of {database}")))
    }
}

impl Database {
    /// Locks very many tables again, in the session that holds the snapshot. Returns `false` if one
    /// of them was dropped, renamed, emptied or rewritten since the snapshot was taken.
    pub(super) async fn lock_again(&self, options: &LogicalOptions) -> SourceResult<bool> {
        let tables = tables(&self.catalog, &self.covered);
        if !are_many(&tables) {
            return Ok(true);
        }
        let doing = |error: tokio_postgres::Error| {
            reading(&error, format!("cannot lock the tables of {}", self.name))
        };
        let holder = self.holder.lock().await;
        holder.client.batch_execute(session::FORGET).await.map_err(doing)?;
        holder.client.batch_execute(session::RELEASE).await.map_err(doing)?;
        if !lock_all(&holder, &tables, &self.name).await? {
            return Ok(false);
        }
        holder.client.batch_execute(session::REMEMBER).await.map_err(doing)?;
        let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
        let now = session::open(&options.connection, Some(&self.host), &self.name).await?;
        let storage = async |sql: &Sql| -> SourceResult<Vec<(u32, String, String, u32)>> {
            let rows = sql.client.query(STORAGE, &[&oids]).await.map_err(doing)?;
            let parsed = rows.iter().map(|row| {
                Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
            });
            parsed.collect::<Result<_, _>>().map_err(doing)
        };
        Ok(storage(&holder).await? == storage(&now).await?)
    }
}
