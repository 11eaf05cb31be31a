//! Up to which time a log is known to be complete.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Position;

/// Everything that happened on a branch before `time` ends at or before a position of it: behind
/// the last event, this separates moments at which nothing happened from unknown ones.
///
/// A follower records it in its lease ([`LeaseNote`](crate::repository::LeaseNote)), as
/// `{"branch": …, "offset": …, "time": …}`, and before a gap as a slice without bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Where the last event before `time` ends, or later.
    #[serde(flatten)]
    pub at: Position,
    /// If nothing happened between this offset and `at`, and no bytes are stored of it. Otherwise
    /// the log is stored up to `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// By the clock of the source. An event of this very time may lie behind `at`.
    pub time: Timestamp,
}

impl Watermark {
    /// A watermark of a log that is stored up to `at`.
    #[must_use]
    pub fn new(at: Position, time: Timestamp) -> Self {
        Self { at, since: None, time }
    }

    /// Up to here the log has to be stored.
    pub(super) fn stored_to(&self) -> u64 {
        self.since.unwrap_or(self.at.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermark_has_the_documented_form() {
        let json = r#"{"branch":"1","offset":7,"time":"2026-03-01T12:00:00Z"}"#;
        let watermark: Watermark = serde_json::from_str(json).unwrap();
        assert_eq!(watermark, Watermark::new(Position::new("1", 7), watermark.time));
        assert_eq!(serde_json::to_string(&watermark).unwrap(), json);
        let json = r#"{"branch":"","offset":9,"since":7,"time":"2026-03-01T12:00:00Z"}"#;
        let watermark: Watermark = serde_json::from_str(json).unwrap();
        assert_eq!((watermark.stored_to(), watermark.at.offset), (7, 9));
        assert_eq!(serde_json::to_string(&watermark).unwrap(), json);
    }
}
