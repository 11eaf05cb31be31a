//! Records as lines of the file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Class, Record, Status};

/// What stands in front of the first line.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) sequence: u64,
    pub(super) timestamp: Timestamp,
    pub(super) class: Class,
    #[serde(flatten)]
    pub(super) said: Said,
    pub(super) previous: String,
    pub(super) hash: String,
}

/// What a line says, or the hash of what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Said {
    Record(Content),
    /// The time of the record is over.
    Expired {
        expired: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) operation: String,
    pub(super) user: String,
    pub(super) host: String,
    pub(super) status: Status,
    pub(super) details: BTreeMap<String, String>,
}

impl Content {
    /// The hash of its JSON, whose fields have one order.
    fn hash(&self) -> Option<String> {
        serde_json::to_vec(self).ok().map(|json| hex(&Sha256::digest(json)))
    }
}

impl Line {
    /// Understands a line, without its end. What this program would write otherwise is none:
    /// nothing can be added to a line unseen.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(text).ok()?;
        (serde_json::to_vec(&line).ok()? == text).then_some(line)
    }

    /// The line for a record behind a line with the hash `previous`.
    pub(super) fn new(sequence: u64, previous: &str, record: Record) -> Self {
        let Record { operation, timestamp, user, host, status, class, details } = record;
        let said = Said::Record(Content { operation, user, host, status, details });
        let mut line = Self {
            sequence,
            timestamp,
            class,
            said,
            previous: previous.to_owned(),
            hash: String::new(),
        };
        line.hash = line.computed().unwrap_or_default();
        line
    }

    /// The hash that it has to have; none for what no JSON can hold.
    pub(super) fn computed(&self) -> Option<String> {
        let content = match &self.said {
            Said::Record(content) => content.hash()?,
            Said::Expired { expired } => expired.clone(),
        };
        let (sequence, class) = (self.sequence, self.class.as_str());
        let whole =
            format!("{sequence}\n{}\n{class}\n{content}\n{}", self.timestamp, self.previous);
        Some(hex(&Sha256::digest(whole)))
    }

    /// What is left of it when its time is over.
    pub(super) fn expire(self) -> Self {
        let expired = match self.said {
            Said::Record(content) => content.hash().unwrap_or_default(),
            Said::Expired { expired } => expired,
        };
        Self { said: Said::Expired { expired }, ..self }
    }

    /// The record, if its time is not over.
    pub(super) fn record(self) -> Option<Record> {
        let Said::Record(Content { operation, user, host, status, details }) = self.said else {
            return None;
        };
        Some(Record {
            operation,
            timestamp: self.timestamp,
            user,
            host,
            status,
            class: self.class,
            details,
        })
    }

    pub(super) fn is_expired(&self) -> bool {
        matches!(self.said, Said::Expired { .. })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
