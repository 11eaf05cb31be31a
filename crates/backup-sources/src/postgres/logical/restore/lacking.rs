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
/// Other objects that users have made: entry type, schema and name, as in a dump. Members of extensions
/// and parts of other objects come with these. Numbers of subscriptions are hidden from plain roles
/// before 14.
const NAMED: &str = "SELECT o.kind, o.schema, o.name FROM (SELECT 'SCHEMA' AS kind, '' AS \
                     schema, nspname::text AS name, 'pg_namespace'::regclass AS class, oid FROM \
                     pg_namespace WHERE nspname <> 'public' AND nspname !~ '^pg_' UNION ALL \
                     SELECT 'PUBLICATION', '', pubname, 'pg_publication'::regclass, oid FROM \
                     pg_publication UNION ALL SELECT 'SUBSCRIPTION', '', subname, \
                     'pg_subscription'::regclass, 16384 FROM pg_subscription WHERE subdbid = \
                     (SELECT oid FROM pg_database WHERE datname = current_database()) UNION ALL \
                     SELECT 'EXTENSION', '', extname, 'pg_extension'::regclass, oid FROM \
                     pg_extension UNION ALL SELECT 'SERVER', '', srvname, \
                     'pg_foreign_server'::regclass, oid FROM pg_foreign_server UNION ALL SELECT \
                     'FOREIGN DATA WRAPPER', '', fdwname, 'pg_foreign_data_wrapper'::regclass, \
                     oid FROM pg_foreign_data_wrapper UNION ALL SELECT 'EVENT TRIGGER', '', \
                     evtname, 'pg_event_trigger'::regclass, oid FROM pg_event_trigger UNION ALL \
                     SELECT 'PROCEDURAL LANGUAGE', '', lanname, 'pg_language'::regclass, oid \
                     FROM pg_language UNION ALL SELECT 'ACCESS METHOD', '', amname, \
                     'pg_am'::regclass, oid FROM pg_am UNION ALL SELECT 'CAST', '', format('CAST \
                     (%s AS %s)', format_type(castsource, NULL), format_type(casttarget, NULL)), \
                     'pg_cast'::regclass, oid FROM pg_cast UNION ALL SELECT 'TRANSFORM', '', \
                     format('FOR %s LANGUAGE %s', format_type(trftype, NULL), l.lanname), \
                     'pg_transform'::regclass, t.oid FROM pg_transform t JOIN pg_language l ON \
                     l.oid = t.trflang UNION ALL SELECT 'COLLATION', nspname, collname, \
                     'pg_collation'::regclass, c.oid FROM pg_collation c JOIN pg_namespace n ON \
                     n.oid = collnamespace UNION ALL SELECT 'CONVERSION', nspname, conname, \
                     'pg_conversion'::regclass, c.oid FROM pg_conversion c JOIN pg_namespace n \
                     ON n.oid = connamespace UNION ALL SELECT 'OPERATOR', nspname, oprname, \
                     'pg_operator'::regclass, c.oid FROM pg_operator c JOIN pg_namespace n ON \
                     n.oid = oprnamespace WHERE oprcode <> 0 UNION ALL SELECT 'OPERATOR CLASS', \
                     nspname, opcname, 'pg_opclass'::regclass, c.oid FROM pg_opclass c JOIN \
                     pg_namespace n ON n.oid = opcnamespace UNION ALL SELECT 'OPERATOR FAMILY', \
                     nspname, opfname, 'pg_opfamily'::regclass, c.oid FROM pg_opfamily c JOIN \
                     pg_namespace n ON n.oid = opfnamespace UNION ALL SELECT 'TEXT SEARCH \
                     CONFIGURATION', nspname, cfgname, 'pg_ts_config'::regclass, c.oid FROM \
                     pg_ts_config c JOIN pg_namespace n ON n.oid = cfgnamespace UNION ALL SELECT \
                     'TEXT SEARCH DICTIONARY', nspname, dictname, 'pg_ts_dict'::regclass, c.oid \
                     FROM pg_ts_dict c JOIN pg_namespace n ON n.oid = dictnamespace UNION ALL \
                     SELECT 'TEXT SEARCH PARSER', nspname, prsname, 'pg_ts_parser'::regclass, \
                     c.oid FROM pg_ts_parser c JOIN pg_namespace n ON n.oid = prsnamespace UNION \
                     ALL SELECT 'TEXT SEARCH TEMPLATE', nspname, tmplname, \
                     'pg_ts_template'::regclass, c.oid FROM pg_ts_template c JOIN pg_namespace n \
                     ON n.oid = tmplnamespace) o WHERE o.oid >= 16384 AND NOT EXISTS (SELECT \
                     FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND \
                     d.deptype IN ('e', 'i')) ORDER BY 1, 2, 3";
const LARGE_OBJECTS: &str = "SELECT count(*) FROM pg_largeobject_metadata";
const DOING: &str = "cannot list the objects of the database";

/// Functions and types in schemas that are restored as a whole; of a database that is exchanged,
/// also its other objects. Under other names, overloads of a function are compared by their number.
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
    let (known, titles) = (routines(plan), titles(plan));
    let mut removals = Vec::new();
    for (schema, origin) in catalog.schemas.iter().filter_map(|one| Some((one, origin(one)?))) {
        let mut overloads: HashMap<String, Vec<Other>> = HashMap::new();
        let is_known = |other: &Other| {
            plan.names.is_empty() && titles.contains(&(&*origin, &*one_line(&other.title)))
        };
        for other in others_of(sql, schema).await? {
            if other.kind == "ROUTINE" {
                if is_known(&other) {
                    continue;
                }
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
            if there.len() > expected || plan.names.is_empty() {
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

/// The snapshot's routines: schema, and name with the types of the arguments.
fn titles<'a>(plan: &'a Plan<'_>) -> HashSet<(&'a str, &'a str)> {
    let entries = plan.before.iter().chain(&plan.after);
    let routines = entries.filter(|entry| ROUTINES.contains(&entry.kind));
    routines.map(|entry| (&*entry.schema, &*entry.name)).collect()
}

/// Comments of a dump have names on one line.
fn one_line(name: &str) -> String {
    name.replace(['\n', '\r'], " ")
}

async fn of_database(sql: &Sql, plan: &Plan<'_>) -> SourceResult<Vec<Removal>> {
    let failed = |error: &tokio_postgres::Error| writing(error, DOING);
    let mut known: HashMap<(String, String, String), u64> = HashMap::new();
    for entry in plan.before.iter().chain(&plan.after) {
        let key = (entry.kind.to_owned(), entry.schema.to_string(), entry.name.to_string());
        *known.entry(key).or_default() += 1;
    }
    let mut removals = Vec::new();
    for row in sql.client.query(NAMED, &[]).await.map_err(|error| failed(&error))? {
        let kind: String = row.try_get(0).map_err(|error| failed(&error))?;
        let schema: String = row.try_get(1).map_err(|error| failed(&error))?;
        let name: String = row.try_get(2).map_err(|error| failed(&error))?;
        // Operators have overloads: as many are known as entries of the name.
        let key = (kind, one_line(&schema), one_line(&name));
        match known.get_mut(&key) {
            Some(left) if *left > 0 => *left -= 1,
            _ if schema.is_empty() => removals.push(removal(plan, &key.0, &name)),
            _ => removals.push(removal(plan, &key.0, &format!("{schema}.{name}"))),
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
