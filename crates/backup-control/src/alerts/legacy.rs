//! Earlier forms of the alert state, kept by the path of the configuration. They are taken over
//! once: by the same file, or by the next one if that file is gone, which was moved then.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use super::store::{Evaluations, JobMemory, Stored};
use super::{About, Alert, Scope};

/// Evaluations of events, with the configuration file by which they are kept.
pub(super) type Inherited = (String, Evaluations);

/// Whether a configuration file certainly does not exist.
pub(super) fn is_gone(file: &str) -> bool {
    matches!(Path::new(file).try_exists(), Ok(false))
}

/// Takes over what is kept by the path of the configuration. Returns its evaluations of events.
pub(super) fn take_over(stored: &mut Stored, scope: &Scope, now: Timestamp) -> Option<Inherited> {
    let is_ours = |file: &str| file == scope.file || is_gone(file);
    for alert in &mut stored.alerts {
        place(alert, scope, &is_ours, now);
    }
    for silence in stored.silences.iter_mut().filter(|silence| !silence.config.is_empty()) {
        let is_known = silence.subject.as_deref().is_none_or(|subject| {
            scope.jobs.contains_key(subject) || scope.repositories.contains_key(subject)
        });
        if is_ours(&silence.config) && (is_known || silence.config == scope.file) {
            silence.limit(scope);
        }
    }
    let evaluations = evaluations(&stored.looks, scope);
    if let Some((_, (first, _))) = evaluations {
        for job in scope.jobs.keys() {
            memory(&mut stored.jobs, scope, job, now, |memory| memory.watched = first);
        }
    }
    for (file, slots) in &mut stored.unread {
        if is_ours(file) {
            slots.retain(|job, since| {
                let taken = memory(&mut stored.jobs, scope, job, now, |memory| {
                    memory.unread.get_or_insert(*since);
                });
                !taken && *file != scope.file
            });
        }
    }
    stored.unread.retain(|_, slots| !slots.is_empty());
    evaluations
}

/// Gives an alert the address of its repository, if this configuration names its subject.
fn place(alert: &mut Alert, scope: &Scope, is_ours: &impl Fn(&str) -> bool, now: Timestamp) {
    if !alert.config.is_empty() {
        alert.configs.insert(std::mem::take(&mut alert.config));
    }
    alert.seen.get_or_insert(now);
    let is_unplaced = alert.repository.is_none() && alert.about != About::Daemon;
    if is_unplaced && alert.configs.iter().all(|file| is_ours(file)) {
        alert.repository = scope.repository(alert.about, &alert.subject).map(str::to_owned);
    }
}

/// The evaluations of this file, else the newest ones of a file that is gone. They stay until they
/// were used: [`Ledger::note_events`](super::Ledger::note_events).
fn evaluations(looks: &BTreeMap<String, Evaluations>, scope: &Scope) -> Option<Inherited> {
    let of = |(file, evaluations): (&String, &Evaluations)| (file.clone(), *evaluations);
    if let Some(own) = looks.get_key_value(&scope.file) {
        return Some(of(own));
    }
    let gone = looks.iter().filter(|(file, _)| is_gone(file));
    gone.max_by_key(|(_, (_, last))| *last).map(of)
}

/// Changes the memory of a job of the configuration; returns whether there is such a job.
fn memory(
    jobs: &mut BTreeMap<String, BTreeMap<String, JobMemory>>,
    scope: &Scope,
    job: &str,
    now: Timestamp,
    change: impl FnOnce(&mut JobMemory),
) -> bool {
    let Some(address) = scope.of_job(job) else { return false };
    let known = jobs.entry(address.to_owned()).or_default();
    change(known.entry(job.to_owned()).or_insert_with(|| JobMemory::new(now)));
    true
}
