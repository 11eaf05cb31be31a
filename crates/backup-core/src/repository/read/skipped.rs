//! The list of the entries that a backup left out.

use futures::TryStreamExt;

use super::snapshot::SnapshotReader;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{SKIPPED_PATH, SkippedLine, content_digest, parse_head, parse_line};
use crate::limits;
use crate::source::{EntryPath, SkipRules, Skipped};

impl SnapshotReader {
    /// Reads the list of the entries that the backup left out, calls `visit` for each of them, and
    /// returns the rules of the backup. `None` if the snapshot has no such list, or was changed
    /// after the backup: it may then lack entries for other reasons.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if the list cannot be read or is incomplete;
    /// [`ErrorKind::UnsupportedVersion`] if a newer schema wrote it.
    pub async fn skipped(&self, visit: impl FnMut(Skipped) + Send) -> Result<Option<SkipRules>> {
        let path = EntryPath::new(SKIPPED_PATH)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "invalid path of skipped entries"))?;
        let Some(node) = self.find(&path).await? else {
            return Ok(None);
        };
        let mut lines = Lines { visit, rules: None, entries: 0, end: None };
        let mut rest: Vec<u8> = Vec::new();
        let mut content = self.content(&node);
        while let Some(bytes) = content.try_next().await? {
            rest.extend_from_slice(&bytes);
            let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            for line in rest[..end].split_inclusive(|byte| *byte == b'\n') {
                lines.take(line)?;
            }
            rest.drain(..end);
            if rest.len() > limits::MAX_SKIPPED_LINE {
                return Err(Error::damaged("the list of skipped entries has too long a line"));
            }
        }
        let Lines { rules, entries, end, .. } = lines;
        let incomplete = || Error::damaged("the list of skipped entries is incomplete");
        let (expected, digest) = end.filter(|_| rest.is_empty()).ok_or_else(incomplete)?;
        if expected != entries {
            return Err(incomplete());
        }
        let root = self.tree_with_faults(&self.root_id()).await?;
        Ok(rules.filter(|_| content_digest(&root.nodes) == digest))
    }
}

struct Lines<V> {
    visit: V,
    rules: Option<SkipRules>,
    entries: u64,
    end: Option<(u64, String)>,
}

impl<V: FnMut(Skipped)> Lines<V> {
    fn take(&mut self, line: &[u8]) -> Result<()> {
        if self.end.is_some() {
            return Err(Error::damaged("the list of skipped entries has lines behind its end"));
        }
        if self.rules.is_none() {
            self.rules = Some(parse_head(line)?);
            return Ok(());
        }
        match parse_line(line)? {
            SkippedLine::Entry(skipped) => {
                self.entries += 1;
                if self.entries > limits::MAX_SKIPPED {
                    return Err(Error::damaged("the list of skipped entries is too long"));
                }
                (self.visit)(skipped);
            }
            SkippedLine::End { entries, content } => self.end = Some((entries, content)),
        }
        Ok(())
    }
}
