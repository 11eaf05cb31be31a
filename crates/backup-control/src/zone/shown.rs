//! Local times in words. The offset is added where clocks show a time twice.

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// The offset of `moment`, such as `+02:00`, if clocks show its local time twice; they do in the
/// hour before and the hour after they are set back.
#[must_use]
pub fn offset_if_twice(moment: Timestamp, zone: &TimeZone) -> Option<String> {
    let local = zone.to_datetime(moment);
    let is_twice =
        matches!(zone.to_ambiguous_timestamp(local).offset(), AmbiguousOffset::Fold { .. });
    is_twice.then(|| moment.to_zoned(zone.clone()).strftime("%:z").to_string())
}

/// A local time to the minute: `2026-10-25 01:30`, or `2026-10-25 02:30 +02:00`.
#[must_use]
pub fn minute(moment: Timestamp, zone: &TimeZone) -> String {
    let text = moment.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string();
    match offset_if_twice(moment, zone) {
        Some(offset) => format!("{text} {offset}"),
        None => text,
    }
}

/// A local time to the second, with its zone: `2026-10-25 01:30:00 CEST`, or
/// `2026-10-25 02:30:00 +02:00 CEST`.
#[must_use]
pub fn second(moment: Timestamp, zone: &TimeZone) -> String {
    let format = match offset_if_twice(moment, zone) {
        Some(_) => "%Y-%m-%d %H:%M:%S %:z %Z",
        None => "%Y-%m-%d %H:%M:%S %Z",
    };
    moment.to_zoned(zone.clone()).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_exist_twice_have_their_offset() {
        let rome = crate::zone::named("Europe/Rome").unwrap();
        // Clocks in Rome go back at 01:00 UTC on 25 October 2026.
        for (moment, to_the_minute, to_the_second) in [
            ("2026-10-24T23:59:00Z", "2026-10-25 01:59", "2026-10-25 01:59:00 CEST"),
            ("2026-10-25T00:00:00Z", "2026-10-25 02:00 +02:00", "2026-10-25 02:00:00 +02:00 CEST"),
            ("2026-10-25T00:30:00Z", "2026-10-25 02:30 +02:00", "2026-10-25 02:30:00 +02:00 CEST"),
            ("2026-10-25T01:30:00Z", "2026-10-25 02:30 +01:00", "2026-10-25 02:30:00 +01:00 CET"),
            ("2026-10-25T02:00:00Z", "2026-10-25 03:00", "2026-10-25 03:00:00 CET"),
            // In spring an hour is missing, and none is twice.
            ("2026-03-29T01:00:00Z", "2026-03-29 03:00", "2026-03-29 03:00:00 CEST"),
        ] {
            let moment: Timestamp = moment.parse().unwrap();
            assert_eq!(minute(moment, &rome), to_the_minute);
            assert_eq!(second(moment, &rome), to_the_second);
        }
    }
}
