//! What is told once.

use jiff::Timestamp;

use super::{Condition, Facts};
use crate::config::AlertConfig;
use crate::error::Result;
use crate::notify::{Kind, Message};
use crate::runs::Run;
use crate::words;

/// The messages of a rule about events for what began or ended after `since`. `host` is the name of
/// this one.
///
/// # Errors
/// As [`observe`](super::observe).
pub fn tell(
    name: &str,
    rule: &AlertConfig,
    facts: &Facts,
    since: Timestamp,
    host: &str,
) -> Result<Vec<Message>> {
    let only = crate::notify::patterns(&rule.only)?;
    let is_meant = |run: &&Run| rule.only.is_empty() || only.is_match(&run.job);
    let message = |run: &Run, title: String, cause: String, next: String| Message {
        id: format!("{name}/{}", run.id),
        incident: format!("{host}/{name}/{}", run.id),
        kind: Kind::Notice,
        severity: rule.severity,
        title,
        place: format!("job {}, repository {}, host {}", run.job, run.repository, run.host),
        cause,
        next,
        job: Some(run.job.clone()),
        time: run.finished.unwrap_or(run.started),
        details: [("run".to_owned(), run.id.to_string())].into(),
        html: None,
    };
    Ok(match rule.condition {
        Condition::RestoreStarted => facts
            .restores
            .iter()
            .filter(|run| run.started > since)
            .filter(is_meant)
            .map(|run| {
                let snapshot = run
                    .evidence
                    .snapshot
                    .as_deref()
                    .and_then(|id| id.get(..8))
                    .unwrap_or("unknown");
                let title = format!("{} restores {}", run.user, run.job);
                let cause = format!("snapshot {snapshot} to {}", run.evidence.subject);
                let mut message =
                    message(run, title, cause, "none, if the restore is intended".to_owned());
                message.time = run.started;
                message
            })
            .collect(),
        Condition::Success => facts
            .jobs
            .values()
            .flat_map(|job| &job.runs)
            .filter(|run| {
                run.state.is_success() && run.finished.is_some_and(|finished| finished > since)
            })
            .filter(is_meant)
            .map(|run| {
                let took = words::duration(words::between(
                    run.started,
                    run.finished.unwrap_or(run.started),
                ));
                let cause = format!(
                    "{}, {} of them new, in {took}",
                    words::size(run.evidence.bytes),
                    words::size(run.evidence.new_bytes)
                );
                message(run, format!("the backup of {} succeeded", run.job), cause, String::new())
            })
            .collect(),
        _ => Vec::new(),
    })
}
