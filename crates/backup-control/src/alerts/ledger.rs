//! What fires, since when, and what was told of it. Kept in the state directory, for all processes.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Alert, Facts, Observation};
use crate::cache;
use crate::config::AlertConfig;
use crate::notify::Message;

/// How long others are waited for.
const AT_THE_DOOR: Duration = Duration::from_secs(10);

/// What goes wrong with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file or its directory cannot be used.
    #[error("cannot use {}", .0.display())]
    Place(PathBuf, #[source] io::Error),
    /// Another process holds it for too long.
    #[error("another process does not release the lock on {}", .0.display())]
    Busy(PathBuf),
}

/// Nobody is told of what it covers, until it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its name.
    pub id: String,
    /// The configuration that has the rule; several may share a state directory.
    #[serde(default)]
    pub config: String,
    /// The rule.
    pub rule: String,
    /// Only of this job or repository; of all if none is named.
    pub subject: Option<String>,
    /// When it ends.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who wanted it.
    pub user: String,
    /// Since when.
    pub since: Timestamp,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    /// When events were looked at first and last, by configuration.
    looks: BTreeMap<String, (Timestamp, Timestamp)>,
    alerts: Vec<Alert>,
    silences: Vec<Silence>,
    /// Since when replication slots are seen that nobody reads, by configuration and job.
    unread: BTreeMap<String, BTreeMap<String, Timestamp>>,
}

/// The ledger, while no other process has it.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    /// The configuration whose rules are looked at.
    config: String,
    stored: Stored,
    lock: Option<File>,
    put_aside: Option<PathBuf>,
}

impl Ledger {
    /// Opens the ledger in the state directory `dir`, which is made if it is not there, and waits
    /// until no other process has it. One that cannot be read is put aside, and another begun: what
    /// lasts is found again. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn open(dir: &Path, config: &str) -> Result<Self, Error> {
        let path = dir.join("alerts.json");
        let failed = |error| Error::Place(path.clone(), error);
        cache::create(dir).map_err(failed)?;
        let lock = dir.join("alerts.lock");
        let lock =
            File::options().append(true).create(true).mode(0o600).open(lock).map_err(failed)?;
        let since = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if since.elapsed() > AT_THE_DOOR => {
                    return Err(Error::Busy(path));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        let (stored, put_aside) =
            match std::fs::read(&path).map(|json| serde_json::from_slice(&json)) {
                Ok(Ok(stored)) => (stored, None),
                Ok(Err(_)) => {
                    let aside = dir.join("alerts.damaged.json");
                    std::fs::rename(&path, &aside).map_err(failed)?;
                    (Stored::default(), Some(aside))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => (Stored::default(), None),
                Err(error) => return Err(failed(error)),
            };
        Ok(Self { path, config: config.to_owned(), stored, lock: Some(lock), put_aside })
    }

    /// Where one was put that could not be read: silences are lost, and that what fired is over is
    /// not told.
    #[must_use]
    pub fn put_aside(&self) -> Option<&Path> {
        self.put_aside.as_deref()
    }

    /// Lets other processes have it: nothing is saved any more.
    pub fn let_go(&mut self) {
        self.lock = None;
    }

    /// What is not over.
    #[must_use]
    pub fn alerts(&self) -> &[Alert] {
        &self.stored.alerts
    }

    /// Silences of the configuration that have not ended.
    #[must_use]
    pub fn silences(&self, now: Timestamp) -> Vec<&Silence> {
        self.stored
            .silences
            .iter()
            .filter(|silence| self.has(silence) && silence.until > now)
            .collect()
    }

    /// Whether a silence is one of the configuration.
    fn has(&self, silence: &Silence) -> bool {
        silence.config.is_empty() || silence.config == self.config
    }

    /// Whether nobody is told of an alert.
    #[must_use]
    pub fn is_silenced(&self, rule: &str, subject: &str, now: Timestamp) -> bool {
        let covers = |silence: &&Silence| {
            silence.rule == rule
                && silence.subject.as_deref().is_none_or(|silenced| silenced == subject)
        };
        self.silences(now).into_iter().any(|silence| covers(&silence))
    }

    /// Adds a silence of a rule of the configuration.
    pub fn silence(&mut self, silence: Silence) {
        self.stored.silences.push(Silence { config: self.config.clone(), ..silence });
    }

    /// Ends the silence called `id`; says whether there was one.
    pub fn unsilence(&mut self, id: &str) -> Option<Silence> {
        let at = self
            .stored
            .silences
            .iter()
            .position(|silence| silence.id == id && self.has(silence))?;
        Some(self.stored.silences.remove(at))
    }

    /// When events were looked at first and last; `since` and now at the first look, so that nobody
    /// is told of what is long over.
    pub fn looks(&mut self, since: Timestamp, now: Timestamp) -> (Timestamp, Timestamp) {
        let (first, last) = self.stored.looks.get(&self.config).copied().unwrap_or((since, now));
        self.stored.looks.insert(self.config.clone(), (first, now));
        (first, last)
    }

    /// Since when the rules of the configuration are looked at; none if that begins now.
    #[must_use]
    pub fn watched_since(&self) -> Option<Timestamp> {
        self.stored.looks.get(&self.config).map(|(first, _)| *first)
    }

    /// Takes note of replication slots that nobody reads. Since when that is so, the facts know
    /// afterwards also of servers that do not tell.
    pub fn note_slots(&mut self, facts: &mut Facts, now: Timestamp) {
        let unread = self.stored.unread.entry(self.config.clone()).or_default();
        unread.retain(|job, _| facts.jobs.contains_key(job));
        for (job, known) in &mut facts.jobs {
            let Some(slot) = &mut known.slot else { continue };
            if slot.is_idle() {
                let since = unread.entry(job.clone()).or_insert(now);
                slot.unread_since.get_or_insert(*since);
            } else {
                unread.remove(job);
            }
        }
    }

    /// Takes note of what a rule sees. Returns what is to be told; `host` is the name of this one.
    /// What nobody hears is not told: a channel that is added later is.
    pub fn observe(
        &mut self,
        name: &str,
        rule: &AlertConfig,
        observed: &[Observation],
        host: &str,
        is_heard: impl Fn(&Message) -> bool,
        now: Timestamp,
    ) -> Vec<Message> {
        let mut messages = Vec::new();
        for observation in observed {
            let is_silenced = self.is_silenced(name, &observation.subject, now);
            let at = self.position(name, &observation.subject);
            match (observation.holds, at) {
                (false, None) => {}
                (false, Some(at)) => {
                    let alert = self.stored.alerts.remove(at);
                    // Also in a silence: somebody was told that it began.
                    let is_told = alert.told.is_some() && rule.resolve.unwrap_or(true);
                    messages.extend(
                        is_told.then(|| alert.over(observation.details.clone(), host, now)),
                    );
                }
                (true, at) => {
                    let at = at.unwrap_or_else(|| {
                        self.stored.alerts.push(Alert::begin(
                            name,
                            &self.config,
                            rule,
                            observation,
                            now,
                        ));
                        self.stored.alerts.len() - 1
                    });
                    let (before, alert) =
                        (self.stored.alerts[at].clone(), &mut self.stored.alerts[at]);
                    let Some(message) = alert.goes_on(rule, observation, is_silenced, host, now)
                    else {
                        continue;
                    };
                    if !is_heard(&message) {
                        (alert.told, alert.times) = (before.told, before.times);
                    }
                    messages.push(message);
                }
            }
        }
        messages
    }

    fn position(&self, rule: &str, subject: &str) -> Option<usize> {
        let is_it = |alert: &Alert| {
            alert.config == self.config && alert.rule == rule && alert.subject == subject
        };
        self.stored.alerts.iter().position(is_it)
    }

    /// Ends what no rule of the configuration is about any more. Returns what is to be told, and
    /// which channels its rule had named.
    pub fn retain(
        &mut self,
        is_watched: impl Fn(&Alert) -> bool,
        host: &str,
        now: Timestamp,
    ) -> Vec<(Vec<String>, Message)> {
        let (mut messages, config) = (Vec::new(), self.config.clone());
        self.stored.alerts.retain(|alert| {
            let stays = alert.config != config || is_watched(alert);
            if !stays && alert.told.is_some() && alert.resolve {
                let message = alert.over(BTreeMap::new(), host, now);
                let message = Message {
                    cause: "no rule of the configuration applies any more".to_owned(),
                    ..message
                };
                messages.push((alert.notify.clone(), message));
            }
            stays
        });
        self.stored.silences.retain(|silence| silence.until > now);
        messages
    }

    /// What it is, to be gone back to.
    pub(super) fn memory(&self) -> Memory {
        Memory(self.stored.clone())
    }

    /// Writes what has begun since `before`, and that nothing of it is told yet: whoever dies now
    /// tells the same again, with the same name.
    pub(super) fn save_begun(&self, before: &Memory) -> Result<(), Error> {
        let mut begun = before.0.clone();
        for alert in &self.stored.alerts {
            let is_same = |known: &Alert| {
                (&known.config, &known.rule, &known.subject)
                    == (&alert.config, &alert.rule, &alert.subject)
            };
            if !begun.alerts.iter().any(is_same) {
                begun.alerts.push(Alert { told: None, times: 0, ..alert.clone() });
            }
        }
        self.write(&begun)
    }

    /// Writes it. What is told has to be in the outbox before: after a crash it is told again, and
    /// the outbox knows it.
    ///
    /// # Errors
    /// [`Error::Place`]
    pub fn save(self) -> Result<(), Error> {
        self.write(&self.stored)
    }

    fn write(&self, stored: &Stored) -> Result<(), Error> {
        let failed = |error| Error::Place(self.path.clone(), error);
        let json = serde_json::to_vec_pretty(stored).map_err(|error| failed(error.into()))?;
        let new = self.path.with_extension("new");
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let mut file = file.map_err(failed)?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&new, &self.path).map_err(failed)
    }
}

/// What a ledger was.
#[derive(Debug)]
pub(super) struct Memory(Stored);
