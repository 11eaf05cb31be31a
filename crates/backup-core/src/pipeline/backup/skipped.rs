//! The list of skipped entries, stored piece by piece while the backup runs.

use super::run::Run;
use crate::error::Result;
use crate::format::{BlobKind, content_digest, end_line, entry_line, head_line};
use crate::id::BlobId;
use crate::source::{EntryPath, SkipRules, Skipped};

/// Pieces end behind lines with a rare hash, from this length on: a new line changes one piece.
const MIN_PIECE: usize = 128 << 10;
/// Length in bytes at which a piece ends behind any line.
const MAX_PIECE: usize = 4 << 20;
/// One line in this many has a rare hash.
const RARE: u64 = 1 << 12;
/// Entries whose content could not be read, in any order, that are sorted together.
const MAX_FAILED: usize = 10_000;

/// The list on its way to the repository.
#[derive(Debug, Default)]
pub(super) struct SkippedList {
    is_wanted: bool,
    piece: Vec<u8>,
    /// Lines about contents, which readers report in any order.
    failed: Vec<Vec<u8>>,
    entries: u64,
    size: u64,
    content: Vec<BlobId>,
}

impl SkippedList {
    /// A list that begins with `rules`; without them, the source does not report skipped entries
    /// and there is no list.
    pub(super) fn new(rules: Option<&SkipRules>) -> Result<Self> {
        let Some(rules) = rules else {
            return Ok(Self::default());
        };
        Ok(Self { is_wanted: true, piece: head_line(rules)?, ..Self::default() })
    }

    /// Adds a line. Returns a piece that is complete.
    fn push(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        self.piece.extend_from_slice(line);
        let length = self.piece.len();
        let ends = length >= MAX_PIECE || (length >= MIN_PIECE && hash(line).is_multiple_of(RARE));
        ends.then(|| std::mem::take(&mut self.piece))
    }
}

/// FNV-1a: the same in every run and version.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Run {
    /// Records an entry that the source leaves out.
    pub(super) async fn skip(&mut self, skipped: &Skipped) -> Result<()> {
        if !self.skipped.is_wanted {
            return Ok(());
        }
        self.skipped.entries += 1;
        let piece = self.skipped.push(&entry_line(skipped)?);
        self.store_piece(piece).await
    }

    /// Records an entry whose content could not be read.
    pub(super) async fn skip_failed(&mut self, skipped: &Skipped) -> Result<()> {
        if !self.skipped.is_wanted {
            return Ok(());
        }
        self.skipped.entries += 1;
        self.skipped.failed.push(entry_line(skipped)?);
        if self.skipped.failed.len() >= MAX_FAILED { self.store_failed().await } else { Ok(()) }
    }

    async fn store_failed(&mut self) -> Result<()> {
        let mut lines = std::mem::take(&mut self.skipped.failed);
        lines.sort_unstable();
        for line in lines {
            let piece = self.skipped.push(&line);
            self.store_piece(piece).await?;
        }
        Ok(())
    }

    async fn store_piece(&mut self, piece: Option<Vec<u8>>) -> Result<()> {
        let Some(piece) = piece else {
            return Ok(());
        };
        self.skipped.size += piece.len() as u64;
        let writer = self.writer().clone();
        let work = move || Ok(writer.store(BlobKind::Data, &piece)?.id);
        let id = self.cpu().run(work).await?;
        self.skipped.content.push(id);
        Ok(())
    }

    /// Ends the list: its blobs and its size; `None` if there is none. Called when only the root
    /// directory is left.
    pub(super) async fn finish_skipped(&mut self) -> Result<Option<(Vec<BlobId>, u64)>> {
        if !self.skipped.is_wanted {
            return Ok(None);
        }
        self.store_failed().await?;
        let root = self.ensure_dir(&EntryPath::root()).await?;
        let digest = content_digest(self.nodes_of(root)?);
        let end = end_line(self.skipped.entries, digest)?;
        let mut last = std::mem::take(&mut self.skipped.piece);
        last.extend_from_slice(&end);
        self.store_piece(Some(last)).await?;
        Ok(Some((std::mem::take(&mut self.skipped.content), self.skipped.size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_line_changes_one_piece_of_the_list() {
        let pieces = |skip: usize| {
            let mut list = SkippedList::new(Some(&SkipRules::default())).unwrap();
            let mut pieces = Vec::new();
            for index in (0..60_000_u32).filter(|index| *index as usize != skip) {
                let line =
                    format!("{{\"path\":\"/srv/{index:07}/x.tmp\",\"cause\":\"excluded\"}}\n");
                pieces.extend(list.push(line.as_bytes()));
            }
            pieces.push(list.piece);
            pieces
        };
        let (all, fewer) = (pieces(usize::MAX), pieces(5));
        assert!(all.len() > 4 && all.iter().all(|piece| piece.len() <= MAX_PIECE + 100));
        let same = all.iter().filter(|piece| fewer.contains(piece)).count();
        assert!(same + 2 >= all.len(), "{same} of {}", all.len());
    }
}
