//! Differences between the definition of a collection and the one that a server lists, by their
//! bytes. Shares no code with the steps that make collections and indexes.

use crate::mongodb::catalog::Collection;
use crate::mongodb::raw::{Element, Fields, Value};

/// How exactly definitions can be compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison {
    /// The server has the version of the definition. Other versions have other words for some
    /// options, and lack others.
    pub(super) is_same_version: bool,
    /// The validator was set by a change; the server adds its defaults to it.
    pub(super) validator_was_set: bool,
}

/// Options that every version lists alike.
const COMMON_OPTIONS: [&[u8]; 2] = [b"capped", b"viewOn"];
const COMMON_INDEX_FIELDS: [&[u8]; 2] = [b"name", b"key"];

/// Options that a server adds to a validator.
const VALIDATION_DEFAULTS: [(&[u8], &str); 2] =
    [(b"validationLevel", "strict"), (b"validationAction", "error")];

/// Every difference, each as an object and, of options, its name.
pub(super) fn differences(
    expected: &Collection,
    there: &Collection,
    how: Comparison,
) -> Vec<String> {
    let mut found = Vec::new();
    if expected.kind != there.kind {
        found.push(format!("it is a {}, not a {}", there.kind.word(), expected.kind.word()));
    }
    options(&expected.options, &there.options, how, &mut found);
    indexes(expected, there, how, &mut found);
    found
}

fn options(expected: &Fields, there: &Fields, how: Comparison, found: &mut Vec<String>) {
    let is_compared = |option: &[u8]| {
        option != b"uuid" && (how.is_same_version || COMMON_OPTIONS.contains(&option))
    };
    for option in names([expected, there]).filter(|option| is_compared(option)) {
        let [expected, there] = [expected, there].map(|options| value(options, option));
        let equal = match (expected, there) {
            (Some(expected), Some(there)) if option == b"size" => {
                rounded_up(expected) == rounded_up(there)
            }
            (Some(expected), Some(there)) => same_value(expected, there),
            (None, None) => true,
            (expected, there) => {
                how.validator_was_set
                    && expected.or(there).is_some_and(|value| is_default(option, value))
            }
        };
        if !equal {
            found.push(format!("option {}", String::from_utf8_lossy(option)));
        }
    }
}

/// The size of a capped collection as servers store it: `create` rounds it up, `collMod` does not.
fn rounded_up(size: Value<'_>) -> Option<f64> {
    size.number().map(|size| (size / 256.0).ceil() * 256.0)
}

/// Whether an option has the value that the server gives it where a change leaves it out.
fn is_default(option: &[u8], value: Value<'_>) -> bool {
    let default = VALIDATION_DEFAULTS.iter().find(|(name, _)| *name == option);
    let is_empty = value.document().is_some_and(|document| document.len() == 5);
    default.is_some_and(|(_, default)| value.text() == Some(default))
        || (option == b"validator" && is_empty)
}

fn indexes(expected: &Collection, there: &Collection, how: Comparison, found: &mut Vec<String>) {
    // The clustered index is an option of its collection.
    let is_compared = |index: &&Fields| !index.is_true("clustered");
    let named = |collection: &'_ Collection, name: Value<'_>| {
        let mut all = collection.indexes.iter().filter(is_compared);
        all.find(|index| index.get("name") == Some(name)).cloned()
    };
    for index in expected.indexes.iter().filter(is_compared) {
        let Some(name) = index.get("name") else { continue };
        match named(there, name) {
            None => found.push(format!("index {} is missing", printable(name))),
            Some(there) => index_fields(index, &there, &printable(name), how, found),
        }
    }
    for index in there.indexes.iter().filter(is_compared) {
        let Some(name) = index.get("name") else { continue };
        // Where the oplog does not mention the index on `_id`, the server makes it all the same.
        if named(expected, name).is_none() && name.text() != Some("_id_") {
            found.push(format!("index {} is not in the snapshot", printable(name)));
        }
    }
}

fn index_fields(
    expected: &Fields,
    there: &Fields,
    name: &str,
    how: Comparison,
    found: &mut Vec<String>,
) {
    // Only old servers store the namespace; building in the background leaves no trace.
    let is_compared = |field: &[u8]| {
        !matches!(field, b"ns" | b"background")
            && (how.is_same_version || COMMON_INDEX_FIELDS.contains(&field))
    };
    for field in names([expected, there]).filter(|field| is_compared(field)) {
        let equal = match (value(expected, field), value(there, field)) {
            (Some(expected), Some(there)) => same_value(expected, there),
            (expected, there) => expected == there,
        };
        if !equal {
            found.push(format!("index {name}: option {}", String::from_utf8_lossy(field)));
        }
    }
}

/// Names of all fields, each once.
fn names(both: [&Fields; 2]) -> impl Iterator<Item = &[u8]> {
    let [first, second] = both;
    let more = second.iter().filter(|field| value(first, field.name).is_none());
    first.iter().chain(more).map(|field| field.name)
}

fn value<'a>(fields: &'a Fields, name: &[u8]) -> Option<Value<'a>> {
    fields.iter().find(|field| field.name == name).map(|Element { value, .. }| value)
}

/// Numbers are compared by value: `collMod` may store another type of number than `create`.
fn same_value(one: Value<'_>, other: Value<'_>) -> bool {
    match (one.number(), other.number()) {
        (Some(one), Some(other)) => one == other || (one.is_nan() && other.is_nan()),
        _ => one == other,
    }
}

fn printable(name: Value<'_>) -> String {
    name.string().unwrap_or_default().escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;
    use crate::mongodb::catalog::Kind;
    use crate::mongodb::namespace::Namespace;

    const SAME: Comparison = Comparison { is_same_version: true, validator_was_set: false };

    fn collection(options: Document, indexes: &[Document]) -> Collection {
        Collection {
            namespace: Namespace::new("db", "c"),
            kind: Kind::Collection,
            uuid: None,
            options: options.into(),
            indexes: indexes.iter().cloned().map(Fields::from).collect(),
        }
    }

    #[test]
    fn every_difference_is_named() {
        let index = |name: &str, more: Document| {
            let mut index = doc! { "v": 2, "key": { name: 1 }, "name": name };
            index.extend(more);
            index
        };
        let expected = collection(
            doc! { "capped": true, "size": 1000, "validator": { "a": 1 } },
            &[index("a", doc! { "unique": true }), index("b", doc! {}), index("c", doc! {})],
        );
        let there = collection(
            doc! { "capped": true, "size": 1024.0, "max": 5 },
            &[
                index("_id_", doc! {}),
                index("a", doc! { "sparse": true }),
                index("c", doc! { "v": 2.0, "background": true }),
                index("d", doc! {}),
            ],
        );
        assert_eq!(
            differences(&expected, &there, SAME),
            [
                "option validator",
                "option max",
                "index a: option unique",
                "index a: option sparse",
                "index b is missing",
                "index d is not in the snapshot"
            ]
        );
        let other = Comparison { is_same_version: false, ..SAME };
        assert_eq!(
            differences(&expected, &there, other),
            ["index b is missing", "index d is not in the snapshot"]
        );
    }

    #[test]
    fn a_field_twice_is_not_a_field_once() {
        let index = |filter: &[u8]| {
            let body = [b"\x02name\0\x02\0\0\0a\0", filter].concat();
            let length = i32::try_from(body.len() + 5).unwrap();
            Fields::parse(&[&length.to_le_bytes()[..], &body, &[0]].concat()).unwrap()
        };
        let twice = index(b"\x03f\0\x13\0\0\0\x10a\0\x05\0\0\0\x10a\0\x0a\0\0\0\0");
        let once = index(b"\x03f\0\x0c\0\0\0\x10a\0\x0a\0\0\0\0");
        let with = |index: &Fields| Collection {
            indexes: vec![index.clone()],
            ..collection(doc! {}, &[])
        };
        assert_eq!(differences(&with(&twice), &with(&once), SAME), ["index a: option f"]);
        assert!(differences(&with(&twice), &with(&twice), SAME).is_empty());
    }

    #[test]
    fn a_validator_that_was_set_has_the_defaults_of_the_server() {
        let set = collection(doc! { "validator": { "a": 1 } }, &[]);
        let there = doc! { "validator": { "a": 1 }, "validationLevel": "strict", "validationAction": "error" };
        let was_set = Comparison { validator_was_set: true, ..SAME };
        assert!(differences(&set, &collection(there.clone(), &[]), was_set).is_empty());
        assert_eq!(differences(&set, &collection(there, &[]), SAME).len(), 2);
    }
}
