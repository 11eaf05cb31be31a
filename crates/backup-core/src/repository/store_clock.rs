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
    /// By the clock of this process, before the object was stored and after it was read.
    before: Timestamp,
    here: Timestamp,
}

impl Repository {
    /// Seconds by which the store's clock is ahead, by a snapshot that was stored just now. None
    /// where the store has no clock of its own or does not report it.
    ///
    /// `before` is a time before it was stored.
    pub(crate) async fn clock_offset(
        &self,
        id: &SnapshotId,
        before: Timestamp,
        cx: &Context,
    ) -> Option<i64> {
        if !self.sink().capabilities().own_clock {
            return None;
        }
        let after = cx.clock.now();
        let stored = self.sink().head(&layout::snapshot(id)).await.ok()?.last_modified?;
        Some(nearest(stored, before, after).duration_until(stored).as_secs())
    }
}

/// The time between two readings of a clock that is nearest to that of another clock.
fn nearest(other: Timestamp, before: Timestamp, after: Timestamp) -> Timestamp {
    other.clamp(before.min(after), before.max(after))
}

impl StoreClock {
    /// Stores an empty object and reads its date.
    pub(crate) async fn read(repository: &Repository, cx: &Context) -> Result<Self> {
        let sink = repository.sink();
        let before = cx.clock.now();
        let object = layout::clock(&hex::encode(rand::random::<[u8; 8]>()));
        let store = match sink.put_bytes(&object, Vec::new()).await {
            Ok(_) => sink.head(&object).await?.last_modified,
            // Who may only read can still look.
            Err(error) if error.kind() == SinkErrorKind::PermissionDenied => None,
            Err(error) => return Err(error.into()),
        };
        let here = cx.clock.now();
        // Left behind by those who may not delete; it is empty.
        _ = sink.delete_one(&object).await;
        Ok(Self { store, before, here })
    }

    /// The time by the clock of the store and by that of this process, where the store dates
    /// objects.
    pub(crate) fn both(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.store?, nearest(self.store?, self.before, self.here)))
    }

    /// Age of an object by the store; an object that the store does not date counts as new.
    pub(crate) fn age_in_store(&self, written: Option<Timestamp>) -> SignedDuration {
        self.age(written, self.here)
    }

    /// Age of an object: `written` is the time of the store, `noted` the time in the object.
    pub(crate) fn age(&self, written: Option<Timestamp>, noted: Timestamp) -> SignedDuration {
        match (self.store, written) {
            (Some(now), Some(written)) => written.duration_until(now),
            _ => noted.duration_until(self.here),
        }
    }
}
