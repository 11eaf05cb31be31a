//! Into a database of its own, several sessions at a time. It gets its name when it is complete.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use backup_core::event::WarningKind;
use backup_core::source::{RestoreReport, SourceResult};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, TryStreamExt as _};

use super::super::super::unless_cancelled;
use super::super::super::wire::Sql;
use super::super::manifest::{File, Table};
use super::super::session;
use super::super::sql::{Entry, tokens};
use super::Job;
use super::failures::Failures;
use super::plan::Plan;
use super::ties::There;
use super::writer::Writer;

/// Durable with what comes last: dropping and renaming databases wait for the log.
const SETTINGS: &str = "SET synchronous_commit = off; SET lock_timeout = 0";
/// Triggers and rules are made after the rows. Only superusers may set this, even to its own value.
const ROLE: &str = "SELECT pg_catalog.set_config('session_replication_role', 'origin', false) \
                    WHERE pg_catalog.current_setting('session_replication_role') <> 'origin'";

/// Sessions of one database.
struct Sessions<'a> {
    job: &'a Job<'a>,
    plan: &'a Plan<'a>,
    failures: &'a Failures,
    database: String,
    idle: Mutex<Vec<Sql>>,
}

impl Sessions<'_> {
    fn writer<'b>(&'b self, sql: &'b Sql) -> Writer<'b> {
        let Self { job, plan, failures, .. } = self;
        Writer { job, plan, sql, failures, beside: None }
    }

    async fn take(&self) -> SourceResult<Sql> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(sql) = idle {
            return Ok(sql);
        }
        let opening = async {
            let sql = session::open(
                &self.job.options.connection,
                Some(&self.job.server.sql.host),
                &self.database,
            )
            .await?;
            let set = sql.client.batch_execute(&format!("{SETTINGS}; {ROLE}")).await;
            set.map_err(|error| super::super::error::writing(&error, "cannot begin a session"))?;
            Ok(sql)
        };
        unless_cancelled(self.job.cx, opening).await
    }

    fn give_back(&self, sql: Sql) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sql);
    }

    /// Does `work` with each of `items`, as many at a time as may be. It gets a session and gives
    /// it back, with the bytes that it has dealt with; returns their sum.
    async fn each<'f, T>(
        &'f self,
        items: Vec<T>,
        work: impl Fn(Sql, T) -> BoxFuture<'f, SourceResult<(Sql, u64)>>,
    ) -> SourceResult<u64> {
        let (mut waiting, mut running, mut sum) = (items.into_iter(), FuturesUnordered::new(), 0);
        loop {
            while running.len() < self.job.options.jobs.max(1) {
                let Some(item) = waiting.next() else { break };
                let sql = self.take().await?;
                running.push(work(sql, item));
            }
            match running.try_next().await? {
                Some((sql, bytes)) => {
                    self.give_back(sql);
                    sum += bytes;
                }
                None => return Ok(sum),
            }
        }
    }
}

/// Writes a database and puts it in its place.
pub(super) async fn restore(
    job: &Job<'_>,
    plan: &Plan<'_>,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    let name = unless_cancelled(job.cx, job.server.create(plan, job.options)).await?;
    let failures = Failures::new(job.options.exit_on_error);
    let database = name.clone();
    let sessions = Sessions { job, plan, failures: &failures, database, idle: Mutex::default() };
    let sql = sessions.take().await?;
    let writer = sessions.writer(&sql);
    before(&writer).await?;
    load(&sessions, report).await?;
    report.written_bytes += writer.retry_deferred().await?;
    report.warnings += writer.sequences().await?;
    let (bytes, warnings) = writer.large_objects().await?;
    report.written_bytes += bytes;
    report.warnings += warnings;
    // Policies of tables may hide rows from their owner later.
    if job.request.verify {
        let tables = plan.tables.iter().copied().filter(|table| failures.has_all(plan, table));
        let verify = |sql: Sql, table| verified(&sessions, sql, table).boxed();
        report.verified_bytes += sessions.each(tables.collect(), verify).await?;
    }
    after(&sessions, &writer, report).await?;
    writer.retry_deferred().await?;
    report.warnings += writer.warn_if_public_is_open().await?;
    // The database that is there stays as it is.
    failures.fatal(plan, job.server.has(&plan.target)).map_or(Ok(()), Err)?;
    drop(sql);
    drop(sessions);
    // From here on to its end: half of it would be worse.
    job.cx.check_cancelled()?;
    job.server.exchange(plan, &name, job.options).await?;
    failures.report(job, plan, report);
    Ok(())
}

/// Everything that the rows need.
async fn before(writer: &Writer<'_>) -> SourceResult<()> {
    writer.make_schemas().await?;
    writer.open_or_close_public().await?;
    for entry in &writer.plan.before {
        writer.entry(entry).await?;
    }
    writer.retry_deferred().await.map(|_| ())
}

/// Rows, the largest files first.
async fn load(sessions: &Sessions<'_>, report: &mut RestoreReport) -> SourceResult<()> {
    let tables = sessions.plan.tables.iter().copied();
    let mut files: Vec<(&Table, &File)> =
        tables.flat_map(|table| table.files.iter().map(move |file| (table, file))).collect();
    files.sort_by_key(|(_, file)| std::cmp::Reverse(file.bytes));
    report.files_written += files.len() as u64;
    let copy = |sql: Sql, (table, file)| copied(sessions, sql, table, file).boxed();
    report.written_bytes += sessions.each(files, copy).await?;
    Ok(())
}

async fn copied(
    sessions: &Sessions<'_>,
    sql: Sql,
    table: &Table,
    file: &File,
) -> SourceResult<(Sql, u64)> {
    let bytes = sessions.writer(&sql).load_or_defer(table, file).await?;
    Ok((sql, bytes))
}

async fn verified(sessions: &Sessions<'_>, sql: Sql, table: &Table) -> SourceResult<(Sql, u64)> {
    let bytes = sessions.writer(&sql).verify(table).await?;
    Ok((sql, bytes))
}

async fn analyzed(sessions: &Sessions<'_>, sql: Sql, table: &Table) -> SourceResult<(Sql, u64)> {
    sessions.writer(&sql).analyze(table).await?;
    Ok((sql, 0))
}

/// What is built, in its order, each with the settings that the dump has in force there: its
/// tablespace.
type Built<'a> = Vec<(Option<&'a Entry<'a>>, &'a Entry<'a>)>;

async fn built(sessions: &Sessions<'_>, sql: Sql, entries: Built<'_>) -> SourceResult<(Sql, u64)> {
    let writer = sessions.writer(&sql);
    for (settings, entry) in entries {
        if let Some(settings) = settings {
            writer.entry(settings).await?;
        }
        writer.entry(entry).await?;
    }
    Ok((sql, 0))
}

fn sets_tablespace(settings: &Entry<'_>) -> bool {
    settings
        .statements
        .iter()
        .any(|statement| tokens(statement).any(|token| token.is("DEFAULT_TABLESPACE")))
}

/// Indexes and constraints with indexes first, those of several tables at a time; then, in the
/// order of the dump, what builds on them. Statistics come before materialized views are filled.
async fn after(
    sessions: &Sessions<'_>,
    writer: &Writer<'_>,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    let plan = writer.plan;
    let mut by_table: BTreeMap<_, Built<'_>> = BTreeMap::new();
    let (mut others, mut in_force) = (Vec::new(), None);
    for entry in &plan.after {
        if entry.kind.is_empty() && sets_tablespace(entry) {
            in_force = Some(entry);
        }
        match entry.kind {
            "INDEX" | "CONSTRAINT" => {
                by_table.entry(entry.about()).or_default().push((in_force, entry));
            }
            _ => others.push(entry),
        }
    }
    for entry in others.iter().filter(|entry| entry.kind.is_empty()) {
        writer.entry(entry).await?;
    }
    let build = |sql: Sql, entries| built(sessions, sql, entries).boxed();
    sessions.each(by_table.into_values().collect(), build).await?;
    writer.retry_deferred().await?;
    let whole = plan.tables.iter().copied().filter(|table| writer.failures.has_all(plan, table));
    let analyze = |sql: Sql, table| analyzed(sessions, sql, table).boxed();
    sessions.each(whole.collect(), analyze).await?;
    for entry in others {
        if let Some(why) = plan.loose_end(entry, &There::default()) {
            writer.job.cx.events.warn(WarningKind::Other, &*entry.name, why);
            report.warnings += 1;
            continue;
        }
        writer.entry(entry).await?;
    }
    Ok(())
}
