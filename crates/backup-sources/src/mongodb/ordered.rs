//! Documents of a capped collection, put in order: on disk, with 24 bytes of memory for each.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;

use super::catalog::Collection;
use super::fold::Settled;

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

    /// Everything is in: [`Self::next`] gives the documents of `collection` by their places.
    /// Servers before 5.0 do not write into the oplog what they drop from a capped collection: then
    /// only the newest that fit are given.
    pub(super) fn sort(&mut self, collection: &Collection, version: [i32; 3]) {
        self.places.sort_unstable();
        self.next = 0;
        if version[0] >= 5 {
            return;
        }
        let (mut documents, mut bytes) = collection.capped_limits();
        let fits = |(_, _, length): &&(u64, u64, u32)| {
            let left = documents.checked_sub(1).zip(bytes.checked_sub(u64::from(*length)));
            (documents, bytes) = left.unwrap_or((0, 0));
            left.is_some()
        };
        let kept = self.places.iter().rev().take_while(fits).count();
        self.next = self.places.len() - kept;
    }

    pub(super) fn next(&mut self) -> SourceResult<Option<Bytes>> {
        let (Some((_, at, length)), Some(file)) = (self.places.get(self.next), &self.file) else {
            return Ok(None);
        };
        self.next += 1;
        let mut document = vec![0; *length as usize];
        file.read_exact_at(&mut document, *at).map_err(failed)?;
        Ok(Some(document.into()))
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;
    use crate::mongodb::catalog::Kind;
    use crate::mongodb::namespace::Namespace;

    fn lengths(options: Document, version: i32) -> Vec<usize> {
        let namespace = Namespace::new("db", "c");
        let collection = Collection {
            namespace,
            kind: Kind::Collection,
            uuid: None,
            options: options.into(),
            indexes: Vec::new(),
        };
        let mut ordered = Ordered::default();
        for place in [5, 1, 9, 3] {
            let document = vec![b'x'; usize::try_from(place).unwrap()].into();
            ordered.push(&Settled { number: 0, place, document }).unwrap();
        }
        ordered.sort(&collection, [version, 0, 0]);
        std::iter::from_fn(|| ordered.next().unwrap()).map(|document| document.len()).collect()
    }

    #[test]
    fn places_decide() {
        assert_eq!(lengths(doc! { "size": 4 }, 5), [1, 3, 5, 9]);
    }

    #[test]
    fn what_old_servers_drop_without_a_word_is_dropped() {
        assert_eq!(lengths(doc! { "size": 100, "max": 3_i64 }, 4), [3, 5, 9]);
        assert_eq!(lengths(doc! { "size": 14.0 }, 4), [5, 9]);
        assert_eq!(lengths(doc! { "size": 100 }, 4), [1, 3, 5, 9]);
    }
}
