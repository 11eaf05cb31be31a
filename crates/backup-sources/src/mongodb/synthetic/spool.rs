//! Settled documents on disk, by collection.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;

use crate::mongodb::dump::Dump;
use crate::mongodb::fold::{Folded, Live};
use crate::mongodb::ordered::Ordered;

/// Settled documents of a collection are kept in pieces of about this many bytes.
const PIECE: u64 = 1 << 20;

/// Documents that operations touch, as they are at the moment: on disk, by collection.
#[derive(Debug, Default)]
pub(in crate::mongodb) struct Spool {
    file: Option<File>,
    end: u64,
    /// Where the documents of a collection are, in order.
    pieces: HashMap<u32, Vec<(u64, u64)>>,
}

impl Spool {
    pub(in crate::mongodb) async fn fill(
        cx: &Context,
        dump: &Dump,
        folded: &mut Folded,
    ) -> SourceResult<Self> {
        let live: BTreeMap<u32, Live> =
            folded.live.iter().map(|live| (live.number, live.clone())).collect();
        for one in live.values().filter(|live| folded.is_touched(live)).collect::<Vec<_>>() {
            let Some(mut reading) = dump.documents(one)? else { continue };
            while let Some(document) = reading.next().await? {
                cx.check_cancelled().map_err(SourceError::from)?;
                folded.base(one, document)?;
            }
        }
        let mut spool = Self::default();
        let mut ordered: HashMap<u32, Ordered> = HashMap::new();
        while let Some(mut settled) = folded.settle()? {
            cx.check_cancelled().map_err(SourceError::from)?;
            // Those of one collection lie together: else there would be a piece for every document.
            settled.sort_by_key(|found| found.number);
            for found in settled {
                match live.get(&found.number) {
                    Some(live) if live.collection.is_capped() => {
                        ordered.entry(found.number).or_default().push(&found)?;
                    }
                    Some(_) => spool.push(found.number, &found.document)?,
                    None => {}
                }
            }
        }
        for (number, mut ordered) in ordered {
            ordered.sort(&live[&number].collection, dump.state.version);
            while let Some(document) = ordered.next()? {
                cx.check_cancelled().map_err(SourceError::from)?;
                spool.push(number, &document)?;
            }
        }
        Ok(spool)
    }

    fn push(&mut self, number: u32, document: &[u8]) -> SourceResult<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile().map_err(failed)?),
        };
        file.write_all_at(document, self.end).map_err(failed)?;
        let end = self.end + document.len() as u64;
        let pieces = self.pieces.entry(number).or_default();
        match pieces.last_mut() {
            Some((from, to)) if *to == self.end && self.end - *from < PIECE => *to = end,
            _ => pieces.push((self.end, end)),
        }
        self.end = end;
        Ok(())
    }

    pub(in crate::mongodb) fn read(
        &self,
        number: u32,
        piece: usize,
    ) -> SourceResult<Option<Bytes>> {
        let place = self.pieces.get(&number).and_then(|pieces| pieces.get(piece));
        let (Some((from, to)), Some(file)) = (place, &self.file) else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        file.read_exact_at(&mut bytes, *from).map_err(failed)?;
        Ok(Some(bytes.into()))
    }
}

fn failed(error: std::io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Target, "cannot use a temporary file")
        .with_source(error)
        .with_hint("point TMPDIR at a disk with room for the documents that the oplog touches")
}
