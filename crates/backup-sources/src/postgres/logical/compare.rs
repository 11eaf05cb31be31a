//! Whether a server holds the rows of a backup, without restoring them: by the digests that the
//! backup recorded, or by those of a restored copy.

use std::collections::{HashMap, HashSet};

use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::repository::SnapshotReader;
use backup_core::source::{Digest, Selection, SourceError, SourceErrorKind, SourceResult};

use super::super::error::malformed;
use super::catalog::{Catalog, Relation};
use super::closed;
use super::digest::{OfServer, name_of, of_server};
use super::filter::Filter;
use super::manifest::{self, Database, Table};
use super::options::LogicalOptions;
use super::sql;

/// Digests of tables of both sides, by `database.schema.table`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// In the backup.
    pub stored: Digest,
    /// On the server, now.
    pub found: Digest,
    /// Number of databases that could not be compared. A warning names each.
    pub warnings: u64,
}

/// Compares the tables of a logical backup with those of a server, as far as `selection` covers
/// them.
pub(super) async fn with_snapshot(
    cx: &Context,
    options: &LogicalOptions,
    snapshot: &SnapshotReader,
    selection: &Selection,
) -> SourceResult<Comparison> {
    let asked = Filter::new(selection)?;
    let databases = manifests(snapshot).await?;
    let Stored { side, without, together } = stored(&databases, &asked)?;
    // All databases of a backup have the same patterns.
    let backed_up = match databases.first() {
        Some(one) => Selection::new(one.include.clone(), one.exclude.clone())
            .map_err(|error| malformed(format!("manifest: {error}")))?,
        None => Selection::all(),
    };
    let named = |database: &str, catalog: &Catalog, table: &Relation| {
        let mut names = catalog.line_of(table).map(|one| name_of(database, &one.schema, &one.name));
        let own = names.next().filter(|own| !without.contains(own))?;
        Some(names.find(|name| together.contains(name)).unwrap_or(own))
    };
    let filters = [&asked, &Filter::new(&backed_up)?];
    let found = of_server(cx, options, &filters, &named).await?;
    Ok(compared(cx, side, found))
}

/// Compares the tables of a server with those of a copy, as far as `selection` covers them. Leaves
/// out unlogged tables: no copy of a data directory has rows of them.
pub(super) async fn with_copy(
    cx: &Context,
    options: &LogicalOptions,
    copy: &LogicalOptions,
    selection: &Selection,
) -> SourceResult<Comparison> {
    let filter = Filter::new(selection)?;
    let is_logged = |database: &str, _: &Catalog, table: &Relation| {
        (!table.is_unlogged).then(|| name_of(database, &table.schema, &table.name))
    };
    let stored = of_server(cx, copy, &[&filter], &is_logged).await?;
    let found = of_server(cx, options, &[&filter], &is_logged).await?;
    Ok(compared(cx, stored, found))
}

/// Takes out the databases that cannot be compared.
fn compared(cx: &Context, mut stored: OfServer, mut found: OfServer) -> Comparison {
    let mut warnings = 0;
    let mut skipped = HashSet::new();
    for name in &stored.closed | &found.closed {
        let warning = closed::warning(&name);
        cx.events.warn(warning.kind, &*name, warning.message);
        warnings += 1;
        skipped.insert(name);
    }
    for (name, other) in &stored.encodings {
        let Some(encoding) = found.encodings.get(name).filter(|found| *found != other) else {
            continue;
        };
        let text = format!(
            "the encoding of this database is {encoding}, that of the backup is {other}: their \
             rows cannot be compared"
        );
        cx.events.warn(WarningKind::Other, &**name, text);
        warnings += 1;
        skipped.insert(name.clone());
    }
    for digest in [&mut stored.digest, &mut found.digest] {
        let is_skipped = |object: &str| {
            skipped.iter().any(|name| {
                object.strip_prefix(&**name).is_some_and(|behind| behind.starts_with('.'))
            })
        };
        digest.objects.retain(|object, _| !is_skipped(object));
    }
    Comparison { stored: stored.digest, found: found.digest, warnings }
}

/// The side of a backup.
#[derive(Debug, Default)]
struct Stored {
    side: OfServer,
    /// Names of tables without a digest: partitioned ones, and ones whose rows the backup does not
    /// hold, or not all of them.
    without: HashSet<String>,
    /// Names of partitioned tables whose partitions have one digest together: on each server the
    /// rows may lie in other partitions.
    together: HashSet<String>,
}

/// The recorded digests of the tables that `asked` covers.
fn stored(databases: &[Database], asked: &Filter) -> SourceResult<Stored> {
    let mut stored = Stored::default();
    for database in databases.iter().filter(|one| asked.may_cover(&one.name)) {
        let name = &database.name;
        if let Some(encoding) = &database.server_encoding {
            stored.side.encodings.insert(name.clone(), encoding.clone());
        }
        let tables = &database.tables;
        let schemas = tables.iter().map(|one| format!("{name}.{}", one.schema));
        let names = tables.iter().map(|one| name_of(name, &one.schema, &one.name));
        asked.note_matches(schemas.chain(names).chain([name.clone()]));
        let parents = database.parents()?;
        let is_covered = |table: &Table| covers(asked, name, table, &parents);
        let together = together(tables, is_covered);
        for table in tables.iter().filter(|one| is_covered(one)) {
            let named = name_of(name, &table.schema, &table.name);
            let is_whole = together.contains(&(&*table.schema, &*table.name));
            if is_whole {
                stored.together.insert(named.clone());
            }
            let has_files = !table.files.is_empty();
            let through = table.through.as_ref();
            match &table.digest {
                // Its rows are in the digest of the partitioned table.
                Some(_) if through.is_some_and(|one| together.contains(&(&*one.0, &*one.1))) => {}
                Some(digest) if is_whole || has_files => {
                    stored.side.digest.objects.insert(named, digest.clone());
                }
                None if has_files && !table.without_rows && !table.of_extension => {
                    return Err(without_digests());
                }
                _ => _ = stored.without.insert(named),
            }
        }
    }
    Ok(stored)
}

/// Partitioned tables with a digest of all partitions that are loaded through them, if all of these
/// are covered.
fn together(tables: &[Table], is_covered: impl Fn(&Table) -> bool) -> HashSet<(&str, &str)> {
    let pair = |one: &'_ Table| (one.schema.clone(), one.name.clone());
    let parts = tables.iter().filter(|one| !is_covered(one));
    let torn: HashSet<_> = parts.filter_map(|one| one.through.clone()).collect();
    let routes: HashSet<_> = tables.iter().filter_map(|one| one.through.clone()).collect();
    tables
        .iter()
        .filter(|one| one.digest.is_some() && is_covered(one))
        .filter(|one| routes.contains(&pair(one)) && !torn.contains(&pair(one)))
        .map(|one| (&*one.schema, &*one.name))
        .collect()
}

fn without_digests() -> SourceError {
    let text = "the backup recorded no digests of its tables, so there is nothing to compare with";
    SourceError::new(SourceErrorKind::Unsupported, text)
        .with_hint("set `digests = true` for the source, and back up again")
}

/// Whether a table is meant, or one that it is a partition of, and it is not left out by name.
fn covers(
    filter: &Filter,
    database: &str,
    table: &Table,
    parents: &HashMap<sql::Relation, sql::Relation>,
) -> bool {
    let own = (table.schema.clone(), table.name.clone());
    let mut line = std::iter::successors(Some(&own), |one| parents.get(*one));
    line.any(|(schema, name)| filter.covers(database, schema, name))
        && !filter.excludes(database, &table.schema, &table.name)
}

/// The descriptions of all databases of a backup.
async fn manifests(snapshot: &SnapshotReader) -> SourceResult<Vec<Database>> {
    let (place, whole) = manifest::of_snapshot(snapshot).await?;
    let mut databases = Vec::new();
    for one in &whole.databases {
        databases.push(manifest::of_database(snapshot, &place, one).await?);
    }
    Ok(databases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn databases(server_encoding: &str) -> Vec<Database> {
        let digest = serde_json::json!({ "count": 1, "bytes": 2, "digest": "ab" });
        let file = serde_json::json!([{ "path": "data/x", "rows": 1, "bytes": 2 }]);
        let json = serde_json::json!({
            "form": manifest::FORM, "name": "shop", "encoding": "UTF8", "server_encoding": server_encoding,
            "whole": true, "large_objects": null, "sequences": [],
            "tables": [
                { "schema": "public", "name": "sales", "columns": [], "files": [] },
                { "schema": "parts", "name": "y2024", "partition_of": ["public", "sales"],
                  "columns": [], "files": file, "digest": digest },
                { "schema": "public", "name": "cache", "columns": [], "files": [],
                  "without_rows": true },
                { "schema": "public", "name": "orders", "columns": [], "files": file,
                  "digest": digest },
            ],
        });
        vec![manifest::decode(json.to_string().as_bytes()).unwrap()]
    }

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Filter::new(&Selection::new(owned(include), owned(exclude)).unwrap()).unwrap()
    }

    #[test]
    fn stored_digests_follow_the_selection_and_partitions() {
        let names = |include: &[&str], exclude: &[&str]| -> Vec<String> {
            let stored = stored(&databases("UTF8"), &filter(include, exclude)).unwrap();
            stored.side.digest.objects.into_keys().collect()
        };
        assert_eq!(names(&[], &[]), ["shop.parts.y2024", "shop.public.orders"]);
        assert_eq!(names(&["shop.public.sales"], &[]), ["shop.parts.y2024"], "its partition");
        assert!(names(&["shop.public.sales"], &["shop.parts"]).is_empty());
        assert!(names(&["crm"], &[]).is_empty());
        let without = stored(&databases("UTF8"), &filter(&[], &[])).unwrap().without;
        let expected = ["shop.public.sales", "shop.public.cache"].map(str::to_owned);
        assert_eq!(without, HashSet::from(expected));
    }

    #[test]
    fn partitions_have_one_digest_together_if_all_are_selected() {
        let mut all = databases("UTF8");
        let tables = &mut all[0].tables;
        let sales = ("public".to_owned(), "sales".to_owned());
        tables[0].digest = tables[1].digest.clone();
        let other = Table { name: "y2025".to_owned(), ..tables[1].clone() };
        tables.push(other);
        for at in [1, 4] {
            tables[at].through = Some(sales.clone());
        }
        let names = |include: &[&str], exclude: &[&str]| -> Vec<String> {
            let stored = stored(&all, &filter(include, exclude)).unwrap();
            stored.side.digest.objects.into_keys().collect()
        };
        assert_eq!(names(&[], &[]), ["shop.public.orders", "shop.public.sales"]);
        assert_eq!(names(&["shop.parts.y2025"], &[]), ["shop.parts.y2025"]);
        assert_eq!(names(&["shop.public.sales"], &["shop.parts.y2025"]), ["shop.parts.y2024"]);
    }

    #[test]
    fn backups_without_digests_are_refused() {
        let mut without = databases("UTF8");
        without[0].tables[3].digest = None;
        assert!(stored(&without, &filter(&[], &[])).unwrap_err().hint().is_some());
        assert!(stored(&without, &filter(&["shop.parts"], &[])).is_ok(), "it is not compared");
    }

    #[test]
    fn databases_in_another_encoding_are_left_out_with_a_warning() {
        let side = |encoding: &str| stored(&databases(encoding), &filter(&[], &[])).unwrap().side;
        let cx = Context::silent();
        let equal = compared(&cx, side("UTF8"), side("UTF8"));
        assert_eq!((equal.warnings, equal.stored.objects.len()), (0, 2));
        let other = compared(&cx, side("UTF8"), side("LATIN1"));
        assert_eq!((other.warnings, other.stored.objects.len()), (1, 0));
        assert!(other.found.objects.is_empty());
    }
}
