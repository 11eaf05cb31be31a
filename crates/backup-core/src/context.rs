//! What every operation is given: cancellation, events, time. Keeps signatures short and nothing
//! global.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::{SharedClock, SystemClock};
use crate::error::{Error, Result};
use crate::event::Events;

/// Cancellation, events and time of one operation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// Cancelled when the caller wants the operation to stop.
    pub cancel: CancellationToken,
    /// Where events go.
    pub events: Events,
    /// The time.
    pub clock: SharedClock,
}

impl Context {
    /// A context that reports to `events` and uses the system's clock.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self { cancel: CancellationToken::new(), events, clock: Arc::new(SystemClock) }
    }

    /// A context nobody listens to; for tests and small tools.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(Events::silent())
    }

    /// Fails if the caller has cancelled.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`](crate::error::ErrorKind::Cancelled).
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}
