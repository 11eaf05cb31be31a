//! Snapshot objects that are damaged or gone: from another copy, or put aside.

use std::collections::HashSet;

use bytes::Bytes;

use super::Run;
use crate::check::Problem;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::repository::{SnapshotInfo, layout};
use crate::sink::{SinkErrorKind, SinkOps};

/// Brings back what can be brought back; returns all snapshots that can be read then.
pub(super) async fn recover(run: &mut Run<'_>) -> Result<Vec<SnapshotInfo>> {
    let repository = run.repository().clone();
    let receipts = repository.snapshot_receipts().await?;
    let list = repository.snapshots(run.cx).await?;
    let there: HashSet<SnapshotId> = list.snapshots.iter().map(|info| info.id).collect();
    let damaged: HashSet<SnapshotId> = list.damaged.iter().map(|(id, _)| *id).collect();
    let mut snapshots = list.snapshots;
    let gone = receipts.into_iter().filter(|id| !there.contains(id) && !damaged.contains(id));
    for id in damaged.iter().copied().chain(gone) {
        match from_copies(run, id).await? {
            Some((sealed, info)) => {
                if !run.options.dry_run {
                    let received = repository.receipt(&id).await.ok().flatten();
                    let received = received.map_or(info.snapshot.time, |receipt| receipt.received);
                    repository.save_sealed_snapshot(sealed, received, run.cx).await?;
                }
                run.repaired(
                    format!("snapshot {}", id.short()),
                    "recovered from another repository",
                );
                snapshots.push(info);
            }
            None => snapshots.extend(put_aside(run, id, damaged.contains(&id)).await?),
        }
    }
    Ok(snapshots)
}

/// The same object in a copy with the same key.
async fn from_copies(run: &Run<'_>, id: SnapshotId) -> Result<Option<(Bytes, SnapshotInfo)>> {
    for copy in &run.copies {
        match copy.repository().sealed_snapshot(&id).await {
            Ok(sealed) => {
                // With another key its name would be another one, too.
                if let Ok(snapshot) = crate::format::open_json(run.repository().key(), &sealed) {
                    return Ok(Some((sealed, SnapshotInfo { id, snapshot })));
                }
            }
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What cannot be read stands in nobody's way any more, and is not thrown away. One that can be
/// read now, after all, is returned.
async fn put_aside(
    run: &mut Run<'_>,
    id: SnapshotId,
    is_there: bool,
) -> Result<Option<SnapshotInfo>> {
    let sink = run.repository().sink().clone();
    let object = format!("snapshot {}", id.short());
    let affects = vec![format!("{object}: all of it; its data stays until a prune deletes it")];
    let bytes = match sink.get_bytes(&layout::snapshot(&id)).await {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == SinkErrorKind::NotFound => None,
        // Perhaps the disk can read it tomorrow.
        Err(error) if error.kind() == SinkErrorKind::Unreadable => {
            let message = "the storage cannot read the object: it stays in place".to_owned();
            run.report.lost.push(Problem { object, message, affects });
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(bytes) = bytes.as_ref().filter(|bytes| SnapshotId::digest(bytes) == id)
        && let Ok(snapshot) = crate::format::open_json(run.repository().key(), bytes)
    {
        return Ok(Some(SnapshotInfo { id, snapshot }));
    }
    // Forgetting removes the receipt first: without one it was forgotten meanwhile.
    if !is_there && !sink.exists(&layout::snapshot_receipt(&id)).await? {
        return Ok(None);
    }
    let message = if is_there {
        "cannot be read: moved to x-quarantine/"
    } else {
        "is missing, and no copy of it was found"
    };
    run.report.lost.push(Problem { object, message: message.to_owned(), affects });
    if run.options.dry_run {
        return Ok(None);
    }
    if let Some(bytes) = bytes {
        sink.put_bytes(&layout::quarantined_snapshot(&id), bytes).await?;
    }
    sink.delete_one(&layout::snapshot_receipt(&id)).await?;
    sink.delete_one(&layout::snapshot(&id)).await?;
    Ok(None)
}
