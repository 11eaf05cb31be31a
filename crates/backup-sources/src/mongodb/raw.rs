//! BSON as bytes: where documents begin and end, and the few fields that matter, without parsing the rest.
//!
//! A document is an `i32` with its own length (little-endian), elements (a type byte, a name ending in NUL, a value) and
//! a NUL: <https://bsonspec.org/spec.html>.

use backup_core::source::SourceResult;
use bson::RawDocument;
use bytes::{Buf as _, Bytes, BytesMut};

use super::error::malformed;

/// The largest document: the server's own limit for stored ones and room for what the oplog puts around it.
pub(super) const LARGEST: usize = 48 << 20;

/// Length of the document at the beginning of `bytes`; `None` if not even its length is there.
fn length(bytes: &[u8]) -> Option<SourceResult<usize>> {
    let head: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let length = usize::try_from(i32::from_le_bytes(head)).unwrap_or(0);
    Some(if (5..=LARGEST).contains(&length) { Ok(length) } else { Err(malformed("a document's length")) })
}

/// Appends the documents of an array of the wire protocol, one after another, as files hold them.
pub(super) fn append_batch(array: &[u8], out: &mut BytesMut) -> SourceResult<u64> {
    let broken = || malformed("a batch of the server");
    let mut rest = array.get(4..array.len().saturating_sub(1)).ok_or_else(broken)?;
    let mut count = 0;
    while let Some((kind, tail)) = rest.split_first() {
        let name = tail.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
        let value = tail.get(name + 1..).ok_or_else(broken)?;
        let length = length(value).ok_or_else(broken)??;
        if *kind != 3 || value.len() < length {
            return Err(broken());
        }
        out.extend_from_slice(&value[..length]);
        rest = &value[length..];
        count += 1;
    }
    Ok(count)
}

/// The documents of a file that is there as a whole.
pub(super) fn split(mut bytes: &[u8]) -> impl Iterator<Item = SourceResult<&[u8]>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let found = match length(bytes) {
            Some(Ok(length)) => bytes.split_at_checked(length),
            Some(Err(error)) => {
                bytes = &[];
                return Some(Err(error));
            }
            None => None,
        };
        let Some((document, rest)) = found else {
            bytes = &[];
            return Some(Err(malformed("the last document: it is cut off")));
        };
        bytes = rest;
        Some(Ok(document))
    })
}

/// Cuts a stream of bytes into documents.
#[derive(Debug, Default)]
pub(super) struct Documents {
    buffer: BytesMut,
}

impl Documents {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole document.
    pub(super) fn next(&mut self) -> SourceResult<Option<Bytes>> {
        match length(&self.buffer) {
            Some(length) => {
                let length = length?;
                Ok((self.buffer.len() >= length).then(|| self.buffer.split_to(length).freeze()))
            }
            None => Ok(None),
        }
    }

    /// Nothing may be left at the end.
    pub(super) fn finish(&self) -> SourceResult<()> {
        if self.buffer.has_remaining() { Err(malformed("the last document: it is cut off")) } else { Ok(()) }
    }
}

/// A document's bytes as the driver's type.
pub(super) fn document(bytes: &[u8]) -> SourceResult<&RawDocument> {
    RawDocument::from_bytes(bytes).map_err(|error| malformed("a document").with_source(error))
}

/// The `_id` as stored: type byte and value. Documents of one collection are the same if these are equal; that numbers of
/// different types compare equal on the server cannot produce two documents, but one may replace the other, so numbers are
/// brought to one form.
pub(super) fn id_of(document: &RawDocument) -> SourceResult<Vec<u8>> {
    for element in document.iter_elements() {
        let element = element.map_err(|error| malformed("a document").with_source(error))?;
        if element.key().as_str() == "_id" {
            let value = element.value().map_err(|error| malformed("an _id").with_source(error))?;
            return Ok(key_of(value));
        }
    }
    Err(malformed("a document: it has no _id"))
}

fn key_of(value: bson::RawBsonRef<'_>) -> Vec<u8> {
    use bson::RawBsonRef as V;
    let number = |value: f64| {
        let mut key = vec![1];
        key.extend_from_slice(&value.to_bits().to_le_bytes());
        key
    };
    match value {
        V::Int32(value) => number(f64::from(value)),
        #[expect(clippy::cast_precision_loss, reason = "only exact conversions are taken, as the next line checks")]
        V::Int64(value) if value.unsigned_abs() <= 1 << 53 => number(value as f64),
        // -0.0 is the same _id as 0.0.
        V::Double(value) => number(if value == 0.0 { 0.0 } else { value }),
        other => {
            let mut wrapped = bson::RawDocumentBuf::new();
            wrapped.append(bson::cstr!("i"), other);
            wrapped.into_bytes()
        }
    }
}

/// Whether a top-level field holds the empty timestamp, which the server replaces when such a document is inserted.
pub(super) fn has_empty_timestamp(document: &RawDocument) -> bool {
    document.iter_elements().flatten().any(|element| {
        element.element_type() == bson::spec::ElementType::Timestamp
            && element.key().as_str() != "_id"
            && matches!(element.value(), Ok(bson::RawBsonRef::Timestamp(ts)) if ts.time == 0 && ts.increment == 0)
    })
}

#[cfg(test)]
mod tests {
    use bson::{RawArrayBuf, RawDocumentBuf, doc, rawdoc};

    use super::*;

    #[test]
    fn batches_become_files_and_files_become_documents() {
        let docs = [rawdoc! { "_id": 1, "x": "y" }, rawdoc! {}, rawdoc! { "_id": [1, 2] }];
        let array: RawArrayBuf = docs.iter().cloned().collect();
        let mut file = BytesMut::new();
        assert_eq!(append_batch(array.as_bytes(), &mut file).unwrap(), 3);
        let whole: Vec<_> = split(&file).map(|document| document.unwrap().to_vec()).collect();
        assert_eq!(whole, docs.clone().map(RawDocumentBuf::into_bytes));
        for size in [1, 7, 1000] {
            let (mut cut, mut found) = (Documents::default(), Vec::new());
            for piece in file.chunks(size) {
                cut.push(piece);
                while let Some(document) = cut.next().unwrap() {
                    found.push(RawDocumentBuf::from_bytes(document.to_vec()).unwrap());
                }
            }
            cut.finish().unwrap();
            assert_eq!(found, docs);
        }
    }

    #[test]
    fn damage_is_noticed() {
        let mut cut = Documents::default();
        cut.push(&[4, 0, 0, 0, 0]);
        assert!(cut.next().is_err());
        assert!(split(&rawdoc! { "a": 1 }.as_bytes()[..6]).next().unwrap().is_err());
        let mut cut = Documents::default();
        cut.push(&rawdoc! { "a": 1 }.as_bytes()[..6]);
        assert_eq!(cut.next().unwrap(), None);
        assert!(cut.finish().is_err());
        assert!(append_batch(&[9, 0, 0, 0, 3, b'0', 0, 9, 0], &mut BytesMut::new()).is_err());
    }

    #[test]
    fn ids_are_equal_where_the_server_says_so() {
        let id = |value: bson::Bson| id_of(&RawDocumentBuf::try_from(&doc! { "x": 1, "_id": value }).unwrap()).unwrap();
        assert_eq!(id(5_i32.into()), id(5_i64.into()));
        assert_eq!(id(5_i32.into()), id(5.0.into()));
        assert_eq!(id(0.0.into()), id((-0.0).into()));
        assert_ne!(id(5_i32.into()), id("5".into()));
        assert_ne!(id(i64::MAX.into()), id((i64::MAX - 1).into()));
        assert!(id_of(&rawdoc! { "a": 1 }).is_err());
    }

    #[test]
    fn empty_timestamps_are_seen() {
        let empty = bson::Timestamp { time: 0, increment: 0 };
        assert!(has_empty_timestamp(&rawdoc! { "_id": 1, "t": empty }));
        assert!(!has_empty_timestamp(&rawdoc! { "_id": empty, "x": { "t": empty } }));
    }
}
