//! The schema of `backup.toml`, made from the types, and the reference that is made from the
//! schema.

use backup_storage::StoreSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Config;

/// The sections in the order of the reference, and the definitions of their keys.
const SECTIONS: [(&str, &str); 24] = [
    ("[defaults]", "DefaultsConfig"),
    ("[repositories.NAME]", "RepositoryConfig"),
    ("[repositories.NAME.prune]", "PruneConfig"),
    ("[sources.NAME]", "SourceConfig"),
    ("[jobs.NAME]", "JobConfig"),
    ("[[jobs.NAME.schedule]], [[groups.NAME.schedule]]", "ScheduleConfig"),
    ("[jobs.NAME.retry]", "RetryConfig"),
    ("[[jobs.NAME.expect]]", "ExpectConfig"),
    ("[jobs.NAME.hooks]", "HooksConfig"),
    ("[jobs.NAME.logs]", "LogsConfig"),
    ("[jobs.NAME.keep], [defaults.keep]", "KeepConfig"),
    ("[….keep.tiers.NAME], [….keep.types.NAME]", "RuleConfig"),
    ("[groups.NAME]", "GroupConfig"),
    ("[schedule]", "DaemonConfig"),
    ("[[schedule.copy]]", "CopyConfig"),
    ("[[schedule.archive]]", "ArchiveConfig"),
    ("[alerts.NAME]", "AlertConfig"),
    ("[notify.NAME]", "NotifyConfig"),
    ("[report]", "ReportConfig"),
    ("[catalog]", "CatalogConfig"),
    ("[api]", "ApiConfig"),
    ("[servers.NAME]", "ServerConfig"),
    ("[audit]", "AuditConfig"),
    ("[audit.keep]", "AuditKeepConfig"),
];

/// The JSON schema of a configuration, for editors and other programs.
#[must_use]
pub fn schema() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<Config>().to_value();
    without_null(&mut schema);
    plain(&mut schema);
    // Other names are not in schemas that are derived.
    if let Some(Value::Array(kinds)) = schema.pointer_mut("/$defs/SourceKind/oneOf") {
        kinds.push(serde_json::json!({ "type": "string", "const": "valkey", "description": "The same as `redis`." }));
    }
    schema
}

/// The keys of a store's settings, as their own type knows them; each has one value. What they mean
/// is in `docs/storage.md`.
pub(super) fn store(_: &mut SchemaGenerator) -> Schema {
    // The type says which keys it has when it is given one that it does not have.
    let error = StoreSettings::deserialize(serde_json::json!({ "": 0 }))
        .err()
        .map(|error| error.to_string());
    let names = error.as_deref().unwrap_or_default().split('`').skip(1).step_by(2);
    let scalar = serde_json::json!({ "type": ["string", "integer", "number", "boolean"] });
    let keys: Map<String, Value> = names
        .filter(|name| !name.is_empty())
        .map(|name| (name.to_owned(), scalar.clone()))
        .collect();
    json_schema!({ "type": "object", "properties": keys, "additionalProperties": false })
}

/// TOML has no null: a key that may be left out is just left out.
fn without_null(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(map) => {
            map.values_mut().for_each(without_null);
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            if let Some(Value::Array(kinds)) = map.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = &kinds[..] {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(ways)) = map.get_mut("anyOf") {
                ways.retain(|way| way["type"] != "null");
                if let [only] = &ways[..] {
                    let only = only.clone();
                    map.remove("anyOf");
                    if let Value::Object(only) = only {
                        only.into_iter()
                            .for_each(|(key, value)| _ = map.entry(key).or_insert(value));
                    }
                }
            }
        }
        _ => {}
    }
}

/// Descriptions as one line of text, without links into the program.
fn plain(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Object(map) => {
            map.values_mut().for_each(plain);
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
        }
        _ => {}
    }
}

/// The reference of all keys, in Markdown: what `docs/config.md` ends with.
#[must_use]
pub fn reference() -> String {
    let schema = schema();
    let mut text = String::new();
    for (section, name) in SECTIONS {
        let definition = &schema["$defs"][name];
        let about = definition["description"].as_str().unwrap_or_default();
        let about = about.split_once(": ").map_or(about, |(_, about)| about);
        text.push_str(&format!(
            "\n## `{}`\n\n{}\n\n| key | meaning |\n|---|---|\n",
            section.replace(", ", "`, `"),
            sentence(about)
        ));
        let required = definition["required"].as_array().cloned().unwrap_or_default();
        for (key, about) in definition["properties"].as_object().into_iter().flatten() {
            let about = about["description"].as_str().unwrap_or_default().replace('|', "\\|");
            let needed = if required.iter().any(|name| name == key) { " (required)" } else { "" };
            text.push_str(&format!("| `{key}`{needed} | {} |\n", sentence(&about)));
        }
    }
    text
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema of the value of a key, whose own schema may be elsewhere.
    fn of<'a>(root: &'a Value, schema: &'a Value, key: &str) -> Option<&'a Value> {
        let resolved = |schema: &'a Value| match schema["$ref"].as_str() {
            Some(path) => root.pointer(path.trim_start_matches('#')).unwrap(),
            None => schema,
        };
        let schema = resolved(schema);
        let found = schema["properties"]
            .get(key)
            .or_else(|| Some(&schema["additionalProperties"]).filter(|any| any.is_object()));
        found.map(resolved)
    }

    /// Whether every key of a table is in a schema, and every value of a type that it allows.
    fn fits(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
        match value {
            Value::Object(map) => map.iter().try_for_each(|(key, value)| {
                let inner = of(root, schema, key).ok_or_else(|| format!("no key {key}"))?;
                fits(root, inner, value).map_err(|error| format!("{key}: {error}"))
            }),
            Value::Array(items) => {
                let inner = match schema["items"]["$ref"].as_str() {
                    Some(path) => root.pointer(path.trim_start_matches('#')).unwrap(),
                    None => &schema["items"],
                };
                items.iter().try_for_each(|item| fits(root, inner, item))
            }
            scalar => {
                let kind = match scalar {
                    Value::String(_) => "string",
                    Value::Bool(_) => "boolean",
                    _ => "integer",
                };
                let text = schema.to_string();
                let allows = text.contains(&format!("\"{kind}\""))
                    || kind == "integer" && text.contains("\"number\"");
                if allows { Ok(()) } else { Err(format!("{scalar} is not allowed by {text}")) }
            }
        }
    }

    #[test]
    fn every_example_fits_and_mistakes_do_not() {
        let schema = schema();
        for (name, text) in super::super::EXAMPLES {
            let table: toml::Table = text.parse().unwrap();
            let value = serde_json::to_value(table).unwrap();
            fits(&schema, &schema, &value).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for mistake in [
            serde_json::json!({ "job": {} }),
            serde_json::json!({ "jobs": { "a": { "exlude": [] } } }),
            serde_json::json!({ "jobs": { "a": { "exclude": 5 } } }),
            serde_json::json!({ "repositories": { "a": { "store": { "regoin": "x" } } } }),
            serde_json::json!({ "sources": { "a": { "one_file_system": "yes" } } }),
        ] {
            assert!(fits(&schema, &schema, &mistake).is_err(), "{mistake}");
        }
        let text = schema.to_string();
        assert!(!text.contains("null") && text.contains("\"const\":\"valkey\""), "{text}");
    }

    #[test]
    fn every_section_is_in_the_reference() {
        let (schema, text) = (schema(), reference());
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            let is_section = definition["properties"].is_object();
            assert!(!is_section || SECTIONS.iter().any(|(_, known)| known == name), "{name}");
            for key in
                definition["properties"].as_object().into_iter().flatten().map(|(key, _)| key)
            {
                assert!(text.contains(&format!("| `{key}`")), "{key}");
            }
        }
        assert!(!text.contains("|  |"), "every key says what it means: {text}");
    }
}
