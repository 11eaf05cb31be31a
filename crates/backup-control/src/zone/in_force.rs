//! A zone with its name and its origin; the zones that a configuration and a machine put in force.

use std::borrow::Cow;
use std::fmt;

use jiff::tz::TimeZone;

use super::database;
use crate::config::Config;

/// A time zone, its name, and the place that selects it. Its text names both: `Europe/Rome (from
/// TZ)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Offsets from UTC, for every moment.
    pub rules: TimeZone,
    /// Name in the time zone database; the POSIX rule, or the path, of a zone that has none.
    pub name: Cow<'static, str>,
    /// The place that selects it.
    pub origin: Origin,
}

/// The place that selects a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This key of the configuration.
    Key(&'static str),
    /// The variable `TZ`.
    Variable,
    /// The file `/etc/localtime`.
    Localtime,
    /// Nothing: neither the configuration nor the machine names a zone.
    Unset,
    /// The zone of the machine is not understood, and UTC stands in for it.
    Fallback,
}

impl Origin {
    /// The key, the variable or the file; `none` and `fallback` for the others.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key(key) => key,
            Self::Variable => "TZ",
            Self::Localtime => super::local::LOCALTIME,
            Self::Unset => "none",
            Self::Fallback => "fallback",
        }
    }
}

impl Zone {
    /// UTC, because no zone is set.
    pub const UTC: Self =
        Self { rules: TimeZone::UTC, name: Cow::Borrowed("UTC"), origin: Origin::Unset };

    /// UTC, in the place of a zone of the machine that is not understood.
    pub const FALLBACK: Self =
        Self { rules: TimeZone::UTC, name: Cow::Borrowed("UTC"), origin: Origin::Fallback };

    /// A zone of the database.
    pub(super) fn of_database(rules: TimeZone, origin: Origin) -> Self {
        let name = rules.iana_name().unwrap_or("UTC").to_owned();
        Self { rules, name: Cow::Owned(name), origin }
    }

    /// The zone of a key of the configuration; `None` if the key is not set or has a mistake, which
    /// the check of the configuration reports.
    fn of_key(name: Option<&String>, key: &'static str) -> Option<Self> {
        let rules = database::named(name?).ok()?;
        Some(Self::of_database(rules, Origin::Key(key)))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Key(key) => write!(f, "{} (from `{key}`)", self.name),
            Origin::Variable | Origin::Localtime => {
                write!(f, "{} (from {})", self.name, self.origin.as_str())
            }
            Origin::Unset => write!(f, "{}, no zone is set", self.name),
            Origin::Fallback => {
                write!(f, "{}, because the zone of the machine is not understood", self.name)
            }
        }
    }
}

/// The time zones in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zones {
    /// Dates in input and output: `defaults.time_zone`, else `schedule.time_zone`, else the
    /// machine's.
    pub dates: Zone,
    /// Schedules: `schedule.time_zone`, else `defaults.time_zone`, else the machine's.
    pub schedules: Zone,
    /// Days, weeks and months of retention, and windows: `defaults.time_zone`, else the machine's.
    pub calendar: Zone,
}

impl Zones {
    /// The zones of a configuration, if there is one, and of the machine.
    #[must_use]
    pub fn new(config: Option<&Config>, local: &Zone) -> Self {
        let defaults = config.and_then(|config| {
            Zone::of_key(config.defaults.time_zone.as_ref(), "defaults.time_zone")
        });
        let schedule = config.and_then(|config| {
            Zone::of_key(config.schedule.time_zone.as_ref(), "schedule.time_zone")
        });
        let first = |zones: [&Option<Zone>; 2]| {
            zones.into_iter().find_map(Clone::clone).unwrap_or_else(|| local.clone())
        };
        Self {
            dates: first([&defaults, &schedule]),
            schedules: first([&schedule, &defaults]),
            calendar: first([&defaults, &None]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(config: &str) -> [String; 3] {
        let config: Config = toml::from_str(config).unwrap();
        let rome = database::named("Europe/Rome").unwrap();
        let local = Zone::of_database(rome, Origin::Localtime);
        let Zones { dates, schedules, calendar } = Zones::new(Some(&config), &local);
        [dates, schedules, calendar].map(|zone| zone.to_string())
    }

    #[test]
    fn keys_go_before_the_machine() {
        let rome = "Europe/Rome (from /etc/localtime)";
        assert_eq!(zones(""), [rome; 3]);
        let schedule = "Asia/Tokyo (from `schedule.time_zone`)";
        assert_eq!(zones("[schedule]\ntime_zone = \"Asia/Tokyo\""), [schedule, schedule, rome]);
        let defaults = "UTC (from `defaults.time_zone`)";
        assert_eq!(zones("[defaults]\ntime_zone = \"UTC\""), [defaults; 3]);
        let both = "[defaults]\ntime_zone = \"UTC\"\n[schedule]\ntime_zone = \"Asia/Tokyo\"";
        assert_eq!(zones(both), [defaults, schedule, defaults]);
    }

    #[test]
    fn zones_without_an_origin_state_the_reason() {
        assert_eq!(Zone::UTC.to_string(), "UTC, no zone is set");
        assert!(Zone::FALLBACK.to_string().contains("not understood"));
        assert_eq!(Zones::new(None, &Zone::FALLBACK).dates, Zone::FALLBACK);
    }
}
