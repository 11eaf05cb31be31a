//! The documents of a dump as the content of a snapshot's file: whole documents, each of which is
//! looked through before it is passed on.

use std::io::{self, Read};
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceResult};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _};

use crate::mongodb::digest::Sum;
use crate::mongodb::error::malformed;
use crate::mongodb::raw::{Documents, first_of, refuse_deep};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// Where the bytes come from. Waits.
pub(super) type Bytestream = Box<dyn Read + Send>;

/// The documents of one file, read piece by piece.
pub(super) struct Reading {
    bytes: Bytestream,
    /// The collection, for errors.
    subject: String,
    cut: Documents,
    /// Bytes of the documents before the next one.
    at: u64,
    pub(super) sum: Sum,
}

impl Reading {
    pub(super) fn new(bytes: Bytestream, subject: impl Into<String>) -> Self {
        let (subject, cut, sum) = (subject.into(), Documents::default(), Sum::default());
        Self { bytes, subject, cut, at: 0, sum }
    }

    /// The next documents, one after another; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read, ends within a document, or holds a document that is no BSON or
    /// too deep.
    pub(super) fn next(&mut self) -> SourceResult<Option<Bytes>> {
        loop {
            let mut buffer = BytesMut::zeroed(PIECE);
            let read = loop {
                match self.bytes.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            let read = read.map_err(|error| self.broken("cannot be read").with_source(error))?;
            if read == 0 {
                self.cut.finish().map_err(|_| self.broken("ends within a document"))?;
                return Ok(None);
            }
            buffer.truncate(read);
            let damaged =
                |at| malformed(format!("dump of {}: document at byte {at}", self.subject));
            let whole = self.cut.whole(buffer.freeze()).map_err(|_| damaged(self.at))?;
            let [begun, others] = whole;
            for piece in [&begun, &others] {
                self.check(piece)?;
            }
            match (begun.is_empty(), others.is_empty()) {
                (true, true) => {}
                (true, false) => return Ok(Some(others)),
                (false, true) => return Ok(Some(begun)),
                (false, false) => return Ok(Some([begun, others].concat().into())),
            }
        }
    }

    fn check(&mut self, piece: &Bytes) -> SourceResult<()> {
        let mut rest = piece.clone();
        while let Some(document) = first_of(&mut rest)? {
            require_sound(&document, &self.subject, self.at)?;
            self.sum.add(&document);
            self.at += document.len() as u64;
        }
        Ok(())
    }

    fn broken(&self, what: &str) -> SourceError {
        let Self { subject, at, .. } = self;
        malformed(format!("dump of {subject}: the file {what} behind byte {at}"))
    }
}

/// Refuses a document that is no BSON, or nested too deep: it could be stored, and never restored.
/// Its content is not repeated.
pub(super) fn require_sound(document: &[u8], subject: &str, at: u64) -> SourceResult<()> {
    refuse_deep(document, format_args!("dump of {subject}: document at byte {at}"))
}

/// The documents as a stream, read on threads that may wait; `ended` gets the sum over them.
pub(super) fn stream(
    cx: &Context,
    reading: Reading,
    ended: impl FnOnce(Sum) + Send + 'static,
) -> BoxStream<'static, SourceResult<Bytes>> {
    let state = (cx.clone(), reading, ended);
    let pieces = stream::try_unfold(state, async |(cx, mut reading, ended)| {
        cx.check_cancelled().map_err(SourceError::from)?;
        let step = tokio::task::spawn_blocking(move || {
            let next = reading.next();
            (next, reading)
        });
        let (next, reading) =
            step.await.map_err(|_| malformed("dump: its reader ended unexpectedly"))?;
        match next? {
            Some(piece) => Ok(Some((piece, (cx, reading, ended)))),
            None => {
                ended(reading.sum);
                Ok(None)
            }
        }
    });
    pieces.boxed()
}

/// Parts of a file, one after another.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) file: Arc<std::fs::File>,
    /// Where the parts begin and end.
    pub(super) places: Arc<Vec<(u64, u64)>>,
    /// The next part.
    pub(super) next: usize,
    /// Bytes of it that were read.
    pub(super) done: u64,
}

impl Read for Parts {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        while let Some((from, to)) = self.places.get(self.next) {
            let left = usize::try_from(to - from - self.done).unwrap_or(usize::MAX);
            if left == 0 {
                (self.next, self.done) = (self.next + 1, 0);
                continue;
            }
            let most = buf.len().min(left);
            let read = self.file.read_at(&mut buf[..most], from + self.done)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.done += read as u64;
            return Ok(read);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn read(bytes: &[u8]) -> SourceResult<(Vec<u8>, u64)> {
        let mut reading = Reading::new(Box::new(io::Cursor::new(bytes.to_vec())), "shop.orders");
        let mut out = Vec::new();
        while let Some(piece) = reading.next()? {
            out.extend_from_slice(&piece);
        }
        Ok((out, reading.sum.count))
    }

    #[test]
    fn reading_names_collection_and_place_of_damage() {
        let (one, two) = (rawdoc! { "_id": 1 }, rawdoc! { "_id": 2, "x": [1, 2] });
        let all = [one.as_bytes(), two.as_bytes()].concat();
        assert_eq!(read(&all).unwrap(), (all.clone(), 2));
        let cut = read(&all[..all.len() - 1]).unwrap_err();
        assert_eq!(
            cut.to_string(),
            "invalid dump of shop.orders: the file ends within a document behind byte 14"
        );
        let mut bad = all;
        bad[one.as_bytes().len() + 4] = 0x99;
        let error = read(&bad).unwrap_err();
        assert_eq!(error.to_string(), "invalid dump of shop.orders: document at byte 14");
        let mut deep = vec![5, 0, 0, 0, 0];
        for _ in 1..300 {
            let len = i32::try_from(deep.len() + 8).unwrap();
            deep = [&len.to_le_bytes()[..], b"\x03a\0", &deep, &[0]].concat();
        }
        let error = read(&deep).unwrap_err();
        assert!(error.to_string().contains("more than 256 levels"), "{error}");
    }
}
