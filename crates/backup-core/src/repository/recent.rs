//! A recent listing of the snapshots. Backups that follow each other in one process share it while
//! the store has the same snapshots: only their names are listed again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Repository, SnapshotInfo, layout};
use crate::context::Context;
use crate::error::Result;
use crate::format::Snapshot;
use crate::id::SnapshotId;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Option<Listing>>);

#[derive(Debug)]
struct Listing {
    taken: Instant,
    /// Names of all snapshots in the store, readable or damaged.
    names: HashSet<SnapshotId>,
    snapshots: Arc<Vec<SnapshotInfo>>,
    has_receipts: bool,
}

/// Readable snapshots, oldest first.
#[derive(Debug)]
pub struct RecentSnapshots {
    /// The snapshots.
    pub snapshots: Arc<Vec<SnapshotInfo>>,
    /// True if the receipts of these snapshots are complete.
    pub(crate) has_receipts: bool,
}

impl Recent {
    fn is_younger(&self, age: Duration) -> bool {
        self.lock().as_ref().is_some_and(|listing| listing.taken.elapsed() < age)
    }

    /// The listing, if it has exactly these names.
    fn find(&self, names: &HashSet<SnapshotId>) -> Option<RecentSnapshots> {
        let state = self.lock();
        let listing = state.as_ref().filter(|listing| listing.names == *names)?;
        let (snapshots, has_receipts) = (Arc::clone(&listing.snapshots), listing.has_receipts);
        Some(RecentSnapshots { snapshots, has_receipts })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Listing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repository {
    /// The readable snapshots. A listing that is younger than `age` is used again if the store has no
    /// other names than the listing, with the snapshots that this process has published since.
    ///
    /// # Errors
    /// The errors of [`Repository::snapshots`].
    pub async fn recent_snapshots(&self, age: Duration, cx: &Context) -> Result<RecentSnapshots> {
        let taken = Instant::now();
        let objects = self.list(&layout::snapshots()).await?;
        if self.0.recent.is_younger(age) {
            let names = objects.iter().filter_map(|meta| meta.key.file_name().parse().ok());
            if let Some(recent) = self.0.recent.find(&names.collect()) {
                return Ok(recent);
            }
        }
        let list = self.snapshots_among(&objects, cx).await?;
        let names = list.ids().collect();
        let (snapshots, has_receipts) = (Arc::new(list.snapshots), false);
        if !age.is_zero() {
            let snapshots = Arc::clone(&snapshots);
            *self.0.recent.lock() = Some(Listing { taken, names, snapshots, has_receipts });
        }
        Ok(RecentSnapshots { snapshots, has_receipts })
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

    /// Adds a snapshot that this process has published to the listing, if there is one: behind all
    /// others, because it was made after them. The place of an import is not known: it is left out,
    /// and the next backup makes a new listing.
    pub(crate) fn add_recent(&self, id: SnapshotId, snapshot: Snapshot) {
        if let Some(listing) = &mut *self.0.recent.lock() {
            listing.names.insert(id);
            Arc::make_mut(&mut listing.snapshots).push(SnapshotInfo::new(id, snapshot));
        }
    }
}
