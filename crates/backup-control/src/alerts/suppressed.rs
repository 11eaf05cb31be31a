//! The rule about silences and pauses that last.

use std::time::Duration;

use jiff::Timestamp;

use super::rules::Observation;
use super::{Condition, Silence};
use crate::units::Time;
use crate::words;

/// The limit, if the rule has none.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Suppressions that the cause names.
const SHOWN: usize = 10;

/// A silence or the pause of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// For instance `task crm/daily is paused`.
    pub text: String,
    /// Beginning.
    pub since: Timestamp,
}

impl Suppression {
    /// A silence.
    pub(super) fn silence(silence: &Silence) -> Self {
        let Silence { rule, subject, user, since, .. } = silence;
        let on = subject.as_ref().map(|subject| format!(" on {subject}")).unwrap_or_default();
        Self { text: format!("rule {rule}{on} is silenced by {user}"), since: *since }
    }

    /// The pause of a task.
    pub(super) fn pause(task: &str, since: Timestamp) -> Self {
        Self { text: format!("task {task} is paused"), since }
    }
}

/// The observation of this rule; none if the suppressions are unknown, and of another rule.
pub(super) fn observe(
    condition: &Condition,
    known: Option<&Vec<Suppression>>,
    now: Timestamp,
) -> Option<Observation> {
    let Condition::Suppressed(limit) = condition else { return None };
    let limit = limit.as_ref().map_or(LIMIT, Time::length);
    let lasts = |suppression: &&Suppression| words::between(suppression.since, now) > limit;
    let long: Vec<_> = known?.iter().filter(lasts).collect();
    let shown = long.iter().take(SHOWN).map(|suppression| {
        let age = words::duration(words::between(suppression.since, now));
        format!("{} for {age}", suppression.text)
    });
    let mut causes: Vec<String> = shown.collect();
    if long.len() > SHOWN {
        causes.push(format!("{} more", long.len() - SHOWN));
    }
    let title = "a silence or a pause lasts for long".to_owned();
    let next = "end silences with `backup alerts unsilence ID`, and pauses with `backup schedule \
                resume`";
    Some(Observation::new(!long.is_empty(), title).because(causes.join("; "), next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_suppressions_fire_and_are_named() {
        let now: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
        let ago = |hours: i64| now - jiff::SignedDuration::from_hours(hours);
        let silence = Silence::new(
            "1".into(),
            "stale".into(),
            Some("crm".into()),
            (ago(30), now),
            ("anna".into(), "move".into()),
        );
        let known = vec![Suppression::silence(&silence), Suppression::pause("crm/daily", ago(25))];
        let observed = |condition: &str, known: &[Suppression]| {
            let condition = condition.parse().unwrap();
            observe(&condition, Some(&known.to_vec()), now).unwrap()
        };
        let fires = observed("suppressed", &known);
        assert!(fires.holds);
        assert_eq!(
            fires.cause,
            "rule stale on crm is silenced by anna for 1 d 6 h; task crm/daily is paused for 1 d 1 h"
        );
        let one = observed("suppressed > 26h", &known);
        assert!(one.holds && !one.cause.contains("crm/daily"), "{one:?}");
        assert!(!observed("suppressed > 2d", &known).holds);
        assert!(!observed("suppressed", &[]).holds);
        assert_eq!(observe(&"suppressed".parse().unwrap(), None, now), None);
        let many: Vec<_> =
            (0..13).map(|at| Suppression::pause(&format!("{at}"), ago(99))).collect();
        assert!(observed("suppressed", &many).cause.ends_with("; 3 more"));
    }
}
