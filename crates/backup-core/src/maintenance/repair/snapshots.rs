//! Snapshot objects that are damaged or gone: from another copy, or put aside.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Run, quarantine};
use crate::check::Problem;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Snapshot;
use crate::id::SnapshotId;
use crate::repository::{Repository, SnapshotInfo, layout};
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
            Some((sealed, info, is_disputed)) => {
                if !run.options.dry_run {
                    let received = repository.receipt(&id).await.ok().flatten();
                    let received = received.map_or(info.snapshot.time, |receipt| receipt.received);
                    repository.save_sealed_snapshot(sealed, received, run.cx).await?;
                    if !is_disputed {
                        repository.vouch_for(&id, &info.snapshot, run.cx).await?;
                    }
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

/// The same object in a copy with the same key, and whether its time is disputed there.
async fn from_copies(run: &Run<'_>, id: SnapshotId) -> Result<Option<(Bytes, SnapshotInfo, bool)>> {
    for copy in &run.copies {
        match copy.repository().sealed_snapshot(&id).await {
            Ok(sealed) => {
                // With another key its name would be another one, too.
                if let Ok(snapshot) = Snapshot::open(run.repository().key(), &sealed) {
                    let listed = copy.repository().snapshots(run.cx).await?.snapshots;
                    let listed = listed.into_iter().find(|info| info.id == id);
                    let is_disputed = listed.as_ref().is_none_or(|info| !info.effective.is_own());
                    let info = listed.unwrap_or_else(|| SnapshotInfo::new(id, snapshot));
                    return Ok(Some((sealed, info, is_disputed)));
                }
            }
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Gives a snapshot up that cannot be read, and reports the loss. One that can be read now, after
/// all, is returned.
async fn put_aside(
    run: &mut Run<'_>,
    id: SnapshotId,
    is_there: bool,
) -> Result<Option<SnapshotInfo>> {
    let repository = run.repository().clone();
    let object = format!("snapshot {}", id.short());
    let affects = vec![format!("{object}: all of it; its data stays until a prune deletes it")];
    let content = match examine(&repository, id).await? {
        Content::Readable(snapshot) => return Ok(Some(SnapshotInfo::new(id, *snapshot))),
        // Perhaps the disk can read it tomorrow.
        Content::Inaccessible => {
            let message = "the storage cannot read the object: it stays in place".to_owned();
            run.report.lost.push(Problem { object, message, affects });
            return Ok(None);
        }
        content => content,
    };
    // Forgetting removes the receipt first: without one it was forgotten meanwhile.
    let receipt = layout::snapshot_receipt(&id);
    if !is_there && !repository.sink().exists(&receipt).await? {
        return Ok(None);
    }
    let message = if is_there {
        "cannot be read: moved to x-quarantine/"
    } else {
        "is missing, and no copy of it was found"
    };
    run.report.lost.push(Problem { object, message: message.to_owned(), affects });
    if !run.options.dry_run {
        set_aside(&repository, id, content).await?;
    }
    Ok(None)
}

/// The stored object of a snapshot.
enum Content {
    Readable(Box<Snapshot>),
    Damaged(Bytes),
    Missing,
    /// The storage reports that it cannot read the object.
    Inaccessible,
}

async fn examine(repository: &Repository, id: SnapshotId) -> Result<Content> {
    let bytes = match repository.sink().get_bytes(&layout::snapshot(&id)).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == SinkErrorKind::NotFound => return Ok(Content::Missing),
        Err(error) if error.kind() == SinkErrorKind::Unreadable => {
            return Ok(Content::Inaccessible);
        }
        Err(error) => return Err(error.into()),
    };
    if SnapshotId::digest(&bytes) != id {
        return Ok(Content::Damaged(bytes));
    }
    match Snapshot::open(repository.key(), &bytes) {
        Ok(snapshot) => Ok(Content::Readable(Box::new(snapshot))),
        Err(error) if error.is_damage() => Ok(Content::Damaged(bytes)),
        // A newer format wrote it: it is intact, and stays.
        Err(error) => Err(error.context(format!("snapshot {}", id.short()))),
    }
}

/// Moves the object to `x-quarantine/` and removes the inventory entry, so that the snapshot is no
/// longer missed.
async fn set_aside(repository: &Repository, id: SnapshotId, content: Content) -> Result<()> {
    let sink = repository.sink();
    if let Content::Damaged(bytes) = content {
        quarantine::keep(repository, &layout::snapshot(&id), bytes).await?;
    }
    sink.delete_one(&layout::snapshot_receipt(&id)).await?;
    sink.delete_one(&layout::snapshot(&id)).await?;
    Ok(())
}

/// Gives up snapshots that are damaged or missing: a damaged object is moved to `x-quarantine/`, a
/// missing one is no longer missed. Names such as `latest` then mean older snapshots again.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a snapshot that can be read, and [`ErrorKind::Damaged`] for one
/// that the storage cannot read at the moment: those before it are given up. Those of the sink. It
/// can be repeated at any point.
pub async fn accept_loss(repository: &Repository, ids: &[SnapshotId], cx: &Context) -> Result<()> {
    repository.prepare_writing(cx).await?;
    for id in ids {
        cx.check_cancelled()?;
        let short = id.short();
        match examine(repository, *id).await? {
            Content::Readable(_) => {
                let message = format!("snapshot {short} can be read");
                return Err(Error::new(ErrorKind::Invalid, message)
                    .with_hint(format!("remove it with `backup forget {short}`")));
            }
            Content::Inaccessible => {
                let message = format!("the storage cannot read snapshot {short}");
                return Err(Error::damaged(message)
                    .with_hint("repair the storage first; the object may be intact"));
            }
            content => set_aside(repository, *id, content).await?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::Passphrase;
    use crate::format::seal_json;
    use crate::maintenance::{PruneOptions, RepairOptions, prune, repair};
    use crate::repository::InitOptions;
    use crate::testing::MemorySink;

    /// A snapshot of a newer format is intact: no command may take it for damaged, or remove data
    /// that it may need.
    #[tokio::test(flavor = "multi_thread")]
    async fn newer_snapshots_stop_commands_and_stay_in_place() {
        let (sink, cx) = (Arc::new(MemorySink::new()), Context::silent());
        let options = InitOptions::default();
        let repository =
            Repository::init(sink.clone(), &Passphrase::generate(), &options, &cx).await.unwrap();
        let newer = serde_json::json!({ "x_version": 2, "time": { "seconds": 0 }, "roots": [] });
        let sealed = seal_json(repository.key(), &newer).unwrap();
        let id = SnapshotId::digest(&sealed);
        repository.sink().put_bytes(&layout::snapshot(&id), sealed).await.unwrap();
        let before = sink.objects();
        let repaired = repair(&repository, &RepairOptions::default(), &cx).await.map(drop);
        let pruned = prune(&repository, &PruneOptions::default(), &cx).await.map(drop);
        let given_up = accept_loss(&repository, &[id], &cx).await;
        let listed = repository.snapshots(&cx).await.map(drop);
        for refused in [repaired, pruned, given_up, listed] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedVersion, "{error}");
            let both = "written by format 2, this program reads up to 1";
            assert!(error.to_string().contains(both), "{error}");
            assert!(error.to_string().contains(&id.short()), "{error}");
        }
        let after = sink.objects();
        assert!(before.keys().all(|key| after.get(key) == before.get(key)));
    }
}
