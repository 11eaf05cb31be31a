//! Documents as trees that keep every byte: names may occur twice and need not be UTF-8, arrays keep
//! the names of their items.

/// A field of a document, or an item of an array.
pub(super) type Field = (Vec<u8>, Value);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Document(Vec<Field>),
    Array(Vec<Field>),
    /// Type and bytes of anything else.
    Plain(u8, Vec<u8>),
}

const DOCUMENT: u8 = 3;
const ARRAY: u8 = 4;
pub(super) const NULL: Value = Value::Plain(10, Vec::new());

/// More levels than servers take (200), and fewer than a stack does.
const DEEPEST: usize = 500;

/// A field that was not looked into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: u8,
    pub(super) value: &'a [u8],
}

impl<'a> Slice<'a> {
    /// The bytes of a document or array.
    pub(super) fn inside(self) -> Option<&'a [u8]> {
        matches!(self.kind, DOCUMENT | ARRAY).then_some(self.value)
    }

    pub(super) fn text(self) -> Option<&'a [u8]> {
        (self.kind == 2).then(|| self.value.get(4..self.value.len() - 1)).flatten()
    }

    pub(super) fn is_true(self) -> bool {
        self.kind == 8 && self.value == [1]
    }

    /// A UUID, of either subtype.
    pub(super) fn uuid(self) -> Option<[u8; 16]> {
        (self.kind == 5).then(|| self.value.get(5..)?.try_into().ok()).flatten()
    }

    /// Seconds and number of a timestamp.
    pub(super) fn timestamp(self) -> Option<(u32, u32)> {
        let (number, seconds) = self.value.split_first_chunk::<4>()?;
        let seconds = u32::from_le_bytes(seconds.try_into().ok()?);
        (self.kind == 17).then(|| (seconds, u32::from_le_bytes(*number)))
    }
}

/// The fields of a document, without a look into them; `None` if it is none.
pub(super) fn top(document: &[u8]) -> Option<Vec<Slice<'_>>> {
    let mut rest = body(document)?;
    let mut fields = Vec::new();
    while let Some((&kind, behind)) = rest.split_first() {
        let end = behind.iter().position(|byte| *byte == 0)?;
        let (name, behind) = (&behind[..end], &behind[end + 1..]);
        let (value, behind) = behind.split_at_checked(length(kind, behind)?)?;
        fields.push(Slice { name, kind, value });
        rest = behind;
    }
    Some(fields)
}

/// The first field of a name.
pub(super) fn find<'a>(document: &'a [u8], name: &str) -> Option<Slice<'a>> {
    top(document)?.into_iter().find(|field| field.name == name.as_bytes())
}

/// Without its length and its end.
fn body(document: &[u8]) -> Option<&[u8]> {
    let (length, rest) = document.split_first_chunk::<4>()?;
    let (end, body) = rest.split_last()?;
    let is_whole = i32::from_le_bytes(*length) == i32::try_from(document.len()).ok()? && *end == 0;
    is_whole.then_some(body)
}

/// Length of a value in bytes.
fn length(kind: u8, value: &[u8]) -> Option<usize> {
    let counted = || -> Option<usize> {
        let (length, _) = value.split_first_chunk::<4>()?;
        usize::try_from(i32::from_le_bytes(*length)).ok()
    };
    let text = |from: usize| {
        let end = value.get(from..)?.iter().position(|byte| *byte == 0)?;
        Some(from + end + 1)
    };
    Some(match kind {
        1 | 9 | 17 | 18 => 8,
        2 | 13 | 14 => counted()? + 4,
        DOCUMENT | ARRAY | 15 => counted()?,
        5 => counted()? + 5,
        6 | 10 | 127 | 255 => 0,
        7 => 12,
        8 => 1,
        11 => text(text(0)?)?,
        12 => counted()? + 16,
        16 => 4,
        19 => 16,
        _ => return None,
    })
}

/// A document to the ground; `None` if it is none, or too deep.
pub(super) fn parse(document: &[u8]) -> Option<Vec<Field>> {
    parse_below(document, 0)
}

fn parse_below(document: &[u8], depth: usize) -> Option<Vec<Field>> {
    if depth > DEEPEST {
        return None;
    }
    let fields = top(document)?.into_iter().map(|Slice { name, kind, value }| {
        let value = match kind {
            DOCUMENT => Value::Document(parse_below(value, depth + 1)?),
            ARRAY => Value::Array(parse_below(value, depth + 1)?),
            _ => Value::Plain(kind, value.to_vec()),
        };
        Some((name.to_vec(), value))
    });
    fields.collect()
}

/// The bytes of a document.
pub(super) fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = vec![0; 4];
    for (name, value) in fields {
        let (kind, bytes) = match value {
            Value::Document(fields) => (DOCUMENT, &encode(fields)),
            Value::Array(items) => (ARRAY, &encode(items)),
            Value::Plain(kind, bytes) => (*kind, bytes),
        };
        out.push(kind);
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(bytes);
    }
    out.push(0);
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, Decimal128, RawDocumentBuf, Timestamp, oid::ObjectId, rawdoc};

    use super::*;

    #[test]
    fn values_of_every_type_keep_their_bytes() {
        let code =
            bson::RawJavaScriptCodeWithScope { code: "f".to_owned(), scope: rawdoc! { "a": 1 } };
        let all = rawdoc! {
            "double": 1.5, "string": "text", "document": { "a": { "b": 1 } }, "array": [1, [2]],
            "binary": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0, 1] },
            "undefined": bson::RawBson::Undefined, "oid": ObjectId::new(), "boolean": true,
            "date": DateTime::from_millis(5), "null": bson::RawBson::Null,
            "regex": bson::RawBson::RegularExpression(bson::Regex {
                pattern: bson::cstr!("a.b").into(), options: bson::cstr!("im").into(),
            }),
            "code": bson::RawBson::JavaScriptCode("g".to_owned()), "symbol": bson::RawBson::Symbol("s".to_owned()),
            "scoped": code, "int": 7, "timestamp": Timestamp { time: 5, increment: 6 }, "long": 8_i64,
            "decimal": Decimal128::from_bytes([3; 16]), "least": bson::RawBson::MinKey, "most": bson::RawBson::MaxKey,
        };
        let twice = RawDocumentBuf::from_bytes(
            b"\x1c\0\0\0\x10a\0\x01\0\0\0\x10a\0\x02\0\0\0\x02t\0\x02\0\0\0\xff\0\0".to_vec(),
        );
        for document in [all, twice.unwrap()] {
            let fields = parse(document.as_bytes()).unwrap();
            assert_eq!(encode(&fields), document.as_bytes());
        }
        let found =
            find(rawdoc! { "a": 1, "t": Timestamp { time: 5, increment: 6 } }.as_bytes(), "t")
                .and_then(Slice::timestamp);
        assert_eq!(found, Some((5, 6)));
    }

    #[test]
    fn invalid_documents_are_refused() {
        for bad in
            [&b""[..], b"\x05\0\0\0", b"\x06\0\0\0\0", b"\x05\0\0\0\x01", b"\x08\0\0\0\x02a\0\0"]
        {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
        let mut deep = rawdoc! {};
        for _ in 0..=DEEPEST {
            deep = rawdoc! { "d": deep };
        }
        assert!(parse(deep.as_bytes()).is_none());
    }
}
