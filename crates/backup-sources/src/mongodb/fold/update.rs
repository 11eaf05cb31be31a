//! Updates as the oplog records them.
//!
//! Three forms: the whole new document; from 5.0 on a difference (`$v: 2`, `diff`) with sections
//! `d` (fields removed), `u` (set where they are), `i` (new, at the end) and `s<field>` (a
//! difference of what is inside), where arrays have `a: true`, `l` (new length), `u<n>` and `s<n>`;
//! up to 4.4 `$set` and `$unset` of dotted paths (`$v: 1`). A whole document is known by its `_id`,
//! which the other two lack: its fields may have any name, `$v` and `$set` too. From the server's
//! `src/mongo/db/update/document_diff_serialization.h` and
//! `src/mongo/db/ops/write_ops_parsers.cpp`; what it does in cases that cannot arise (a difference
//! of a field that is a number by now) was observed.

use backup_core::source::SourceResult;
use bson::RawDocument;
use bytes::Bytes;

use super::spill::Operation;
use super::{tree, unknown};
use crate::mongodb::raw::{Value, elements, get, refuse_deep};

/// Most parts of a dotted path; servers accept 200 levels.
const LONGEST_PATH: usize = 256;

/// The operation of an update entry whose `o` is `object`.
pub(super) fn read(entry: &RawDocument, object: &[u8]) -> SourceResult<Operation> {
    if get(object, "_id")?.is_some() {
        return Ok(Operation::Replace(Bytes::copy_from_slice(object)));
    }
    refuse_deep(object, "update in the oplog")?;
    match get(object, "$v")?.map(Value::number) {
        Some(Some(2.0)) => {
            let diff = get(object, "diff")?.and_then(Value::document);
            let diff = diff.ok_or_else(|| unknown("an update without a diff", entry))?;
            if !is_known(diff) {
                return Err(unknown("a diff with an unknown section", entry));
            }
            Ok(Operation::Diff(Bytes::copy_from_slice(diff)))
        }
        None | Some(Some(1.0)) if is_modifier(object)? => {
            Ok(Operation::Modify(Bytes::copy_from_slice(object)))
        }
        None | Some(Some(1.0)) => Err(unknown("an update with an unknown operator", entry)),
        Some(_) => Err(unknown("an update of an unknown version", entry)),
    }
}

/// Whether an update only sets and removes fields.
fn is_modifier(object: &[u8]) -> SourceResult<bool> {
    let mut sections = 0;
    for element in elements(object) {
        let element = element?;
        match (element.name, element.value.document()) {
            (b"$v", _) => continue,
            (b"$set" | b"$unset", Some(paths)) => {
                sections += 1;
                for path in elements(paths) {
                    if path?.name.split(|byte| *byte == b'.').count() > LONGEST_PATH {
                        return Ok(false);
                    }
                }
            }
            _ => return Ok(false),
        }
    }
    Ok(sections > 0)
}

/// Whether a difference has only sections that are understood.
fn is_known(diff: &[u8]) -> bool {
    let is_array = get(diff, "a").is_ok_and(|a| a.and_then(Value::boolean) == Some(true));
    elements(diff).all(|section| {
        let Ok(section) = section else { return false };
        let Some((kind, rest)) = section.name.split_first() else { return false };
        match (is_array, kind, rest.is_empty()) {
            // Of a field without a name, too; an item of an array has a place.
            (false, b's', _) | (true, b's', false) => {
                section.value.document().is_some_and(is_known)
            }
            (true, b'a' | b'l', true) => true,
            (false, b'd' | b'u' | b'i', true) => section.value.document().is_some(),
            (true, b'u', false) => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        }
    })
}

impl Operation {
    /// The document after the operation. A change of a document that is not there changes nothing:
    /// its end is in the oplog as well.
    pub(super) fn apply(&self, document: Option<Bytes>) -> SourceResult<Option<Bytes>> {
        Ok(match (self, document) {
            (Self::Insert(new) | Self::Replace(new), _) => Some(new.clone()),
            (Self::Delete, _) | (Self::Diff(_) | Self::Modify(_), None) => None,
            (Self::Diff(diff), Some(document)) => Some(tree::patched(&document, diff)?.into()),
            (Self::Modify(modifier), Some(document)) => {
                Some(tree::modified(&document, modifier)?.into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, RawDocumentBuf, doc, rawdoc};

    use super::*;

    fn bytes(document: &Document) -> Vec<u8> {
        RawDocumentBuf::try_from(document).unwrap().into_bytes()
    }

    /// Bytes of a document, of its elements' bytes.
    fn raw(elements: &[&[u8]]) -> Vec<u8> {
        let body = elements.concat();
        let length = i32::try_from(body.len() + 5).unwrap();
        [&length.to_le_bytes()[..], &body, &[0]].concat()
    }

    fn applied(document: &[u8], object: &[u8]) -> Vec<u8> {
        let operation = read(&rawdoc! { "op": "u" }, object).unwrap();
        operation.apply(Some(document.to_vec().into())).unwrap().unwrap().to_vec()
    }

    fn after(document: &Document, object: &Document) -> Document {
        let changed = applied(&bytes(document), &bytes(object));
        RawDocumentBuf::from_bytes(changed).unwrap().try_into().unwrap()
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
        assert_eq!(bytes(&changed), bytes(&expected));
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
        assert_eq!(bytes(&changed), bytes(&expected));
    }

    #[test]
    fn replacements_insertions_and_deletions() {
        assert_eq!(
            after(&doc! { "_id": 1, "a": 1 }, &doc! { "_id": 1, "b": 2 }),
            doc! { "_id": 1, "b": 2 }
        );
        assert_eq!(Operation::Delete.apply(Some(Bytes::new())).unwrap(), None);
        let diff = Operation::Diff(bytes(&doc! { "u": { "a": 1 } }).into());
        assert_eq!(diff.apply(None).unwrap(), None);
    }

    #[test]
    fn unknown_updates_stop_without_their_data() {
        for object in [
            doc! { "$v": 3, "diff": {} },
            doc! { "$v": 2 },
            doc! { "$v": 2, "diff": { "b": { "x": 1 } } },
            doc! { "$v": 2, "diff": { "sx": { "q": 1 } } },
            doc! { "$v": 1, "$inc": { "a": 1 } },
        ] {
            let entry =
                rawdoc! { "op": "u", "ns": "shop.orders", "o2": { "_id": "anna@example.org" } };
            let error = read(&entry, &bytes(&object)).unwrap_err();
            let text = error.chain();
            assert!(text.contains("cannot apply"), "{object}: {text}");
            assert!(text.contains("shop.orders") && !text.contains("anna"), "{text}");
        }
    }

    /// What no change reaches keeps its bytes: `a` twice, a text that is not UTF-8, an expression
    /// whose options are out of order, an array whose names are no indexes.
    #[test]
    fn bytes_out_of_reach_stay() {
        let odd: [&[u8]; 6] = [
            b"\x10_id\0\x01\0\0\0",
            b"\x10a\0\x01\0\0\0",
            b"\x10a\0\x02\0\0\0",
            b"\x02t\0\x03\0\0\0\xff\xfe\0",
            b"\x0br\0x\0im\0",
            b"\x04l\0\x13\0\0\0\x107\0\x01\0\0\0\x10x\0\x02\0\0\0\0",
        ];
        let with = |last: &[u8]| raw(&[&odd[..], &[last]].concat());
        let document = with(b"\x10n\0\x01\0\0\0");
        let expected = with(b"\x10n\0\x05\0\0\0");
        for object in
            [doc! { "$v": 2, "diff": { "u": { "n": 5 } } }, doc! { "$v": 1, "$set": { "n": 5 } }]
        {
            assert_eq!(applied(&document, &bytes(&object)), expected, "{object}");
        }
        // A difference changes each field of its name, and gives an array its indexes.
        let object = doc! { "$v": 2, "diff": { "u": { "a": 7 }, "sl": { "a": true, "u1": 3 } } };
        let changed = applied(&document, &bytes(&object));
        let (one, list) =
            (b"\x10a\0\x07\0\0\0", b"\x04l\0\x13\0\0\0\x100\0\x01\0\0\0\x101\0\x03\0\0\0\0");
        let expected: [&[u8]; 7] = [odd[0], one, one, odd[3], odd[4], list, b"\x10n\0\x01\0\0\0"];
        assert_eq!(changed, raw(&expected));
    }

    #[test]
    fn a_document_with_names_of_operators_is_a_replacement() {
        for object in [
            doc! { "_id": 1, "$v": 2, "diff": { "u": { "a": 1 } } },
            doc! { "$set": { "a": 1 }, "_id": 1 },
            doc! { "_id": 1, "$v": 9 },
        ] {
            assert_eq!(after(&doc! { "_id": 1, "b": 1 }, &object), object);
        }
    }

    #[test]
    fn depth_is_limited_before_anything_recurses() {
        let mut diff = rawdoc! { "u": { "x": 1 } };
        for _ in 0..300 {
            diff = rawdoc! { "sa": diff };
        }
        let deep = rawdoc! { "$v": 2, "diff": diff };
        assert!(read(&rawdoc! {}, deep.as_bytes()).is_err());
        let path = vec!["a"; 300].join(".");
        let long = doc! { "$v": 1, "$set": { path: 1 } };
        assert!(read(&rawdoc! {}, &bytes(&long)).is_err());
    }
}
