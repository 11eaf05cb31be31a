//! Relations that a plan names: the rows that the snapshot holds of them, and the ones at the target
//! that they replace or are merged into.

use std::collections::{BTreeSet, HashMap};

use backup_core::source::{ExistingObject, PlannedObject};

use super::super::catalog::Catalog;
use super::super::manifest::Table;
use super::super::sql::RELATION_KINDS;
use super::super::sql::Relation;
use super::plan::Plan;

/// The relations that are written, sorted by name; `catalog` is the one of the target.
pub(super) fn planned(plan: &Plan<'_>, catalog: &Catalog) -> Vec<PlannedObject> {
    let rows = stored_rows(plan);
    let estimates = catalog.estimated_rows();
    let there: HashMap<(&str, &str), Option<u64>> = catalog
        .relations
        .iter()
        .map(|one| ((&*one.schema, &*one.name), estimates.get(&one.oid).copied()))
        .collect();
    let kind_of = |name: &Relation| {
        let entry = plan.before.iter().find(|entry| {
            RELATION_KINDS.contains(&entry.kind)
                && plan.names.of(&entry.schema, &entry.name) == *name
        });
        // Tables of extensions have rows in the dump, and no statement.
        entry.map_or_else(|| "table".to_owned(), |entry| entry.kind.to_lowercase())
    };
    let written: BTreeSet<&Relation> = plan.made.iter().chain(rows.keys()).collect();
    let object = |name: &Relation| PlannedObject {
        kind: kind_of(name),
        name: format!("{}.{}.{}", plan.target, name.0, name.1),
        count: rows.get(name).copied().flatten(),
        existing: there
            .get(&(&*name.0, &*name.1))
            .map(|rows| ExistingObject { count: None, estimate: *rows }),
    };
    written.into_iter().map(object).collect()
}

/// Rows of the snapshot, as they were counted while the backup read them, by names at the target. A
/// partitioned table has those of its restored partitions; the number is unknown where the backup
/// read no rows of a table that has some.
fn stored_rows(plan: &Plan<'_>) -> HashMap<Relation, Option<u64>> {
    let by_name: HashMap<(&str, &str), &Table> =
        plan.tables.iter().map(|table| ((&*table.schema, &*table.name), *table)).collect();
    let mut found = HashMap::new();
    for table in &plan.tables {
        let rows = table.files.iter().map(|file| file.rows).sum::<u64>();
        let rows = (!table.without_rows).then_some(rows);
        let mut at = Some(*table);
        while let Some(one) = at {
            let sum: &mut Option<u64> = found.entry(plan.name_of(one)).or_insert(Some(0));
            *sum = sum.zip(rows).map(|(sum, rows)| sum.saturating_add(rows));
            at = one
                .partition_of
                .as_ref()
                .and_then(|(schema, name)| by_name.get(&(&**schema, &**name)).copied());
        }
    }
    found
}
