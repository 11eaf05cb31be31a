//! `[jobs.NAME.logs]`.

use std::path::PathBuf;
use std::time::Duration;

use backup_core::log::{Acknowledge, CaptureOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::units::{Size, Time};

/// A slice is closed when it has so many bytes: more of them, or larger ones, would only fill the
/// store or the memory.
const FLUSH_SIZES: std::ops::RangeInclusive<u64> = (64 << 10)..=(8 << 20);
/// Every slice is an object of its own; whoever waits longer has a backup, not a log.
const FLUSH_TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
/// A roll-up reads the index and writes a snapshot.
const SHORTEST_ROLL_UP: Duration = Duration::from_secs(60);
/// Less would be full before an outage is noticed.
const SMALLEST_SPOOL: u64 = 16 << 20;

/// When the source may forget what was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AcknowledgeConfig {
    /// When it is in the repository.
    Stored,
    /// When it is in the spool.
    Spooled,
}

impl From<AcknowledgeConfig> for Acknowledge {
    fn from(config: AcknowledgeConfig) -> Self {
        match config {
            AcknowledgeConfig::Stored => Self::Stored,
            AcknowledgeConfig::Spooled => Self::Spooled,
        }
    }
}

/// `[jobs.NAME.logs]`: how the log of the job's source is captured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// What was captured is stored when it comes to so much, from 64KiB to 8MiB. Default: 1MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_size: Option<Size>,
    /// … or is so old, from 100ms to 1h. Default: 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_after: Option<Time>,
    /// When the source may forget what was captured: `stored` (when it is in the repository) or
    /// `spooled` (when it is in the spool, on the disk of this machine). Default: `stored`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<AcknowledgeConfig>,
    /// Directory for what cannot be stored at the moment. Default: one below the state directory
    /// with `acknowledge = "spooled"`, else none: what waits is kept in memory, at most 16 MiB, and
    /// then the source waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
    /// How much may wait in the spool, at least 16MiB. Default: 4GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_size: Option<Size>,
    /// How often what was captured is put into a snapshot, at least 1min. Default: 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roll_up_every: Option<Time>,
    /// How long slices stay after they are in a snapshot. Default: 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_slices: Option<Time>,
    /// Whether the daemon captures the log all the time. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
    /// Whether a full backup is made at once when a part of the log is missing, so that moments can
    /// be restored again from there on. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_after_gap: Option<bool>,
}

impl LogsConfig {
    /// How much of the log may wait to be stored when all goes well: what is being collected, and
    /// what comes while another capturer takes the place of one that died.
    #[must_use]
    pub fn waits_at_most(&self) -> Duration {
        let defaults = CaptureOptions::default();
        self.flush_after.as_ref().map_or(defaults.flush_after, Time::length)
            + defaults.lease_period * 2
    }

    /// Whether there is a spool.
    #[must_use]
    pub fn has_spool(&self) -> bool {
        self.spool.is_some() || self.acknowledge == Some(AcknowledgeConfig::Spooled)
    }

    /// The first key that cannot be meant, and why.
    pub(super) fn mistake(&self) -> Option<(&'static str, Error)> {
        if let Some(size) = self.flush_size.filter(|size| !FLUSH_SIZES.contains(&size.0)) {
            let hint = format!(
                "choose one from {} to {}",
                Size(*FLUSH_SIZES.start()),
                Size(*FLUSH_SIZES.end())
            );
            return Some((
                "flush_size",
                Error::invalid(format!("slices of {size} are not possible")).with_hint(hint),
            ));
        }
        if let Some(time) =
            self.flush_after.as_ref().filter(|time| !FLUSH_TIMES.contains(&time.length()))
        {
            let error = Error::invalid(format!("slices every {time} are not possible"));
            return Some(("flush_after", error.with_hint("choose a time from 100ms to 1h")));
        }
        if self.spool.as_ref().is_some_and(|spool| spool.as_os_str().is_empty()) {
            let error = Error::invalid("the directory of the spool has no name");
            return Some((
                "spool",
                error.with_hint("name a directory on a disk of this machine, or leave it out"),
            ));
        }
        if let Some(size) = self.spool_size {
            if !self.has_spool() {
                let error = Error::invalid("there is no spool that `spool_size` could be about");
                return Some(("spool_size", error.with_hint("name a directory by `spool`")));
            }
            if size.0 < SMALLEST_SPOOL {
                let error = Error::invalid(format!("a spool of {size} bridges nothing"));
                return Some((
                    "spool_size",
                    error.with_hint(format!("choose {} or more", Size(SMALLEST_SPOOL))),
                ));
            }
        }
        if let Some(time) =
            self.roll_up_every.as_ref().filter(|time| time.length() < SHORTEST_ROLL_UP)
        {
            let error = Error::invalid(format!("a roll-up every {time} would never end"));
            return Some(("roll_up_every", error.with_hint("choose a time of 1min or more")));
        }
        None
    }
}
