//! Documents in files and batches: where they begin and end.
//!
//! A document is an `i32` with its own length (little-endian), elements (a type byte, a name ending
//! in NUL, a value) and a NUL: <https://bsonspec.org/spec.html>.

use backup_core::source::SourceResult;
use bson::RawDocument;
use bytes::{Buf as _, Bytes, BytesMut};

use crate::mongodb::error::malformed;

/// The largest document: the server's own limit for stored ones and room for what the oplog puts
/// around it.
pub(in crate::mongodb) const LARGEST: usize = 48 << 20;

/// Length of the document at the beginning of `bytes`; `None` if not even its length is there.
fn length(bytes: &[u8]) -> Option<SourceResult<usize>> {
    let head: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let length = usize::try_from(i32::from_le_bytes(head)).unwrap_or(0);
    Some(if (5..=LARGEST).contains(&length) {
        Ok(length)
    } else {
        Err(malformed("document length"))
    })
}

/// Where the first document of an array of the wire protocol is.
pub(in crate::mongodb) const FIRST: usize = 4;

/// Appends the documents of an array of the wire protocol from the one at `at` on, one after
/// another, as files hold them, until there are `enough` bytes. `at` is then where the next one is;
/// returns how many came.
pub(in crate::mongodb) fn append_batch(
    array: &[u8],
    at: &mut usize,
    enough: usize,
    out: &mut BytesMut,
) -> SourceResult<u64> {
    let broken = || malformed("batch in a server reply");
    let end = array.len().saturating_sub(1);
    let mut rest = array.get(*at..end).ok_or_else(broken)?;
    let mut count = 0;
    while let Some((kind, tail)) = rest.split_first() {
        if out.len() >= enough {
            break;
        }
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
    *at = end - rest.len();
    Ok(count)
}

/// The last document of an array of the wire protocol.
pub(in crate::mongodb) fn last_of(array: &[u8]) -> SourceResult<Option<&[u8]>> {
    let broken = || malformed("batch in a server reply");
    let mut rest = array.get(FIRST..array.len().saturating_sub(1)).ok_or_else(broken)?;
    let mut last = None;
    while let Some((_, tail)) = rest.split_first() {
        let name = tail.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
        let value = tail.get(name + 1..).ok_or_else(broken)?;
        let length = length(value).ok_or_else(broken)??;
        let (document, next) = value.split_at_checked(length).ok_or_else(broken)?;
        (last, rest) = (Some(document), next);
    }
    Ok(last)
}

/// The documents of a file that is there as a whole.
pub(in crate::mongodb) fn split(mut bytes: &[u8]) -> impl Iterator<Item = SourceResult<&[u8]>> {
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
            return Some(Err(malformed("last document: truncated")));
        };
        bytes = rest;
        Some(Ok(document))
    })
}

/// Takes the first document from a piece that holds whole ones only.
pub(in crate::mongodb) fn first_of(piece: &mut Bytes) -> SourceResult<Option<Bytes>> {
    let Some(length) = length(piece).transpose()? else { return Ok(None) };
    if length > piece.len() {
        return Err(malformed("last document: truncated"));
    }
    Ok(Some(piece.split_to(length)))
}

/// Length of the whole documents at the beginning of `bytes`.
fn whole_ones(bytes: &[u8]) -> SourceResult<usize> {
    let mut end = 0;
    while let Some(length) = length(&bytes[end..]) {
        let next = end + length?;
        if next > bytes.len() {
            break;
        }
        end = next;
    }
    Ok(end)
}

/// Cuts a stream of bytes into documents.
#[derive(Debug, Default)]
pub(in crate::mongodb) struct Documents {
    buffer: BytesMut,
}

impl Documents {
    pub(in crate::mongodb) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole document.
    pub(in crate::mongodb) fn next(&mut self) -> SourceResult<Option<Bytes>> {
        match length(&self.buffer) {
            Some(length) => {
                let length = length?;
                Ok((self.buffer.len() >= length).then(|| self.buffer.split_to(length).freeze()))
            }
            None => Ok(None),
        }
    }

    /// Takes the next bytes, and gives all documents that are whole now, copying only the one that
    /// began before: that one, and the others.
    pub(in crate::mongodb) fn whole(&mut self, mut bytes: Bytes) -> SourceResult<[Bytes; 2]> {
        let mut begun = Bytes::new();
        while !self.buffer.is_empty() {
            let wanted = length(&self.buffer).transpose()?.unwrap_or(4);
            if self.buffer.len() == wanted && wanted > 4 {
                begun = self.buffer.split().freeze();
            } else if bytes.is_empty() {
                return Ok([begun, bytes]);
            } else {
                let more = bytes.split_to(bytes.len().min(wanted - self.buffer.len()));
                self.buffer.extend_from_slice(&more);
            }
        }
        let others = bytes.split_to(whole_ones(&bytes)?);
        self.buffer.extend_from_slice(&bytes);
        Ok([begun, others])
    }

    /// Nothing may be left at the end.
    pub(in crate::mongodb) fn finish(&self) -> SourceResult<()> {
        if self.buffer.has_remaining() {
            Err(malformed("last document: truncated"))
        } else {
            Ok(())
        }
    }
}

/// A document's bytes as the driver's type.
pub(in crate::mongodb) fn document(bytes: &[u8]) -> SourceResult<&RawDocument> {
    RawDocument::from_bytes(bytes).map_err(|error| malformed("document").with_source(error))
}

#[cfg(test)]
mod tests {
    use bson::{RawArrayBuf, RawDocumentBuf, rawdoc};

    use super::*;

    #[test]
    fn batches_become_files_and_files_become_documents() {
        let docs = [rawdoc! { "_id": 1, "x": "y" }, rawdoc! {}, rawdoc! { "_id": [1, 2] }];
        let array: RawArrayBuf = docs.iter().cloned().collect();
        let mut file = BytesMut::new();
        assert_eq!(
            append_batch(array.as_bytes(), &mut FIRST.clone(), usize::MAX, &mut file).unwrap(),
            3
        );
        assert_eq!(last_of(array.as_bytes()).unwrap(), Some(docs[2].as_bytes()));
        assert_eq!(last_of(&[5, 0, 0, 0, 0]).unwrap(), None);
        let (mut at, mut piecewise) = (FIRST, BytesMut::new());
        for _ in &docs {
            let mut piece = BytesMut::new();
            assert_eq!(append_batch(array.as_bytes(), &mut at, 1, &mut piece).unwrap(), 1);
            piecewise.extend_from_slice(&piece);
        }
        assert_eq!(append_batch(array.as_bytes(), &mut at, 1, &mut piecewise).unwrap(), 0);
        assert_eq!(piecewise, file);
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
            let mut found = Vec::new();
            for piece in file.chunks(size) {
                for mut whole in cut.whole(Bytes::copy_from_slice(piece)).unwrap() {
                    while let Some(document) = first_of(&mut whole).unwrap() {
                        found.push(RawDocumentBuf::from_bytes(document.to_vec()).unwrap());
                    }
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
        let mut cut = Documents::default();
        assert!(cut.whole(Bytes::from_static(&[4, 0, 0, 0])).is_err());
        assert!(Documents::default().whole(Bytes::from_static(&[9, 0, 0])).is_ok());
        assert!(first_of(&mut Bytes::from_static(&[9, 0, 0, 0, 1])).is_err());
        let broken = [9, 0, 0, 0, 3, b'0', 0, 9, 0];
        assert!(
            append_batch(&broken, &mut FIRST.clone(), usize::MAX, &mut BytesMut::new()).is_err()
        );
    }
}
