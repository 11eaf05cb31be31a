//! The keys of `[alerts.NAME]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alerts::Condition;
use crate::notify::Severity;
use crate::units::Time;

/// `[alerts.NAME]`: an alert rule.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertConfig {
    /// The condition: `failure`, `stale > 24h`, `duration > 2x`, `size_anomaly > 50%`;
    /// `storage_used > 80%`, `storage_free < 20%`, `storage_full < 14d`; `rpo > 15min`, `rpo` (the
    /// value of the job); `log_gap`, `log_lag > 5min`; `verify_failed`, `copy_failed`,
    /// `copy_lag > 24h`, `cleanup_failed`, `clock`; `slot_unhealthy`, `slot_unhealthy > 10GiB`,
    /// `slot_unhealthy > 30min`; `daemon_silent > 5min`, `suppressed > 24h`. Events, which notify
    /// once: `restore_started`, `restore_finished`, `restore_failed`, `success`.
    #[schemars(with = "String")]
    pub condition: Condition,
    /// Severity: `info`, `warning`, `high` or `critical`.
    pub severity: Severity,
    /// Names of the channels. Default: all channels that accept this severity and job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
    /// Patterns of job names, or of repository names for rules about repositories. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Duration up to which a backup is never too slow; only for `duration`. Default: 1min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Time>,
    /// Time that the condition must hold before the first notification. Default: none.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Time>,
    /// Interval of repeated notifications while the condition holds. Default: no repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Time>,
    /// `true`: notify also when the condition ends. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<bool>,
}
