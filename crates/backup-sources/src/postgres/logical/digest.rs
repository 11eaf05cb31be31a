//! Digests of what a logical backup would read, to compare copies.

use backup_core::context::Context;
use backup_core::source::{Digest, Selection, SourceResult};

use super::super::digest;
use super::catalog::{Catalog, Kind};
use super::error::reading;
use super::filter::Filter;
use super::options::LogicalOptions;
use super::{databases, session};

/// By `database.schema.table`.
pub(super) async fn digest(
    cx: &Context,
    options: &LogicalOptions,
    selection: &Selection,
) -> SourceResult<Digest> {
    let filter = Filter::new(selection)?;
    let sql = session::open(&options.connection, None, &options.connection.database).await?;
    let mut found = Digest::default();
    for name in databases(&sql).await?.into_iter().filter(|name| filter.may_cover(name)) {
        let session = session::open(&options.connection, Some(&sql.host), &name).await?;
        let begun =
            session.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await;
        begun.map_err(|error| reading(&error, format!("cannot read {name}")))?;
        let catalog = Catalog::read(&session, &name).await?;
        let covered = catalog.covered(&filter, &name);
        let tables = catalog
            .relations
            .iter()
            .filter(|one| one.kind == Kind::Table && covered.contains(&one.oid));
        for table in tables.filter(|one| one.condition.is_none()) {
            cx.check_cancelled()?;
            let of_it = digest::of_table(&session, &table.sql()).await?;
            found.objects.insert(format!("{name}.{}.{}", table.schema, table.name), of_it);
        }
    }
    Ok(found)
}
