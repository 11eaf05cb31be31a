//! What stands in the way of a logical backup, and the statement that mends it.

use backup_core::context::Context;
use backup_core::source::{Probe, ProbeProblem, SelectedPart, Selection, SourceResult};
use backup_core::words::few;

use super::super::cluster::Cluster;
use super::super::probe::clock_ahead;
use super::super::wire::Sql;
use super::catalog::{Catalog, Kind};
use super::error::reading;
use super::filter::Filter;
use super::options::LogicalOptions;
use super::programs::Programs;
use super::{closed, databases, session};

/// Tables that may not be read, or not all of whose rows would be shown.
const REFUSED: &str = "SELECT c.oid, NOT (has_table_privilege(c.oid, 'SELECT') AND \
                       has_schema_privilege(n.oid, 'USAGE')), row_security_active(c.oid) FROM \
                       pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN \
                       ('r', 'p', 'S') AND c.relpersistence <> 't'";
/// Names that one problem lists.
const NAMED: usize = 5;

pub(super) async fn probe(
    cx: &Context,
    cluster: &Cluster,
    options: &LogicalOptions,
) -> SourceResult<Probe> {
    let version = Some(format!("{}.{}", cluster.version / 10_000, cluster.version % 10_000));
    let mut probe = Probe { version, ..Probe::default() };
    if let Err(error) = Programs::find(options, cluster.version).await {
        let remedy = "install pg_dump and pg_restore of the server's version or a newer one";
        probe.problems.push(ProbeProblem::of_error(&error, remedy));
    }
    let sql = session::open(&options.connection, None, &options.connection.database).await?;
    probe.clock_ahead_seconds = clock_ahead(cx, &sql).await;
    if sql.is_pooled().await? {
        cx.events.note(
            "a connection pooler such as PgBouncer answers: use the address of the server itself, \
             or a pool in session mode",
        );
    }
    for name in databases(&sql).await? {
        cx.check_cancelled()?;
        match session::open(&options.connection, Some(&sql.host), &name).await {
            Ok(session) => {
                of_database(&session, &name, &options.connection.user, &mut probe).await?;
            }
            Err(error) => {
                let remedy = format!("GRANT CONNECT ON DATABASE {name} TO the user of the backup");
                let problem = ProbeProblem::of_error(&error, &remedy);
                let finding = format!("database {name}: {}", problem.finding);
                probe.problems.push(ProbeProblem { finding, ..problem });
            }
        }
    }
    Ok(probe)
}

/// Tables that a selection covers, by database.
pub(super) async fn selected(
    cx: &Context,
    options: &LogicalOptions,
    selection: &Selection,
) -> SourceResult<Vec<SelectedPart>> {
    let filter = Filter::new(selection)?;
    let sql = session::open(&options.connection, None, &options.connection.database).await?;
    let mut parts = Vec::new();
    for name in databases(&sql).await?.into_iter().filter(|name| filter.may_cover(name)) {
        cx.check_cancelled()?;
        let session = session::open(&options.connection, Some(&sql.host), &name).await?;
        let catalog = Catalog::read(&session, &name).await?;
        let covered = catalog.covered(&filter, &name);
        let tables = catalog
            .relations
            .iter()
            .filter(|one| one.kind == Kind::Table && covered.contains(&one.oid));
        let objects = tables.count() as u64;
        if objects > 0 || filter.covers_database(&name) {
            parts.push(SelectedPart { name, objects: Some(objects), unit: "tables" });
        }
    }
    closed::closed(&sql, &filter, parts.is_empty()).await?;
    Ok(parts)
}

async fn of_database(session: &Sql, name: &str, user: &str, probe: &mut Probe) -> SourceResult<()> {
    let doing = |error: tokio_postgres::Error| {
        reading(&error, format!("cannot check the privileges in {name}"))
    };
    let catalog = Catalog::read(session, name).await?;
    let (mut denied, mut filtered) = (Vec::new(), Vec::new());
    for row in session.client.query(REFUSED, &[]).await.map_err(doing)? {
        let Some(table) = catalog.by_oid(row.try_get(0).map_err(doing)?) else { continue };
        let (is_denied, is_filtered): (bool, bool) =
            (row.try_get(1).map_err(doing)?, row.try_get(2).map_err(doing)?);
        let list = if is_denied { &mut denied } else { &mut filtered };
        if is_denied || is_filtered {
            list.push(format!("{name}.{}.{}", table.schema, table.name));
        }
    }
    if !denied.is_empty() {
        probe.problems.push(ProbeProblem::new(
            format!("{} may not be read", few(&denied, NAMED)),
            format!("GRANT pg_read_all_data TO {user} (before version 14: USAGE, SELECT)"),
        ));
    }
    if !filtered.is_empty() {
        probe.problems.push(ProbeProblem::new(
            format!("rows of {} would be hidden by row-level security", few(&filtered, NAMED)),
            format!("ALTER ROLE {user} BYPASSRLS"),
        ));
    }
    let tables = || catalog.relations.iter().filter(|one| one.kind == Kind::Table);
    let count = tables().count() as u64;
    let oids: Vec<u32> = tables().map(|one| one.oid).collect();
    // The numbers of the statistics are 0 before the first ANALYZE.
    let size = match measured(session, &oids).await {
        Some(size) => size,
        None => tables().map(|one| one.size).sum(),
    };
    probe.estimated_objects = Some(probe.estimated_objects.unwrap_or(0) + count);
    probe.estimated_bytes = Some(probe.estimated_bytes.unwrap_or(0) + size);
    Ok(())
}

/// Bytes of these tables on disk, without indexes; `None` if one of them stays locked.
async fn measured(session: &Sql, oids: &[u32]) -> Option<u64> {
    const SIZES: &str = "SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint FROM \
                         unnest($1::oid[]) AS oid";
    session.client.batch_execute("SET lock_timeout = '2s'").await.ok()?;
    let size: i64 = session.client.query_one(SIZES, &[&oids]).await.ok()?.try_get(0).ok()?;
    u64::try_from(size).ok()
}
