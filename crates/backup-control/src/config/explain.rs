//! Errors of the TOML library in words of the configuration: keys and values, not types of this
//! program.

use std::borrow::Cow;

use super::schema;
use crate::suggest;

/// Message and hint for an error of the deserializer: `unknown field `x`, expected one of `a`, `b``
/// is turned into a suggestion.
pub(super) fn explain(message: &str) -> (String, Option<String>) {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let rest =
        message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "));
    let (Some(_), Some(word)) = (rest, quoted.next()) else {
        return plain(message);
    };
    if !message.starts_with("unknown field") {
        return (format!("unknown value `{word}`"), suggest::hint(word, quoted));
    }
    let is_of_source = message.contains("`password_file`,");
    let is_of_channel = message.contains("`secret_file`,");
    let hint = match word {
        "secret" | "password" | "token" | "api_key" | "routing_key" if is_of_channel => {
            Some("set `secret_file`, `secret_env` or `secret_command` instead".to_owned())
        }
        // The nearest key would be a reference to a secret, not a secret.
        "passphrase" | "password" if is_of_source => {
            Some("set `password_file`, `password_env` or `password_command` instead".to_owned())
        }
        "passphrase" | "password" | "password_file" | "password_command" => Some(
            "set `passphrase_file`, `passphrase_env` or `passphrase_command` instead".to_owned(),
        ),
        _ => suggest::hint(word, quoted),
    };
    (format!("unknown key `{word}`"), hint)
}

/// Message and hint for an error that is not about an unknown name.
fn plain(message: &str) -> (String, Option<String>) {
    let message = message.trim().replace('\n', ": ");
    let Some((head, expected)) = message.split_once(", expected ") else {
        return (message, None);
    };
    // A list where a table belongs is read as the values of its keys.
    let found = match head.strip_prefix("invalid length ") {
        Some(_) => Some("sequence"),
        None => {
            head.strip_prefix("invalid type: ").or_else(|| head.strip_prefix("invalid value: "))
        }
    };
    let Some(found) = found else { return (message, None) };
    let name = expected.strip_prefix("struct ").and_then(|name| name.split(' ').next());
    let hint = name.and_then(keys_of);
    (format!("{} is expected, not {}", expectation(expected), value(found)), hint)
}

/// The expected value of a deserializer, in words.
fn expectation(expected: &str) -> Cow<'_, str> {
    Cow::Borrowed(match expected {
        "a map" => "a table",
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        "path string" => "a path",
        "f32" | "f64" => "a number",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number of at least 0",
        "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "a whole number above 0",
        other if other.starts_with("struct ") => "a table",
        other => return Cow::Borrowed(other),
    })
}

/// The value that a deserializer found, in words.
fn value(found: &str) -> Cow<'_, str> {
    let (kind, shown) = found.split_once(' ').unwrap_or((found, ""));
    match kind {
        "sequence" => Cow::Borrowed("a list"),
        "map" => Cow::Borrowed("a table"),
        "string" => Cow::Owned(format!("the text {shown}")),
        "integer" => Cow::Owned(format!("the number {shown}")),
        "boolean" => Cow::Borrowed(shown),
        "floating" => Cow::Owned(format!("the number {}", shown.trim_start_matches("point "))),
        _ => Cow::Borrowed(found),
    }
}

/// The keys of the tables that a type of this program stands for.
fn keys_of(name: &str) -> Option<String> {
    let schema = schema::schema();
    let keys: Vec<String> = schema["$defs"][name]["properties"]
        .as_object()?
        .keys()
        .map(|key| format!("`{key}`"))
        .collect();
    Some(format!("its keys are {}", keys.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Config, parse};
    use crate::environment::Environment;

    /// Every place of a value in a configuration, from the schema, without any deserializer.
    fn places(root: &Value, schema: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        let schema = match schema["$ref"].as_str() {
            Some(at) => root.pointer(at.trim_start_matches('#')).unwrap(),
            None => schema,
        };
        if path.len() > 6 {
            return;
        }
        let named = schema["additionalProperties"]
            .is_object()
            .then(|| ("x", &schema["additionalProperties"]));
        let keys = schema["properties"].as_object().into_iter().flatten();
        for (key, inner) in keys.map(|(key, inner)| (key.as_str(), inner)).chain(named) {
            path.push(key.to_owned());
            found.push(path.clone());
            places(root, inner, path, found);
            path.pop();
        }
    }

    fn nested(path: &[String], value: Value) -> Value {
        path.iter().rev().fold(value, |inner, key| json!({ key: inner }))
    }

    #[test]
    fn explain_names_no_type_of_the_program() {
        let (root, mut found) = (schema::schema(), Vec::new());
        places(&root, &root, &mut Vec::new(), &mut found);
        assert!(found.len() > 200, "{}", found.len());
        let values = [
            json!("some text"),
            json!(-7),
            json!(70_000),
            json!(1.5),
            json!(true),
            json!(["a"]),
            json!([1]),
            json!([[1]]),
            json!({ "no_such_key": 1 }),
            json!({}),
            json!([{}]),
        ];
        let (mut refused, mut wrong) = (0, Vec::new());
        for path in &found {
            for value in &values {
                let table: toml::Table =
                    serde_json::from_value(nested(path, value.clone())).unwrap();
                let text = toml::to_string(&table).unwrap();
                let read: Result<Config, _> =
                    parse(&text, Path::new("/b.toml"), &Environment::default());
                let Err(error) = read else { continue };
                refused += 1;
                let told = format!("{error} {}", error.hint.clone().unwrap_or_default());
                let is_type = |word: &str| {
                    let capitals = word.chars().filter(char::is_ascii_uppercase).count();
                    let is_name = word.starts_with(|c: char| c.is_ascii_uppercase())
                        && capitals > 1
                        && word.chars().any(|c| c.is_ascii_lowercase())
                        && word.chars().all(char::is_alphanumeric);
                    let words = [
                        "struct", "enum", "variant", "sequence", "map", "newtype", "tuple",
                        "untagged", "bool", "str", "u8", "u16", "u32", "u64", "usize", "i32",
                        "i64", "f64", "Option",
                    ];
                    is_name
                        && ![
                            "MongoDB",
                            "PostgreSQL",
                            "PagerDuty",
                            "SMTPS",
                            "GiB",
                            "MiB",
                            "KiB",
                            "TiB",
                        ]
                        .contains(&word)
                        || words.contains(&word)
                };
                if told.split(|c: char| !c.is_alphanumeric() && c != '_').any(is_type) {
                    wrong.push(format!("{}: {told}", text.trim().replace('\n', "; ")));
                }
            }
        }
        wrong.sort();
        wrong.dedup();
        assert!(
            refused > 1000 && wrong.is_empty(),
            "{refused} refused, {}: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(60)]
        );
    }

    #[test]
    fn explain_lists_the_keys_of_a_table() {
        let (message, hint) = explain("invalid type: string \"5\", expected struct RetryConfig");
        assert_eq!(message, "a table is expected, not the text \"5\"");
        assert_eq!(hint.as_deref(), Some("its keys are `pause`, `times`"));
        let list = "invalid length 1, expected struct RetryConfig with 2 elements";
        assert_eq!(explain(list), ("a table is expected, not a list".to_owned(), hint));
    }
}
