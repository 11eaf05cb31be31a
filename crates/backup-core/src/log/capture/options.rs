//! Options and report of a capture.

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
    /// Who captures, for people.
    pub holder: String,
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
