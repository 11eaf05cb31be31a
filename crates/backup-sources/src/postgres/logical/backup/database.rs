//! One database: its tables locked first, then the snapshot that all read from.

use std::collections::HashSet;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use tokio::sync::Mutex;

use super::super::super::options::Host;
use super::super::super::wire::Sql;
use super::super::catalog::{Catalog, Kind, Relation};
use super::super::error::{code_of, reading};
use super::super::filter::Filter;
use super::super::options::LogicalOptions;
use super::super::programs::{Dump, Excluded, Programs};
use super::super::session;
use super::super::sql::{Script, Token, qualified, quoted, tokens};

/// How often a backup begins anew because tables came, went or were exchanged between looking and
/// locking.
const TRIES: usize = 8;
/// How often because definitions changed: then what there is has to do, and is told.
const MIXED: usize = 4;
/// Tables that one statement locks.
const LOCKED: usize = 200;

/// A number that is another one when definitions in some schemas change. Filling a materialized
/// view, or emptying a table, is no change.
const DEFINITIONS: &str = "WITH own AS (SELECT oid FROM pg_namespace WHERE nspname = ANY ($1)) \
                           SELECT coalesce(sum(hashtextextended(line, 0)), 0)::text FROM ( SELECT \
                           'n' || oid || ' ' || xmin AS line FROM pg_namespace WHERE oid IN \
                           (SELECT oid FROM own) UNION ALL SELECT 't' || oid || ' ' || xmin FROM \
                           pg_type WHERE typnamespace IN (SELECT oid FROM own) UNION ALL SELECT \
                           'p' || oid || ' ' || xmin FROM pg_proc WHERE pronamespace IN (SELECT \
                           oid FROM own) UNION ALL SELECT 'k' || oid || ' ' || xmin FROM \
                           pg_constraint WHERE connamespace IN (SELECT oid FROM own) UNION ALL \
                           SELECT concat_ws(' ', 'c', oid, relname, relnamespace, relowner, \
                           relkind, relacl, reloptions) FROM pg_class WHERE relnamespace IN \
                           (SELECT oid FROM own) UNION ALL SELECT concat_ws(' ', 'a', a.attrelid, \
                           a.attnum, a.xmin) FROM pg_attribute a JOIN pg_class c ON c.oid = \
                           a.attrelid WHERE c.relnamespace IN (SELECT oid FROM own) AND a.attnum > \
                           0 UNION ALL SELECT concat_ws(' ', 'r', r.oid, r.xmin) FROM pg_rewrite r \
                           JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace IN (SELECT \
                           oid FROM own) UNION ALL SELECT concat_ws(' ', 'g', t.oid, t.xmin) FROM \
                           pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace \
                           IN (SELECT oid FROM own) AND NOT t.tgisinternal UNION ALL SELECT \
                           concat_ws(' ', 'i', i.indexrelid, i.xmin) FROM pg_index i JOIN pg_class \
                           c ON c.oid = i.indrelid WHERE c.relnamespace IN (SELECT oid FROM own)) \
                           lines";

/// A database whose snapshot is held.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) host: Host,
    pub(super) encoding: String,
    /// Name of the exported snapshot.
    pub(super) snapshot: String,
    /// What it has, as the snapshot shows it.
    pub(super) catalog: Catalog,
    /// What of it is meant.
    pub(super) covered: HashSet<u32>,
    pub(super) whole: bool,
    pub(super) large_objects: bool,
    /// Where its log was.
    pub(super) position: Option<String>,
    /// Definitions went on changing while `pg_dump` read them: it looks some things up as they are
    /// now, whatever its snapshot.
    pub(super) is_mixed: bool,
    /// A standby, and a copy, has no rows of unlogged tables.
    pub(super) is_standby: bool,
    /// The snapshot and the locks are there as long as this is. It reads what somebody else waits
    /// to lock: whoever came later would have to wait behind that one.
    pub(super) holder: Arc<Mutex<Sql>>,
}

/// The definitions of a database.
#[derive(Debug)]
pub(super) struct Definitions {
    pub(super) database: String,
    pub(super) before: String,
    pub(super) after: String,
}

/// Exports the snapshot of a transaction: its name, the encoding, whether the server is a standby,
/// and its position in the WAL.
const SNAPSHOT_QUERY: &str = "SELECT pg_export_snapshot(), current_setting('server_encoding'), \
                              pg_is_in_recovery(), (CASE WHEN pg_is_in_recovery() THEN \
                              pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text";

impl Database {
    /// Holds a database, and reads its definitions: whoever wants to change a table meanwhile waits
    /// for us, and would be waited for by `pg_dump`, which then begins anew with us.
    pub(super) async fn hold(
        cx: &Context,
        options: &LogicalOptions,
        filter: &Filter,
        programs: &Programs,
        (host, name): (&Host, &str),
    ) -> SourceResult<(Self, Definitions)> {
        let mut reason = None;
        for number in 1..=TRIES {
            cx.check_cancelled()?;
            let Some(mut held) = Self::try_hold(options, filter, host, name).await? else {
                continue;
            };
            match held.definitions(cx, options, filter, programs).await {
                Ok(definitions) => {
                    held.is_mixed = held.has_changed(options, filter).await?;
                    if !held.is_mixed || number >= MIXED {
                        return Ok((held, definitions));
                    }
                }
                Err(error) if error.kind() == SourceErrorKind::Unavailable => reason = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(reason.unwrap_or_else(|| {
            let text = format!(
                "tables of {name} are created and dropped too quickly to be locked together"
            );
            let error = SourceError::new(SourceErrorKind::Unavailable, text);
            error.with_hint("exclude these tables, or try again later")
        }))
    }

    /// `None` if what is there changed before it was locked: rows of a table that was rewritten or
    /// emptied after the snapshot was taken would be missing, so that locks come first.
    async fn try_hold(
        options: &LogicalOptions,
        filter: &Filter,
        host: &Host,
        name: &str,
    ) -> SourceResult<Option<Self>> {
        let sql = session::open(&options.connection, Some(host), name).await?;
        let doing = |error: tokio_postgres::Error| {
            reading(&error, format!("cannot take a snapshot of {name}"))
        };
        let before = Catalog::read(&sql, name).await?;
        let covered = before.covered(filter, name);
        let begin = format!(
            "{}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            session::lock_timeout(options.lock_timeout)
        );
        sql.client.batch_execute(&begin).await.map_err(doing)?;
        let is_table = |one: &&Relation| {
            matches!(one.kind, Kind::Table | Kind::Partitioned) && covered.contains(&one.oid)
        };
        let tables: Vec<&Relation> = before.relations.iter().filter(is_table).collect();
        for some in tables.chunks(LOCKED) {
            match sql.client.batch_execute(&lock(some)).await {
                Ok(()) => {}
                // Gone since, or somebody locks the same tables in another order.
                Err(error) if matches!(code_of(&error), "42P01" | "3F000" | "40P01") => {
                    return Ok(None);
                }
                Err(error) => {
                    return Err(reading(&error, format!("cannot lock the tables of {name}")));
                }
            }
        }
        let row = sql.client.query_one(SNAPSHOT_QUERY, &[]).await.map_err(doing)?;
        let mut catalog = Catalog::read(&sql, name).await?;
        let covered_now = catalog.covered(filter, name);
        let locked: HashSet<u32> = tables.iter().map(|table| table.oid).collect();
        let now = catalog
            .relations
            .iter()
            .filter(|one| matches!(one.kind, Kind::Table | Kind::Partitioned));
        let now: HashSet<u32> =
            now.map(|one| one.oid).filter(|oid| covered_now.contains(oid)).collect();
        if now != locked {
            return Ok(None);
        }
        catalog.measure(&sql, &covered_now).await?;
        let large_objects = filter.covers(name, "pg_catalog", "pg_largeobject");
        let whole = filter.covers_database(name)
            && large_objects
            && covered_now.len() == catalog.relations.len();
        let whole =
            whole && catalog.schemas.iter().all(|schema| filter.covers_schema(name, schema));
        Ok(Some(Self {
            name: name.to_owned(),
            host: host.clone(),
            snapshot: row.try_get(0).map_err(doing)?,
            encoding: row.try_get(1).map_err(doing)?,
            is_standby: options.is_copy || row.try_get::<_, bool>(2).map_err(doing)?,
            position: row.try_get(3).map_err(doing)?,
            large_objects,
            covered: covered_now,
            is_mixed: false,
            whole,
            catalog,
            holder: Arc::new(Mutex::new(sql)),
        }))
    }

    /// Whether somebody has changed definitions since the snapshot was taken.
    async fn has_changed(&self, options: &LogicalOptions, filter: &Filter) -> SourceResult<bool> {
        let left_out = self.left_out(filter);
        let schemas: Vec<&str> = self
            .catalog
            .schemas
            .iter()
            .filter(|schema| !left_out.contains(schema))
            .map(|schema| &**schema)
            .collect();
        let now = session::open(&options.connection, Some(&self.host), &self.name).await?;
        let doing = |error: tokio_postgres::Error| {
            reading(&error, format!("cannot read the definitions of {}", self.name))
        };
        let look = async |sql: &Sql| -> SourceResult<String> {
            sql.client
                .query_one(DEFINITIONS, &[&schemas])
                .await
                .and_then(|row| row.try_get(0))
                .map_err(doing)
        };
        Ok(look(&*self.holder.lock().await).await? != look(&now).await?)
    }

    pub(super) fn is_covered(&self, one: &Relation) -> bool {
        self.covered.contains(&one.oid)
    }

    /// Whether there is what a relation holds: a standby has nothing of unlogged ones.
    pub(super) fn has(&self, one: &Relation) -> bool {
        !(self.is_standby && one.is_unlogged)
    }

    /// Schemas of which nothing is meant.
    fn left_out(&self, filter: &Filter) -> HashSet<&String> {
        let covered = self.catalog.relations.iter().filter(|one| self.is_covered(one));
        let kept: HashSet<&str> = covered.map(|one| &*one.schema).collect();
        let is_out = |schema: &&String| {
            !filter.covers_schema(&self.name, schema) && !kept.contains(&***schema)
        };
        self.catalog.schemas.iter().filter(is_out).collect()
    }

    /// What `pg_dump` leaves out.
    fn excluded(&self, filter: &Filter) -> Vec<Excluded> {
        let (schemas, relations) = (self.left_out(filter), &self.catalog.relations);
        let others =
            relations.iter().filter(|one| !self.is_covered(one) && !schemas.contains(&one.schema));
        let tables = others.map(|one| Excluded::Table(qualified(&one.schema, &one.name)));
        schemas.iter().map(|schema| Excluded::Schema(quoted(schema))).chain(tables).collect()
    }

    /// The definitions, under the same snapshot. What concerns the database itself is apart from
    /// what is in it, which can be restored into another one.
    async fn definitions(
        &self,
        cx: &Context,
        options: &LogicalOptions,
        filter: &Filter,
        programs: &Programs,
    ) -> SourceResult<Definitions> {
        let dump = Dump {
            host: &self.host,
            database: &self.name,
            snapshot: &self.snapshot,
            encoding: &self.encoding,
            exclude: &self.excluded(filter),
        };
        let (text, after) = tokio::join!(
            programs.dump(cx, options, &dump, "pre-data"),
            programs.dump(cx, options, &dump, "post-data")
        );
        let (text, after) = (text?, after?);
        let (database, before) = Script::partition(&text, |entry| {
            let is_said_of_it = matches!(entry.kind, "COMMENT" | "ACL" | "SECURITY LABEL")
                && entry.schema.is_empty();
            matches!(entry.kind, "DATABASE" | "DATABASE PROPERTIES")
                || (is_said_of_it && entry.name.starts_with("DATABASE "))
        });
        // Into whichever database it is read.
        let key = text.lines().find_map(|line| line.strip_prefix("\\restrict "));
        let (database, before) = (guarded(&database, key), guarded(&before, key));
        Ok(Definitions { database, before, after })
    }
}

fn lock(tables: &[&Relation]) -> String {
    let list: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.sql())).collect();
    format!("LOCK TABLE {} IN ACCESS SHARE MODE", list.join(", "))
}

/// A part of a dump without psql's own commands in it, and with the ones around it that keep psql
/// from taking any.
fn guarded(part: &str, key: Option<&str>) -> String {
    let (begin, end) = match key {
        Some(key) => (format!("\\restrict {key}\n\n"), format!("\\unrestrict {key}\n")),
        None => (String::new(), String::new()),
    };
    let is_command = |token: &Token<'_>| token.is_blank() && token.text.starts_with('\\');
    let text: String =
        tokens(part).filter(|token| !is_command(token)).map(|token| token.text).collect();
    format!("{begin}{}\n\n{end}", text.trim())
}
