//! An alert: from its beginning to its end, and what is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{About, Observation};
use crate::config::AlertConfig;
use crate::notify::{Kind, Message, Severity};
use crate::units::Time;
use crate::words;

/// How far an alert has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It holds, but not yet for as long as the rule says.
    Pending,
    /// It holds.
    Firing,
}

/// An alert that is not over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The name of the rule.
    pub rule: String,
    /// The job or the repository, or the daemon.
    pub subject: String,
    /// Address of the repository that it concerns; none of the daemon.
    #[serde(default)]
    pub repository: Option<String>,
    /// Configuration files whose rules watch it: several may share a state directory.
    #[serde(default)]
    pub configs: BTreeSet<String>,
    /// Last evaluation that found it.
    #[serde(default)]
    pub seen: Option<Timestamp>,
    /// Which of these it is.
    pub about: About,
    /// How much it matters.
    pub severity: Severity,
    /// How far it has got.
    pub phase: Phase,
    /// Since when it holds.
    pub since: Timestamp,
    /// When somebody was told last.
    pub told: Option<Timestamp>,
    /// How often somebody was told.
    pub times: u32,
    /// What is wrong.
    pub title: String,
    /// Why.
    pub cause: String,
    /// What can be done about it.
    pub next: String,
    /// The channels that its rule named, who also hear that it is over if the rule is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
    /// Whether it is told when it is over.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub resolve: bool,
    /// Earlier form, which is taken over: the configuration file.
    #[serde(default, skip_serializing)]
    pub(super) config: String,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_yes(resolve: &bool) -> bool {
    *resolve
}

impl Alert {
    pub(super) fn begin(
        name: &str,
        rule: &AlertConfig,
        observation: &Observation,
        now: Timestamp,
    ) -> Self {
        Self {
            rule: name.to_owned(),
            subject: observation.subject.clone(),
            repository: observation.repository.clone(),
            configs: BTreeSet::new(),
            seen: Some(now),
            about: observation.about,
            severity: rule.severity,
            phase: Phase::Pending,
            since: now,
            told: None,
            times: 0,
            title: observation.title.clone(),
            cause: observation.cause.clone(),
            next: observation.next.clone(),
            notify: rule.notify.clone(),
            resolve: rule.resolve.unwrap_or(true),
            config: String::new(),
        }
    }

    /// It holds. Says what is to be told, if it is time.
    pub(super) fn goes_on(
        &mut self,
        rule: &AlertConfig,
        observation: &Observation,
        is_silenced: bool,
        host: &str,
        now: Timestamp,
    ) -> Option<Message> {
        self.severity = rule.severity;
        (self.notify, self.resolve) = (rule.notify.clone(), rule.resolve.unwrap_or(true));
        (self.title, self.cause, self.next) =
            (observation.title.clone(), observation.cause.clone(), observation.next.clone());
        let lasting = rule.lasting.as_ref().map_or(Duration::ZERO, Time::length);
        if words::between(self.since, now) < lasting {
            return None;
        }
        self.phase = Phase::Firing;
        let is_due = match (self.told, &rule.repeat) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(told), Some(repeat)) => words::between(told, now) >= repeat.length(),
        };
        if is_silenced || !is_due {
            return None;
        }
        (self.told, self.times) = (Some(now), self.times + 1);
        Some(self.message(Kind::Firing, observation.details.clone(), host, now))
    }

    pub(super) fn over(
        &self,
        details: BTreeMap<String, String>,
        host: &str,
        now: Timestamp,
    ) -> Message {
        let lasted = words::duration(words::between(self.since, now));
        let message = self.message(Kind::Resolved, details, host, now);
        Message { cause: format!("resolved after {lasted}"), next: String::new(), ..message }
    }

    fn message(
        &self,
        kind: Kind,
        mut details: BTreeMap<String, String>,
        host: &str,
        now: Timestamp,
    ) -> Message {
        let Self { rule, subject, .. } = self;
        let repository = self.repository.as_deref().unwrap_or("unknown");
        let place = match self.about {
            About::Job => format!("job {subject}, repository {repository}, host {host}"),
            About::Repository => format!("repository {subject}, host {host}"),
            About::Daemon => format!("daemon, host {host}"),
        };
        let times = if kind == Kind::Resolved { "over".to_owned() } else { self.times.to_string() };
        details.insert("rule".to_owned(), rule.clone());
        details.insert("since".to_owned(), format!("{:.0}", self.since));
        Message {
            id: format!("{rule}/{subject}/{}/{times}", self.since.as_millisecond()),
            incident: format!("{host}/{rule}/{subject}"),
            kind,
            severity: self.severity,
            title: self.title.clone(),
            place,
            cause: self.cause.clone(),
            next: self.next.clone(),
            job: (self.about == About::Job).then(|| subject.clone()),
            time: now,
            details,
            html: None,
        }
    }
}
