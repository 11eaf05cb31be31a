//! The keys of `[alerts.NAME]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alerts::Condition;
use crate::notify::Severity;
use crate::units::Time;

/// `[alerts.NAME]`: a rule, and who is told when it holds.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertConfig {
    /// What is watched: `failure`, `stale > 24h`, `duration > 2x`, `size_anomaly > 50%`,
    /// `storage_used > 80%`, `storage_free < 20%`, `storage_full < 14d`, `rpo > 15min` (or `rpo`:
    /// what the job says), `log_gap`, `log_lag > 5min`, `verify_failed`, `copy_failed`,
    /// `copy_lag > 24h`, `slot_unhealthy`, also `slot_unhealthy > 10GiB` or `> 30min`,
    /// `daemon_silent > 5min`; and what is told once: `restore_started`, `success`.
    #[schemars(with = "String")]
    pub condition: Condition,
    /// How much it matters: `info`, `warning`, `high` or `critical`.
    pub severity: Severity,
    /// Channels that are told, by name. Default: all that want messages of this severity, about
    /// this job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
    /// Patterns of names of jobs, or of repositories for rules about these. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// How long it has to hold before anybody is told. Default: at once.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Time>,
    /// After how long it is told again while it lasts. Default: once is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Time>,
    /// Whether its end is told too. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<bool>,
}
