//! Documents of a capped collection, put in order: on disk, with 24 bytes of memory for each.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;

use crate::mongodb::fold::Settled;

#[derive(Debug, Default)]
pub(super) struct Ordered {
    file: Option<File>,
    end: u64,
    places: Vec<(u64, u64, u32)>,
    next: usize,
}

fn failed(error: std::io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Target, "cannot use a temporary file")
        .with_source(error)
        .with_hint("point TMPDIR at a disk with room for the largest capped collection")
}

impl Ordered {
    pub(super) fn push(&mut self, found: &Settled) -> SourceResult<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile().map_err(failed)?),
        };
        file.write_all_at(&found.document, self.end).map_err(failed)?;
        let length = u32::try_from(found.document.len()).unwrap_or(u32::MAX);
        self.places.push((found.place, self.end, length));
        self.end += u64::from(length);
        Ok(())
    }

    /// Everything is in: [`Self::next`] gives the documents by their places.
    pub(super) fn sort(&mut self) {
        self.places.sort_unstable();
        self.next = 0;
    }

    pub(super) fn next(&mut self) -> SourceResult<Option<Bytes>> {
        let (Some((_, at, length)), Some(file)) = (self.places.get(self.next), &self.file) else { return Ok(None) };
        self.next += 1;
        let mut document = vec![0; *length as usize];
        file.read_exact_at(&mut document, *at).map_err(failed)?;
        Ok(Some(document.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_decide() {
        let mut ordered = Ordered::default();
        for place in [5, 1, 9, 3] {
            ordered
                .push(&Settled { number: 0, place, document: vec![b'x'; usize::try_from(place).unwrap()].into() })
                .unwrap();
        }
        ordered.sort();
        let lengths: Vec<_> = std::iter::from_fn(|| ordered.next().unwrap()).map(|document| document.len()).collect();
        assert_eq!(lengths, [1, 3, 5, 9]);
    }
}
