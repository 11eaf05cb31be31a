//! Digests of what a logical backup would read, to compare copies.

use std::collections::{BTreeMap, BTreeSet};

use backup_core::context::Context;
use backup_core::source::{Digest, Selection, SourceResult};

use super::super::digest::{self, Sums};
use super::super::wire::Sql;
use super::catalog::{Catalog, Kind, Relation};
use super::error::reading;
use super::filter::Filter;
use super::options::LogicalOptions;
use super::{closed, databases, session};

/// By `database.schema.table`.
pub(super) async fn digest(
    cx: &Context,
    options: &LogicalOptions,
    selection: &Selection,
) -> SourceResult<Digest> {
    let filter = Filter::new(selection)?;
    Ok(of_server(cx, options, &[&filter], &own_name).await?.digest)
}

/// `database.schema.table`.
pub(super) fn name_of(database: &str, schema: &str, table: &str) -> String {
    format!("{database}.{schema}.{table}")
}

/// Each table by itself.
fn own_name(database: &str, _: &Catalog, table: &Relation) -> Option<String> {
    Some(name_of(database, &table.schema, &table.name))
}

/// The tables of a server.
#[derive(Debug, Default)]
pub(super) struct OfServer {
    /// By `database.schema.table`.
    pub(super) digest: Digest,
    /// The encoding of each database. Digests of two encodings cannot be compared.
    pub(super) encodings: BTreeMap<String, String>,
    /// Databases that allow no connections.
    pub(super) closed: BTreeSet<String>,
}

/// Digests of the tables that all of `filters` cover, by the names that `named` gives them in their
/// database: tables of one name have one digest together, those without a name are left out.
/// Records the include patterns of `filters` that match something.
pub(super) async fn of_server(
    cx: &Context,
    options: &LogicalOptions,
    filters: &[&Filter],
    named: &(dyn Fn(&str, &Catalog, &Relation) -> Option<String> + Sync),
) -> SourceResult<OfServer> {
    let sql = session::open(&options.connection, None, &options.connection.database).await?;
    let may_cover = |name: &String| filters.iter().all(|filter| filter.may_cover(name));
    let mut found = OfServer::default();
    for filter in filters {
        let closed = closed::closed(&sql, filter, false).await?;
        found.closed.extend(closed.into_iter().filter(may_cover));
    }
    for name in databases(&sql).await?.into_iter().filter(may_cover) {
        let session = session::open(&options.connection, Some(&sql.host), &name).await?;
        let doing = |error| reading(&error, format!("cannot read {name}"));
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        session.client.batch_execute(begin).await.map_err(doing)?;
        found.encodings.insert(name.clone(), encoding(&session).await.map_err(doing)?);
        let catalog = Catalog::read(&session, &name).await?;
        for filter in filters {
            note_matches(filter, &name, &catalog);
        }
        let covered = filters.iter().map(|filter| catalog.covered(filter, &name));
        let covered = covered.reduce(|one, other| &one & &other).unwrap_or_default();
        let tables = catalog.relations.iter().filter(|one| {
            let is_table = one.kind == Kind::Table && one.condition.is_none();
            is_table && covered.contains(&one.oid)
        });
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        for table in tables {
            let Some(object) = named(&name, &catalog, table) else { continue };
            cx.check_cancelled()?;
            let of_it = digest::sums_of(&session, &table.sql()).await?;
            sums.entry(object).or_default().add(&of_it);
        }
        let digests = sums.into_iter().map(|(object, sums)| (object, sums.digest()));
        found.digest.objects.extend(digests);
    }
    Ok(found)
}

async fn encoding(sql: &Sql) -> Result<String, tokio_postgres::Error> {
    let asking = "SELECT pg_catalog.current_setting('server_encoding')";
    sql.client.query_one(asking, &[]).await?.try_get(0)
}

fn note_matches(filter: &Filter, database: &str, catalog: &Catalog) {
    let schemas = catalog.schemas.iter().map(|schema| format!("{database}.{schema}"));
    let relations = &catalog.relations;
    let relations = relations.iter().map(|one| format!("{database}.{}.{}", one.schema, one.name));
    filter.note_matches(schemas.chain(relations).chain([database.to_owned()]));
}
