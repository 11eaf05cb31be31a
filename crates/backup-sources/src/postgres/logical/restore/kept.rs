//! Objects of the target that a restore into its database leaves as they are, with their owners,
//! privileges and comments.

use std::collections::{BTreeSet, HashSet};

use backup_core::source::{IfExists, SourceResult};
use backup_core::words::few;

use super::super::super::wire::Sql;
use super::super::error::writing;
use super::super::sql::Entry;
use super::writer::Writer;
use super::{Job, NAMED};

/// Entries about objects that other entries make.
const ATTRIBUTES: [&str; 3] = ["ACL", "COMMENT", "SECURITY LABEL"];

/// Schemas with objects other than those of extensions. All objects depend on their schema.
const FILLED: &str = "SELECT DISTINCT n.nspname::text FROM pg_depend d JOIN pg_namespace n ON n.oid \
                      = d.refobjid WHERE d.refclassid = 'pg_namespace'::regclass AND d.deptype = \
                      'n' AND d.classid <> 'pg_extension'::regclass AND n.nspname <> \
                      'information_schema' AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM \
                      pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype \
                      = 'e')";

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
    /// Default privileges of the whole database stay.
    default_privileges: bool,
    /// Schema at the target, kind and name of other objects.
    objects: Vec<(String, String, String)>,
    /// Schemas with entries that were left out.
    spared: BTreeSet<String>,
}

impl Kept {
    /// Schemas that hold something stay, unless they are replaced as a whole.
    pub(super) fn new(writer: &Writer<'_>) -> Self {
        let Some(beside) = writer.beside else { return Self::default() };
        let replaces = writer.job.request.if_exists == IfExists::Replace;
        let cleared = writer.plan.cleared();
        let stays = |schema: &&String| !(replaces && cleared.contains_key(*schema));
        Self {
            schemas: beside.filled.iter().filter(stays).cloned().collect(),
            default_privileges: !replaces && !beside.filled.is_empty(),
            ..Self::default()
        }
    }

    /// Records an object that was there.
    pub(super) fn add(&mut self, writer: &Writer<'_>, entry: &Entry<'_>) {
        let schema = writer.plan.names.schema(&entry.schema);
        self.objects.push((schema, entry.kind.to_owned(), entry.name.clone().into_owned()));
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
        let schema = names.schema(&entry.schema);
        if entry.kind == "DEFAULT ACL" {
            return if schema.is_empty() {
                self.default_privileges
            } else {
                self.schemas.contains(&schema)
            };
        }
        let is_of = |(of, kind, name): &(String, String, String)| {
            *of == schema
                && words_for(kind).iter().any(|word| names_object(&entry.name, word, name))
        };
        ATTRIBUTES.contains(&entry.kind) && self.objects.iter().any(is_of)
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

/// The words before the name of an object in entries about it, by the kind of its own entry
/// (`dumpACL` and `dumpComment` in `pg_dump.c`).
fn words_for(kind: &str) -> [&str; 2] {
    match kind {
        "DOMAIN" => [kind, "TYPE"],
        "AGGREGATE" => [kind, "FUNCTION"],
        "PROCEDURAL LANGUAGE" => [kind, "LANGUAGE"],
        "SERVER" => [kind, "FOREIGN SERVER"],
        _ => [kind, kind],
    }
}

/// Returns `true` for `FUNCTION f(integer)`. Operands stand behind the name of an operator, an access
/// method behind that of an operator class.
fn names_object(title: &str, word: &str, name: &str) -> bool {
    let rest = title.strip_prefix(word).and_then(|rest| rest.strip_prefix(' '));
    let rest = rest.and_then(|rest| rest.strip_prefix(name));
    rest.is_some_and(|rest| {
        rest.is_empty()
            || rest.starts_with(" (")
            || rest.starts_with('(')
            || rest.starts_with(" USING ")
    })
}

#[cfg(test)]
mod tests {
    use super::{names_object, words_for};

    #[test]
    fn titles_of_attributes_name_their_objects() {
        let cases = [
            ("FUNCTION f(integer)", "FUNCTION", "f(integer)", true),
            ("FUNCTION f(integer)", "FUNCTION", "f()", false),
            ("FUNCTION total(integer)", "AGGREGATE", "total(integer)", true),
            ("TYPE d", "DOMAIN", "d", true),
            ("TYPE day", "DOMAIN", "d", false),
            ("LANGUAGE plperl", "PROCEDURAL LANGUAGE", "plperl", true),
            ("FOREIGN SERVER far", "SERVER", "far", true),
            ("OPERATOR +(integer, integer)", "OPERATOR", "+", true),
            ("OPERATOR CLASS ops USING btree", "OPERATOR CLASS", "ops", true),
        ];
        for (title, kind, name, is_it) in cases {
            let found = words_for(kind).iter().any(|word| names_object(title, word, name));
            assert_eq!(found, is_it, "{title}");
        }
    }
}
