//! Write commands assembled from bytes: documents are copied once and never parsed.

use backup_core::source::SourceResult;
use bson::{Document, RawDocumentBuf};
use bytes::Bytes;

use crate::mongodb::error::malformed;

/// `head` with the documents as its last field, the array `field`.
pub(super) fn with_documents(
    head: &Document,
    field: &str,
    documents: &[Bytes],
) -> SourceResult<RawDocumentBuf> {
    let head =
        RawDocumentBuf::try_from(head).map_err(|error| malformed("command").with_source(error))?;
    let mut out = head.into_bytes();
    // For each document its type, its number and a NUL.
    out.reserve(
        field.len() + 16 + documents.iter().map(|document| document.len() + 8).sum::<usize>(),
    );
    out.pop();
    out.push(4);
    out.extend_from_slice(field.as_bytes());
    out.push(0);
    let array = out.len();
    out.extend_from_slice(&[0; 4]);
    for (at, document) in documents.iter().enumerate() {
        out.push(3);
        push_number(&mut out, at);
        out.push(0);
        out.extend_from_slice(document);
    }
    out.push(0);
    let inner = length(out.len() - array)?;
    out[array..array + 4].copy_from_slice(&inner);
    out.push(0);
    let whole = length(out.len())?;
    out[..4].copy_from_slice(&whole);
    RawDocumentBuf::from_bytes(out).map_err(|error| malformed("command").with_source(error))
}

/// The digits of a number, without an allocation for each document.
fn push_number(out: &mut Vec<u8>, number: usize) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
}

fn length(bytes: usize) -> SourceResult<[u8; 4]> {
    i32::try_from(bytes).map(i32::to_le_bytes).map_err(|_| malformed("command: too long"))
}

#[cfg(test)]
mod tests {
    use bson::{RawArrayBuf, doc, rawdoc};

    use super::*;

    #[test]
    fn commands_are_what_the_driver_would_build() {
        let documents = [rawdoc! { "_id": 1 }, rawdoc! { "_id": "x", "a": [1] }];
        let bytes = documents.clone().map(|document| Bytes::from(document.into_bytes()));
        let command =
            with_documents(&doc! { "insert": "c", "ordered": false }, "documents", &bytes).unwrap();
        let expected = rawdoc! { "insert": "c", "ordered": false, "documents": [documents[0].clone(), documents[1].clone()] };
        assert_eq!(command, expected);
        let many = vec![Bytes::from(documents[0].as_bytes().to_vec()); 1234];
        let command = with_documents(&doc! { "insert": "c" }, "documents", &many).unwrap();
        let array: RawArrayBuf = std::iter::repeat_n(documents[0].clone(), 1234).collect();
        assert_eq!(command, rawdoc! { "insert": "c", "documents": array });
        let empty = with_documents(&doc! { "insert": "c" }, "documents", &[]).unwrap();
        assert_eq!(empty, rawdoc! { "insert": "c", "documents": [] });
    }
}
