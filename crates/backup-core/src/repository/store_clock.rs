//! How old objects are by the store's own clock: no two clocks are compared, where the store has
//! one.

use jiff::{SignedDuration, Timestamp};

use super::{Repository, layout};
use crate::context::Context;
use crate::error::Result;
use crate::sink::{SinkErrorKind, SinkOps};

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

    /// How long ago an object was written: `written` says the store, `noted` says the object
    /// itself.
    pub(crate) fn age(&self, written: Option<Timestamp>, noted: Timestamp) -> SignedDuration {
        match (self.store, written) {
            (Some(now), Some(written)) => written.duration_until(now),
            _ => noted.duration_until(self.here),
        }
    }
}
