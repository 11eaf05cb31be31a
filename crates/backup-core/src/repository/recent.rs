//! A recent listing of the snapshots. Backups that follow each other in one process share it: the cost
//! of each does not grow with the snapshots of other jobs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Repository, SnapshotInfo, layout};
use crate::context::Context;
use crate::error::Result;
use crate::format::Snapshot;
use crate::id::SnapshotId;
use crate::sink::SinkOps;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Option<Listing>>);

#[derive(Debug)]
struct Listing {
    taken: Instant,
    snapshots: Arc<Vec<SnapshotInfo>>,
    has_receipts: bool,
}

/// Readable snapshots, oldest first.
#[derive(Debug)]
pub struct RecentSnapshots {
    /// The snapshots.
    pub snapshots: Arc<Vec<SnapshotInfo>>,
    /// True for an earlier listing: since then, other processes may have removed and added some.
    pub is_reused: bool,
    /// True if the receipts of these snapshots are complete.
    pub(crate) has_receipts: bool,
}

impl Recent {
    fn find(&self, age: Duration) -> Option<RecentSnapshots> {
        let state = self.lock();
        let listing = state.as_ref().filter(|listing| listing.taken.elapsed() < age)?;
        let (snapshots, has_receipts) = (Arc::clone(&listing.snapshots), listing.has_receipts);
        Some(RecentSnapshots { snapshots, is_reused: true, has_receipts })
    }

    fn keep(&self, taken: Instant, snapshots: Arc<Vec<SnapshotInfo>>) {
        *self.lock() = Some(Listing { taken, snapshots, has_receipts: false });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Listing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repository {
    /// The readable snapshots. A listing of this process that is younger than `age` is used again,
    /// with the snapshots that this process has published since.
    ///
    /// # Errors
    /// The errors of [`Repository::snapshots`].
    pub async fn recent_snapshots(&self, age: Duration, cx: &Context) -> Result<RecentSnapshots> {
        if let Some(recent) = self.0.recent.find(age) {
            return Ok(recent);
        }
        let taken = Instant::now();
        let snapshots = Arc::new(self.snapshots(cx).await?.snapshots);
        if !age.is_zero() {
            self.0.recent.keep(taken, Arc::clone(&snapshots));
        }
        Ok(RecentSnapshots { snapshots, is_reused: false, has_receipts: false })
    }

    /// Writes the missing receipts of these snapshots, once for each listing.
    pub(crate) async fn complete_recent_receipts(
        &self,
        recent: &RecentSnapshots,
        cx: &Context,
    ) -> Result<()> {
        if recent.has_receipts {
            return Ok(());
        }
        self.complete_receipts(&recent.snapshots, cx).await?;
        if let Some(listing) = &mut *self.0.recent.lock()
            && Arc::ptr_eq(&listing.snapshots, &recent.snapshots)
        {
            listing.has_receipts = true;
        }
        Ok(())
    }

    /// Adds a snapshot that this process has published to the listing, if there is one.
    pub(crate) fn add_recent(&self, id: SnapshotId, snapshot: Snapshot) {
        if let Some(listing) = &mut *self.0.recent.lock() {
            let snapshots = Arc::make_mut(&mut listing.snapshots);
            let info = SnapshotInfo::new(id, snapshot);
            let place = snapshots.partition_point(|known| known.time() <= info.time());
            snapshots.insert(place, info);
        }
    }

    /// Returns `true` if the store has this snapshot.
    pub(crate) async fn has_snapshot(&self, id: &SnapshotId) -> Result<bool> {
        Ok(self.sink().exists(&layout::snapshot(id)).await?)
    }
}
