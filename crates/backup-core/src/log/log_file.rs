//! A file of the log in a snapshot: which blobs a part of it lies in.

use crate::error::{Error, Result};
use crate::format::Node;
use crate::id::{BlobId, SnapshotId};
use crate::repository::SnapshotReader;
use crate::source::EntryPath;

/// Where the bytes of a file are.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) snapshot: SnapshotId,
    pub(super) path: String,
    pub(super) len: u64,
    blobs: Vec<BlobId>,
    /// Where each of them ends.
    ends: Vec<u64>,
}

impl LogFile {
    pub(super) async fn open(snapshot: &SnapshotReader, path: &str) -> Result<Self> {
        let node = find(snapshot, path).await?;
        let mut ends = Vec::with_capacity(node.content.len());
        let mut end = 0;
        for blob in &node.content {
            end += u64::from(snapshot.blob_len(blob)?);
            ends.push(end);
        }
        let (path, len) = (path.to_owned(), node.metadata.size);
        Ok(Self { snapshot: snapshot.id(), path, len, blobs: node.content, ends })
    }

    /// What bytes lie in, and where they begin in the first of them.
    pub(super) fn blobs(&self, at: u64, len: u64) -> (usize, &[BlobId]) {
        let first = self.ends.partition_point(|end| *end <= at);
        let behind = self.ends.partition_point(|end| *end < at.saturating_add(len));
        let last = self.blobs.len().min(behind + 1).max(first);
        let before = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        (usize::try_from(at - before).unwrap_or(usize::MAX), &self.blobs[first.min(last)..last])
    }
}

pub(super) async fn find(snapshot: &SnapshotReader, path: &str) -> Result<Node> {
    let missing = || Error::damaged(format!("{path} is not in snapshot {}", snapshot.id().short()));
    let path = EntryPath::new(path).ok_or_else(missing)?;
    snapshot.find(&path).await?.filter(Node::is_file).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_in_the_blobs_that_it_touches() {
        let blobs: Vec<BlobId> = (0..3_u8).map(|n| BlobId::digest(&[n])).collect();
        let ends = vec![10, 15, 40];
        let file = LogFile {
            snapshot: SnapshotId::digest(b"s"),
            path: "/log".to_owned(),
            len: 40,
            blobs,
            ends,
        };
        let starts = [0, 10, 15];
        for at in 0..40_usize {
            for len in 1..=40 - at {
                let touched: Vec<_> = (0..3)
                    .filter(|n| {
                        starts[*n] < at + len && usize::try_from(file.ends[*n]).unwrap() > at
                    })
                    .collect();
                let (skip, found) = file.blobs(at as u64, len as u64);
                assert_eq!(
                    found,
                    &file.blobs[touched[0]..=touched[touched.len() - 1]],
                    "{len} bytes at {at}"
                );
                assert_eq!(skip, at - starts[touched[0]]);
            }
        }
    }
}
