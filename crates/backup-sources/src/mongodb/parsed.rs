//! Documents as values, with a limit on their depth: parsing them recurses.

use std::fmt::Display;

use backup_core::source::SourceResult;
use bson::{Document, RawDocument};

use super::error::malformed;
use super::raw::value_length;

/// Deepest nesting of documents and arrays. Servers accept 200 levels.
const DEEPEST: usize = 256;

/// The document as a value; `subject` names it in errors.
///
/// # Errors
/// [`SourceErrorKind::Invalid`](backup_core::source::SourceErrorKind::Invalid) if it is not BSON, or
/// nested deeper than 256 levels.
pub(super) fn parsed(document: &RawDocument, subject: impl Display) -> SourceResult<Document> {
    match is_shallow(document.as_bytes()) {
        Some(true) => {
            Document::try_from(document).map_err(|error| malformed(subject).with_source(error))
        }
        Some(false) => Err(malformed(format!("{subject}: more than {DEEPEST} levels of nesting"))),
        None => Err(malformed(subject)),
    }
}

/// Whether a document is nested at most [`DEEPEST`] levels; `None` if it is not BSON.
fn is_shallow(document: &[u8]) -> Option<bool> {
    // Ends of the documents around the position.
    let (mut ends, mut at) = (vec![document.len()], 4);
    while let Some(&end) = ends.last() {
        let (&kind, tail) = document.get(at..end)?.split_first()?;
        if kind == 0 {
            at = end;
            ends.pop();
            continue;
        }
        let name = tail.iter().position(|byte| *byte == 0)?;
        let value = at + name + 2;
        let length = value_length(kind, document.get(value..end)?)?;
        let next = value.checked_add(length).filter(|next| *next <= end)?;
        at = match kind {
            0x03 | 0x04 => value + 4,
            // Code with a scope: its length, the code, the scope.
            0x0f => {
                let code = document.get(value + 4..next)?;
                value + 8 + value_length(0x02, code)?
            }
            _ => {
                at = next;
                continue;
            }
        };
        if at > next {
            return None;
        }
        ends.push(next);
        if ends.len() > DEEPEST {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use bson::{Bson, JavaScriptCodeWithScope, RawDocumentBuf, doc};

    use super::*;

    /// `levels` documents in each other, without recursion.
    fn nested(levels: usize) -> RawDocumentBuf {
        let mut bytes = vec![5, 0, 0, 0, 0];
        for _ in 1..levels {
            let len = i32::try_from(bytes.len() + 8).unwrap();
            bytes = [&len.to_le_bytes()[..], b"\x03a\0", &bytes, &[0]].concat();
        }
        RawDocumentBuf::from_bytes(bytes).unwrap()
    }

    #[test]
    fn deep_documents_are_refused_without_recursion() {
        assert!(parsed(&nested(256), "document").is_ok());
        for levels in [257, 100_000] {
            let error = parsed(&nested(levels), "catalog.bson").unwrap_err();
            assert_eq!(error.to_string(), "invalid catalog.bson: more than 256 levels of nesting");
        }
    }

    #[test]
    fn every_type_is_passed_over() {
        let scope = JavaScriptCodeWithScope {
            code: "f()".to_owned(),
            scope: doc! { "x": [1, { "y": 2 }] },
        };
        let document = doc! {
            "double": 1.5, "text": "t", "document": { "a": { "b": [[], [{}]] } }, "array": [1, "2"],
            "binary": Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2] }),
            "id": bson::oid::ObjectId::new(), "bool": true, "date": bson::DateTime::now(), "null": Bson::Null,
            "regex": bson::Regex { pattern: bson::cstr!("a").into(), options: bson::cstr!("i").into() },
            "code": Bson::JavaScriptCode("g()".to_owned()), "scope": scope, "int": 1, "long": 1_i64,
            "time": bson::Timestamp { time: 1, increment: 2 }, "min": Bson::MinKey, "max": Bson::MaxKey,
        };
        let raw = RawDocumentBuf::try_from(&document).unwrap();
        assert_eq!(parsed(&raw, "document").unwrap(), document);
    }

    #[test]
    fn broken_documents_are_refused() {
        let whole = RawDocumentBuf::try_from(&doc! { "a": { "b": "c" }, "d": [1] }).unwrap();
        for at in 4..whole.as_bytes().len() - 1 {
            let mut broken = whole.as_bytes().to_vec();
            broken[at] = 0xee;
            if let Ok(raw) = RawDocument::from_bytes(&broken) {
                // Names and numbers may be anything; nothing panics or overflows.
                _ = parsed(raw, "document");
            }
        }
    }
}
