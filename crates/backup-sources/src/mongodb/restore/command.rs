//! Write commands assembled from bytes: documents are copied once and never parsed.

use backup_core::source::SourceResult;
use bson::{Document, RawDocumentBuf};
use bytes::Bytes;

use crate::mongodb::error::malformed;

/// `head` with the documents as its last field, the array `field`.
pub(super) fn with_documents(head: &Document, field: &str, documents: &[Bytes]) -> SourceResult<RawDocumentBuf> {
    let head = RawDocumentBuf::try_from(head).map_err(|error| malformed("a command").with_source(error))?;
    let mut out = head.into_bytes();
    out.pop();
    out.push(4);
    out.extend_from_slice(field.as_bytes());
    out.push(0);
    let array = out.len();
    out.extend_from_slice(&[0; 4]);
    for (at, document) in documents.iter().enumerate() {
        out.push(3);
        out.extend_from_slice(at.to_string().as_bytes());
        out.push(0);
        out.extend_from_slice(document);
    }
    out.push(0);
    let inner = length(out.len() - array)?;
    out[array..array + 4].copy_from_slice(&inner);
    out.push(0);
    let whole = length(out.len())?;
    out[..4].copy_from_slice(&whole);
    RawDocumentBuf::from_bytes(out).map_err(|error| malformed("a command").with_source(error))
}

fn length(bytes: usize) -> SourceResult<[u8; 4]> {
    i32::try_from(bytes).map(i32::to_le_bytes).map_err(|_| malformed("a command: it is too long"))
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    #[test]
    fn commands_are_what_the_driver_would_build() {
        let documents = [rawdoc! { "_id": 1 }, rawdoc! { "_id": "x", "a": [1] }];
        let bytes = documents.clone().map(|document| Bytes::from(document.into_bytes()));
        let command = with_documents(&doc! { "insert": "c", "ordered": false }, "documents", &bytes).unwrap();
        let expected =
            rawdoc! { "insert": "c", "ordered": false, "documents": [documents[0].clone(), documents[1].clone()] };
        assert_eq!(command, expected);
        let empty = with_documents(&doc! { "insert": "c" }, "documents", &[]).unwrap();
        assert_eq!(empty, rawdoc! { "insert": "c", "documents": [] });
    }
}
