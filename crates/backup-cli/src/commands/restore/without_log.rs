//! Members of a group without a log: each is restored to a snapshot.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::human;

/// The snapshot of a member of a group that has no log.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct WithoutLog {
    /// The time of the snapshot.
    pub(super) time: Timestamp,
    /// The time from the snapshot to the moment of the group.
    behind: Duration,
}

impl WithoutLog {
    pub(super) fn of(time: Timestamp, moment: Timestamp) -> Self {
        Self { time, behind: human::between(time, moment) }
    }

    /// A line about it: before a restore with `dry_run`, else after it.
    pub(super) fn words(self, dry_run: bool, zone: &TimeZone) -> String {
        let verb = if dry_run { "restores" } else { "restored" };
        format!(
            "  no log: {verb} the snapshot of {}, {} before the moment of the group",
            human::full_time(self.time, zone),
            human::duration(self.behind)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_without_log_show_the_time_of_their_snapshot() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let without_log =
            WithoutLog::of(time("2026-03-01T12:00:00Z"), time("2026-03-01T12:01:30Z"));
        assert_eq!(
            without_log.words(true, &TimeZone::UTC),
            "  no log: restores the snapshot of 2026-03-01 12:00:00 UTC, 1 min 30 s before the moment \
             of the group"
        );
    }
}
