//! What repositories say of themselves. That takes reading in them: it is done now and then, and
//! not by whoever scrapes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::Reads;

/// On whose behalf the program is asked.
const BY: &str = "metrics";
/// How long it is waited before the first look, so that what the daemon is for begins first.
const FIRST: Duration = Duration::from_secs(5);

/// What was found when repositories were looked into last.
#[derive(Debug, Clone, Default)]
pub(super) struct Looked {
    pub(super) repositories: BTreeMap<String, RepositoryLooked>,
    pub(super) jobs: BTreeMap<String, JobLooked>,
}

/// What a repository says.
#[derive(Debug, Clone)]
pub(super) struct RepositoryLooked {
    /// When.
    pub(super) at: Timestamp,
    pub(super) used: u64,
    pub(super) objects: u64,
    /// What is left of the quota or the disk.
    pub(super) left: Option<u64>,
    pub(super) quota: Option<u64>,
    pub(super) days_left: Option<u64>,
}

/// What repositories say of a job.
#[derive(Debug, Clone)]
pub(super) struct JobLooked {
    /// When.
    pub(super) at: Timestamp,
    /// How often it is looked.
    pub(super) every: Duration,
    pub(super) last_success: Option<Timestamp>,
    /// The last moment of the captured log.
    pub(super) recovery_point: Option<Timestamp>,
}

/// Looks every so often, until the server ends.
pub(super) async fn look(
    reads: &Reads,
    looked: &Mutex<Looked>,
    every: Duration,
    shutdown: CancellationToken,
) {
    let mut wait = FIRST;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = once(reads, looked, every) => {}
            // What is being asked is stopped.
            () = shutdown.cancelled() => return,
        }
        wait = every;
    }
}

/// Looks once. What cannot be had stays as it was found last; how old that is is a metric.
pub(super) async fn once(reads: &Reads, looked: &Mutex<Looked>, every: Duration) {
    let lock = || looked.lock().unwrap_or_else(PoisonError::into_inner);
    let config = reads.config();
    for name in config.config.repositories.keys() {
        if let Some(said) = ask(reads, &["storage", "--json", &format!("--repo={name}")]).await {
            let number = |path: &str| said.pointer(path).and_then(Value::as_u64);
            let known = RepositoryLooked {
                at: reads.now(),
                used: number("/total/bytes").unwrap_or(0),
                objects: number("/total/objects").unwrap_or(0),
                left: number("/room_bytes").or(number("/free_bytes")),
                quota: number("/quota_bytes"),
                days_left: number("/days_left"),
            };
            lock().repositories.insert(name.clone(), known);
        }
    }
    if let Some(said) = ask(reads, &["status", "--json"]).await {
        for job in said["jobs"].as_array().into_iter().flatten() {
            let time = |path: &str| job.pointer(path).and_then(|time| time.as_str()?.parse().ok());
            let Some(name) =
                job["job"].as_str().filter(|name| config.config.jobs.contains_key(*name))
            else {
                continue;
            };
            let known = JobLooked {
                at: reads.now(),
                every,
                last_success: time("/last_success/time"),
                recovery_point: time("/recovery_point"),
            };
            lock().jobs.insert(name.to_owned(), known);
        }
    }
    // What the configuration does not know any more.
    let mut looked = lock();
    looked.repositories.retain(|name, _| config.config.repositories.contains_key(name));
    looked.jobs.retain(|name, _| config.config.jobs.contains_key(name));
}

async fn ask(reads: &Reads, words: &[&str]) -> Option<Value> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let said = reads.program.ask(&words, BY).await.and_then(|spoken| spoken.object());
    said.inspect_err(|error| {
        tracing::warn!(
            "`backup {}`, for metrics: {}",
            words.join(" "),
            backup_control::words::chain(error)
        );
    })
    .ok()
}
