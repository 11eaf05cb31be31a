//! The keys of `[audit]`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::age::Age;
use crate::audit::Class;
use crate::error::Result;

/// `[audit]`: retention and announcements of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Channels that report, at once, changes of tokens, keys, pauses, silences and the
    /// configuration, and cancelled operations. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
    /// `[audit.keep]`: retention by class of the records. Default: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<AuditKeepConfig>,
}

/// `[audit.keep]`: retention of the content of records. Expired content is removed; the class, time
/// and hash of its record stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditKeepConfig {
    /// Records of backups, copies and verification, for instance `90d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub operation: Option<Age>,
    /// Records of restores and exports, for instance `12mo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub access: Option<Age>,
    /// Records of deletions, holds, keys, configuration and silences, for instance `7y`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub compliance: Option<Age>,
}

impl AuditKeepConfig {
    /// Before which moment records of a class are not kept.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) for an age that leads out of the calendar.
    pub fn cut_offs(&self, now: Timestamp, zone: &TimeZone) -> Result<BTreeMap<Class, Timestamp>> {
        let ages = [
            (Class::Operation, &self.operation),
            (Class::Access, &self.access),
            (Class::Compliance, &self.compliance),
        ];
        let given =
            ages.into_iter().filter_map(|(class, age)| age.as_ref().map(|age| (class, age)));
        given.map(|(class, age)| Ok((class, age.before(now, zone)?))).collect()
    }
}
