//! The ledger: alerts, silences and earlier evaluations, kept in the state directory for all
//! processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::store::{Error, JobMemory, Store, Stored};
use super::{About, Alert, Condition, Facts, Observation, Scope, Silence, legacy};
use crate::config::AlertConfig;
use crate::notify::Message;
use crate::words;

/// Events count from this long before the last evaluation: a run that ended may be recorded a
/// little later. The outbox drops duplicates.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);
/// An alert ends after this time if all configurations that watched it are gone.
const ORPHANED: Duration = Duration::from_secs(7 * 86_400);
/// Evaluations of jobs and events that no configuration names are kept for this time.
const MEMORY: Duration = Duration::from_secs(90 * 86_400);

/// Rule, kind of subject, address of the repository, subject.
type Key = (String, About, Option<String>, String);

fn key_of(alert: &Alert) -> Key {
    (alert.rule.clone(), alert.about, alert.repository.clone(), alert.subject.clone())
}

/// The ledger, while this process holds its lock.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    /// The configuration whose rules are evaluated.
    scope: Scope,
    alerts: BTreeMap<Key, Alert>,
    /// All but the alerts.
    stored: Stored,
    /// Evaluations of events that were taken over from an earlier form.
    inherited: Option<legacy::Inherited>,
}

impl Ledger {
    /// Opens the ledger in the state directory `dir`, which is created if it does not exist, and
    /// waits for the lock. An unreadable one is moved aside, and a new one begun: lasting alerts
    /// are found again. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn open(dir: &Path, scope: Scope, now: Timestamp) -> Result<Self, Error> {
        let (store, mut stored) = Store::open(dir)?;
        let inherited = legacy::take_over(&mut stored, &scope, now);
        let mut alerts = BTreeMap::<Key, Alert>::new();
        for alert in std::mem::take(&mut stored.alerts) {
            // An alert of an earlier form may be known by its repository already.
            let configs = alert.configs.clone();
            alerts.entry(key_of(&alert)).or_insert(alert).configs.extend(configs);
        }
        Ok(Self { store, scope, alerts, stored, inherited })
    }

    /// Where an unreadable ledger was moved to: its silences are lost, and alerts of it that ended
    /// are not notified.
    #[must_use]
    pub fn put_aside(&self) -> Option<&Path> {
        self.store.put_aside.as_deref()
    }

    /// Releases the lock; nothing can be saved any more.
    pub fn release(&mut self) {
        self.store.release();
    }

    /// Pending and firing alerts of all configurations.
    pub fn alerts(&self) -> impl ExactSizeIterator<Item = &Alert> {
        self.alerts.values()
    }

    /// Pending and firing alerts of the configuration.
    pub fn own_alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts().filter(|alert| {
            let repository = alert.repository.as_deref();
            alert.configs.contains(&self.scope.file)
                && self.scope.covers(alert.about, &alert.subject, repository)
        })
    }

    /// Silences of the configuration that have not ended.
    #[must_use]
    pub fn silences(&self, now: Timestamp) -> Vec<&Silence> {
        let lasting = self.stored.silences.iter().filter(|silence| silence.until > now);
        lasting.filter(|silence| silence.is_of(&self.scope)).collect()
    }

    /// Whether a silence covers an alert.
    #[must_use]
    pub fn silences_alert(&self, alert: &Alert, now: Timestamp) -> bool {
        self.is_silenced(&alert.rule, &alert.subject, alert.repository.as_deref(), now)
    }

    /// Whether a silence covers alerts and events of a rule about `subject`, in this repository.
    #[must_use]
    pub fn is_silenced(
        &self,
        rule: &str,
        subject: &str,
        repository: Option<&str>,
        now: Timestamp,
    ) -> bool {
        let mut lasting = self.stored.silences.iter().filter(|silence| silence.until > now);
        lasting.any(|silence| silence.covers(rule, subject, repository))
    }

    /// Adds a silence of a rule of the configuration.
    pub fn silence(&mut self, mut silence: Silence) {
        silence.limit(&self.scope);
        self.stored.silences.push(silence);
    }

    /// Ends the silence called `id`, and returns it; none if there is none.
    pub fn unsilence(&mut self, id: &str) -> Option<Silence> {
        let is_it = |silence: &Silence| silence.id == id && silence.is_of(&self.scope);
        let at = self.stored.silences.iter().position(is_it)?;
        Some(self.stored.silences.remove(at))
    }

    /// The time from which events of a repository count for a rule.
    #[must_use]
    pub fn events_since(&self, rule: &str, address: &str, now: Timestamp) -> Timestamp {
        let is_known = self.scope.repositories.values().any(|known| known == address);
        let known = self.stored.events.get(rule);
        let evaluated = known.and_then(|known| known.get(if is_known { address } else { "" }));
        let evaluated = evaluated.or(self.inherited.as_ref().map(|(_, inherited)| inherited));
        let overlapping = |last: Timestamp| last.checked_sub(OVERLAP).unwrap_or(last);
        evaluated.map_or(overlapping(now), |(first, last)| overlapping(*last).max(*first))
    }

    /// Notes that all events until now were evaluated for these rules.
    pub fn note_events<'a>(&mut self, rules: impl Iterator<Item = &'a String>, now: Timestamp) {
        for rule in rules {
            let addresses = self.scope.repositories.values().map(String::as_str).chain([""]);
            let first: Vec<(String, Timestamp)> = addresses
                .map(|address| (address.to_owned(), self.events_since(rule, address, now)))
                .collect();
            let known = self.stored.events.entry(rule.clone()).or_default();
            for (address, first) in first {
                known.entry(address).or_insert((first, now)).1 = now;
            }
        }
        if let Some((file, _)) = self.inherited.take() {
            self.stored.looks.remove(&file);
        }
    }

    /// Adds to the facts of jobs the findings of earlier evaluations, and notes those of this one:
    /// since when rules watch the job, since when its replication slot is idle if the server does
    /// not report it, and usual sizes.
    pub fn remember(
        &mut self,
        facts: &mut Facts,
        rules: &BTreeMap<String, AlertConfig>,
        now: Timestamp,
    ) {
        for (job, known) in &mut facts.jobs {
            let jobs = self.stored.jobs.entry(known.address.clone()).or_default();
            known.watched_since = jobs.get(job).map(|memory| memory.watched);
            let memory = jobs.entry(job.clone()).or_insert_with(|| JobMemory::new(now));
            memory.seen = now;
            if let Some(slot) = &mut known.slot {
                memory.unread = slot.is_idle().then(|| memory.unread.unwrap_or(now));
                slot.unread_since = slot.unread_since.or(memory.unread);
            }
            for (name, rule) in rules {
                let Condition::SizeAnomaly(limit) = rule.condition else { continue };
                let sizes = memory.sizes.entry(name.clone()).or_default();
                if let Some(compared) = sizes.compare(&known.complete(), limit, now) {
                    known.sizes.insert(name.clone(), compared);
                }
            }
        }
    }

    /// Takes note of the observations of a rule. Returns the messages to send; `host` is the name
    /// of this machine. A message that no channel carries does not count as sent.
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
            let (subject, repository) = (&observation.subject, &observation.repository);
            let key = (name.to_owned(), observation.about, repository.clone(), subject.clone());
            if !observation.holds {
                if let Some(alert) = self.alerts.remove(&key) {
                    // Also in a silence: the beginning was notified.
                    let is_told = alert.told.is_some() && rule.resolve.unwrap_or(true);
                    messages.extend(
                        is_told.then(|| alert.over(observation.details.clone(), host, now)),
                    );
                }
                continue;
            }
            let is_silenced = self.is_silenced(name, subject, repository.as_deref(), now);
            let alert = self
                .alerts
                .entry(key)
                .or_insert_with(|| Alert::begin(name, rule, observation, now));
            alert.seen = Some(now);
            alert.configs.insert(self.scope.file.clone());
            let before = (alert.told, alert.times);
            if let Some(message) = alert.goes_on(rule, observation, is_silenced, host, now) {
                if !is_heard(&message) {
                    (alert.told, alert.times) = before;
                }
                messages.push(message);
            }
        }
        messages
    }

    /// Ends alerts that no configuration watches any more. Returns the messages, each with the
    /// channels that its rule named.
    pub fn retain(
        &mut self,
        is_watched: impl Fn(&Alert) -> bool,
        host: &str,
        now: Timestamp,
    ) -> Vec<(Vec<String>, Message)> {
        let (mut messages, file) = (Vec::new(), &self.scope.file);
        self.alerts.retain(|_, alert| {
            if is_watched(alert) {
                return true;
            }
            let was_own = alert.configs.remove(file);
            let lasting = alert.seen.is_some_and(|seen| words::between(seen, now) <= ORPHANED);
            let is_other = |other: &String| lasting && !was_own || !legacy::is_gone(other);
            if alert.configs.iter().any(is_other) {
                return true;
            }
            if alert.told.is_some() && alert.resolve {
                let over = alert.over(BTreeMap::new(), host, now);
                let cause = "no rule of the configuration applies any more".to_owned();
                messages.push((alert.notify.clone(), Message { cause, ..over }));
            }
            false
        });
        self.stored.silences.retain(|silence| silence.until > now);
        let is_kept = |last: Timestamp| words::between(last, now) <= MEMORY;
        for jobs in self.stored.jobs.values_mut() {
            jobs.retain(|_, memory| is_kept(memory.seen));
        }
        for known in self.stored.events.values_mut() {
            known.retain(|_, (_, last)| is_kept(*last));
        }
        messages
    }

    /// The present state, to be compared with later.
    pub(super) fn memory(&self) -> Memory {
        Memory(self.all())
    }

    /// Writes the alerts that began since `before`, as not notified yet: a process that dies now
    /// sends the same message again, under the same identifier.
    pub(super) fn save_begun(&self, before: &Memory) -> Result<(), Error> {
        let mut begun = before.0.clone();
        let known: BTreeSet<Key> = begun.alerts.iter().map(key_of).collect();
        let new = self.alerts.iter().filter(|(key, _)| !known.contains(*key));
        begun.alerts.extend(new.map(|(_, alert)| Alert { told: None, times: 0, ..alert.clone() }));
        self.store.write(&begun)
    }

    /// Writes the ledger. The messages have to be in the outbox before: after a crash they are
    /// made again, and the outbox drops duplicates.
    ///
    /// # Errors
    /// [`Error::Place`]
    pub fn save(self) -> Result<(), Error> {
        self.store.write(&self.all())
    }

    fn all(&self) -> Stored {
        Stored { alerts: self.alerts.values().cloned().collect(), ..self.stored.clone() }
    }
}

/// An earlier state of a ledger.
#[derive(Debug)]
pub(super) struct Memory(Stored);
