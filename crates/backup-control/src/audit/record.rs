//! What is recorded of an action.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// Bytes that are kept of a detail.
const MAX_DETAIL: usize = 4096;
/// Details that are kept of an action.
const MAX_DETAILS: usize = 24;

/// What an action is about; how long its record is kept depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Backups, copies, verification: what is done every day.
    Operation,
    /// Data was given out: restores, exports.
    Access,
    /// What changes what is kept, who can read it and who is told: deletions, holds, keys,
    /// configuration, silences.
    Compliance,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Operation, Self::Access, Self::Compliance];

    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::Access => "access",
            Self::Compliance => "compliance",
        }
    }
}

/// What came of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has begun: what came of it stands in a later record, unless its process died.
    Started,
    /// What was asked for is done.
    Success,
    /// It is done, and there is something to look at.
    Warnings,
    /// It is not done, or not wholly.
    Failure,
    /// Somebody stopped it.
    Cancelled,
    /// The user answered no to its confirmation: nothing is done.
    Declined,
}

impl Status {
    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Success => "success",
            Self::Warnings => "warnings",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Declined => "declined",
        }
    }
}

/// An action, and what came of it. No secrets: whoever makes one leaves them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// What was done, for instance `backup` or `key add`.
    pub operation: String,
    /// When it was over.
    pub timestamp: Timestamp,
    /// Who did it.
    pub user: String,
    /// On which host.
    pub host: String,
    /// What came of it.
    pub status: Status,
    /// What it is about.
    pub class: Class,
    /// More about it: `repository`, `job`, `snapshot`, `reason`, `error`, …
    pub details: BTreeMap<String, String>,
}

impl Record {
    /// An action of this process that is over now.
    #[must_use]
    pub fn new(
        operation: &str,
        class: Class,
        status: Status,
        machine: &Machine,
        now: Timestamp,
    ) -> Self {
        Self {
            operation: operation.to_owned(),
            // The file has milliseconds.
            timestamp: Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now),
            user: machine.user.clone(),
            host: machine.host.clone(),
            status,
            class,
            details: BTreeMap::new(),
        }
    }

    /// With a detail; what is too long of it is left out, and an empty one is none.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        let mut value = value.into();
        if value.len() > MAX_DETAIL {
            let end = (0..=MAX_DETAIL).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
            value.truncate(end);
            value.push('…');
        }
        if !value.is_empty()
            && (self.details.len() < MAX_DETAILS || self.details.contains_key(name))
        {
            self.details.insert(name.to_owned(), value);
        }
        self
    }
}
