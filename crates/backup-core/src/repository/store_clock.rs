//! Ages of objects by the store's own clock: no two clocks are compared, where the store has one.

use jiff::{SignedDuration, Timestamp};

use super::{Repository, layout};
use crate::context::Context;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::sink::{SinkErrorKind, SinkOps};

/// One moment by two clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreClock {
    /// By the clock of the store, where the store dates objects.
    store: Option<Timestamp>,
    /// By the clock of this process.
    here: Timestamp,
}

impl Repository {
    /// Seconds by which the store's clock is ahead, by a snapshot that was stored just now. None
    /// where the store has no clock of its own or does not report it.
    pub(crate) async fn clock_offset(&self, id: &SnapshotId, cx: &Context) -> Option<i64> {
        if !self.sink().capabilities().own_clock {
            return None;
        }
        let here = cx.clock.now();
        let stored = self.sink().head(&layout::snapshot(id)).await.ok()?.last_modified?;
        Some(here.duration_until(stored).as_secs())
    }
}

impl StoreClock {
    /// Stores an empty object and reads its date.
    pub(crate) async fn read(repository: &Repository, cx: &Context) -> Result<Self> {
        let sink = repository.sink();
        let object = layout::clock(&hex::encode(rand::random::<[u8; 8]>()));
        let store = match sink.put_bytes(&object, Vec::new()).await {
            Ok(_) => sink.head(&object).await?.last_modified,
            // Who may only read can still look.
            Err(error) if error.kind() == SinkErrorKind::PermissionDenied => None,
            Err(error) => return Err(error.into()),
        };
        // Left behind by those who may not delete; it is empty.
        _ = sink.delete_one(&object).await;
        Ok(Self { store, here: cx.clock.now() })
    }

    /// The time by the clock of the store, where it reports one.
    pub(crate) fn of_store(&self) -> Option<Timestamp> {
        self.store
    }

    /// Age of an object: `written` is the time of the store, `noted` the time in the object.
    pub(crate) fn age(&self, written: Option<Timestamp>, noted: Timestamp) -> SignedDuration {
        match (self.store, written) {
            (Some(now), Some(written)) => written.duration_until(now),
            _ => noted.duration_until(self.here),
        }
    }
}
