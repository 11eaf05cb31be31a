//! Definitions that servers of known versions refuse.
//!
//! Measured on 4.4.29, 5.0.31 and 6.0.5; the versions of options from the documentation of `create`
//! and `createIndexes`
//! (<https://www.mongodb.com/docs/manual/reference/command/create/>,
//! <https://www.mongodb.com/docs/manual/reference/command/createIndexes/>).

use bson::Decimal128;

use crate::mongodb::raw::{Element, Fields, Value, elements, kind};

/// The server that is to take the definitions.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Taker {
    /// `[major, minor]`.
    pub(in super::super) version: [i32; 2],
    pub(in super::super) is_replica_set: bool,
}

/// The newest version whose options are all known. Newer ones may have more.
const KNOWN: [i32; 2] = [6, 0];

/// Options of collections, and the version from which servers take them.
const OPTIONS: [(&str, [i32; 2]); 20] = [
    ("autoIndexId", [0, 0]),
    ("capped", [0, 0]),
    ("changeStreamPreAndPostImages", [6, 0]),
    ("clusteredIndex", [5, 3]),
    ("collation", [0, 0]),
    ("encryptedFields", [6, 0]),
    ("expireAfterSeconds", [5, 0]),
    ("flags", [0, 0]),
    ("idIndex", [0, 0]),
    ("indexOptionDefaults", [0, 0]),
    ("max", [0, 0]),
    ("recordPreImages", [4, 4]),
    ("size", [0, 0]),
    ("storageEngine", [0, 0]),
    // Never sent.
    ("temp", [0, 0]),
    ("timeseries", [5, 0]),
    ("uuid", [0, 0]),
    ("validationAction", [0, 0]),
    ("validationLevel", [0, 0]),
    ("validator", [0, 0]),
];

/// Options of indexes, and the version from which servers take them.
const INDEX_OPTIONS: [(&str, [i32; 2]); 25] = [
    ("2dsphereIndexVersion", [0, 0]),
    ("background", [0, 0]),
    ("bits", [0, 0]),
    ("bucketSize", [0, 0]),
    ("clustered", [0, 0]),
    ("collation", [0, 0]),
    ("default_language", [0, 0]),
    ("dropDups", [0, 0]),
    ("expireAfterSeconds", [0, 0]),
    ("hidden", [4, 4]),
    ("key", [0, 0]),
    ("language_override", [0, 0]),
    ("max", [0, 0]),
    ("min", [0, 0]),
    ("name", [0, 0]),
    ("ns", [0, 0]),
    ("partialFilterExpression", [0, 0]),
    ("prepareUnique", [6, 0]),
    ("sparse", [0, 0]),
    ("storageEngine", [0, 0]),
    ("textIndexVersion", [0, 0]),
    ("unique", [0, 0]),
    ("v", [0, 0]),
    ("weights", [0, 0]),
    ("wildcardProjection", [4, 2]),
];

/// Kinds of indexes that servers up to [`KNOWN`] have.
const PLUGINS: [&str; 5] = ["2d", "2dsphere", "2dsphere_bucket", "hashed", "text"];

/// Components of index keys that may begin with `$`: those of references.
const OF_REFERENCES: [&str; 3] = ["$id", "$ref", "$db"];

/// The kind of index that servers from 5.0 on lack.
pub(in super::super) const HAYSTACK: &str = "geoHaystack";

impl Taker {
    /// Returns `true` if the server has indexes of the kind [`HAYSTACK`].
    pub(in super::super) fn has_haystacks(self) -> bool {
        !self.is_at_least([5, 0])
    }

    fn is_at_least(self, version: [i32; 2]) -> bool {
        self.version >= version
    }

    fn is_known(self) -> bool {
        self.version <= KNOWN
    }

    /// Options of a collection that the server refuses, with the reasons.
    pub(super) fn refused_options(self, options: &Fields) -> Vec<(String, String)> {
        let mut refused = Vec::new();
        for (name, value) in options.iter().filter_map(named) {
            if let Some(reason) = self.refuses_option(name, value) {
                refused.push((name.to_owned(), reason));
            }
        }
        refused
    }

    fn refuses_option(self, name: &str, value: Value<'_>) -> Option<String> {
        let is_false = value.boolean() == Some(false);
        match name {
            "encryptedFields" if !self.is_replica_set => Some("needs a replica set".to_owned()),
            "autoIndexId" if is_false => {
                Some("servers from 4.0 on create every collection with an index on _id".to_owned())
            }
            _ => self.refuses_name(name, &OPTIONS),
        }
    }

    /// Why the server takes no option of this name.
    fn refuses_name(self, name: &str, known: &[(&str, [i32; 2])]) -> Option<String> {
        match known.iter().find(|(option, _)| *option == name) {
            Some((_, from)) if self.is_at_least(*from) => None,
            Some((_, [major, minor])) => Some(format!("needs MongoDB {major}.{minor} or later")),
            None => self.is_known().then(|| self.unknown()),
        }
    }

    fn unknown(self) -> String {
        let [major, minor] = self.version;
        format!("MongoDB {major}.{minor} does not have it")
    }

    /// Why the server refuses an index.
    pub(super) fn refuses_index(self, index: &Fields) -> Option<String> {
        if let Some(key) = index.document("key")
            && let Some(reason) = self.refuses_key(&key)
        {
            return Some(reason);
        }
        let mut options = index.iter().filter_map(named);
        let refused = options.find_map(|(name, _)| {
            let reason = self.refuses_name(name, &INDEX_OPTIONS)?;
            Some(format!("its option {name}: {reason}"))
        });
        refused.or_else(|| self.refuses_filter(index))
    }

    fn refuses_key(self, key: &Fields) -> Option<String> {
        let mut fields = 0;
        let mut has_wildcard = false;
        for (field, value) in key.iter().filter_map(named) {
            fields += 1;
            has_wildcard |= field == "$**" || field.ends_with(".$**");
            if let Some(reason) = self.refuses_field(field).or_else(|| self.refuses_value(value)) {
                return Some(reason);
            }
        }
        let is_refused = has_wildcard && fields > 1 && !self.is_at_least([7, 0]);
        is_refused.then(|| "compound wildcard indexes need MongoDB 7.0 or later".to_owned())
    }

    fn refuses_field(self, field: &str) -> Option<String> {
        let path = field.strip_suffix("$**").map_or(field, |path| path.trim_end_matches('.'));
        let is_refused =
            |part: &&str| part.starts_with('$') && !OF_REFERENCES.contains(part) && self.is_known();
        path.split('.').find(is_refused).map(|part| format!("its key has the field {part}"))
    }

    /// Why the server refuses the value of a field of an index key.
    fn refuses_value(self, value: Value<'_>) -> Option<String> {
        match value.text() {
            Some("") => Some("its key has an empty value".to_owned()),
            Some(HAYSTACK) => self
                .is_at_least([5, 0])
                .then(|| "servers from 5.0 on have no geoHaystack indexes".to_owned()),
            Some(plugin) => {
                let is_refused = self.is_known() && !PLUGINS.contains(&plugin);
                is_refused.then(|| format!("its kind {plugin}: {}", self.unknown()))
            }
            // A text that is not UTF-8, for the server to judge.
            None if is_direction(value) || value.string().is_some() => None,
            None => Some("its key has a value that is neither a number nor a kind".to_owned()),
        }
    }

    fn refuses_filter(self, index: &Fields) -> Option<String> {
        let filter = index.get("partialFilterExpression")?.document()?;
        let operator = first_operator(filter, &["$or", "$in"])?;
        let is_refused = !self.is_at_least([6, 0]);
        is_refused.then(|| format!("{operator} in its filter needs MongoDB 6.0 or later"))
    }
}

/// Name and value of a field whose name is UTF-8.
fn named(field: Element<'_>) -> Option<(&str, Value<'_>)> {
    Some((std::str::from_utf8(field.name).ok()?, field.value))
}

/// Returns `true` for a direction in an index key: a number other than zero.
pub(in super::super) fn is_direction(value: Value<'_>) -> bool {
    match (value.kind, value.bytes.try_into()) {
        (kind::DECIMAL, Ok(bytes)) => {
            Decimal128::from_bytes(bytes).to_string().parse().unwrap_or(1.0) != 0.0
        }
        _ => value.number().is_some_and(|number| number != 0.0 && !number.is_nan()),
    }
}

/// Returns `true` for an option that indexes have in some version.
pub(in super::super) fn is_index_option(name: &str) -> bool {
    INDEX_OPTIONS.iter().any(|(option, _)| *option == name)
}

/// The first of some operators that a filter has, at any depth.
fn first_operator<'a>(filter: &[u8], operators: &[&'a str]) -> Option<&'a str> {
    let mut waiting = vec![filter];
    while let Some(document) = waiting.pop() {
        for element in elements(document).map_while(Result::ok) {
            let found = operators.iter().find(|operator| operator.as_bytes() == element.name);
            if let Some(operator) = found {
                return Some(operator);
            }
            if let Some(inner) = element.value.document() {
                waiting.push(inner);
            } else if let Some(items) = element.value.array() {
                let items = elements(items).map_while(Result::ok);
                waiting.extend(items.filter_map(|item| item.value.document()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn taker(major: i32, minor: i32) -> Taker {
        Taker { version: [major, minor], is_replica_set: true }
    }

    #[test]
    fn options_are_refused_as_servers_do() {
        let names = |taker: Taker, options: bson::RawDocumentBuf| {
            let refused = taker.refused_options(&options.into()).into_iter().map(|(name, _)| name);
            refused.collect::<Vec<_>>().join(" ")
        };
        let all = rawdoc! {
            "capped": true, "size": 1, "clusteredIndex": true, "timeseries": {},
            "expireAfterSeconds": 5, "encryptedFields": {}, "validator": {},
            "changeStreamPreAndPostImages": {}, "recordPreImages": true, "autoIndexId": true,
            "laterOption": 1,
        };
        let of_4_4 = "clusteredIndex timeseries expireAfterSeconds encryptedFields \
                      changeStreamPreAndPostImages laterOption";
        assert_eq!(names(taker(4, 4), all.clone()), of_4_4);
        let of_5_0 = "clusteredIndex encryptedFields changeStreamPreAndPostImages laterOption";
        assert_eq!(names(taker(5, 0), all.clone()), of_5_0);
        assert_eq!(names(taker(6, 0), all.clone()), "laterOption");
        assert_eq!(names(taker(8, 0), all.clone()), "");
        let alone = Taker { is_replica_set: false, ..taker(6, 0) };
        assert_eq!(names(alone, all), "encryptedFields laterOption");
        assert_eq!(names(taker(6, 0), rawdoc! { "autoIndexId": false }), "autoIndexId");
    }

    #[test]
    fn indexes_are_refused_as_servers_do() {
        let versions = [taker(4, 4), taker(5, 0), taker(6, 0), taker(7, 0)];
        for (index, taken) in [
            (rawdoc! { "v": 2, "key": { "a": 1, "b": -1.5 }, "name": "x" }, [true; 4]),
            (rawdoc! { "key": { "p": "geoHaystack", "t": 1 } }, [true, false, false, false]),
            (rawdoc! { "key": { "a": 0 } }, [false; 4]),
            (rawdoc! { "key": { "a": true } }, [false; 4]),
            (rawdoc! { "key": { "a": "" } }, [false; 4]),
            (rawdoc! { "key": { "a": "columnstore" } }, [false, false, false, true]),
            (rawdoc! { "key": { "a": "2dsphere", "b": "text", "c": "hashed" } }, [true; 4]),
            (rawdoc! { "key": { "$**": 1 } }, [true; 4]),
            (rawdoc! { "key": { "a.$**": 1 } }, [true; 4]),
            (rawdoc! { "key": { "a": 1, "$**": 1 } }, [false, false, false, true]),
            (rawdoc! { "key": { "a.$id": 1, "a.$ref": 1 } }, [true; 4]),
            (rawdoc! { "key": { "a.$x": 1 } }, [false, false, false, true]),
            (rawdoc! { "key": { "a": 1 }, "prepareUnique": true }, [false, false, true, true]),
            (rawdoc! { "key": { "a": 1 }, "safe": true }, [false, false, false, true]),
            (
                rawdoc! { "key": { "a": 1 }, "partialFilterExpression": { "$or": [{ "a": 1 }] } },
                [false, false, true, true],
            ),
            (
                rawdoc! {
                    "key": { "a": 1 },
                    "partialFilterExpression": { "$and": [{ "a": { "$in": [1] } }] },
                },
                [false, false, true, true],
            ),
            (
                rawdoc! { "key": { "a": 1 }, "partialFilterExpression": { "a": { "$gt": 1 } } },
                [true; 4],
            ),
        ] {
            let index = Fields::from(index);
            let found = versions.map(|taker| taker.refuses_index(&index).is_none());
            assert_eq!(found, taken, "{index:?}");
        }
    }
}
