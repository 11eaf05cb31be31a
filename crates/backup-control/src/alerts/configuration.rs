//! The configuration of the daemon as a subject of rules.

use std::time::Duration;

use jiff::Timestamp;

use super::{About, Condition, Observation};
use crate::config::Broken;
use crate::words;

/// The subject of its alerts, where jobs and repositories have names.
pub const CONFIGURATION: &str = "configuration";

/// A broken configuration counts as a failure, and as stale once it has been broken for too long:
/// tasks run by the last valid one, but no change reaches them.
pub(super) fn observe(
    condition: &Condition,
    known: Option<&Option<Broken>>,
    now: Timestamp,
) -> Option<Observation> {
    let longest = match condition {
        Condition::Failure => Duration::ZERO,
        Condition::Stale(limit) => limit.length(),
        _ => return None,
    };
    let title = "the configuration of the daemon is broken".to_owned();
    let observed = match known? {
        None => Observation::new(false, title),
        Some(broken) => {
            let age = words::between(broken.since, now);
            let next = broken.hint.as_deref().map_or(String::new(), |hint| format!("{hint}; "));
            Observation::new(age >= longest, title).because(
                format!(
                    "broken since {:.0}: {}; tasks use the last valid configuration",
                    broken.since, broken.error
                ),
                format!("{next}run `backup config check` until it exits with 0"),
            )
        }
    };
    Some(observed.of(CONFIGURATION, About::Daemon, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_configuration_is_a_failure_at_once_and_stale_after_the_limit() {
        let since: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let hint = Some("did you mean `keep`?".to_owned());
        let broken = Some(Broken { since, error: "/b.toml:4: unknown key".to_owned(), hint });
        let at = |condition: &str, known: Option<&Option<Broken>>, hours: i64| {
            let now = since + jiff::SignedDuration::from_hours(hours);
            observe(&condition.parse().unwrap(), known, now)
        };
        let observed = at("failure", Some(&broken), 0).unwrap();
        assert_eq!((observed.holds, observed.about), (true, About::Daemon));
        assert_eq!(observed.subject, "configuration");
        assert_eq!(
            observed.cause,
            "broken since 2026-03-01T12:00:00Z: /b.toml:4: unknown key; tasks use the last valid \
             configuration"
        );
        assert!(observed.next.starts_with("did you mean `keep`?; run `backup config check`"));
        let holds = |condition, known, hours| at(condition, known, hours).map(|seen| seen.holds);
        assert_eq!(holds("stale > 24h", Some(&broken), 23), Some(false));
        assert_eq!(holds("stale > 24h", Some(&broken), 25), Some(true));
        assert_eq!(holds("failure", Some(&None), 0), Some(false), "the file is valid");
        assert_eq!(holds("failure", None, 0), None, "no daemon runs");
        assert_eq!(holds("rpo > 1h", Some(&broken), 25), None);
    }
}
