//! Every key of the configuration that a text can stand at: which of them may hold a secret. A new
//! one is in neither list, and so fails the test until somebody has thought about it.

use std::collections::{BTreeMap, BTreeSet};

use backup_control::config::schema;
use serde_json::Value;

/// What may hold a secret, or say where one is: a value for each must be planted.
pub(super) const SECRET: [(&str, &str); 10] = [
    ("ApiConfig", "tls_key tokens_file"),
    ("CatalogConfig", "password_command password_env password_file url"),
    ("GroupConfig", "targets"),
    ("HooksConfig", "after after_restore before before_restore env on_failure"),
    ("JobConfig", "heartbeat"),
    ("NotifyConfig", "command headers secret_command secret_env secret_file url"),
    ("RepositoryConfig", "passphrase_command passphrase_env passphrase_file"),
    (
        "RepositoryConfig.store",
        "account_key_env customer_key_file profile secret_access_key_env secret_access_key_file \
         service_account session_token_env",
    ),
    ("ServerConfig", "token_file"),
    (
        "SourceConfig",
        "password_command password_env password_file sentinel_password_file tls_certificate_key_file tls_key_file url",
    ),
];

/// What holds none: names, patterns, times, sizes, what everybody may see. Addresses among them
/// that have a password are refused, which is tested beside.
const PUBLIC: [(&str, &str); 24] = [
    ("AlertConfig", "condition floor for notify only repeat"),
    ("ApiConfig", "hosts listen look_every restore_roots socket tls_cert"),
    ("AuditConfig", "notify"),
    ("ArchiveConfig", "at from job older_than storage_class to"),
    ("AuditKeepConfig", "access compliance operation"),
    ("CatalogConfig", "tls_ca_file"),
    ("CopyConfig", "at from job to"),
    (
        "DaemonConfig",
        "alerts catch_up_within check check_data cleanup compact deadline prune report \
         report_since report_to time_zone verify",
    ),
    ("DefaultsConfig", "time_zone"),
    ("ExpectConfig", "object"),
    ("GroupConfig", "deadline jobs schedule"),
    ("HooksConfig", "timeout"),
    (
        "JobConfig",
        "deadline exclude host include include_optional max_size repository rpo rto schedule source tags tier window",
    ),
    ("KeepConfig", "compliance daily hourly last monthly point_in_time tags weekly within yearly"),
    ("LogsConfig", "flush_after flush_size idle_record keep_slices roll_up_every spool spool_size"),
    ("NotifyConfig", "account ca_file from host jobs template timeout to user"),
    ("PruneConfig", "grace max_repack max_time max_unused"),
    ("ReportConfig", "currency"),
    ("RepositoryConfig", "compression pack_size quota reserve url verify_sample"),
    (
        "RepositoryConfig.store",
        "access_key_id account allow_http ca_file connect_timeout connections endpoint kms_key_id \
         limit_download limit_upload lock_days lock_mode path_style proxy region retry_deadline \
         sse stall_timeout storage_class",
    ),
    ("RetryConfig", "pause"),
    ("RuleConfig", "last within"),
    ("ScheduleConfig", "at jitter tier"),
    ("ServerConfig", "ca_file url"),
];
/// The rest of it, which no definition has alone.
const PUBLIC_OF_SOURCES: (&str, &str) = (
    "SourceConfig",
    "database dump_timeout exclude_files exclude_if_present max_bytes_per_second max_file_size member_timeout name paths \
     programs psync sentinel_user slot system_id timeout tls_ca_file tls_certificate_file",
);

type Keys = BTreeSet<(String, String)>;

fn keys<'a>(list: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Keys {
    let of = |(definition, keys): &(&str, &str)| -> Vec<(String, String)> {
        keys.split_whitespace().map(|key| ((*definition).to_owned(), key.to_owned())).collect()
    };
    list.into_iter().flat_map(of).collect()
}

/// The schema, and what it says of texts.
struct Schema(Value);

impl Schema {
    /// What a schema refers to.
    fn resolved<'a>(&'a self, schema: &'a Value) -> (Option<&'a str>, &'a Value) {
        match schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
            Some(name) => (Some(name), &self.0["$defs"][name]),
            None => (None, schema),
        }
    }

    /// Whether a text, or a list or table of texts, may stand there.
    fn is_text(&self, schema: &Value) -> bool {
        let (_, schema) = self.resolved(schema);
        if !schema["enum"].is_null()
            || !schema["const"].is_null()
            || !schema["properties"].is_null()
        {
            return false;
        }
        let ways =
            ["oneOf", "anyOf", "allOf"].iter().filter_map(|word| schema[word].as_array()).flatten();
        if ways.into_iter().any(|way| self.is_text(way)) {
            return true;
        }
        let is = |kind: &str| {
            schema["type"] == kind
                || schema["type"].as_array().is_some_and(|all| all.iter().any(|one| one == kind))
        };
        let below = |word: &str| schema[word].is_object() && self.is_text(&schema[word]);
        is("string")
            || is("array") && below("items")
            || is("object") && below("additionalProperties")
    }

    /// Notes the keys of a definition, and of tables that have none of their own.
    fn note(&self, name: &str, definition: &Value, found: &mut Keys) {
        for (key, schema) in definition["properties"].as_object().into_iter().flatten() {
            if !schema["properties"].is_null() {
                self.note(&format!("{name}.{key}"), schema, found);
            } else if self.is_text(schema) {
                found.insert((name.to_owned(), key.clone()));
            }
        }
    }

    /// The texts that stand at keys of `value`, which is of the definition `name`.
    fn texts(
        &self,
        name: &str,
        definition: &Value,
        value: &Value,
        found: &mut BTreeMap<(String, String), Vec<String>>,
    ) {
        for (key, value) in value.as_object().into_iter().flatten() {
            let (below, schema) = self.resolved(&definition["properties"][key]);
            let name_below = below.map_or_else(|| format!("{name}.{key}"), str::to_owned);
            let of_entries = self.resolved(&schema["additionalProperties"]);
            if !schema["properties"].is_null() {
                self.texts(&name_below, schema, value, found);
            } else if let (Some(of_entries), schema) = of_entries
                && !schema["properties"].is_null()
            {
                value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .for_each(|(_, value)| self.texts(of_entries, schema, value, found));
            } else {
                leaves(value, found.entry((name.to_owned(), key.clone())).or_default());
            }
        }
    }
}

fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(map) => map.values().for_each(|value| leaves(value, found)),
        _ => {}
    }
}

/// Fails unless every key of the schema is in one of the lists, and in one of the configurations
/// something is planted at each that may hold a secret.
pub(super) fn require_all(configs: &[&str], leads_to_secret: impl Fn(&str) -> bool) {
    let schema = Schema(schema());
    let mut known = Keys::new();
    for (name, definition) in schema.0["$defs"].as_object().unwrap() {
        schema.note(name, definition, &mut known);
    }
    let (secret, public) = (keys(&SECRET), keys(PUBLIC.iter().chain([&PUBLIC_OF_SOURCES])));
    let both: Vec<_> = secret.intersection(&public).collect();
    assert!(both.is_empty(), "in both lists: {both:?}");
    let listed: Keys = secret.union(&public).cloned().collect();
    let new: Vec<_> = known.difference(&listed).collect();
    assert!(new.is_empty(), "may these hold a secret? Then plant one: {new:?}");
    let gone: Vec<_> = listed.difference(&known).collect();
    assert!(gone.is_empty(), "no keys of the configuration: {gone:?}");
    let mut texts = BTreeMap::new();
    for config in configs {
        let value: Value =
            serde_json::to_value(toml::from_str::<toml::Table>(config).unwrap()).unwrap();
        schema.texts("Config", &schema.0, &value, &mut texts);
    }
    let is_planted = |key: &&(String, String)| {
        texts.get(*key).is_some_and(|texts| texts.iter().any(|text| leads_to_secret(text)))
    };
    let missing: Vec<_> = secret.iter().filter(|key| !is_planted(key)).collect();
    assert!(missing.is_empty(), "nothing is planted at {missing:?}");
}
