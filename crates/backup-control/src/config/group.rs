//! `[groups.NAME]`.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::schedule::{self, ScheduleConfig};
use crate::address::{self, ServerAddress};
use crate::error::Error;
use crate::units::Time;
use crate::{names, suggest};

/// How many members of a group may go on at a time.
const PARALLEL: std::ops::RangeInclusive<usize> = 1..=16;

/// `[groups.NAME]`: jobs that are backed up together, and restored to one moment. A group is called
/// like no job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Its jobs, each once: its members.
    pub jobs: Vec<String>,
    /// How many of them are backed up or restored at a time, from 1 to 16. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<usize>,
    /// Where each member is restored to if nothing else is said, by its job, for instance
    /// `{ crm = "/srv/crm", shop = "standby" }`: a directory, or a server by its address or its
    /// name among the sources. Relative directories have a `/` in them, and start at the
    /// configuration file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub targets: BTreeMap<String, ServerAddress>,
    /// `[[groups.NAME.schedule]]`: when the daemon backs it up, or one cron expression, as for
    /// jobs. Default: never.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::schedule::one_or_many"
    )]
    #[schemars(schema_with = "super::schedule::one_or_many_schema")]
    pub schedule: Vec<ScheduleConfig>,
    /// Which of the things that wait for their turn goes first, from -100 to 100: the highest.
    /// Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How long a backup by the daemon may take before it is stopped, at least 1min. Default:
    /// `schedule.deadline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
}

impl GroupConfig {
    /// How many of its members go on at a time.
    #[must_use]
    pub fn parallel(&self) -> usize {
        self.parallel.unwrap_or(4)
    }

    /// Lets relative directories start at `base`.
    pub(super) fn absolutize(&mut self, base: &Path) -> Result<(), String> {
        for target in self.targets.values_mut() {
            let text = target.reveal();
            if address::scheme(text).is_some()
                || !text.contains('/')
                || Path::new(text).is_absolute()
            {
                continue;
            }
            let joined = base.join(text);
            let text = joined.to_str().ok_or(
                "a relative target needs a configuration in a directory whose name is UTF-8",
            )?;
            *target = ServerAddress::new(text);
        }
        Ok(())
    }

    /// The first key that makes no sense, and why; `name` is that of the group.
    pub(super) fn mistake(&self, name: &str, config: &Config) -> Option<(&'static str, Error)> {
        if let Err(error) = names::check("group", name) {
            return Some(("", error));
        }
        if let Some(why) = taken(name, config) {
            let hint = "call the group something else";
            return Some((
                "",
                Error::invalid(format!("no group can be called `{name}`: {why}")).with_hint(hint),
            ));
        }
        if self.jobs.is_empty() {
            return Some((
                "jobs",
                Error::invalid("a group without jobs is none").with_hint("name its jobs"),
            ));
        }
        if let Some(job) = self.jobs.iter().find(|job| !config.jobs.contains_key(*job)) {
            let error = Error::invalid(format!("there is no job `{job}`"));
            let known = config.jobs.keys().map(String::as_str);
            return Some((
                "jobs",
                suggest::hint(job, known).into_iter().fold(error, Error::with_hint),
            ));
        }
        let again =
            |(at, job): (usize, &String)| self.jobs[..at].contains(job).then(|| job.clone());
        if let Some(job) = self.jobs.iter().enumerate().find_map(again) {
            return Some(("jobs", Error::invalid(format!("job `{job}` is named twice"))));
        }
        if self.parallel.is_some_and(|parallel| !PARALLEL.contains(&parallel)) {
            let hint = format!("choose from {} to {}", PARALLEL.start(), PARALLEL.end());
            return Some(("parallel", Error::invalid("so many are not possible").with_hint(hint)));
        }
        let ranks = (self.priority, self.deadline.as_ref());
        if let Some(mistake) =
            schedule::mistake(&self.schedule, ranks, None, &schedule::Zones::of(config))
        {
            return Some(mistake);
        }
        let stranger = self.targets.keys().find(|job| !self.jobs.contains(job))?;
        let error = Error::invalid(format!("job `{stranger}` is no member of this group"));
        let members = self.jobs.iter().map(String::as_str);
        Some((
            "targets",
            suggest::hint(stranger, members).into_iter().fold(error, Error::with_hint),
        ))
    }
}

/// Why somebody who says `name` means something else than a group.
fn taken(name: &str, config: &Config) -> Option<&'static str> {
    if config.jobs.contains_key(name) {
        return Some("a job is called that");
    }
    let is_id = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_moment =
        crate::moment::Moment::parse(name, jiff::Timestamp::UNIX_EPOCH, &jiff::tz::TimeZone::UTC)
            .is_ok();
    (is_id || is_moment || name == "latest").then_some("it names a snapshot")
}
