//! When things happen: `[[jobs.NAME.schedule]]`, `[[groups.NAME.schedule]]` and `[schedule]`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::copies::{ArchiveConfig, CheckData, CopyConfig};
use super::job::Window;
use super::notify::NotifyConfig;
use super::types::JobType;
use crate::age::Age;
use crate::error::Error;
use crate::names;
use crate::schedule::Cron;
use crate::suggest;
use crate::units::Time;
use crate::zone::Zones;

/// Which goes first is said by numbers from the one to the other.
const PRIORITIES: std::ops::RangeInclusive<i32> = -100..=100;
/// So many at a time are possible.
const PARALLEL: std::ops::RangeInclusive<usize> = 1..=64;
/// What is stopped earlier would never be done.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(60);
/// How long anything may take if nothing else is said.
const DEADLINE: Duration = Duration::from_secs(24 * 3600);
/// How old a missed time may be if nothing else is said.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// So many of its times are looked at to find out whether a job is ever in its window.
const LOOKED_AT: usize = 400;

/// `[[jobs.NAME.schedule]]`: a schedule of the daemon. The short form `schedule = "30 2 * * *"` has
/// only the time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Cron expression of minute, hour, day, month and weekday, or `@daily` and the like, in
    /// `schedule.time_zone`.
    #[schemars(with = "String")]
    pub at: Cron,
    /// Type of the snapshots. Default: that of the job.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<JobType>,
    /// Tier of the snapshots. Default: that of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Maximum delay of the start. The delay of a schedule is always the same, and differs between
    /// schedules and machines to spread the load. Default: no delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Time>,
    /// `true`: start also outside of the window of the job. Default: wait for the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside_window: Option<bool>,
}

impl ScheduleConfig {
    fn at(at: Cron) -> Self {
        Self { at, kind: None, tier: None, jitter: None, outside_window: None }
    }

    /// Why it cannot be meant, with the window of its job, in these zones if they are known.
    fn mistake(&self, window: Option<&Window>, zones: Option<&Zones>) -> Option<Error> {
        if let Some(tier) = &self.tier
            && let Err(error) = names::check("tier", tier)
        {
            return Some(error);
        }
        if self.jitter.as_ref().is_some_and(|jitter| jitter.length() > DEADLINE) {
            return Some(
                Error::invalid("a jitter of more than a day is too long")
                    .with_hint("choose at most 24h"),
            );
        }
        match window {
            None if self.outside_window.is_some() => Some(
                Error::invalid("`outside_window` has no effect without a window")
                    .with_hint("leave `outside_window` out"),
            ),
            Some(window)
                if self.outside_window != Some(true)
                    && zones.is_some_and(|zones| !self.is_ever_in(window, zones)) =>
            {
                let text = format!("`{}` is never in the window of the job, {window}", self.at);
                let hint = "choose times within the window, or add `outside_window = true`";
                Some(Error::invalid(text).with_hint(hint))
            }
            _ => None,
        }
    }

    /// Looks at the next time, at the first one behind the next opening of the window, and so on.
    fn is_ever_in(&self, window: &Window, zones: &Zones) -> bool {
        let mut last = jiff::Timestamp::UNIX_EPOCH;
        for _ in 0..LOOKED_AT {
            let Some(time) = self.at.next(last, &zones.schedules.rules) else { return false };
            let time = time.to_zoned(zones.calendar.rules.clone());
            if window.contains(&time) {
                return true;
            }
            let Some(opens) = window.opens_behind(&time) else { return false };
            // The moment at which it opens is in it.
            last = opens.timestamp() - jiff::SignedDuration::from_secs(1);
        }
        false
    }
}

/// The first of `schedules`, a priority and a deadline that cannot be meant: its key, and why.
pub(super) fn mistake(
    schedules: &[ScheduleConfig],
    (priority, deadline): (Option<i32>, Option<&Time>),
    (window, zones): (Option<&Window>, Option<&Zones>),
) -> Option<(&'static str, Error)> {
    if priority.is_some_and(|priority| !PRIORITIES.contains(&priority)) {
        let hint = format!("choose from {} to {}", PRIORITIES.start(), PRIORITIES.end());
        return Some(("priority", Error::invalid("the priority is out of range").with_hint(hint)));
    }
    if let Some(error) = deadline.and_then(wrong_deadline) {
        return Some(("deadline", error));
    }
    schedules
        .iter()
        .find_map(|schedule| schedule.mistake(window, zones))
        .map(|error| ("schedule", error))
}

fn wrong_deadline(deadline: &Time) -> Option<Error> {
    let error = || {
        Error::invalid(format!("a deadline of {deadline} is too short"))
            .with_hint("choose a time of 1min or more")
    };
    (deadline.length() < SHORTEST_DEADLINE).then(error)
}

/// One expression, or tables.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ScheduleConfig>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<ScheduleConfig>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a cron expression such as \"30 2 * * *\", or tables with `at`")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            text.parse().map(|at| vec![ScheduleConfig::at(at)]).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(tables))
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

/// What [`one_or_many`] takes.
pub(super) fn one_or_many_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let table = generator.subschema_for::<ScheduleConfig>();
    schemars::json_schema!({ "type": ["string", "array"], "items": table })
}

/// `[schedule]`: scheduled maintenance of the daemon, and its limits. Schedules are cron
/// expressions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DaemonConfig {
    /// Time zone of all schedules, for instance `Europe/Berlin`. Default: `defaults.time_zone`,
    /// else that of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Schedule of the cleanup, which forgets the snapshots that no policy keeps and removes their
    /// unreferenced data. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cleanup: Option<Cron>,
    /// Schedule of the check of every repository. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub check: Option<Cron>,
    /// Schedule to read back and verify the newest snapshot of every job. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub verify: Option<Cron>,
    /// Amount of data that each check also reads, a different part each time: a share (`5%`) or a
    /// size (`10GiB`). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_data: Option<CheckData>,
    /// Schedule of the prune, which removes unreferenced data from every repository without
    /// forgetting snapshots. `cleanup` includes it. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub prune: Option<Cron>,
    /// Schedule to turn the captured log of every job with a log into a full snapshot, without its
    /// server. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub compact: Option<Cron>,
    /// Scheduled copies of snapshots from one repository into another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copy: Vec<CopyConfig>,
    /// Scheduled copies of old snapshots into an archive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub archive: Vec<ArchiveConfig>,
    /// Schedule of the evaluation of all alert rules. Default: every five minutes, if there are
    /// rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub alerts: Option<Cron>,
    /// Schedule of a report to `report_to`. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub report: Option<Cron>,
    /// Names of the channels that receive reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub report_to: Vec<String>,
    /// Period of a report. Default: 7d.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub report_since: Option<Age>,
    /// Maximum number of concurrent tasks, from 1 to 64; log followers, alert evaluations and
    /// reports do not count. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<usize>,
    /// Maximum number of concurrent tasks with the same source host, from 1 to 64. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_source_host: Option<usize>,
    /// Maximum number of concurrent tasks with the same repository, from 1 to 64. Default: no
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_repository: Option<usize>,
    /// `true`: run a task once after it missed one or more of its times. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<bool>,
    /// Maximum age of a missed time for `catch_up`. Default: 7d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up_within: Option<Time>,
    /// Time limit of tasks that have none of their own; a longer one is stopped. Default: 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
}

impl DaemonConfig {
    /// How long anything may take that does not say so itself.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline.as_ref().map_or(DEADLINE, Time::length)
    }

    /// How old a missed time may be; none if it is not made up for.
    #[must_use]
    pub fn catch_up(&self) -> Option<Duration> {
        let within = self.catch_up_within.as_ref().map_or(CATCH_UP_WITHIN, Time::length);
        (self.catch_up != Some(false)).then_some(within)
    }

    /// The first key that cannot be meant, and why; with the channels that there are.
    pub(super) fn mistake(
        &self,
        channels: &BTreeMap<String, NotifyConfig>,
    ) -> Option<(&'static str, Error)> {
        if let Some(name) = &self.time_zone
            && let Err(error) = crate::zone::named(name)
        {
            return Some(("time_zone", error));
        }
        let limits = [
            ("max_parallel", self.max_parallel),
            ("per_source_host", self.per_source_host),
            ("per_repository", self.per_repository),
        ];
        if let Some((key, _)) = limits
            .into_iter()
            .find(|(_, limit)| limit.is_some_and(|limit| !PARALLEL.contains(&limit)))
        {
            let hint = format!("choose from {} to {}", PARALLEL.start(), PARALLEL.end());
            return Some((key, Error::invalid(format!("`{key}` is out of range")).with_hint(hint)));
        }
        if let Some(error) = self.deadline.as_ref().and_then(wrong_deadline) {
            return Some(("deadline", error));
        }
        if self.report.is_some() && self.report_to.is_empty() {
            let error = Error::invalid("the report has no recipient");
            return Some((
                "report",
                error.with_hint("name channels of [notify.NAME] in `report_to`"),
            ));
        }
        if let Some(unknown) =
            self.report_to.iter().find(|channel| !channels.contains_key(*channel))
        {
            let error = Error::invalid(format!("there is no channel `{unknown}`"));
            let hint = suggest::hint(unknown, channels.keys().map(String::as_str));
            return Some(("report_to", hint.into_iter().fold(error, Error::with_hint)));
        }
        let about_report = [
            ("report_to", !self.report_to.is_empty()),
            ("report_since", self.report_since.is_some()),
        ];
        if let (None, Some((key, _))) =
            (&self.report, about_report.into_iter().find(|(_, given)| *given))
        {
            let error = Error::invalid(format!("`{key}` has no effect without `report`"));
            return Some((key, error.with_hint("set `report`, or leave this key out")));
        }
        if self.check.is_none() && self.check_data.is_some() {
            let error = Error::invalid("`check_data` has no effect without `check`");
            return Some(("check_data", error.with_hint("set `check`, or leave `check_data` out")));
        }
        if self.catch_up == Some(false) && self.catch_up_within.is_some() {
            let error = Error::invalid("`catch_up_within` has no effect with `catch_up = false`");
            return Some((
                "catch_up_within",
                error.with_hint("leave out `catch_up = false` or `catch_up_within`"),
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::Zone;

    #[derive(Deserialize)]
    struct Holder {
        #[serde(deserialize_with = "one_or_many")]
        schedule: Vec<ScheduleConfig>,
    }

    #[test]
    fn times_in_windows() {
        let is_fine = |at: &str, window: &str, schedules: &str| {
            let schedule = toml::from_str::<Holder>(&format!("schedule = \"{at}\""))
                .unwrap()
                .schedule
                .remove(0);
            let config = format!(
                "[defaults]\ntime_zone = \"Europe/Berlin\"\n[schedule]\ntime_zone = \"{schedules}\""
            );
            let zones = Zones::new(Some(&toml::from_str(&config).unwrap()), &Zone::UTC);
            schedule.mistake(Some(&window.parse().unwrap()), Some(&zones)).is_none()
        };
        for (at, window) in [
            ("* * * * *", "20:00-22:00"),
            ("*/3 * * * *", "21:00-23:00"),
            ("0 2 1 1 *", "02:00-02:01"),
        ] {
            assert!(is_fine(at, window, "Europe/Berlin"), "{at} {window}");
        }
        assert!(!is_fine("0 20 * * *", "00:00-06:00", "Europe/Berlin"));
        assert!(is_fine("0 20 * * *", "00:00-06:00", "America/New_York"), "02:00 in Berlin");
        assert!(!is_fine("0 2 * * *", "00:00-06:00", "America/New_York"), "08:00 in Berlin");
    }

    #[test]
    fn one_expression_or_tables() {
        let of = |text: &str| toml::from_str::<Holder>(text).map(|holder| holder.schedule);
        let one = of("schedule = \"30 2 * * *\"").unwrap();
        assert_eq!(one, of("[[schedule]]\nat = \"30 2 * * *\"").unwrap());
        let two =
            of("schedule = [{ at = \"@daily\", tier = \"daily\" }, { at = \"@weekly\", type = \
                \"full\" }]")
            .unwrap();
        assert_eq!((two.len(), two[1].kind), (2, Some(JobType::Full)));
        for (bad, word) in [
            ("schedule = 5", "cron"),
            ("schedule = \"often\"", "1 field,"),
            ("schedule = [{ on = 1 }]", "on"),
        ] {
            let error = of(bad).err().unwrap().to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
