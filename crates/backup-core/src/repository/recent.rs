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
}

/// Readable snapshots, oldest first.
#[derive(Debug)]
pub(crate) struct RecentSnapshots {
    pub(crate) snapshots: Arc<Vec<SnapshotInfo>>,
    /// True if an earlier backup of this process listed them: since then, others may have removed
    /// some and added more.
    pub(crate) is_reused: bool,
}

impl Recent {
    fn find(&self, age: Duration) -> Option<Arc<Vec<SnapshotInfo>>> {
        let state = self.lock();
        let listing = state.as_ref().filter(|listing| listing.taken.elapsed() < age)?;
        Some(Arc::clone(&listing.snapshots))
    }

    fn keep(&self, taken: Instant, snapshots: &Arc<Vec<SnapshotInfo>>) {
        *self.lock() = Some(Listing { taken, snapshots: Arc::clone(snapshots) });
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
    pub(crate) async fn recent_snapshots(
        &self,
        age: Duration,
        cx: &Context,
    ) -> Result<RecentSnapshots> {
        if let Some(snapshots) = self.0.recent.find(age) {
            return Ok(RecentSnapshots { snapshots, is_reused: true });
        }
        let taken = Instant::now();
        let snapshots = Arc::new(self.snapshots(cx).await?.snapshots);
        if !age.is_zero() {
            self.0.recent.keep(taken, &snapshots);
        }
        Ok(RecentSnapshots { snapshots, is_reused: false })
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
