//! Elements of documents as bytes: no name is decoded, no value is parsed.
//!
//! Servers store what the driver's own types refuse or change: field names twice, names and strings
//! that are not UTF-8, options of regular expressions out of order, array keys that are no indexes.

use std::fmt::Display;

use backup_core::source::SourceResult;
use bson::Timestamp;

use crate::mongodb::error::malformed;

/// Type bytes (<https://bsonspec.org/spec.html>).
pub(in crate::mongodb) mod kind {
    pub(in crate::mongodb) const DOUBLE: u8 = 0x01;
    pub(in crate::mongodb) const STRING: u8 = 0x02;
    pub(in crate::mongodb) const DOCUMENT: u8 = 0x03;
    pub(in crate::mongodb) const ARRAY: u8 = 0x04;
    pub(in crate::mongodb) const BINARY: u8 = 0x05;
    pub(in crate::mongodb) const UNDEFINED: u8 = 0x06;
    pub(in crate::mongodb) const OBJECT_ID: u8 = 0x07;
    pub(in crate::mongodb) const BOOLEAN: u8 = 0x08;
    pub(in crate::mongodb) const DATE: u8 = 0x09;
    pub(in crate::mongodb) const NULL: u8 = 0x0a;
    pub(in crate::mongodb) const REGEX: u8 = 0x0b;
    pub(in crate::mongodb) const DB_POINTER: u8 = 0x0c;
    pub(in crate::mongodb) const CODE: u8 = 0x0d;
    pub(in crate::mongodb) const SYMBOL: u8 = 0x0e;
    pub(in crate::mongodb) const CODE_WITH_SCOPE: u8 = 0x0f;
    pub(in crate::mongodb) const INT32: u8 = 0x10;
    pub(in crate::mongodb) const TIMESTAMP: u8 = 0x11;
    pub(in crate::mongodb) const INT64: u8 = 0x12;
    pub(in crate::mongodb) const DECIMAL: u8 = 0x13;
    pub(in crate::mongodb) const MAX_KEY: u8 = 0x7f;
    pub(in crate::mongodb) const MIN_KEY: u8 = 0xff;

    /// As the server's `$type` calls it.
    pub(in crate::mongodb) fn name(kind: u8) -> &'static str {
        match kind {
            DOUBLE => "double",
            STRING => "string",
            DOCUMENT => "object",
            ARRAY => "array",
            BINARY => "binData",
            UNDEFINED => "undefined",
            OBJECT_ID => "objectId",
            BOOLEAN => "bool",
            DATE => "date",
            NULL => "null",
            REGEX => "regex",
            DB_POINTER => "dbPointer",
            CODE => "javascript",
            SYMBOL => "symbol",
            CODE_WITH_SCOPE => "javascriptWithScope",
            INT32 => "int",
            TIMESTAMP => "timestamp",
            INT64 => "long",
            DECIMAL => "decimal",
            MAX_KEY => "maxKey",
            MIN_KEY => "minKey",
            _ => "unknown",
        }
    }
}

/// Deepest nesting of documents and arrays. Servers accept 200 levels.
const DEEPEST: usize = 256;

/// A value: its type byte and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mongodb) struct Value<'a> {
    pub(in crate::mongodb) kind: u8,
    pub(in crate::mongodb) bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// The text of a string; `None` if it is none, or not UTF-8.
    pub(in crate::mongodb) fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// The bytes of a string, without length and terminator.
    pub(in crate::mongodb) fn string(self) -> Option<&'a [u8]> {
        if self.kind != kind::STRING {
            return None;
        }
        self.bytes.get(4..self.bytes.len().checked_sub(1)?)
    }

    pub(in crate::mongodb) fn boolean(self) -> Option<bool> {
        (self.kind == kind::BOOLEAN).then(|| self.bytes == [1])
    }

    /// The bytes of a document.
    pub(in crate::mongodb) fn document(self) -> Option<&'a [u8]> {
        (self.kind == kind::DOCUMENT).then_some(self.bytes)
    }

    /// The bytes of an array.
    pub(in crate::mongodb) fn array(self) -> Option<&'a [u8]> {
        (self.kind == kind::ARRAY).then_some(self.bytes)
    }

    /// A number of whichever type but decimals.
    pub(in crate::mongodb) fn number(self) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "as the server compares numbers of two types"
        )]
        match self.kind {
            kind::DOUBLE => Some(f64::from_le_bytes(self.bytes.try_into().ok()?)),
            kind::INT32 => Some(i32::from_le_bytes(self.bytes.try_into().ok()?).into()),
            kind::INT64 => Some(i64::from_le_bytes(self.bytes.try_into().ok()?) as f64),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    pub(in crate::mongodb) fn index(self) -> Option<usize> {
        match self.kind {
            kind::INT32 => i32::from_le_bytes(self.bytes.try_into().ok()?).try_into().ok(),
            kind::INT64 => i64::from_le_bytes(self.bytes.try_into().ok()?).try_into().ok(),
            _ => None,
        }
    }

    pub(in crate::mongodb) fn timestamp(self) -> Option<Timestamp> {
        let (increment, time) = self.bytes.split_at_checked(4)?;
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).ok();
        (self.kind == kind::TIMESTAMP)
            .then_some(Timestamp { time: number(time)?, increment: number(increment)? })
    }

    /// The content of a binary value of 16 bytes.
    pub(in crate::mongodb) fn uuid(self) -> Option<[u8; 16]> {
        if self.kind != kind::BINARY {
            return None;
        }
        self.bytes.get(5..)?.try_into().ok()
    }
}

/// A name and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mongodb) struct Element<'a> {
    pub(in crate::mongodb) name: &'a [u8],
    pub(in crate::mongodb) value: Value<'a>,
}

/// The elements of a document or an array, in order. Ends with an error at the first one that is
/// not BSON.
pub(in crate::mongodb) fn elements(
    document: &[u8],
) -> impl Iterator<Item = SourceResult<Element<'_>>> {
    let mut rest = Some(document.get(4..).unwrap_or_default());
    std::iter::from_fn(move || {
        let bytes = rest?;
        if bytes == [0] {
            rest = None;
            return None;
        }
        match split_first(bytes) {
            Some((element, tail)) => {
                rest = Some(tail);
                Some(Ok(element))
            }
            None => {
                rest = None;
                Some(Err(malformed("document")))
            }
        }
    })
}

fn split_first(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&kind, tail) = bytes.split_first()?;
    let end = tail.iter().position(|byte| *byte == 0)?;
    let (name, tail) = (&tail[..end], &tail[end + 1..]);
    let (bytes, rest) = tail.split_at_checked(value_length(kind, tail)?)?;
    Some((Element { name, value: Value { kind, bytes } }, rest))
}

/// The first value of a name.
pub(in crate::mongodb) fn get<'a>(
    document: &'a [u8],
    name: &str,
) -> SourceResult<Option<Value<'a>>> {
    for element in elements(document) {
        let element = element?;
        if element.name == name.as_bytes() {
            return Ok(Some(element.value));
        }
    }
    Ok(None)
}

/// Length of a value of a type; `None` if there is no such type or it is cut off.
fn value_length(kind: u8, value: &[u8]) -> Option<usize> {
    let number = || usize::try_from(i32::from_le_bytes(*value.first_chunk()?)).ok();
    let text = |value: &[u8]| Some(value.iter().position(|byte| *byte == 0)? + 1);
    match kind {
        0x01 | 0x09 | 0x11 | 0x12 => Some(8),
        0x02 | 0x0d | 0x0e => Some(4 + number()?),
        0x03 | 0x04 | 0x0f => number(),
        0x05 => Some(5 + number()?),
        0x06 | 0x0a | 0x7f | 0xff => Some(0),
        0x07 => Some(12),
        0x08 => Some(1),
        0x0b => {
            let pattern = text(value)?;
            Some(pattern + text(value.get(pattern..)?)?)
        }
        0x0c => Some(16 + number()?),
        0x10 => Some(4),
        0x13 => Some(16),
        _ => None,
    }
}

/// The `_id` as stored: type byte and value. Documents of one collection are the same if these are
/// equal; that numbers of different types compare equal on the server cannot produce two documents,
/// but one may replace the other, so numbers are brought to one form.
pub(in crate::mongodb) fn id_of(document: &[u8]) -> SourceResult<Vec<u8>> {
    match get(document, "_id")? {
        Some(value) => Ok(key_of(value)),
        None => Err(malformed("document: no _id")),
    }
}

fn key_of(value: Value<'_>) -> Vec<u8> {
    let exact = match value.kind {
        kind::INT64 => value.number().filter(|number| number.abs() <= (1_u64 << 53) as f64),
        _ => value.number(),
    };
    match exact {
        Some(number) => {
            let mut key = vec![kind::DOUBLE];
            // -0.0 is the same _id as 0.0.
            let number = if number == 0.0 { 0.0 } else { number };
            key.extend_from_slice(&number.to_bits().to_le_bytes());
            key
        }
        None => [&[value.kind], value.bytes].concat(),
    }
}

/// Whether a top-level field holds the empty timestamp, which the server replaces when such a
/// document is inserted. Looked for in every document that is restored: so it goes from field to
/// field without parsing them. What is no document is for the server to refuse.
pub(in crate::mongodb) fn has_empty_timestamp(document: &[u8]) -> bool {
    elements(document).map_while(Result::ok).any(|element| {
        element.value.kind == kind::TIMESTAMP
            && element.value.bytes == [0; 8]
            && element.name != b"_id"
    })
}

/// Refuses documents that are nested deeper than 256 levels, and what is no BSON; `subject` names
/// the document in errors. Whatever recurses into documents of a snapshot calls this first.
///
/// # Errors
/// [`SourceErrorKind::Invalid`](backup_core::source::SourceErrorKind::Invalid).
pub(in crate::mongodb) fn refuse_deep(document: &[u8], subject: impl Display) -> SourceResult<()> {
    match is_shallow(document) {
        Some(true) => Ok(()),
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
            kind::DOCUMENT | kind::ARRAY => value + 4,
            // Its length, the code, the scope.
            kind::CODE_WITH_SCOPE => {
                let code = document.get(value + 4..next)?;
                value + 8 + value_length(kind::STRING, code)?
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
    use bson::{Bson, Document, JavaScriptCodeWithScope, RawDocumentBuf, doc, rawdoc};

    use super::*;

    fn raw(document: &Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(document).unwrap()
    }

    #[test]
    fn ids_are_equal_where_the_server_says_so() {
        let id = |value: Bson| id_of(raw(&doc! { "x": 1, "_id": value }).as_bytes()).unwrap();
        assert_eq!(id(5_i32.into()), id(5_i64.into()));
        assert_eq!(id(5_i32.into()), id(5.0.into()));
        assert_eq!(id(0.0.into()), id((-0.0).into()));
        assert_ne!(id(5_i32.into()), id("5".into()));
        assert_ne!(id(i64::MAX.into()), id((i64::MAX - 1).into()));
        assert!(id_of(rawdoc! { "a": 1 }.as_bytes()).is_err());
        // One that the driver would not decode.
        let text =
            |bytes: &[u8]| [&[19, 0, 0, 0, 2][..], b"_id\0\x05\0\0\0", bytes, &[0, 0]].concat();
        assert_ne!(id_of(&text(b"ab\xff\xfe")).unwrap(), id_of(&text(b"ab\xff\xfd")).unwrap());
    }

    #[test]
    fn empty_timestamps_are_seen() {
        let empty = bson::Timestamp { time: 0, increment: 0 };
        let has = |document: Document| has_empty_timestamp(raw(&document).as_bytes());
        assert!(has(doc! { "_id": 1, "t": empty }));
        assert!(!has(
            doc! { "_id": empty, "x": { "t": empty }, "y": bson::Timestamp { time: 0, increment: 1 } }
        ));
        // Behind a value of every type.
        let binary =
            bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0; 9] };
        let code =
            bson::JavaScriptCodeWithScope { code: "x".to_owned(), scope: doc! { "t": empty } };
        let regex =
            bson::Regex { pattern: bson::cstr!("a").into(), options: bson::cstr!("i").into() };
        let values: Vec<Bson> = vec![
            1.5.into(),
            "text".into(),
            doc! { "t": empty }.into(),
            vec![empty].into(),
            binary.into(),
            Bson::Undefined,
            bson::oid::ObjectId::new().into(),
            true.into(),
            bson::DateTime::now().into(),
            Bson::Null,
            regex.into(),
            Bson::JavaScriptCode("x".to_owned()),
            Bson::Symbol("x".to_owned()),
            code.into(),
            1_i32.into(),
            bson::Timestamp { time: 1, increment: 0 }.into(),
            0_i64.into(),
            "1".parse::<bson::Decimal128>().unwrap().into(),
            Bson::MinKey,
            Bson::MaxKey,
        ];
        for value in values {
            assert!(!has(doc! { "x": value.clone() }), "{value}");
            assert!(has(doc! { "x": value.clone(), "t": empty }), "{value}");
        }
        assert!(!has_empty_timestamp(&[9, 0, 0, 0, 2]) && !has_empty_timestamp(b""));
    }

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
        assert!(refuse_deep(nested(256).as_bytes(), "document").is_ok());
        for levels in [257, 100_000] {
            let error = refuse_deep(nested(levels).as_bytes(), "catalog.bson").unwrap_err();
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
        let raw = raw(&document);
        refuse_deep(raw.as_bytes(), "document").unwrap();
        let names = elements(raw.as_bytes()).map(|element| element.unwrap().name);
        assert!(names.eq(document.keys().map(String::as_bytes)));
    }

    #[test]
    fn broken_documents_are_refused() {
        let whole = raw(&doc! { "a": { "b": "c" }, "d": [1] });
        for at in 4..whole.as_bytes().len() - 1 {
            let mut broken = whole.as_bytes().to_vec();
            broken[at] = 0xee;
            // Names and numbers may be anything; nothing panics or overflows.
            _ = refuse_deep(&broken, "document");
            _ = elements(&broken).count();
        }
    }
}
