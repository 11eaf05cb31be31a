//! Indexes of time-series collections: dumps have them in the terms of users, servers store them in
//! those of buckets.
//!
//! Rules of the server's `timeseries_index_schema_conversion_functions.cpp`: the field for metadata
//! is `meta`, and a measurement has a smallest and a largest value in every bucket.

use crate::mongodb::catalog::{Collection, Kind};
use crate::mongodb::raw::{Element, Fields, Value};

/// The collection of the buckets of `series`, a time-series collection; the names of indexes that
/// have no form there, which the snapshot leaves out.
pub(super) fn of(series: &Collection) -> (Collection, Vec<String>) {
    let timeseries = series.options.document("timeseries").unwrap_or_default();
    let mut left_out = Vec::new();
    let mut indexes = Vec::new();
    for index in &series.indexes {
        match stored_index(index, &timeseries) {
            Some(stored) => indexes.push(stored),
            None => left_out.push(index.text("name").unwrap_or_default().to_owned()),
        }
    }
    let collection = Collection {
        namespace: series.namespace.buckets(),
        kind: Kind::Collection,
        uuid: None,
        options: series.options.clone(),
        indexes,
    };
    (collection, left_out)
}

/// Options of buckets that a server derives from those of their collection. Dumps do not have them.
const DERIVED: [&str; 2] = ["validator", "clusteredIndex"];

/// Drops the derived options of a collection at a server if the snapshot has recorded none: then
/// they are no difference.
pub(in crate::mongodb) fn drop_unrecorded(recorded: &Collection, there: &mut Collection) {
    let is_recorded = DERIVED.iter().any(|option| recorded.options.has(option));
    if recorded.namespace.is_buckets() && !is_recorded {
        DERIVED.iter().for_each(|option| _ = there.options.remove(option));
    }
}

/// An index of a time-series collection as its buckets have it; `None` for a kind whose fields are
/// converted in other ways (positions on a sphere, partial indexes).
fn stored_index(index: &Fields, timeseries: &Fields) -> Option<Fields> {
    if index.has("partialFilterExpression") {
        return None;
    }
    let field = |name: &str| timeseries.get(name).and_then(Value::string).unwrap_or_default();
    let (time, meta) = (field("timeField"), field("metaField"));
    let mut key = Fields::default();
    let mut has_measurements = false;
    for Element { name, value } in index.document("key")?.iter() {
        let rest = name.strip_prefix(meta).filter(|_| !meta.is_empty());
        match rest {
            Some([]) => key.set("meta", value),
            Some(rest) if rest.starts_with(b".") => key.set([b"meta", rest].concat(), value),
            _ => {
                let bounds: [&[u8]; 2] = match value.number()? > 0.0 {
                    true => [b"min", b"max"],
                    false => [b"max", b"min"],
                };
                has_measurements |= name != time;
                for bound in bounds {
                    key.set([b"control.", bound, b".", name].concat(), value);
                }
            }
        }
    }
    let mut stored = index.clone();
    stored.set("key", key);
    if has_measurements {
        stored.set("originalSpec", index);
    }
    Some(stored)
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;
    use crate::mongodb::export::described;
    use crate::mongodb::namespace::Namespace;

    #[test]
    fn indexes_of_buckets_convert_back_to_those_of_users() {
        let series = Collection {
            namespace: Namespace::new("db", "t"),
            kind: Kind::TimeSeries,
            uuid: None,
            options: doc! { "timeseries": { "timeField": "t", "metaField": "m" } }.into(),
            indexes: vec![
                doc! { "v": 2, "key": { "m": 1, "t": -1 }, "name": "a" }.into(),
                doc! { "v": 2, "key": { "m.x": -1 }, "name": "b" }.into(),
                doc! { "v": 2, "key": { "value": 1 }, "name": "c" }.into(),
            ],
        };
        let (stored, left_out) = of(&series);
        assert!(left_out.is_empty());
        let key = |at: usize| stored.indexes[at].document("key").unwrap();
        assert_eq!(key(0), doc! { "meta": 1, "control.max.t": -1, "control.min.t": -1 }.into());
        assert_eq!(key(1), doc! { "meta.x": -1 }.into());
        assert_eq!(key(2), doc! { "control.min.value": 1, "control.max.value": 1 }.into());
        assert_eq!(described(&stored, false), series);
        let sphere = doc! { "key": { "place": "2dsphere" }, "name": "s" }.into();
        let (_, left_out) = of(&Collection { indexes: vec![sphere], ..series });
        assert_eq!(left_out, ["s"]);
    }
}
