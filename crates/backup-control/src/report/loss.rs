//! The data loss that was possible at the worst moment of a period.

use std::time::Duration;

use jiff::Timestamp;

use super::Given;
use crate::config::JobConfig;
use crate::runs::Run;
use crate::words;

/// The data loss that was possible in a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// At its worst moment; none if nothing can be restored.
    pub(super) worst: Option<Duration>,
    /// No earlier backup is known, so that nothing is known of the period before this moment.
    pub(super) known_since: Option<Timestamp>,
}

/// A span of moments that can be restored, from the time on at which it could be.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Timestamp,
    to: Timestamp,
    available: Timestamp,
}

/// The worst moment is the one just before the next backup is complete: all data since the begin of
/// the one before would be lost. `successes` are those of the period.
pub(super) fn of_job(given: &Given<'_>, name: &str, job: &JobConfig, successes: &[&Run]) -> Loss {
    let of_run = |run: &&Run| Span {
        from: run.started,
        to: run.started,
        available: run.finished.unwrap_or(run.started),
    };
    let restorable = given
        .repositories
        .get(&job.repository)
        .and_then(|known| known.restorable.get(name))
        .into_iter()
        .flatten()
        .map(|(from, to)| Span { from: *from, to: *to, available: *from });
    let mut spans: Vec<Span> = successes.iter().map(of_run).chain(restorable).collect();
    spans.retain(|span| span.to >= given.from);
    spans.sort_by_key(|span| (span.from, span.available));
    let mut reached = given.before.get(name).copied();
    let known_since = match reached {
        None => spans.first().map(|span| span.from).filter(|first| *first > given.from),
        Some(_) => None,
    };
    let mut worst = Duration::ZERO;
    for span in spans {
        if let Some(reached) = reached.filter(|reached| span.from > *reached) {
            worst = worst.max(words::between(reached, span.available));
        }
        reached = reached.max(Some(span.to));
    }
    Loss { worst: reached.map(|reached| worst.max(words::between(reached, given.to))), known_since }
}
