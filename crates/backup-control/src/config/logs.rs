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
/// Each record renews the lease. With fewer of them, other capturers wait longer after a crash.
const IDLE_RECORDS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(600);
/// Records before the lease of a capturer ends.
const RECORDS_PER_LEASE: u32 = 3;
/// A roll-up reads the index and writes a snapshot.
const SHORTEST_ROLL_UP: Duration = Duration::from_secs(60);
/// Less would be full before an outage is noticed.
const SMALLEST_SPOOL: u64 = 16 << 20;

/// Time from which the source may discard captured log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AcknowledgeConfig {
    /// Once the log is in the repository.
    Stored,
    /// Once the log is in the spool.
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

/// `[jobs.NAME.logs]`: capture of the log of the job's source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// Store a slice of the captured log once it reaches this size, from 64KiB to 8MiB. Default:
    /// 1MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_size: Option<Size>,
    /// Store a slice after this time, even if it is smaller, from 100ms to 1h. Default: 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_after: Option<Time>,
    /// Interval at which a capturer records that the log is complete, also while nothing happens,
    /// from 5s to 10min. Each record is a renewal of the lease of the log, with about five requests
    /// to the store. After a crash, capturers on other machines wait six times as long. Default:
    /// 10s in directories, 30s in object stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_record: Option<Time>,
    /// Time from which the source may discard captured log: `stored` (once it is in the repository)
    /// or `spooled` (once it is in the spool, on the disk of this machine). Default: `stored`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<AcknowledgeConfig>,
    /// Directory for captured log that cannot be stored at the moment. Default: with
    /// `acknowledge = "spooled"`, a directory below the state directory. Otherwise at most 16 MiB
    /// stay in memory, and then the source waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
    /// Maximum size of the spool, at least 16MiB. Default: 4GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_size: Option<Size>,
    /// Interval of rolling up the captured log into a snapshot, at least 1min. Default: 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roll_up_every: Option<Time>,
    /// Time that slices stay after their roll-up. Default: 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_slices: Option<Time>,
    /// `true`: the daemon captures the log continuously. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
    /// `true`: make a full backup immediately after a gap in the log, from which on moments are
    /// restorable again. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_after_gap: Option<bool>,
}

impl LogsConfig {
    /// How much of the log may wait to be stored when all goes well: what is being collected, and
    /// what comes while another capturer takes the place of one that died. `idle_record` is the
    /// interval of the repository, which the key overrides.
    #[must_use]
    pub fn waits_at_most(&self, idle_record: Duration) -> Duration {
        let default = CaptureOptions::default().flush_after;
        self.flush_after.as_ref().map_or(default, Time::length) + self.lease_period(idle_record) * 2
    }

    /// Time for which a capturer has the log of a source after a renewal; `idle_record` as above.
    #[must_use]
    pub fn lease_period(&self, idle_record: Duration) -> Duration {
        self.idle_record.as_ref().map_or(idle_record, Time::length) * RECORDS_PER_LEASE
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
                "choose a size from {} to {}",
                Size(*FLUSH_SIZES.start()),
                Size(*FLUSH_SIZES.end())
            );
            return Some((
                "flush_size",
                Error::invalid(format!("a flush size of {size} is out of range")).with_hint(hint),
            ));
        }
        if let Some(time) =
            self.flush_after.as_ref().filter(|time| !FLUSH_TIMES.contains(&time.length()))
        {
            let error = Error::invalid(format!("a flush interval of {time} is out of range"));
            return Some(("flush_after", error.with_hint("choose a time from 100ms to 1h")));
        }
        if let Some(time) =
            self.idle_record.as_ref().filter(|time| !IDLE_RECORDS.contains(&time.length()))
        {
            let error =
                Error::invalid(format!("an interval of {time} for records is out of range"));
            return Some(("idle_record", error.with_hint("choose a time from 5s to 10min")));
        }
        if self.spool.as_ref().is_some_and(|spool| spool.as_os_str().is_empty()) {
            let error = Error::invalid("`spool` is an empty path");
            return Some((
                "spool",
                error.with_hint("name a directory on a disk of this machine, or leave `spool` out"),
            ));
        }
        if let Some(size) = self.spool_size {
            if !self.has_spool() {
                let error = Error::invalid("`spool_size` has no effect without a spool");
                return Some(("spool_size", error.with_hint("set `spool` to a directory")));
            }
            if size.0 < SMALLEST_SPOOL {
                let error = Error::invalid(format!("a spool of {size} is too small"));
                return Some((
                    "spool_size",
                    error.with_hint(format!("choose {} or more", Size(SMALLEST_SPOOL))),
                ));
            }
        }
        if let Some(time) =
            self.roll_up_every.as_ref().filter(|time| time.length() < SHORTEST_ROLL_UP)
        {
            let error = Error::invalid(format!("a roll-up interval of {time} is too short"));
            return Some(("roll_up_every", error.with_hint("choose a time of 1min or more")));
        }
        None
    }
}
