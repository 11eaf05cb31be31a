//! Periods of the calendar.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

/// Kinds of periods that a snapshot can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// An hour.
    Hour,
    /// A calendar day.
    Day,
    /// A week from Monday to Sunday, as ISO 8601 counts them.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Names the period that a moment lies in: equal for all moments of one period, and growing
    /// with time.
    pub(super) fn name(self, moment: Timestamp, zone: &TimeZone) -> (i32, i32) {
        let local = moment.to_zoned(zone.clone());
        let date = local.date();
        match self {
            // Not by the clock on the wall: the hour that comes twice in autumn is two hours.
            Self::Hour => {
                let hours = (moment.as_second() + i64::from(local.offset().seconds()))
                    .div_euclid(3600)
                    - i64::from(local.offset().seconds().div_euclid(3600));
                (0, i32::try_from(hours).unwrap_or(i32::MAX))
            }
            Self::Day => (i32::from(date.year()), i32::from(date.day_of_year())),
            Self::Week => {
                let week = date.iso_week_date();
                (i32::from(week.year()), i32::from(week.week()))
            }
            Self::Month => (i32::from(date.year()), i32::from(date.month())),
            Self::Year => (i32::from(date.year()), 0),
        }
    }
}
