//! Whether snapshots are complete in a repository.

use std::collections::HashSet;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BlobKind;
use crate::id::{BlobId, SnapshotId};
use crate::repository::{BlobReader, Repository, SnapshotInfo};

/// Looks through snapshots: that they are listed, that every directory of theirs can be read, and
/// that every blob is in the index, in a pack that is in the store with its size. To be done before
/// another copy of them is given up.
///
/// # Errors
/// [`ErrorKind::Damaged`] for the first snapshot that is not complete; those of the sink.
pub async fn require_complete(
    repository: &Repository,
    ids: &[SnapshotId],
    cx: &Context,
) -> Result<()> {
    let list = repository.snapshots(cx).await?;
    let indexed = repository.load_index(cx).await?;
    indexed.hide_lost_packs().await?;
    let reader = indexed.reader();
    let mut complete = HashSet::new();
    for id in ids {
        let Some(info) = list.snapshots.iter().find(|info| info.id == *id) else {
            return Err(Error::damaged(format!(
                "snapshot {} is not in {}",
                id.short(),
                repository.sink()
            )));
        };
        follow(&reader, info, &mut complete, cx).await.map_err(|error| match error.kind() {
            ErrorKind::Damaged | ErrorKind::NotFound => error.context(format!(
                "snapshot {} is incomplete in {}",
                id.short(),
                repository.sink()
            )),
            _ => error,
        })?;
    }
    Ok(())
}

async fn follow(
    reader: &BlobReader,
    info: &SnapshotInfo,
    complete: &mut HashSet<BlobId>,
    cx: &Context,
) -> Result<()> {
    let mut stack = vec![info.snapshot.tree];
    while let Some(id) = stack.pop() {
        cx.check_cancelled()?;
        if !complete.insert(id) {
            continue;
        }
        for node in reader.tree(&id).await?.nodes {
            for blob in &node.content {
                reader.locate(BlobKind::Data, blob)?;
            }
            stack.extend(node.subtree);
        }
    }
    Ok(())
}
