//! Dropping what is replaced. What something else depends on stays, and the restore fails: nothing
//! is dropped along with it that nobody asked for.

use std::collections::HashSet;

use backup_core::source::{IfExists, Removal, SourceResult};
use tokio_postgres::Error;

use super::super::super::wire::Sql;
use super::super::catalog::{Catalog, Kind, Relation};
use super::super::error::{code_of, writing};
use super::super::filter::Filter;
use super::super::sql::quoted;
use super::plan::Plan;
use super::writer::Writer;

/// Functions and types of a schema: type for `DROP`, name there, name alone, name in a dump. Members
/// of extensions and constructors of range types come with these.
const OTHERS: &str = "SELECT 'ROUTINE', p.oid::regprocedure::text, p.proname::text, format('%s(%s)', \
                      p.proname, CASE WHEN p.prokind = 'a' AND p.pronargs = 0 THEN '*' ELSE \
                      oidvectortypes(p.proargtypes) END) FROM pg_proc p WHERE p.pronamespace = \
                      $1::text::regnamespace AND NOT EXISTS (SELECT FROM pg_depend d WHERE \
                      d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'i')) \
                      UNION ALL SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, \
                      format('%I.%I', n.nspname, t.typname), t.typname::text, t.typname::text FROM \
                      pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c \
                      ON c.oid = t.typrelid WHERE t.typnamespace = $1::text::regnamespace AND \
                      (t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c') AND NOT EXISTS (SELECT \
                      FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid \
                      AND d.deptype = 'e')";

/// Relations that a replacement drops: those that are restored, and in schemas that are restored as
/// a whole all others, except for those that the backup left out.
fn going<'a>(plan: &Plan<'_>, catalog: &'a Catalog) -> Vec<&'a Relation> {
    let schemas = plan.cleared();
    let (database, backed_up) = (&*plan.stored.manifest.name, &plan.stored.backed_up);
    let is_of_schema = |one: &Relation| {
        let origin = schemas.get(&one.schema);
        origin.is_some_and(|origin| backed_up.covers(database, origin, &one.name))
    };
    let is_meant = |one: &Relation| {
        let covers = |filter: &Filter| filter.covers(database, &one.schema, &one.name);
        plan.names.is_empty() && covers(&plan.filter) && covers(backed_up)
    };
    let is_going = |one: &Relation| {
        !one.of_extension && (is_made(plan, one) || is_of_schema(one) || is_meant(one))
    };
    catalog.relations.iter().filter(|one| catalog.line_of(one).any(is_going)).collect()
}

/// Relations of the target that a restore leaves there.
pub(super) fn staying(
    plan: &Plan<'_>,
    catalog: &Catalog,
    if_exists: IfExists,
) -> HashSet<(String, String)> {
    let going: HashSet<u32> = if if_exists == IfExists::Replace {
        going(plan, catalog).into_iter().map(|one| one.oid).collect()
    } else {
        HashSet::new()
    };
    let stays = catalog.relations.iter().filter(|one| !going.contains(&one.oid));
    stays.map(|one| (one.schema.clone(), one.name.clone())).collect()
}

/// The reason why a restore into this database would change tables that stay: it would drop a
/// partition or sequence of such a table, or merge other rows into its partition.
pub(super) fn torn(plan: &Plan<'_>, catalog: &Catalog, if_exists: IfExists) -> Option<String> {
    match if_exists {
        IfExists::Merge => torn_by_merging(plan, catalog),
        IfExists::Fail | IfExists::Replace => torn_by_dropping(plan, catalog),
    }
}

fn torn_by_merging(plan: &Plan<'_>, catalog: &Catalog) -> Option<String> {
    let parents = plan.parents_made();
    let pair = |one: &Relation| (one.schema.clone(), one.name.clone());
    catalog.relations.iter().filter(|one| is_made(plan, one)).find_map(|one| {
        let parent = catalog.parent_of(one);
        let is_other = parent.map(pair).as_ref() != parents.get(&pair(one));
        is_other.then(|| match parent {
            Some(parent) => format!("{} is a part of {} there", shown(one), shown(parent)),
            None => format!("{} is a part of another table in the snapshot", shown(one)),
        })
    })
}

fn torn_by_dropping(plan: &Plan<'_>, catalog: &Catalog) -> Option<String> {
    let (database, backed_up) = (&*plan.stored.manifest.name, &plan.stored.backed_up);
    let going = going(plan, catalog);
    let oids: HashSet<u32> = going.iter().map(|one| one.oid).collect();
    going.into_iter().find_map(|one| {
        let parent = catalog.parent_of(one)?;
        let (name, of) = (shown(one), shown(parent));
        if !oids.contains(&parent.oid) {
            return Some(format!("{name} is a part of {of} there, which stays"));
        }
        let is_left_out =
            plan.names.is_empty() && !backed_up.covers(database, &one.schema, &one.name);
        is_left_out.then(|| format!("{name} would go with {of}; the backup left it out"))
    })
}

fn shown(one: &Relation) -> String {
    format!("{}.{}", one.schema, one.name)
}

fn is_made(plan: &Plan<'_>, one: &Relation) -> bool {
    plan.made.contains(&(one.schema.clone(), one.name.clone()))
}

/// Relations of the target that a replacement removes because the snapshot lacks them; all that it
/// lacks if the database is exchanged (`is_exchanged`).
pub(super) fn removals(plan: &Plan<'_>, catalog: &Catalog, is_exchanged: bool) -> Vec<Removal> {
    let going = if is_exchanged {
        catalog.relations.iter().filter(|one| !one.of_extension).collect()
    } else {
        going(plan, catalog)
    };
    let others = going.into_iter().filter(|one| !is_made(plan, one));
    let rows = catalog.estimated_rows();
    let name = |one: &Relation| format!("{}.{}.{}", plan.target, one.schema, one.name);
    let removal = |one: &Relation| Removal {
        kind: word(one.kind).to_lowercase(),
        name: name(one),
        count: None,
        estimate: rows.get(&one.oid).copied(),
    };
    others.map(removal).collect()
}

/// A function or a type.
pub(super) struct Other {
    /// The object type of `DROP`.
    pub(super) kind: String,
    /// Schema, name and arguments.
    pub(super) shown: String,
    pub(super) name: String,
    /// As a dump names it: a function with the types of its arguments.
    pub(super) title: String,
}

pub(super) async fn others_of(sql: &Sql, schema: &str) -> SourceResult<Vec<Other>> {
    let rows = sql.client.query(OTHERS, &[&quoted(schema)]).await;
    let other = |row: &tokio_postgres::Row| {
        let (kind, shown) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Other { kind, shown, name: row.try_get(2)?, title: row.try_get(3)? })
    };
    let found = rows.and_then(|rows| rows.iter().map(other).collect::<Result<Vec<_>, Error>>());
    found.map_err(|error| writing(&error, "cannot list the functions and types"))
}

/// The object type of `DROP`.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::View => "VIEW",
        Kind::MaterializedView => "MATERIALIZED VIEW",
        Kind::Sequence => "SEQUENCE",
        Kind::ForeignTable => "FOREIGN TABLE",
        Kind::Table | Kind::Partitioned => "TABLE",
    }
}

/// Drops the relations to replace, and functions and types of schemas that are restored as a whole.
pub(super) async fn clear(writer: &Writer<'_>, catalog: &Catalog) -> SourceResult<()> {
    let plan = writer.plan;
    let schemas = plan.cleared();
    let going = going(plan, catalog);
    // Together, because they may refer to each other.
    let tables: Vec<String> = going
        .iter()
        .filter(|one| matches!(one.kind, Kind::Table | Kind::Partitioned))
        .map(|one| one.sql())
        .collect();
    let mut left = Vec::new();
    if !tables.is_empty() {
        left.push(format!("TABLE IF EXISTS {}", tables.join(", ")));
    }
    left.extend(going.iter().map(|one| format!("{} IF EXISTS {}", word(one.kind), one.sql())));
    for schema in schemas.keys().filter(|schema| catalog.schemas.contains(schema)) {
        let others = others_of(writer.sql, schema).await?;
        left.extend(others.into_iter().map(|other| format!("{} {}", other.kind, other.shown)));
    }
    drop_all(writer, left).await
}

/// Round by round, until nothing is left or nothing more can go.
async fn drop_all(writer: &Writer<'_>, mut left: Vec<String>) -> SourceResult<()> {
    let doing = "cannot drop the objects to replace";
    while !left.is_empty() {
        let (mut kept, mut reason) = (Vec::new(), None::<Error>);
        let before = left.len();
        for what in left {
            writer.run("SAVEPOINT clear", doing).await?;
            match writer.sql.client.batch_execute(&format!("DROP {what}")).await {
                Ok(()) => writer.run("RELEASE SAVEPOINT clear", doing).await?,
                // Something depends on it, or it went with something else (a function with its
                // type).
                Err(error) if code_of(&error) == "2BP01" => {
                    writer.run("ROLLBACK TO SAVEPOINT clear", doing).await?;
                    kept.push(what);
                    // Tables come first: sequences and types wait for these.
                    reason = reason.or(Some(error));
                }
                Err(error) if matches!(code_of(&error), "42883" | "42704" | "42P01") => {
                    writer.run("ROLLBACK TO SAVEPOINT clear", doing).await?;
                }
                Err(error) => return Err(writing(&error, format!("cannot drop {what}"))),
            }
        }
        if let Some(reason) = reason.filter(|_| kept.len() == before) {
            return Err(writing(&reason, doing));
        }
        left = kept;
    }
    Ok(())
}
