//! Forgetting snapshots, and bringing them back.
//!
//! A forgotten snapshot moves to `x-forgotten/`, where nothing but this program sees it. Its data
//! stays: a prune may mark it at once, but deletes it only after its grace period, and then deletes
//! what is in `x-forgotten/` first. Until then the snapshot can come back: its packs are listed
//! again before it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::prune_lease;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{open_json, seal_json};
use crate::id::SnapshotId;
use crate::repository::reach::Reach;
use crate::repository::reliance::list_again;
use crate::repository::{KeptLease, Repository, SnapshotInfo, layout};
use crate::sink::{SinkErrorKind, SinkOps};

/// What is kept of a forgotten snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) forgotten: Timestamp,
    /// When a store first received it.
    received: Option<Timestamp>,
    /// True if the snapshot did not count for its own time: undoing the forget does not vouch for it.
    #[serde(default)]
    disputed: bool,
    /// The snapshot object, byte for byte, in Base64.
    object: String,
}

/// A snapshot that was forgotten and can still be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// When it was forgotten.
    pub forgotten: Timestamp,
}

impl Repository {
    /// Drops snapshots. Their data stays until it is pruned; until then [`Self::undo_forget`]
    /// brings them back.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if one of them is held or younger than its job promises: then none is
    /// forgotten. Those of the sink; then some of them may be forgotten already.
    pub async fn forget(&self, ids: &[SnapshotId], cx: &Context) -> Result<()> {
        let list = self.snapshots(cx).await?;
        let mut listed = Vec::new();
        for id in ids {
            match list.snapshots.iter().find(|info| info.id == *id) {
                Some(info) => listed.push(info.clone()),
                // Missing or damaged: the error names it.
                None => {
                    let snapshot = open_json(self.key(), &self.sealed_snapshot(id).await?)?;
                    listed.push(SnapshotInfo::new(*id, snapshot));
                }
            }
        }
        self.forget_listed(&listed, cx).await
    }

    /// Like [`Self::forget`], for snapshots of a listing: their effective times decide whether
    /// undoing this vouches for their own.
    ///
    /// # Errors
    /// Those of [`Self::forget`].
    pub async fn forget_listed(&self, snapshots: &[SnapshotInfo], cx: &Context) -> Result<()> {
        self.require_writable()?;
        let mut sealed = Vec::new();
        for info in snapshots {
            sealed.push(self.sealed_snapshot(&info.id).await?);
        }
        self.require_free(snapshots, cx).await?;
        for (info, sealed) in snapshots.iter().zip(&sealed) {
            cx.check_cancelled()?;
            let is_disputed = !info.effective.is_own();
            self.forget_one(&info.id, sealed, is_disputed, cx).await.map_err(|error| {
                error.context(format!("cannot forget snapshot {}", info.id.short()))
            })?;
        }
        Ok(())
    }

    /// The note about it first, so that it can come back; then the receipt: what is gone without
    /// one was forgotten, not lost.
    async fn forget_one(
        &self,
        id: &SnapshotId,
        sealed: &Bytes,
        disputed: bool,
        cx: &Context,
    ) -> Result<()> {
        if let Some(custody) = self.sink().custody()
            && custody
                .locked_until(&layout::snapshot(id))
                .await?
                .is_some_and(|until| until > cx.clock.now())
        {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                "the store locks the snapshot against deletion",
            )
            .with_hint("wait until the lock expires; `backup doctor` shows the lock period"));
        }
        let received = self.received(id).await?;
        let object = BASE64.encode(sealed);
        let note = Note { forgotten: cx.clock.now(), received, disputed, object };
        self.sink().put_bytes(&layout::forgotten(id), seal_json(self.key(), &note)?).await?;
        self.sink().delete_one(&layout::snapshot_receipt(id)).await?;
        self.sink().delete_one(&layout::snapshot(id)).await?;
        // A backup that listed it before may have found that it has no receipt, and have written
        // another one.
        self.sink().delete_one(&layout::snapshot_receipt(id)).await?;
        self.sink().delete_one(&layout::hold(id)).await?;
        self.sink().delete_one(&layout::proof(id)).await?;
        self.sink().delete_one(&layout::adoption(id)).await?;
        Ok(())
    }

    /// Drops snapshots of which others hold everything, but for those that somebody holds. Promises
    /// do not count: nothing is lost. Returns what was dropped.
    pub(crate) async fn supersede(
        &self,
        ids: &[SnapshotId],
        cx: &Context,
    ) -> Result<Vec<SnapshotId>> {
        let holds = self.holds().await?;
        let now = Box::pin(self.present(cx)).await?.time();
        let is_free = |id: &&SnapshotId| !holds.get(*id).is_some_and(|hold| hold.is_in_force(now));
        let mut dropped = Vec::new();
        for id in ids.iter().filter(is_free) {
            let sealed = self.sealed_snapshot(id).await?;
            // Undoing this does not vouch for the time.
            match self.forget_one(id, &sealed, true, cx).await {
                Ok(()) => dropped.push(*id),
                // Locked by the store: it goes when that ends.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(dropped)
    }

    /// What can be brought back, the latest forgotten first. Notes that are damaged are left out.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn forgotten(&self, cx: &Context) -> Result<Vec<Forgotten>> {
        let named = self.sink().list_all(&layout::all_forgotten()).await?;
        let ids: Vec<SnapshotId> =
            named.iter().filter_map(|meta| meta.key.file_name().parse().ok()).collect();
        let read = |id: SnapshotId| async move {
            cx.check_cancelled()?;
            match self.read_forgotten(&id).await {
                Ok((info, note, _)) => Ok(Some(Forgotten { info, forgotten: note.forgotten })),
                Err(error) if error.is_damage() => Ok(None),
                Err(error) => Err(error),
            }
        };
        let concurrency = self.sink().capabilities().concurrency.max(1);
        let found: Vec<Option<Forgotten>> = futures::stream::iter(ids)
            .map(read)
            .buffer_unordered(concurrency)
            .try_collect()
            .await?;
        let mut found: Vec<Forgotten> = found.into_iter().flatten().collect();
        found.sort_by_key(|one| std::cmp::Reverse((one.forgotten, one.info.id)));
        Ok(found)
    }

    async fn read_forgotten(&self, id: &SnapshotId) -> Result<(SnapshotInfo, Note, Bytes)> {
        let note: Option<Note> = self.read_note(&layout::forgotten(id)).await?;
        let Some(note) = note else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no forgotten snapshot {}", id.short()),
            )
            .with_hint("list the forgotten snapshots with `backup undo-forget --list`"));
        };
        let damaged = || {
            Error::damaged(format!(
                "the record of the forgotten snapshot {} is damaged",
                id.short()
            ))
        };
        let sealed =
            Bytes::from(BASE64.decode(&note.object).map_err(|error| damaged().with_source(error))?);
        if SnapshotId::digest(&sealed) != *id {
            return Err(damaged());
        }
        let snapshot = open_json(self.key(), &sealed)?;
        Ok((SnapshotInfo::new(*id, snapshot), note, sealed))
    }

    /// Brings forgotten snapshots back. `holder` is who does it, for people.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while a prune is at work; [`ErrorKind::NotFound`] if there is nothing to
    /// bring back; [`ErrorKind::Damaged`] if a prune has deleted its data already.
    pub async fn undo_forget(&self, ids: &[SnapshotId], holder: &str, cx: &Context) -> Result<()> {
        self.require_writable()?;
        let lease = prune_lease(self, holder, cx).await?;
        let result = lease.guard(self.bring_back(ids, &lease, cx)).await;
        lease.release_after(result).await
    }

    async fn bring_back(&self, ids: &[SnapshotId], lease: &KeptLease, cx: &Context) -> Result<()> {
        let indexed = self.load_index(cx).await?;
        indexed.hide_lost_packs().await?;
        for id in ids {
            let (info, note, sealed) = self.read_forgotten(id).await?;
            let mut reach = Reach::new(&indexed, None, cx);
            reach.follow([info.snapshot.tree]).await.map_err(|error| {
                error.context(format!(
                    "cannot bring back snapshot {}: its data is gone or unreadable",
                    id.short()
                ))
            })?;
            lease.confirm().await?;
            list_again(&indexed, &reach).await?;
            lease.confirm().await?;
            let received = note.received.unwrap_or(info.snapshot.time);
            self.save_sealed_snapshot(sealed, received, cx).await?;
            if !note.disputed {
                self.vouch_for(id, &info.snapshot, cx).await?;
            }
            match self.sink().delete_one(&layout::forgotten(id)).await {
                Err(error) if error.kind() != SinkErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}
