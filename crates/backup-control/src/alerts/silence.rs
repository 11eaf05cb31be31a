//! Silences: a rule whose notifications are suppressed for a time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Scope;

/// Longest silence, in days.
pub const MAX_SILENCE_DAYS: i64 = 31;
/// A day with a change of the clocks is longer than 24 hours.
const CLOCK_CHANGE: SignedDuration = SignedDuration::from_hours(2);

/// Suppresses the notifications of a rule until it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Identifier.
    pub id: String,
    /// Rule.
    pub rule: String,
    /// Job or repository; none: all.
    pub subject: Option<String>,
    /// Addresses of the repositories whose alerts are covered.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// End.
    pub until: Timestamp,
    /// Reason that the user gave.
    pub reason: String,
    /// User who created the silence.
    pub user: String,
    /// Creation.
    pub since: Timestamp,
    /// Earlier form, which is taken over: the configuration file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) config: String,
}

impl Silence {
    /// A silence that the ledger limits to the repositories of its configuration.
    #[must_use]
    pub fn new(
        id: String,
        rule: String,
        subject: Option<String>,
        (since, until): (Timestamp, Timestamp),
        (user, reason): (String, String),
    ) -> Self {
        let (repositories, config) = (Vec::new(), String::new());
        Self { id, rule, subject, repositories, until, reason, user, since, config }
    }

    /// True if a silence from `since` to `until` is longer than [`MAX_SILENCE_DAYS`].
    #[must_use]
    pub fn is_too_long(since: Timestamp, until: Timestamp) -> bool {
        let longest = SignedDuration::from_hours(24 * MAX_SILENCE_DAYS) + CLOCK_CHANGE;
        until.duration_since(since) > longest
    }

    /// Limits it to the repositories of a configuration, or to the one of its subject.
    pub(super) fn limit(&mut self, scope: &Scope) {
        self.config.clear();
        self.repositories = match &self.subject {
            None => scope.repositories.values().cloned().collect(),
            Some(subject) => {
                let of_job = scope.of_job(subject);
                let named = scope.repositories.get(subject).map(String::as_str);
                of_job.into_iter().chain(named).map(str::to_owned).collect()
            }
        };
        self.repositories.sort();
        self.repositories.dedup();
    }

    /// Whether a configuration may list and end it.
    pub(super) fn is_of(&self, scope: &Scope) -> bool {
        let known = |address: &String| scope.repositories.values().any(|other| other == address);
        self.config.is_empty()
            && (self.repositories.is_empty() || self.repositories.iter().any(known))
    }

    /// Whether it covers alerts of a rule about `subject`, in this repository.
    pub(super) fn covers(&self, rule: &str, subject: &str, repository: Option<&str>) -> bool {
        let is_here = |address: &str| self.repositories.iter().any(|known| known == address);
        self.config.is_empty()
            && self.rule == rule
            && self.subject.as_deref().is_none_or(|silenced| silenced == subject)
            && repository.is_none_or(is_here)
    }
}
