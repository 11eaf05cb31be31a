//! The keys of `[jobs.NAME]` that say when a job may run, what is done around it, and what must
//! come of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::Time as Clock;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::hooks::Hook;
use crate::units::{Text, Time};

/// How often a backup may be tried again.
const TRIES: std::ops::RangeInclusive<u32> = 1..=20;
/// Nothing is waited for longer than this before a backup is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How long a hook may take if nothing else is said.
const HOOK_TIMEOUT: Duration = Duration::from_secs(600);

/// A time of the day in which something may begin: `22:00-06:00`. One that ends before it begins
/// goes on past midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: Clock,
    to: Clock,
}

impl Window {
    /// Whether a moment, in the time zone that is meant, lies in it. Its end does not belong to it.
    #[must_use]
    pub fn contains(&self, moment: &Zoned) -> bool {
        let time = moment.time();
        if self.from < self.to {
            return self.from <= time && time < self.to;
        }
        self.from <= time || time < self.to
    }

    /// When it opens next behind a moment; `None` at the end of time.
    pub(super) fn opens_behind(&self, moment: &Zoned) -> Option<Zoned> {
        let days = [Some(moment.date()), moment.date().tomorrow().ok()];
        let opens = |day: jiff::civil::Date| {
            day.to_datetime(self.from).to_zoned(moment.time_zone().clone()).ok()
        };
        days.into_iter().flatten().filter_map(opens).find(|opens| opens > moment)
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a time window; write it like 22:00-06:00");
        // Without minutes, or with a day in front, jiff would understand something else.
        let clock = |text: &str| {
            let text = text.trim();
            let is_clock = text.len() == 5 && text.as_bytes().get(2) == Some(&b':');
            if is_clock { text.parse::<Clock>().ok() } else { None }
        };
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let window =
            Self { from: clock(from).ok_or_else(wrong)?, to: clock(to).ok_or_else(wrong)? };
        if window.from == window.to {
            return Err(format!(
                "{text:?} begins and ends at the same time; leave the window out to allow any time"
            ));
        }
        Ok(window)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from.strftime("%H:%M"), self.to.strftime("%H:%M"))
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text::new("a time window such as \"22:00-06:00\""))
    }
}

/// `[jobs.NAME.retry]`: retries of a backup that failed because a store or server was unavailable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryConfig {
    /// Number of retries, from 1 to 20.
    pub times: u32,
    /// Pause before the first retry; it doubles with each retry, up to 1h. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Time>,
}

impl RetryConfig {
    /// How long to wait before the backup is tried again that has failed so many times, if it is.
    #[must_use]
    pub fn pause(&self, failed: u32) -> Option<Duration> {
        let first = self.pause.as_ref().map_or(Duration::from_secs(30), Time::length);
        let factor = 2_u32.saturating_pow(failed.saturating_sub(1));
        (failed <= self.times).then(|| first.saturating_mul(factor).min(LONGEST_PAUSE))
    }

    pub(super) fn mistake(&self) -> Option<Error> {
        if !TRIES.contains(&self.times) {
            let (least, most) = (TRIES.start(), TRIES.end());
            let error = Error::invalid(format!("{} retries are out of range", self.times));
            return Some(
                error.with_hint(format!("choose from {least} to {most}, or leave `retry` out")),
            );
        }
        let pause = self.pause.as_ref().filter(|pause| pause.length() > LONGEST_PAUSE)?;
        Some(
            Error::invalid(format!("a pause of {pause} is too long"))
                .with_hint("choose at most 1h"),
        )
    }
}

/// `[[jobs.NAME.expect]]`: minimum contents of a snapshot. A backup with less fails; its snapshot
/// stays.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectConfig {
    /// A collection, table or key space, with its name in `backup show --json`, for instance
    /// `shop.users`. Default: count files and streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Minimum number of documents, rows, keys or files.
    pub min: u64,
}

/// `[jobs.NAME.hooks]`: shell commands that run before and after a backup or restore. Their output
/// goes into the messages of the run. Every hook has the variables `BACKUP_HOOK` (the name of the
/// hook), `BACKUP_HOOK_JOB` and `BACKUP_HOOK_RUN`. Hooks after a backup or restore also have
/// `BACKUP_HOOK_RESULT` (`success`, `warnings`, `failed` or `cancelled`), `BACKUP_HOOK_SNAPSHOT`
/// and `BACKUP_HOOK_ERROR`. Hooks of restores also have `BACKUP_HOOK_TARGET`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HooksConfig {
    /// Runs before a backup; if it fails, nothing is backed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Runs after a backup with any result, also if `before` failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Runs after a backup that failed or was stopped, before `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// Runs before a restore to the original location (`backup restore --in-place`); if it fails,
    /// nothing is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_restore: Option<String>,
    /// Runs after such a restore with any result, also if `before_restore` failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_restore: Option<String>,
    /// Time limit of each hook. Default: 10min.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
    /// Additional environment variables of the hooks. Their values are not shown.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "names_only")]
    pub env: BTreeMap<String, String>,
}

impl HooksConfig {
    /// How long each may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.as_ref().map_or(HOOK_TIMEOUT, Time::length)
    }

    /// The first invalid key, empty if it is the section itself, and the reason.
    pub(super) fn mistake(&self) -> Option<(&'static str, Error)> {
        let command = |hook: &Hook| hook.of(self);
        let is_empty = |hook: &Hook| command(hook).is_some_and(|line| line.trim().is_empty());
        if let Some(hook) = Hook::ALL.into_iter().find(is_empty) {
            return Some((
                hook.as_str(),
                Error::invalid("the hook has no command").with_hint("leave the hook out"),
            ));
        }
        if Hook::ALL.iter().all(|hook| command(hook).is_none()) {
            let error = Error::invalid("the section has no hook, only other keys");
            return Some((
                "",
                error.with_hint(
                    "add `before`, `after`, `on_failure`, `before_restore` or `after_restore`",
                ),
            ));
        }
        let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '\0']);
        let name = self.env.keys().find(|name| !is_name(name))?;
        Some(("env", Error::invalid(format!("{name:?} is not a valid name of a variable"))))
    }
}

/// Variables whose values may be secrets.
pub(super) fn names_only<S: Serializer>(
    variables: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(variables.keys().map(|name| (name, "…")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        let at = |time: &str| format!("2026-03-01T{time}[Europe/Berlin]").parse::<Zoned>().unwrap();
        let day: Window = "02:00-06:00".parse().unwrap();
        let night: Window = " 22:00 - 06:30 ".parse().unwrap();
        for (time, in_day, in_night) in [
            ("01:59:59", false, true),
            ("02:00:00", true, true),
            ("05:59:59", true, true),
            ("06:00:00", false, true),
            ("06:30:00", false, false),
            ("21:59:59", false, false),
            ("22:00:00", false, true),
            ("00:00:00", false, true),
        ] {
            assert_eq!(
                (day.contains(&at(time)), night.contains(&at(time))),
                (in_day, in_night),
                "{time}"
            );
        }
        assert_eq!(night.to_string(), "22:00-06:30");
        for bad in [
            "",
            "22-06",
            "22:00",
            "25:00-06:00",
            "22:00-22:00",
            "22:00:00-06:00:00",
            "22:00-06:00-08:00",
        ] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        let retry = RetryConfig { times: 4, pause: Some("20min".parse().unwrap()) };
        let minutes = |failed| retry.pause(failed).map(|pause| pause.as_secs() / 60);
        assert_eq!([1, 2, 3, 4, 5].map(minutes), [Some(20), Some(40), Some(60), Some(60), None]);
        assert_eq!(RetryConfig { times: 1, pause: None }.pause(1), Some(Duration::from_secs(30)));
        assert!(RetryConfig { times: 0, pause: None }.mistake().is_some());
    }

    #[test]
    fn values_of_variables_are_not_shown() {
        let hooks: HooksConfig =
            toml::from_str("before = \"x\"\nenv = { TOKEN = \"hush\" }").unwrap();
        let shown = toml::to_string(&hooks).unwrap();
        assert!(shown.contains("TOKEN") && !shown.contains("hush"), "{shown}");
    }
}
