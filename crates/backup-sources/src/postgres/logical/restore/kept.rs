//! Objects of the target that a restore into its database leaves as they are, with their owners,
//! privileges and comments.

use std::collections::{BTreeSet, HashSet};

use backup_core::source::{IfExists, SourceResult};
use backup_core::words::few;

use super::super::super::wire::Sql;
use super::super::error::writing;
use super::super::sql::Entry;
use super::failures::Work;
use super::object::Object;
use super::schemas::PUBLIC;
use super::writer::Writer;
use super::{Job, NAMED};

/// Schemas with objects other than those of extensions. All objects depend on their schema.
const FILLED: &str = "SELECT DISTINCT n.nspname::text FROM pg_depend d JOIN pg_namespace n ON n.oid \
                      = d.refobjid WHERE d.refclassid = 'pg_namespace'::regclass AND d.deptype = \
                      'n' AND d.classid <> 'pg_extension'::regclass AND n.nspname <> \
                      'information_schema' AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM \
                      pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype \
                      = 'e')";

/// Statements that reset a schema (`$1`): they revoke all privileges of others than the owner, and all
/// default privileges in it, and set its comment (`$2`).
const ATTRIBUTES: &str = "SELECT format('REVOKE ALL ON SCHEMA %I FROM %s CASCADE', nspname, CASE \
                          WHEN grantee = 0 THEN 'PUBLIC' ELSE \
                          quote_ident(pg_get_userbyid(grantee)) END) FROM pg_namespace CROSS JOIN \
                          LATERAL aclexplode(nspacl) WHERE nspname = $1 AND grantee <> nspowner \
                          GROUP BY nspname, grantee UNION ALL SELECT format('ALTER DEFAULT \
                          PRIVILEGES FOR ROLE %I IN SCHEMA %I REVOKE ALL ON %s FROM %s', \
                          pg_get_userbyid(defaclrole), nspname, CASE defaclobjtype WHEN 'r' THEN \
                          'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' ELSE \
                          'TYPES' END, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE \
                          quote_ident(pg_get_userbyid(grantee)) END) FROM pg_default_acl d JOIN \
                          pg_namespace n ON n.oid = defaclnamespace CROSS JOIN LATERAL \
                          aclexplode(defaclacl) WHERE nspname = $1 GROUP BY defaclrole, nspname, \
                          defaclobjtype, grantee UNION ALL SELECT format('COMMENT ON SCHEMA %I IS \
                          %s', nspname, coalesce(quote_literal($2), 'NULL')) FROM pg_namespace \
                          WHERE nspname = $1 AND obj_description(oid, 'pg_namespace') IS DISTINCT \
                          FROM $2::text";

pub(super) async fn filled(sql: &Sql) -> SourceResult<HashSet<String>> {
    let rows = sql.client.query(FILLED, &[]).await;
    let names = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
    names.map_err(|error| writing(&error, "cannot list the schemas in use"))
}

/// The objects that stay.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// By their names at the target.
    schemas: HashSet<String>,
    /// Default privileges of the whole database stay, and everything about objects that no entry
    /// makes, such as languages of the server.
    is_in_use: bool,
    /// Objects that entries make.
    made: HashSet<Object>,
    /// The kept ones of `made`.
    objects: HashSet<Object>,
    /// Schemas with entries that were left out.
    spared: BTreeSet<String>,
}

impl Kept {
    /// Schemas that hold something stay, unless they are replaced as a whole.
    pub(super) fn new(writer: &Writer<'_>) -> Self {
        let Some(beside) = writer.beside else { return Self::default() };
        let (plan, replaces) = (writer.plan, writer.job.request.if_exists == IfExists::Replace);
        let cleared = plan.cleared();
        let stays = |schema: &&String| !(replaces && cleared.contains_key(*schema));
        Self {
            schemas: beside.filled.iter().filter(stays).cloned().collect(),
            is_in_use: !replaces && !beside.filled.is_empty(),
            made: plan.before.iter().chain(&plan.after).filter_map(Object::made_by).collect(),
            ..Self::default()
        }
    }

    /// Returns `true` if a schema keeps its owner and privileges.
    pub(super) fn keeps_schema(&self, schema: &str) -> bool {
        self.schemas.contains(schema)
    }

    /// Records an object that was there.
    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        self.objects.extend(Object::made_by(entry));
    }

    /// Returns `true` for an entry that would change an object that stays.
    pub(super) fn keeps(&mut self, writer: &Writer<'_>, entry: &Entry<'_>) -> bool {
        let names = &writer.plan.names;
        if let Some(schema) = entry.about_schema().map(|schema| names.schema(&schema)) {
            let is_kept = self.schemas.contains(&schema);
            if is_kept {
                self.spared.insert(schema);
            }
            return is_kept;
        }
        if entry.kind == "DEFAULT ACL" {
            let schema = names.schema(&entry.schema);
            return if schema.is_empty() { self.is_in_use } else { self.schemas.contains(&schema) };
        }
        let Some(object) = Object::of_attribute(entry) else { return false };
        // Others than those of entries are the server's, such as its languages.
        let is_of_server = entry.kind == "ACL" && !self.made.contains(&object);
        self.objects.contains(&object) || (self.is_in_use && is_of_server)
    }

    /// Names the schemas whose owner and privileges in the snapshot were left out.
    pub(super) fn note(&self, job: &Job<'_>) {
        if !self.spared.is_empty() {
            let names: Vec<&str> = self.spared.iter().map(String::as_str).collect();
            let text = format!(
                "schemas in use keep their owners, privileges and comments: {}",
                few(&names, NAMED)
            );
            job.cx.events.note(text);
        }
    }
}

/// Takes privileges, default privileges and comment away from schemas that are there and get those of
/// the snapshot: a dump has only those to add.
pub(super) async fn reset(writer: &Writer<'_>, kept: &Kept) -> SourceResult<()> {
    let (plan, Some(beside)) = (writer.plan, writer.beside) else { return Ok(()) };
    for origin in &plan.schemas {
        let schema = plan.names.schema(origin);
        if !beside.catalog.schemas.contains(&schema) || kept.keeps_schema(&schema) {
            continue;
        }
        let doing = format!("cannot reset the privileges of the schema {schema}");
        let comment = (origin == PUBLIC).then_some("standard public schema");
        let rows = writer.sql.client.query(ATTRIBUTES, &[&schema, &comment]).await;
        let resetting: Result<Vec<String>, _> =
            rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
        let mut statements = resetting.map_err(|error| writing(&error, &*doing))?;
        if plan.privileges {
            statements.extend(plan.granted_in_new(origin));
        } else {
            statements.retain(|statement| statement.starts_with("COMMENT"));
        }
        for sql in statements {
            let work = Work::statements(sql, doing.clone());
            writer.run_or_defer(format!("{schema} (schema)"), work, &[]).await?;
        }
    }
    Ok(())
}
