//! How old objects are by the store's own clock: no two clocks are compared, where the store has one.

use jiff::{SignedDuration, Timestamp};

use super::{Repository, layout};
use crate::context::Context;
use crate::error::Result;
use crate::sink::SinkOps;

/// One moment by two clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreClock {
    /// By the clock of the store, where it tells when it wrote an object.
    store: Option<Timestamp>,
    /// By the clock of this process.
    here: Timestamp,
}

impl StoreClock {
    /// Stores an empty object and asks when that was.
    pub(crate) async fn read(repository: &Repository, cx: &Context) -> Result<Self> {
        let sink = repository.sink();
        let object = layout::clock(&hex::encode(rand::random::<[u8; 8]>()));
        sink.put_bytes(&object, Vec::new()).await?;
        let store = sink.head(&object).await?.last_modified;
        // Left behind by those who may not delete; it is empty.
        _ = sink.delete_one(&object).await;
        Ok(Self { store, here: cx.clock.now() })
    }

    /// How long ago an object was written: `written` says the store, `noted` says the object itself.
    pub(crate) fn age(&self, written: Option<Timestamp>, noted: Timestamp) -> SignedDuration {
        match (self.store, written) {
            (Some(now), Some(written)) => written.duration_until(now),
            _ => noted.duration_until(self.here),
        }
    }
}
