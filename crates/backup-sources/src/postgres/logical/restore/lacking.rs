//! Objects of the target other than relations that a replacement removes, because the snapshot lacks
//! them.

use std::collections::{HashMap, HashSet};

use backup_core::source::{Removal, SourceResult};

use super::super::super::wire::Sql;
use super::super::catalog::Catalog;
use super::super::error::writing;
use super::super::sql::{Entry, Relation};
use super::clear::{Other, others_of};
use super::plan::Plan;

/// Entry types of routines.
const ROUTINES: [&str; 3] = ["FUNCTION", "PROCEDURE", "AGGREGATE"];
/// Objects of a database outside of schemas, and schemas: entry type and name. Objects that each
/// new database has are left out.
const NAMED: &str = "SELECT 'SCHEMA', nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' AND \
                     nspname NOT IN ('information_schema', 'public') UNION ALL SELECT \
                     'PUBLICATION', pubname::text FROM pg_publication UNION ALL SELECT \
                     'SUBSCRIPTION', subname::text FROM pg_subscription WHERE subdbid = (SELECT oid \
                     FROM pg_database WHERE datname = current_database()) UNION ALL SELECT \
                     'EXTENSION', extname::text FROM pg_extension WHERE extname <> 'plpgsql' UNION \
                     ALL SELECT 'SERVER', srvname::text FROM pg_foreign_server UNION ALL SELECT \
                     'EVENT TRIGGER', evtname::text FROM pg_event_trigger ORDER BY 1, 2";
const LARGE_OBJECTS: &str = "SELECT count(*) FROM pg_largeobject_metadata";
const DOING: &str = "cannot list the objects of the database";

/// Functions and types in schemas that are restored as a whole; of a database that is exchanged,
/// also its other objects. Other overloads of a function show by their number, large objects too.
pub(super) async fn removals(
    sql: &Sql,
    plan: &Plan<'_>,
    catalog: &Catalog,
    is_exchanged: bool,
) -> SourceResult<Vec<Removal>> {
    let mut removals = of_schemas(sql, plan, catalog, is_exchanged).await?;
    if is_exchanged {
        removals.extend(of_database(sql, plan).await?);
    }
    Ok(removals)
}

async fn of_schemas(
    sql: &Sql,
    plan: &Plan<'_>,
    catalog: &Catalog,
    is_exchanged: bool,
) -> SourceResult<Vec<Removal>> {
    let cleared = plan.cleared();
    let origin = |schema: &String| {
        let same = is_exchanged.then(|| schema.clone());
        same.or_else(|| cleared.get(schema).map(|&origin| origin.to_owned()))
    };
    let known = routines(plan);
    let mut removals = Vec::new();
    for (schema, origin) in catalog.schemas.iter().filter_map(|one| Some((one, origin(one)?))) {
        let mut overloads: HashMap<String, Vec<Other>> = HashMap::new();
        for other in others_of(sql, schema).await? {
            if other.kind == "ROUTINE" {
                overloads.entry(other.name.clone()).or_default().push(other);
            } else if !plan.names.known.contains(&(origin.clone(), other.name.clone())) {
                removals.push(removal(plan, &other.kind, &other.shown));
            }
        }
        let mut overloads: Vec<_> = overloads.into_iter().collect();
        overloads.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, there) in overloads {
            let pair = (origin.clone(), name);
            let expected = known.get(&pair).copied().unwrap_or(0);
            // Constructors of range types are called like these.
            let is_of_type = expected == 0 && plan.names.known.contains(&pair);
            if there.len() > expected && !is_of_type {
                removals.extend(there.iter().map(|one| removal(plan, &one.kind, &one.shown)));
            }
        }
    }
    Ok(removals)
}

/// Numbers of the snapshot's routines of each schema and name.
fn routines(plan: &Plan<'_>) -> HashMap<Relation, usize> {
    let mut routines = HashMap::new();
    let is_routine = |entry: &&Entry<'_>| ROUTINES.contains(&entry.kind);
    for entry in plan.before.iter().chain(&plan.after).filter(is_routine) {
        if let Some(name) = entry.names().into_iter().next() {
            *routines.entry(name).or_default() += 1;
        }
    }
    routines
}

async fn of_database(sql: &Sql, plan: &Plan<'_>) -> SourceResult<Vec<Removal>> {
    let failed = |error: &tokio_postgres::Error| writing(error, DOING);
    let entries = plan.before.iter().chain(&plan.after);
    let known: HashSet<(&str, &str)> = entries.map(|entry| (entry.kind, &*entry.name)).collect();
    let mut removals = Vec::new();
    for row in sql.client.query(NAMED, &[]).await.map_err(|error| failed(&error))? {
        let kind: String = row.try_get(0).map_err(|error| failed(&error))?;
        let name: String = row.try_get(1).map_err(|error| failed(&error))?;
        // Comments of a dump have names on one line.
        let in_comment = name.replace(['\n', '\r'], " ");
        if !known.contains(&(&*kind, &*in_comment)) {
            removals.push(removal(plan, &kind, &name));
        }
    }
    let row = sql.client.query_one(LARGE_OBJECTS, &[]).await.map_err(|error| failed(&error))?;
    let there: i64 = row.try_get(0).map_err(|error| failed(&error))?;
    let there = u64::try_from(there).unwrap_or(0);
    let more = there.saturating_sub(plan.stored.manifest.large_objects.unwrap_or(0));
    if more > 0 {
        let removal = removal(plan, "LARGE OBJECTS", "large objects");
        removals.push(Removal { count: Some(more), ..removal });
    }
    Ok(removals)
}

fn removal(plan: &Plan<'_>, kind: &str, name: &str) -> Removal {
    let (kind, name) = (kind.to_lowercase(), format!("{}.{name}", plan.target));
    Removal { kind, name, count: None, estimate: None }
}
