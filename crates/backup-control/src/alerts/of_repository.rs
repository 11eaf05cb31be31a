//! Rules about repositories.

use backup_core::repository::{LARGEST_SKEW, Present};

use super::rules::Observation;
use super::{Condition, Done, RepositoryFacts};
use crate::words;

/// What a rule sees of a repository; none if that is unknown.
pub(super) fn observe(
    condition: &Condition,
    name: &str,
    known: &RepositoryFacts,
) -> Option<Observation> {
    match condition {
        Condition::StorageUsed(_) | Condition::StorageFree(_) | Condition::StorageFull(_) => {
            room(condition, name, known)
        }
        Condition::Clock => known.clock.as_ref().map(|present| clock(name, present)),
        Condition::VerifyFailed => {
            let next =
                format!("run `backup check -r {name} --read-data`, then `backup repair -r {name}`");
            done(
                known.verified.as_ref()?,
                format!("verification of repository {name} failed"),
                next,
            )
        }
        Condition::CopyFailed => {
            let next = "find the command with `backup audit --operation copy` (or `archive`), \
                        correct the cause and run it again";
            done(
                known.copied.as_ref()?,
                format!("a copy or archive from repository {name} failed"),
                next,
            )
        }
        Condition::CopyLag(limit) => {
            let (last, newest) = (known.last_copy?, known.last_success?);
            let lag = words::between(last, newest);
            let cause = format!(
                "the last copy is {} older than the last backup; the limit is {limit}",
                words::duration(lag)
            );
            let next = format!(
                "run `backup copy --all --from {name} --to COPY`, and check that its timer is \
                 active"
            );
            Some(
                Observation::new(
                    lag > limit.length(),
                    format!("the copy of repository {name} lags"),
                )
                .because(cause, next),
            )
        }
        _ => None,
    }
}

fn clock(name: &str, present: &Present) -> Observation {
    let title = format!("the clock of this machine does not fit repository {name}");
    let difference = present.offset().filter(|offset| offset.abs() > LARGEST_SKEW);
    let cause = match (present.doubt(), difference) {
        (Some(doubt), _) => format!("{}; nothing is removed unattended", doubt.describe()),
        (None, Some(offset)) => {
            let side = if offset.is_negative() { "behind" } else { "ahead of" };
            format!(
                "the clock of the store shows {:.0}, {} {side} the clock of this machine",
                present.time(),
                words::duration(offset.unsigned_abs())
            )
        }
        (None, None) => String::new(),
    };
    let next = "synchronise the clock of this machine; if it is right, run `backup cleanup` or \
                `backup prune` once with --clock-is-right";
    Observation::new(!cause.is_empty(), title).because(cause, next)
}

fn done(done: &Done, title: String, next: impl Into<String>) -> Option<Observation> {
    let why =
        if done.error.is_empty() { "see the output of the command" } else { done.error.as_str() };
    let to = done.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
    Some(
        Observation::new(!done.is_success, title)
            .because(format!("{}{to} at {:.0}: {why}", done.operation, done.time), next),
    )
}

fn room(condition: &Condition, name: &str, known: &RepositoryFacts) -> Option<Observation> {
    let storage = known.storage?;
    let share = |bytes: u64| bytes as f64 / storage.whole.max(1) as f64;
    let (holds, title, limit) = match condition {
        Condition::StorageUsed(limit) => {
            let used = share(storage.used);
            let title = format!("{:.0}% of repository {name} is used", used * 100.0);
            (used > limit.0, title, limit.to_string())
        }
        Condition::StorageFree(limit) => {
            let free = share(storage.left);
            let title = format!("{:.0}% of repository {name} is free", free * 100.0);
            (free < limit.0, title, limit.to_string())
        }
        Condition::StorageFull(limit) => {
            // That it does not grow is known too.
            let holds = storage.lasts.is_some_and(|lasts| lasts < limit.length());
            let lasts = storage.lasts.map_or_else(|| "a long time".to_owned(), words::duration);
            (holds, format!("repository {name} will be full in {lasts}"), limit.to_string())
        }
        _ => return None,
    };
    let cause = format!(
        "{} of {} are free; the limit is {limit}",
        words::size(storage.left),
        words::size(storage.whole)
    );
    Some(Observation::new(holds, title).because(
        cause,
        "run `backup cleanup --all` and `backup prune`, raise the quota, or run `backup archive`",
    ))
}
