//! Where every master is in its stream, and how that is a place in the log of the cluster.
//!
//! The streams of masters have no order among each other. What orders them here is the clock of
//! whoever receives them: a place in the log of a cluster is a time, in nanoseconds since 1970, and
//! what came until then is before it. Which place of each stream that is is stored beside it.

use backup_core::log::Position;
use backup_core::source::{LogStart, SourceResult};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::error::malformed;
use super::slots::Slots;

/// The log of a cluster has one branch: ids and offsets of its masters are in the paths of its
/// files.
const BRANCH: &str = "cluster";
/// By so much the clock of whoever backs up may be ahead of that of whoever follows the streams.
pub(in super::super) const CLOCKS: SignedDuration = SignedDuration::from_secs(5);

/// A master's place in its stream, by its slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Place {
    pub(in super::super) slots: Slots,
    pub(in super::super) id: String,
    pub(in super::super) offset: u64,
}

/// Those of all masters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Places(pub(super) Vec<Place>);

impl Places {
    pub(super) fn parse(text: &str) -> SourceResult<Self> {
        serde_json::from_str(text).map_err(|_| malformed("stored offsets of the masters"))
    }

    pub(super) fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    pub(super) fn of(&self, slots: &Slots) -> Option<&Place> {
        self.0.iter().find(|place| place.slots == *slots)
    }

    /// Where the log goes on from a backup that was begun at `started`, and whose dumps are of
    /// moments up to `time`: whatever comes behind one of them was received later than the backup
    /// began.
    pub(super) fn log_start(&self, started: Timestamp, time: Timestamp) -> LogStart {
        let needs = nanoseconds(started.checked_sub(CLOCKS).unwrap_or(started));
        LogStart { needs, at: position(nanoseconds(time)), state: self.text() }
    }
}

/// Where the master of these slots was, by what was stored.
pub(in super::super) fn end_of(slots: &Slots, state: &str) -> SourceResult<Place> {
    let gone = || malformed(format!("log: no offset of the master of the slots {slots}"));
    Places::parse(state)?.of(slots).cloned().ok_or_else(gone)
}

pub(super) fn position(place: u64) -> Position {
    Position::new(BRANCH, place)
}

pub(super) fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_text_and_back() {
        let mut slots = Slots::default();
        assert!(slots.add(0, 5460) && slots.add(9000, 9000));
        let place = Place { slots: slots.clone(), id: "a".repeat(40), offset: 7 };
        let places = Places(vec![place.clone()]);
        let text = places.text().unwrap();
        assert_eq!(Places::parse(&text).unwrap(), places);
        assert_eq!((places.of(&slots), places.of(&Slots::default())), (Some(&place), None));
        assert!(Places::parse("{}").is_err());
        let time = Timestamp::from_second(100).unwrap();
        let start = places.log_start(time, Timestamp::from_second(103).unwrap());
        assert_eq!((start.needs, start.at.offset), (95_000_000_000, 103_000_000_000));
        assert_eq!(slots.name(), "0-5460+9000-9000");
    }
}
