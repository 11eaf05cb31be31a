//! Receipts: small sealed notes in the side-car `x-receipts/`, written for every snapshot and key
//! file. An object whose receipt is there but which is gone itself was lost, not forgotten:
//! forgetting removes the receipt first. A writer that completes receipts meanwhile may write one
//! again, for a moment or before it is killed; the note about what was forgotten (`x-forgotten/`)
//! says then what happened.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Repository, SnapshotInfo, layout};
use crate::context::Context;
use crate::crypto::MasterKey;
use crate::error::Result;
use crate::format::{open_json, seal_json};
use crate::id::{KeyId, SnapshotId};
use crate::sink::{Key, Prefix, Sink, SinkErrorKind, SinkOps};

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// When a store first received the object, by the clock of the writer: copies carry it along.
    pub received: Timestamp,
}

pub(crate) async fn put(
    sink: &dyn Sink,
    master: &MasterKey,
    key: &Key,
    received: Timestamp,
) -> Result<()> {
    sink.put_bytes(key, seal_json(master, &Receipt { received })?).await?;
    Ok(())
}

impl Repository {
    /// When this repository received a snapshot, if it was received by this program.
    ///
    /// # Errors
    /// Those of the sink; [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) for a damaged
    /// receipt.
    pub async fn receipt(&self, id: &SnapshotId) -> Result<Option<Receipt>> {
        match self.sink().get_bytes(&layout::snapshot_receipt(id)).await {
            Ok(sealed) => open_json(self.key(), &sealed).map(Some),
            Err(error) if error.kind() == SinkErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// When this repository received a snapshot, if there is a receipt that tells.
    ///
    /// # Errors
    /// Those of the sink.
    pub(crate) async fn received(&self, id: &SnapshotId) -> Result<Option<Timestamp>> {
        match self.receipt(id).await {
            Ok(receipt) => Ok(receipt.map(|receipt| receipt.received)),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn save_receipt(&self, id: &SnapshotId, received: Timestamp) -> Result<()> {
        put(&**self.sink(), self.key(), &layout::snapshot_receipt(id), received).await
    }

    /// Writes a receipt under this name.
    pub(crate) async fn put_receipt(&self, key: &Key, received: Timestamp) -> Result<()> {
        put(&**self.sink(), self.key(), key, received).await
    }

    /// Writes the receipts that are missing: of snapshots and keys that other tools made, or whose
    /// writer crashed.
    pub(crate) async fn complete_receipts(
        &self,
        snapshots: &[SnapshotInfo],
        cx: &Context,
    ) -> Result<()> {
        let known: HashSet<_> = self.snapshot_receipts().await?.into_iter().collect();
        for info in snapshots.iter().filter(|info| !known.contains(&info.id)) {
            self.save_receipt(&info.id, cx.clock.now()).await?;
            // Forgotten since it was listed: then its receipt must not say that it was lost.
            if !self.sink().exists(&layout::snapshot(&info.id)).await? {
                self.sink().delete_one(&layout::snapshot_receipt(&info.id)).await?;
            }
        }
        let known: HashSet<_> = self.key_receipts().await?.into_iter().collect();
        for id in self
            .names_under::<KeyId>(&layout::keys())
            .await?
            .iter()
            .filter(|id| !known.contains(*id))
        {
            put(&**self.sink(), self.key(), &layout::key_receipt(id), cx.clock.now()).await?;
        }
        Ok(())
    }

    /// Whether a snapshot that is gone was lost: it has a receipt still, and nobody forgot it.
    pub(crate) async fn was_lost(&self, id: &SnapshotId) -> Result<bool> {
        let sink = self.sink();
        Ok(sink.exists(&layout::snapshot_receipt(id)).await?
            && !sink.exists(&layout::forgotten(id)).await?)
    }

    /// Whether a receipt can be read.
    pub(crate) async fn check_receipt(&self, key: &Key) -> Result<()> {
        let sealed = self.sink().get_bytes(key).await?;
        open_json::<Receipt>(self.key(), &sealed).map(drop)
    }

    /// Names of the snapshots that were received.
    pub(crate) async fn snapshot_receipts(&self) -> Result<Vec<SnapshotId>> {
        self.names_under(&layout::snapshot_receipts()).await
    }

    /// Names of the key files that were stored.
    pub(crate) async fn key_receipts(&self) -> Result<Vec<KeyId>> {
        self.names_under(&layout::key_receipts()).await
    }

    async fn names_under<T: std::str::FromStr>(&self, prefix: &Prefix) -> Result<Vec<T>> {
        let objects = self.sink().list_all(prefix).await?;
        Ok(objects.iter().filter_map(|meta| meta.key.file_name().parse().ok()).collect())
    }
}
