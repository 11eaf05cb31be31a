//! Rows of a snapshot merged into a table that is there.

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::super::catalog::{self, Catalog, Kind};
use super::super::error::writing;
use super::super::manifest::{File, Table};
use super::super::sql::{Relation, qualified, quoted};
use super::writer::Writer;

/// Rows of equal primary key are replaced, others stay.
pub(super) async fn merge(
    writer: &Writer<'_>,
    table: &Table,
    name: &Relation,
    file: &File,
    catalog: &Catalog,
) -> SourceResult<u64> {
    const KEY: &str = "SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = \
                       i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = $1 AND \
                       i.indisprimary";
    let target = qualified(&name.0, &name.1);
    let doing = format!("cannot merge rows into {}.{}", name.0, name.1);
    let found = catalog.relations.iter().find(|one| (&one.schema, &one.name) == (&name.0, &name.1));
    let is_table = |one: &&catalog::Relation| matches!(one.kind, Kind::Table | Kind::Partitioned);
    let found = found.filter(is_table).ok_or_else(|| {
        let text = format!("{}.{} is not a table at the target", name.0, name.1);
        SourceError::new(SourceErrorKind::TargetExists, text)
            .with_hint("choose another name (--rename)")
    })?;
    let rows = writer.sql.client.query(KEY, &[&found.oid]).await;
    let key = rows
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>());
    let key = key.map_err(|error| writing(&error, &doing))?;
    if key.is_empty() {
        let text = format!("cannot merge into {}.{}: it has no primary key", name.0, name.1);
        let error = SourceError::new(SourceErrorKind::TargetExists, text);
        return Err(error.with_hint("choose --if-exists replace, or another name (--rename)"));
    }
    let list = |names: &mut dyn Iterator<Item = &String>| {
        names.map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
    };
    let columns = list(&mut table.columns.iter());
    let make = format!(
        "CREATE TEMPORARY TABLE backup_merge ON COMMIT DROP AS SELECT {columns} FROM {target} WITH \
         NO DATA"
    );
    writer.run(&make, &doing).await?;
    let bytes = writer.copy(table, file, "pg_temp.backup_merge").await?;
    let others = table.columns.iter().filter(|name| !key.contains(name));
    let changes: Vec<String> =
        others.map(|name| format!("{0} = excluded.{0}", quoted(name))).collect();
    let change = if changes.is_empty() {
        "NOTHING".to_owned()
    } else {
        format!("UPDATE SET {}", changes.join(", "))
    };
    let insert = format!(
        "INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM \
         pg_temp.backup_merge ON CONFLICT ({}) DO {change}; DROP TABLE pg_temp.backup_merge",
        list(&mut key.iter())
    );
    writer.run(&insert, &doing).await?;
    Ok(bytes)
}
