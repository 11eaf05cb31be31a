//! Options and report of a capture.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::log::Position;
use crate::log::outbox::SpoolOptions;

/// When a source may forget what was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acknowledge {
    /// When it is in the repository.
    #[default]
    Stored,
    /// When it is in the spool; needs one.
    Spooled,
}

/// Reports the [holders](CaptureOptions::holder) that are known to be dead, before each attempt to
/// take the lease: nobody waits until the lease of one of them expires. None by default.
#[derive(Clone, Default)]
pub struct DeadHolders(Option<Arc<dyn Fn() -> Vec<String> + Send + Sync>>);

impl DeadHolders {
    /// Calls `report` on a thread that may block.
    #[must_use]
    pub fn new(report: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    pub(in crate::log) async fn report(&self) -> Vec<String> {
        let Some(report) = self.0.clone() else { return Vec::new() };
        // A report that panics knows of none.
        tokio::task::spawn_blocking(move || report()).await.unwrap_or_default()
    }
}

impl fmt::Debug for DeadHolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeadHolders").finish_non_exhaustive()
    }
}

/// How to capture.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// A slice is closed when it has so many bytes,
    pub flush_bytes: usize,
    /// or is so old. A source in which nothing happens costs nothing.
    pub flush_after: Duration,
    /// When the source may forget what was captured.
    pub acknowledge: Acknowledge,
    /// How many bytes may wait in memory, if there is no spool.
    pub memory: u64,
    /// Where to keep what cannot be stored at the moment.
    pub spool: Option<SpoolOptions>,
    /// Who captures, for people: different for each process.
    pub holder: String,
    /// Holders whose processes have ended without giving the lease back.
    pub dead: DeadHolders,
    /// Whoever dies is replaced after two of these.
    pub lease_period: Duration,
    /// The source hands over single pieces of its log, and may go back to another branch where
    /// something is missing: that is no gap.
    pub goes_back: bool,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            flush_bytes: 1 << 20,
            flush_after: Duration::from_secs(1),
            acknowledge: Acknowledge::Stored,
            memory: 16 << 20,
            spool: None,
            holder: String::new(),
            dead: DeadHolders::default(),
            lease_period: Duration::from_secs(30),
            goes_back: false,
        }
    }
}

/// What was captured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CaptureReport {
    /// Slices that were stored.
    pub slices: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Up to here everything is stored.
    pub position: Option<Position>,
    /// How often something was missing.
    pub gaps: u64,
}
