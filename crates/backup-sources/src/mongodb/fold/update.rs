//! Updates as the oplog records them.
//!
//! Three forms: the whole new document; from 5.0 on a difference (`$v: 2`, `diff`) with sections
//! `d` (fields removed), `u` (set where they are), `i` (new, at the end) and `s<field>` (a
//! difference of what is inside), where arrays have `a: true`, `l` (new length), `u<n>` and `s<n>`;
//! up to 4.4 `$set` and `$unset` of dotted paths (`$v: 1`). From the server's
//! `src/mongo/db/update/document_diff_serialization.h`; what it does in cases that cannot arise (a
//! difference of a field that is a number by now) was observed (mongo.md section 4).

use backup_core::source::SourceResult;
use bson::{Array, Bson, Document, RawDocument};
use bytes::Bytes;

use super::spill::Operation;
use super::{encode, unknown};
use crate::mongodb::error::malformed;
use crate::mongodb::parsed::parsed;

/// The operation of an update entry whose `o` is `object`.
pub(super) fn read(entry: &RawDocument, object: &RawDocument) -> SourceResult<Operation> {
    let bytes = |document: &RawDocument| Bytes::copy_from_slice(document.as_bytes());
    let fields = |object: &RawDocument| -> SourceResult<Vec<String>> {
        let keys = object.iter().map(|field| field.map(|(key, _)| key.as_str().to_owned()));
        keys.collect::<Result<_, _>>()
            .map_err(|error| malformed("update in the oplog").with_source(error))
    };
    match object.get("$v") {
        Ok(Some(version)) if version.as_i32() == Some(2) => {
            let diff = object
                .get_document("diff")
                .map_err(|_| unknown("an update without a diff", entry))?;
            if !is_known(diff) {
                return Err(unknown("a diff with an unknown section", entry));
            }
            Ok(Operation::Diff(bytes(diff)))
        }
        Ok(Some(version)) if version.as_i32() == Some(1) => {
            if fields(object)?.iter().all(|key| matches!(&**key, "$v" | "$set" | "$unset")) {
                Ok(Operation::Modify(bytes(object)))
            } else {
                Err(unknown("an update with an unknown operator", entry))
            }
        }
        Ok(Some(_)) => Err(unknown("an update of an unknown version", entry)),
        Ok(None) if fields(object)?.iter().any(|key| key == "$set" || key == "$unset") => {
            if fields(object)?.iter().all(|key| matches!(&**key, "$set" | "$unset")) {
                Ok(Operation::Modify(bytes(object)))
            } else {
                Err(unknown("an update with an unknown operator", entry))
            }
        }
        Ok(None) => Ok(Operation::Replace(bytes(object))),
        Err(_) => Err(malformed("update in the oplog")),
    }
}

/// Whether a difference has only sections that are understood.
fn is_known(diff: &RawDocument) -> bool {
    let is_array = diff.get_bool("a").ok() == Some(true);
    diff.iter().all(|section| {
        let Ok((key, value)) = section else { return false };
        let (kind, rest) = key.as_str().split_at_checked(1).unwrap_or_default();
        match (is_array, kind, rest.is_empty()) {
            (_, "s", false) => value.as_document().is_some_and(is_known),
            (true, "a" | "l", true) | (false, "d" | "u" | "i", true) => true,
            (true, "u", false) => rest.bytes().all(|byte| byte.is_ascii_digit()),
            _ => false,
        }
    })
}

impl Operation {
    /// The document after the operation. A change of a document that is not there changes nothing:
    /// its end is in the oplog as well.
    pub(super) fn apply(&self, document: Option<Bytes>) -> SourceResult<Option<Bytes>> {
        let change = |document: &Bytes, change: &Bytes, apply: fn(&mut Document, &Document)| {
            let mut document = parse(document)?;
            apply(&mut document, &parse(change)?);
            encode(&document)
        };
        Ok(match (self, document) {
            (Self::Insert(new) | Self::Replace(new), _) => Some(new.clone()),
            (Self::Delete, _) | (Self::Diff(_) | Self::Modify(_), None) => None,
            (Self::Diff(diff), Some(document)) => Some(change(&document, diff, patch)?),
            (Self::Modify(modifier), Some(document)) => Some(change(&document, modifier, modify)?),
        })
    }
}

fn parse(bytes: &Bytes) -> SourceResult<Document> {
    let raw = crate::mongodb::raw::document(bytes)?;
    parsed(raw, "document to update")
}

fn patch(document: &mut Document, diff: &Document) {
    let section = |name: &str| diff.get_document(name).ok();
    for key in section("d").into_iter().flat_map(Document::keys) {
        document.remove(key);
    }
    for (key, change) in diff {
        if let (Some(field), Bson::Document(change)) = (inner(key), change)
            && let Some(value) = document.get_mut(field)
        {
            patch_value(value, change);
        }
    }
    for (key, value) in section("u").into_iter().flatten() {
        document.insert(key, value.clone());
    }
    for (key, value) in section("i").into_iter().flatten() {
        document.remove(key);
        document.insert(key, value.clone());
    }
}

/// The field that a section `s<field>` is about.
fn inner(key: &str) -> Option<&str> {
    key.strip_prefix('s').filter(|field| !field.is_empty())
}

fn patch_value(value: &mut Bson, diff: &Document) {
    let is_array = diff.get_bool("a").unwrap_or(false);
    match value {
        Bson::Document(document) if !is_array => patch(document, diff),
        Bson::Array(items) if is_array => patch_array(items, diff),
        // A later operation overwrites it: that is what made the difference impossible.
        other => *other = Bson::Null,
    }
}

fn patch_array(items: &mut Array, diff: &Document) {
    if let Some(length) = diff.get("l").and_then(whole) {
        items.truncate(length);
    }
    for (key, change) in diff {
        let Some((kind, index)) = key.split_at_checked(1) else { continue };
        let Ok(index) = index.parse::<usize>() else { continue };
        let Some(item) = padded(items, index) else { continue };
        match (kind, change) {
            ("u", value) => *item = value.clone(),
            ("s", Bson::Document(change)) => patch_value(item, change),
            _ => {}
        }
    }
}

fn whole(value: &Bson) -> Option<usize> {
    value.as_i32().map(i64::from).or(value.as_i64()).and_then(|number| number.try_into().ok())
}

/// Longest gap that an update can open in an array (the server's limit).
const PADDING: usize = 1_500_000;

/// The item at `index`, after as many nulls as are missing.
fn padded(items: &mut Array, index: usize) -> Option<&mut Bson> {
    if index >= items.len() {
        if index - items.len() > PADDING {
            return None;
        }
        items.resize(index + 1, Bson::Null);
    }
    items.get_mut(index)
}

fn modify(document: &mut Document, modifier: &Document) {
    for path in modifier.get_document("$unset").into_iter().flat_map(Document::keys) {
        let parts: Vec<&str> = path.split('.').collect();
        unset(document, &parts);
    }
    for (path, value) in modifier.get_document("$set").into_iter().flatten() {
        let parts: Vec<&str> = path.split('.').collect();
        set(document, &parts, value);
    }
}

fn unset(document: &mut Document, path: &[&str]) {
    match path {
        [] => {}
        [field] => _ = document.remove(*field),
        [field, rest @ ..] => {
            if let Some(value) = document.get_mut(*field) {
                unset_value(value, rest);
            }
        }
    }
}

fn unset_value(value: &mut Bson, path: &[&str]) {
    match value {
        Bson::Document(document) => unset(document, path),
        Bson::Array(items) => {
            let item = path
                .first()
                .and_then(|index| index.parse::<usize>().ok())
                .and_then(|index| items.get_mut(index));
            match (item, path) {
                // Items are not removed: the others would move.
                (Some(item), [_]) => *item = Bson::Null,
                (Some(item), [_, rest @ ..]) => unset_value(item, rest),
                _ => {}
            }
        }
        _ => {}
    }
}

fn set(document: &mut Document, path: &[&str], new: &Bson) {
    match path {
        [] => {}
        [field] => _ = document.insert(*field, new.clone()),
        [field, rest @ ..] => {
            let value = document
                .entry((*field).to_owned())
                .or_insert_with(|| Bson::Document(Document::new()));
            set_value(value, rest, new);
        }
    }
}

fn set_value(value: &mut Bson, path: &[&str], new: &Bson) {
    match (value, path) {
        (Bson::Document(document), path) => set(document, path, new),
        (Bson::Array(items), [index, rest @ ..]) => {
            let Some(item) = index.parse().ok().and_then(|index| padded(items, index)) else {
                return;
            };
            match rest {
                [] => *item = new.clone(),
                rest => {
                    if *item == Bson::Null {
                        *item = Bson::Document(Document::new());
                    }
                    set_value(item, rest, new);
                }
            }
        }
        // A later operation overwrites it.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, doc, rawdoc};

    use super::*;

    fn after(document: &Document, object: &Document) -> Document {
        let entry = rawdoc! { "op": "u" };
        let operation = read(&entry, &RawDocumentBuf::try_from(object).unwrap()).unwrap();
        let changed = operation.apply(Some(encode(document).unwrap())).unwrap().unwrap();
        parse(&changed).unwrap()
    }

    fn diff(document: &Document, diff: Document) -> Document {
        after(document, &doc! { "$v": 2, "diff": diff })
    }

    #[test]
    fn differences_keep_places() {
        let document = doc! { "_id": 1, "a": 1, "b": { "c": 1, "d": 2 }, "e": 5 };
        let changed = diff(
            &document,
            doc! {
                "d": { "e": false }, "u": { "a": "x" }, "i": { "n": 1, "m": 2 }, "sb": { "d": { "c": false }, "u": { "d": 3 } },
            },
        );
        let expected = doc! { "_id": 1, "a": "x", "b": { "d": 3 }, "n": 1, "m": 2 };
        assert_eq!(encode(&changed).unwrap(), encode(&expected).unwrap());
    }

    #[test]
    fn differences_of_arrays() {
        let document = doc! { "_id": 1, "a": [1, { "x": 1 }, 3, 4] };
        let change =
            doc! { "sa": { "a": true, "l": 3, "u0": 9, "s1": { "u": { "x": 2 } }, "u5": 5 } };
        let expected = doc! { "_id": 1, "a": [9, { "x": 2 }, 3, null, null, 5] };
        assert_eq!(diff(&document, change), expected);
        // The field is something else by now.
        let odd = diff(
            &doc! { "_id": 1, "a": 7, "b": [] },
            doc! { "sa": { "a": true, "u0": 1 }, "sb": { "u": { "x": 1 } } },
        );
        assert_eq!(odd, doc! { "_id": 1, "a": null, "b": null });
        assert_eq!(diff(&doc! { "_id": 1 }, doc! { "sz": { "u": { "x": 1 } } }), doc! { "_id": 1 });
    }

    #[test]
    fn old_modifiers() {
        let document = doc! { "_id": 1, "a": { "b": 1 }, "l": [1, { "x": 1 }], "z": 0 };
        let changed = after(
            &document,
            &doc! {
                "$v": 1, "$unset": { "z": true, "l.0": true }, "$set": { "a.b": 2, "a.c.d": 3, "l.1.x": 2, "l.3": 4, "n": 1 },
            },
        );
        let expected = doc! { "_id": 1, "a": { "b": 2, "c": { "d": 3 } }, "l": [null, { "x": 2 }, null, 4], "n": 1 };
        assert_eq!(encode(&changed).unwrap(), encode(&expected).unwrap());
    }

    #[test]
    fn replacements_insertions_and_deletions() {
        assert_eq!(
            after(&doc! { "_id": 1, "a": 1 }, &doc! { "_id": 1, "b": 2 }),
            doc! { "_id": 1, "b": 2 }
        );
        assert_eq!(Operation::Delete.apply(Some(Bytes::new())).unwrap(), None);
        let diff = Operation::Diff(encode(&doc! { "u": { "a": 1 } }).unwrap());
        assert_eq!(diff.apply(None).unwrap(), None);
    }

    #[test]
    fn what_is_unknown_stops() {
        for object in [
            doc! { "$v": 3, "diff": {} },
            doc! { "$v": 2 },
            doc! { "$v": 2, "diff": { "b": { "x": 1 } } },
            doc! { "$v": 2, "diff": { "sx": { "q": 1 } } },
            doc! { "$v": 1, "$inc": { "a": 1 } },
        ] {
            let raw = RawDocumentBuf::try_from(&object).unwrap();
            let error = read(&rawdoc! { "op": "u", "o": raw.clone() }, &raw).unwrap_err();
            assert!(error.chain().contains("cannot apply"), "{object}: {}", error.chain());
        }
    }
}
