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

/// `[groups.NAME]`: jobs that are backed up together, and restored to one moment. The name of a
/// group must not be that of a job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Names of the jobs that are its members, each once.
    pub jobs: Vec<String>,
    /// Number of members to back up or restore concurrently, from 1 to 16. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<usize>,
    /// Default restore target of each member, by job, for instance
    /// `{ crm = "/srv/crm", shop = "standby" }`. A target is a directory, or a server by its
    /// address or source name. A relative directory must contain a `/`, and starts at the directory
    /// of the configuration file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub targets: BTreeMap<String, ServerAddress>,
    /// `[[groups.NAME.schedule]]`: schedules of the daemon, or one cron expression, as for jobs.
    /// Default: none.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::schedule::one_or_many"
    )]
    #[schemars(schema_with = "super::schedule::one_or_many_schema")]
    pub schedule: Vec<ScheduleConfig>,
    /// Priority among waiting tasks, from -100 to 100; the highest runs first. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Time limit of a backup by the daemon, at least 1min; a longer one is stopped. Default:
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
                "a relative target requires a configuration in a directory whose name is UTF-8",
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
            let hint = "choose another name for the group";
            return Some((
                "",
                Error::invalid(format!("a group cannot be called `{name}`: {why}")).with_hint(hint),
            ));
        }
        if self.jobs.is_empty() {
            return Some((
                "jobs",
                Error::invalid("the group has no jobs").with_hint("list its jobs in `jobs`"),
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
            return Some((
                "parallel",
                Error::invalid("`parallel` is out of range").with_hint(hint),
            ));
        }
        let ranks = (self.priority, self.deadline.as_ref());
        if let Some(mistake) = schedule::mistake(&self.schedule, ranks, (None, None)) {
            return Some(mistake);
        }
        let stranger = self.targets.keys().find(|job| !self.jobs.contains(job))?;
        let error = Error::invalid(format!("job `{stranger}` is not a member of this group"));
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
        return Some("a job has this name");
    }
    let is_id = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_moment =
        crate::moment::Moment::parse(name, jiff::Timestamp::UNIX_EPOCH, &jiff::tz::TimeZone::UTC)
            .is_ok();
    (is_id || is_moment || name == "latest").then_some("the name denotes a snapshot")
}
