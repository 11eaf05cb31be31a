//! Into a database that is there, in one transaction: others see all of it or nothing.

use std::collections::HashSet;

use backup_core::event::WarningKind;
use backup_core::source::{IfExists, PlannedObject, Removal, RestoreReport, SourceResult};

use super::super::super::wire::Sql;
use super::super::catalog::Catalog;
use super::super::error::writing;
use super::super::manifest::Table;
use super::super::session;
use super::super::sql::{Entry, Relation};
use super::attempt::{Outcome, TAKEN};
use super::failures::Failures;
use super::kept::{self, Kept};
use super::plan::Plan;
use super::schemas::PUBLIC;
use super::ties::There;
use super::writer::{Beside, Writer};
use super::{Job, clear, lacking};

/// SQLSTATEs of objects that exist; the last one is of an index that is attached.
const THERE: [&str; 6] = {
    let [object, function, schema, relation, unique] = TAKEN;
    [object, function, schema, relation, unique, "55000"]
};

/// Objects of a database that a restore into it concerns.
pub(super) struct InTheWay {
    /// Names that are restored and taken at the target.
    pub(super) taken: Vec<Relation>,
    /// The first change that `--if-exists replace` or `merge` would make to tables that stay.
    pub(super) torn: Option<String>,
}

pub(super) async fn in_the_way(job: &Job<'_>, plan: &Plan<'_>) -> SourceResult<InTheWay> {
    let sql = open(job, &plan.target).await?;
    let catalog = Catalog::read(&sql, &plan.target).await?;
    let there = catalog.relations.iter().map(|one| (one.schema.clone(), one.name.clone()));
    let taken = there.filter(|name| plan.made.contains(name)).collect();
    Ok(InTheWay { taken, torn: clear::torn(plan, &catalog, job.request.if_exists) })
}

/// Relations, routines and types of an existing database that a replacement removes because the
/// snapshot lacks them.
pub(super) async fn removals(
    job: &Job<'_>,
    plan: &Plan<'_>,
    is_exchanged: bool,
) -> SourceResult<Vec<Removal>> {
    let sql = open(job, &plan.target).await?;
    let catalog = Catalog::read(&sql, &plan.target).await?;
    let mut removals = clear::removals(plan, &catalog, is_exchanged);
    removals.extend(lacking::removals(&sql, plan, &catalog, is_exchanged).await?);
    Ok(removals)
}

/// Roles that relations made by this session are granted to by default.
async fn granted(sql: &Sql) -> SourceResult<Vec<(Option<String>, String)>> {
    const ASKING: &str = "SELECT DISTINCT n.nspname::text, CASE WHEN a.grantee = 0 THEN 'PUBLIC' \
                          ELSE quote_ident(pg_get_userbyid(a.grantee)) END FROM pg_default_acl d \
                          CROSS JOIN LATERAL aclexplode(d.defaclacl) a LEFT JOIN pg_namespace n ON \
                          n.oid = d.defaclnamespace WHERE d.defaclrole = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND \
                          d.defaclobjtype IN ('r', 'S') AND a.grantee <> d.defaclrole";
    let rows = sql.client.query(ASKING, &[]).await;
    let roles = rows
        .and_then(|rows| rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect());
    roles.map_err(|error| writing(&error, "cannot list the default privileges"))
}

async fn publications(sql: &Sql) -> SourceResult<HashSet<String>> {
    let rows = sql.client.query("SELECT pubname::text FROM pg_publication", &[]).await;
    let names = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
    names.map_err(|error| writing(&error, "cannot list the publications"))
}

/// The plan of one database.
pub(super) struct Foretold {
    /// Tables, sequences and views that are written, and the relations of their names at the target.
    pub(super) objects: Vec<PlannedObject>,
    /// Reasons why parts of the snapshot are left out: the objects that they refer to are not at the
    /// target.
    pub(super) left_out: Vec<String>,
}

pub(super) async fn foretold(
    job: &Job<'_>,
    plan: &Plan<'_>,
    is_exchanged: bool,
) -> SourceResult<Foretold> {
    let (mut catalog, mut there) = (Catalog::default(), There::default());
    if job.server.has(&plan.target) {
        let sql = open(job, &plan.target).await?;
        catalog = Catalog::read(&sql, &plan.target).await?;
        if !is_exchanged {
            there.relations = clear::staying(plan, &catalog, job.request.if_exists);
            there.publications = publications(&sql).await?;
        }
    }
    let left_out = plan.after.iter().filter_map(|entry| plan.loose_end(entry, &there)).collect();
    Ok(Foretold { objects: super::objects::planned(plan, &catalog), left_out })
}

async fn open(job: &Job<'_>, database: &str) -> SourceResult<Sql> {
    session::open(&job.options.connection, Some(&job.server.sql.host), database).await
}

/// Writes the plan into the existing database.
pub(super) async fn restore(
    job: &Job<'_>,
    plan: &Plan<'_>,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    let sql = open(job, &plan.target).await?;
    let failures = Failures::new(job.options.exit_on_error);
    let writer = Writer { job, plan, sql: &sql, failures: &failures, beside: None };
    writer.run("BEGIN", "cannot begin a transaction").await?;
    let replaces = job.request.if_exists == IfExists::Replace;
    if replaces {
        clear::clear(&writer, &Catalog::read(&sql, &plan.target).await?).await?;
    }
    let beside = beside(&sql, plan).await?;
    let writer = Writer { beside: Some(&beside), ..writer };
    let mut kept = Kept::new(&writer);
    writer.make_schemas().await?;
    kept::reset(&writer, &kept).await?;
    define(&writer, &plan.before, &mut kept, report).await?;
    writer.retry_deferred().await?;
    for table in plan.in_order() {
        for file in &table.files {
            report.written_bytes += writer.load_or_defer(table, file).await?;
            report.files_written += 1;
        }
    }
    report.written_bytes += writer.retry_deferred().await?;
    report.warnings += writer.sequences().await?;
    let (bytes, warnings) = writer.large_objects().await?;
    report.written_bytes += bytes;
    report.warnings += warnings;
    // Policies of tables may hide rows from their owner later.
    if job.request.verify && can_compare(&writer, report).await? {
        let is_new = |table: &&Table| !beside.there.relations.contains(&plan.name_of(table));
        for table in plan.tables.iter().copied().filter(is_new) {
            if failures.has_all(plan, table) {
                report.verified_bytes += writer.verify(table).await?;
            }
        }
    }
    define(&writer, &plan.after, &mut kept, report).await?;
    writer.retry_deferred().await?;
    if !kept.keeps_schema(PUBLIC) {
        report.warnings += writer.warn_if_public_is_open().await?;
    }
    for table in plan.tables.iter().copied().filter(|table| failures.has_all(plan, table)) {
        writer.analyze(table).await?;
    }
    writer.retry_deferred().await?;
    // Without the end of the transaction the server undoes all of it.
    failures.fatal(plan, replaces).map_or(Ok(()), Err)?;
    // Whether it was done is not known if the connection breaks just now.
    sql.client.batch_execute("COMMIT").await.map_err(|error| writing(&error, "committing"))?;
    kept.note(job);
    failures.report(job, plan, report);
    Ok(())
}

/// The objects that are there when those to replace are gone.
async fn beside(sql: &Sql, plan: &Plan<'_>) -> SourceResult<Beside> {
    let catalog = Catalog::read(sql, &plan.target).await?;
    let pairs = catalog.relations.iter().map(|one| (one.schema.clone(), one.name.clone()));
    let there = There {
        relations: pairs.collect(),
        publications: publications(sql).await?,
        granted: granted(sql).await?,
    };
    Ok(Beside { there, catalog, filled: kept::filled(sql).await? })
}

/// Digests are of texts in the encoding of their database: in another one every text with other
/// letters would seem to be another.
async fn can_compare(writer: &Writer<'_>, report: &mut RestoreReport) -> SourceResult<bool> {
    let row = writer
        .sql
        .client
        .query_one("SELECT pg_catalog.current_setting('server_encoding')", &[])
        .await;
    let found = row.and_then(|row| row.try_get::<_, String>(0));
    let found = found.map_err(|error| writing(&error, "cannot inspect the target"))?;
    let known = writer.plan.stored.manifest.server_encoding.as_ref();
    let Some(other) = known.filter(|known| **known != found) else { return Ok(true) };
    let text = format!(
        "the encoding of this database is {found}, not {other}: restored data cannot be \
             compared"
    );
    writer.job.cx.events.warn(WarningKind::Other, &*writer.plan.target, text);
    report.warnings += 1;
    Ok(false)
}

/// Makes the objects that do not exist.
async fn define(
    writer: &Writer<'_>,
    entries: &[Entry<'_>],
    kept: &mut Kept,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    let Some(Beside { there, .. }) = writer.beside else { return Ok(()) };
    let (plan, if_exists) = (writer.plan, writer.job.request.if_exists);
    let cleared = plan.cleared();
    // Objects other than relations stay when merging, and in schemas that are not replaced as a
    // whole.
    let may_be_there = |entry: &Entry<'_>| {
        if_exists == IfExists::Merge
            || (if_exists == IfExists::Replace
                && !cleared.contains_key(&plan.names.schema(&entry.schema)))
    };
    for entry in entries {
        if let Some(why) = plan.loose_end(entry, there) {
            writer.job.cx.events.warn(WarningKind::Other, &*entry.name, why);
            report.warnings += 1;
            continue;
        }
        if kept.keeps(writer, entry) {
            continue;
        }
        let is_there = |one: &Relation| there.relations.contains(&plan.names.of(&one.0, &one.1));
        let outcome = match entry.about() {
            Some(about) if is_there(&about) => Outcome::Done,
            // Its table is there, with its statistics objects.
            Some(about)
                if entry.is_about_statistics() && is_there(plan.table_of(entry, &about)) =>
            {
                Outcome::Done
            }
            // Its index is there with its table.
            Some(_) if entry.is_about_index() && if_exists == IfExists::Merge => {
                writer.entry_unless(entry, &THERE).await?
            }
            None if entry.creates_schema() => schema(writer, entry).await?,
            None if !entry.kind.is_empty() && may_be_there(entry) => {
                writer.entry_unless(entry, &THERE).await?
            }
            _ => writer.entry_unless(entry, &[]).await?,
        };
        if outcome == Outcome::Kept {
            kept.add(entry);
        }
    }
    Ok(())
}

/// A schema may have been made for its tables, or be there.
async fn schema(writer: &Writer<'_>, entry: &Entry<'_>) -> SourceResult<Outcome> {
    for statement in writer.plan.units(entry, None) {
        let statement = statement.replacen("CREATE SCHEMA ", "CREATE SCHEMA IF NOT EXISTS ", 1);
        writer.run(&statement, &format!("cannot create the schema {}", entry.name)).await?;
    }
    Ok(Outcome::Done)
}
