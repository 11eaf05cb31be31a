//! Refuses lists where the configuration expects a table.
//!
//! Deserializers accept a list for a structure and assign its values to the fields in order:
//! `logs = ["2MiB"]` would set a key that the text does not name.

use std::sync::LazyLock;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::interpolate::Refused;
use super::schema;

/// The schema of a configuration.
static SCHEMA: LazyLock<Value> = LazyLock::new(schema::schema);

/// Refuses every list in `table` whose key, or whose place in another list, holds a table.
pub(super) fn refuse(table: &DeTable<'_>) -> Vec<Refused> {
    let mut refused = Vec::new();
    of_table(table, &[&SCHEMA], &mut Vec::new(), &mut refused);
    refused
}

fn of_table<'a>(
    table: &'a DeTable<'_>,
    schemas: &[&'static Value],
    path: &mut Vec<&'a str>,
    refused: &mut Vec<Refused>,
) {
    for (key, value) in table {
        let key: &str = key.get_ref();
        let inner: Vec<&'static Value> = schemas
            .iter()
            .filter_map(|schema| {
                let named = schema["properties"].get(key);
                named.or_else(|| schema.get("additionalProperties").filter(|any| any.is_object()))
            })
            .flat_map(alternatives)
            .collect();
        path.push(key);
        of_value(value, &inner, path, refused);
        path.pop();
    }
}

fn of_value<'a>(
    value: &'a Spanned<DeValue<'_>>,
    schemas: &[&'static Value],
    path: &mut Vec<&'a str>,
    refused: &mut Vec<Refused>,
) {
    match value.get_ref() {
        DeValue::Table(table) => of_table(table, schemas, path, refused),
        DeValue::Array(items) if schemas.iter().any(|schema| allows(schema, "array")) => {
            let inner: Vec<&'static Value> = schemas
                .iter()
                .filter_map(|schema| schema.get("items"))
                .flat_map(alternatives)
                .collect();
            items.iter().for_each(|item| of_value(item, &inner, path, refused));
        }
        DeValue::Array(_) => {
            if let Some(schema) = schemas.iter().find(|schema| allows(schema, "object")) {
                refused.push(Refused {
                    span: value.span(),
                    message: format!("`{}`: a table is expected, not a list", path.join(".")),
                    hint: hint(schema, path),
                });
            }
        }
        _ => {}
    }
}

/// The forms of value that a schema accepts, references resolved.
fn alternatives(schema: &'static Value) -> Vec<&'static Value> {
    let schema = match schema["$ref"].as_str() {
        Some(at) => SCHEMA.pointer(at.trim_start_matches('#')).unwrap_or(&Value::Null),
        None => schema,
    };
    let mut all = vec![schema];
    for key in ["anyOf", "oneOf", "allOf"] {
        let parts = schema[key].as_array().into_iter().flatten();
        all.extend(parts.flat_map(alternatives));
    }
    all
}

/// Returns `true` if a schema names this type of value.
fn allows(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(only) => only == kind,
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        _ => false,
    }
}

fn hint(schema: &Value, path: &[&str]) -> String {
    let keys = schema["properties"].as_object().into_iter().flatten();
    let keys: Vec<String> = keys.map(|(key, _)| format!("`{key}`")).collect();
    if keys.is_empty() {
        return format!("write each entry as `name = value` in the section `{}`", path.join("."));
    }
    format!("its keys are {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::parse;
    use super::*;
    use crate::environment::Environment;

    /// Every table of a configuration. `x` is a name that the user chooses, `[]` a list of tables.
    const TABLES: [&str; 45] = [
        "alerts",
        "alerts.x",
        "api",
        "audit",
        "audit.keep",
        "catalog",
        "defaults",
        "defaults.keep",
        "defaults.keep.tiers",
        "defaults.keep.tiers.x",
        "defaults.keep.types",
        "defaults.keep.types.x",
        "groups",
        "groups.x",
        "groups.x.schedule[]",
        "groups.x.targets",
        "jobs",
        "jobs.x",
        "jobs.x.expect[]",
        "jobs.x.hooks",
        "jobs.x.hooks.env",
        "jobs.x.keep",
        "jobs.x.keep.tiers",
        "jobs.x.keep.tiers.x",
        "jobs.x.keep.types",
        "jobs.x.keep.types.x",
        "jobs.x.logs",
        "jobs.x.retry",
        "jobs.x.schedule[]",
        "notify",
        "notify.x",
        "notify.x.headers",
        "report",
        "report.prices",
        "repositories",
        "repositories.x",
        "repositories.x.prune",
        "repositories.x.store",
        "schedule",
        "schedule.archive[]",
        "schedule.copy[]",
        "servers",
        "servers.x",
        "sources",
        "sources.x",
    ];

    /// The tables of the schema, by another way than the one that is tested.
    fn tables(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        if let Some(at) = schema["$ref"].as_str() {
            return tables(SCHEMA.pointer(at.trim_start_matches('#')).unwrap(), path, found);
        }
        for part in ["anyOf", "oneOf", "allOf"] {
            schema[part].as_array().into_iter().flatten().for_each(|part| {
                tables(part, path, found);
            });
        }
        if schema["items"].is_object() {
            tables(&schema["items"], &format!("{path}[]"), found);
        }
        if schema["type"] != "object" {
            return;
        }
        if !path.is_empty() {
            found.insert(path.to_owned());
        }
        let name =
            |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            tables(inner, &name(key), found);
        }
        if schema["additionalProperties"].is_object() {
            tables(&schema["additionalProperties"], &name("x"), found);
        }
    }

    #[test]
    fn list_is_refused_in_place_of_every_table() {
        let mut of_schema = BTreeSet::new();
        tables(&SCHEMA, "", &mut of_schema);
        let listed: BTreeSet<String> = TABLES.map(str::to_owned).into();
        assert_eq!(of_schema, listed);
        for table in TABLES {
            let key = table.trim_end_matches("[]");
            for list in ["[]", "[\"2MiB\"]", "[7]", "[true, \"a\"]", "[[\"daily\"]]"] {
                let list = if key == table { list.to_owned() } else { format!("[{list}]") };
                let text = format!("# a comment\n\n{key} = {list}\n");
                let error = parse(&text, Path::new("/b.toml"), &Environment::default());
                let error = error.unwrap_err();
                let expected = format!("`{key}`: a table is expected, not a list");
                assert_eq!(error.message, expected, "{text}");
                assert_eq!(error.line, Some(3), "{text}");
                assert!(error.hint.is_some() && error.others.is_empty(), "{text}: {error:?}");
            }
        }
    }

    #[test]
    fn lists_and_tables_of_the_right_form_are_accepted() {
        let text = "[sources.a]\npaths = [\"/x\"]\n[jobs.a]\ntags = [\"t\"]\nschedule = \"daily\"\n\
                    expect = [{ path = \"x\" }]\n[[jobs.b.schedule]]\nat = \"daily\"\n\
                    [jobs.b.logs]\nflush_after = \"5s\"";
        assert!(refuse(DeTable::parse(text).unwrap().get_ref()).is_empty());
    }

    #[test]
    fn lists_are_reported_with_lines() {
        let text = "[jobs.a]\nlogs = [\"2MiB\"]\nhooks = []\n[report]\n";
        let error = parse(text, Path::new("/b.toml"), &Environment::default()).unwrap_err();
        let lines: Vec<_> = std::iter::once(error.line)
            .chain(
                error
                    .others
                    .iter()
                    .filter(|other| other.message.contains("a list"))
                    .map(|other| other.line),
            )
            .collect();
        assert_eq!(lines, [Some(2), Some(3)]);
    }
}
