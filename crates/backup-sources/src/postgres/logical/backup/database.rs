//! One database: its tables locked first, then the snapshot that all read from.

use std::collections::HashSet;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::super::super::options::Host;
use super::super::super::wire::Sql;
use super::super::catalog::{Catalog, Relation};
use super::super::error::reading;
use super::super::filter::Filter;
use super::super::options::LogicalOptions;
use super::super::programs::{Dump, Excluded, Programs};
use super::super::session;
use super::super::sql::{Script, Token, qualified, quoted, tokens};
use super::complete::require_defined;
use super::locks::{self, Early};

/// How often a backup begins anew because tables came, went or were exchanged between looking and
/// locking.
const TRIES: usize = 8;
/// How often because definitions changed: then what there is has to do, and is told.
const MIXED: usize = 4;
/// Relations of a database up to which two programs read its definitions at a time: each locks all
/// tables, and a server has room for some thousands of locks (`max_locks_per_transaction`).
const TOGETHER: usize = 1000;

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
    /// When the snapshot was taken, by the clock of this program.
    pub(super) taken: Timestamp,
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

/// Takes the snapshots of databases, several at a time; leaves out those of which nothing is
/// selected.
pub(super) async fn hold_all(
    cx: &Context,
    options: &LogicalOptions,
    filter: &Filter,
    host: &Host,
    names: Vec<String>,
) -> SourceResult<Vec<Database>> {
    let holding = stream::iter(names).map(|name| {
        async move { Database::hold(cx, options, filter, (host, &name)).await }.boxed()
    });
    let mut holding = holding.buffered(options.jobs.max(1)).boxed();
    let mut held = Vec::new();
    while let Some(database) = holding.try_next().await? {
        if !database.covered.is_empty() || filter.covers_database(&database.name) {
            held.push(database);
        }
    }
    Ok(held)
}

/// Reads the definitions of these databases. Each takes two programs at a time.
pub(super) async fn define_all(
    cx: &Context,
    options: &LogicalOptions,
    filter: &Filter,
    programs: &Programs,
    held: Vec<Database>,
) -> SourceResult<(Vec<Database>, Vec<Definitions>)> {
    let defining = stream::iter(held)
        .map(|database: Database| database.define(cx, options, filter, programs).boxed());
    let defining = defining.buffered((options.jobs / 2).max(1)).boxed();
    let defined: Vec<(Database, Definitions)> = defining.try_collect().await?;
    Ok(defined.into_iter().unzip())
}

impl Database {
    /// Takes the snapshot of a database and locks its tables.
    pub(super) async fn hold(
        cx: &Context,
        options: &LogicalOptions,
        filter: &Filter,
        (host, name): (&Host, &str),
    ) -> SourceResult<Self> {
        for _ in 0..TRIES {
            cx.check_cancelled()?;
            if let Some(held) = Self::try_hold(cx, options, filter, (host, name)).await? {
                return Ok(held);
            }
        }
        let text =
            format!("tables of {name} are created and dropped too quickly to be locked together");
        Err(SourceError::new(SourceErrorKind::Unavailable, text)
            .with_hint("exclude these tables, or try again later"))
    }

    /// Reads the definitions of a database that is held. If they change meanwhile, takes a new
    /// snapshot: a session that wants to change a table waits for the locks of this backup, and
    /// `pg_dump` would wait for that session.
    pub(super) async fn define(
        mut self,
        cx: &Context,
        options: &LogicalOptions,
        filter: &Filter,
        programs: &Programs,
    ) -> SourceResult<(Self, Definitions)> {
        let mut number = 1;
        loop {
            cx.check_cancelled()?;
            let reason = match self.definitions(cx, options, filter, programs).await {
                // Rows of a table that was rewritten meanwhile are lost, whatever the definitions.
                Ok(_) if !self.lock_again(options).await? => Some(self.rewritten()),
                Ok(definitions) => {
                    self.is_mixed = self.has_changed(options, filter).await?;
                    if !self.is_mixed || number >= MIXED {
                        require_defined(&self, &definitions.before)?;
                        return Ok((self, definitions));
                    }
                    None
                }
                Err(error) if error.kind() == SourceErrorKind::Unavailable => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(reason) = reason.filter(|_| number >= TRIES) {
                return Err(reason);
            }
            number += 1;
            let (host, name) = (self.host.clone(), self.name.clone());
            // Its locks would be in the way of the next one.
            drop(self);
            self = Self::hold(cx, options, filter, (&host, &name)).await?;
        }
    }

    fn rewritten(&self) -> SourceError {
        let text = format!(
            "tables of {} are dropped, emptied or rewritten while their definitions are read",
            self.name
        );
        SourceError::new(SourceErrorKind::Unavailable, text)
            .with_hint("exclude these tables, or try again later")
    }

    /// `None` if what is there changed before it was locked: rows of a table that was rewritten or
    /// emptied after the snapshot was taken would be missing, so that locks come first.
    async fn try_hold(
        cx: &Context,
        options: &LogicalOptions,
        filter: &Filter,
        (host, name): (&Host, &str),
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
        let tables = locks::tables(&before, &covered);
        let Some(early) = Early::lock(&sql, options, &tables, name).await? else {
            return Ok(None);
        };
        let row = sql.client.query_one(SNAPSHOT_QUERY, &[]).await.map_err(doing)?;
        let taken = cx.clock.now();
        let mut catalog = Catalog::read(&sql, name).await?;
        let covered_now = catalog.covered(filter, name);
        let oids = |tables: &[&Relation]| tables.iter().map(|one| one.oid).collect::<HashSet<_>>();
        if oids(&locks::tables(&catalog, &covered_now)) != oids(&tables) {
            return Ok(None);
        }
        early.release(name).await?;
        catalog.measure(&sql, &covered_now).await?;
        // Locks that reading takes are given back; those of above stay.
        sql.client.batch_execute(session::REMEMBER).await.map_err(doing)?;
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
            taken,
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
        let before = programs.dump(cx, options, &dump, "pre-data");
        let after = programs.dump(cx, options, &dump, "post-data");
        let (text, after) = if self.covered.len() > TOGETHER {
            (before.await?, after.await?)
        } else {
            tokio::try_join!(before, after)?
        };
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
