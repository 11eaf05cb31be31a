//! Who was at work when packs were marked: until they are done, nothing of it is deleted.
//!
//! A record `x-prune/NAME` is written after marks are durable and the index objects that listed the
//! packs before are gone. Whoever began later knows of the marks. A pack is deleted when all
//! records that cover its mark are as old as the grace period, and nobody named there is at work
//! any more. Marks that other tools made, and those of a prune that was killed, get a record from
//! the next prune.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Lock, open_json, seal_json};
use crate::id::PackId;
use crate::repository::index::Mark;
use crate::repository::prune_records::{self, PruneRecord};
use crate::repository::session::Sessions;
use crate::repository::store_clock::StoreClock;
use crate::repository::{Repository, guard, layout};
use crate::sink::{Key, ObjectMeta, SinkErrorKind, SinkOps};

/// When restic itself no longer respects a lock.
const STALE_LOCK: SignedDuration = SignedDuration::from_mins(30);

/// The least age of an upload in parts that counts as abandoned. Packs are uploaded in minutes.
const ABANDONED_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// All records, and who is at work now.
#[derive(Debug)]
pub(super) struct Records {
    records: Vec<Noted>,
    pub(super) sessions: Sessions,
    locks: BTreeSet<String>,
    pub(super) grace: SignedDuration,
    clock: StoreClock,
}

/// A record of an earlier run.
#[derive(Debug)]
struct Noted {
    key: Key,
    record: PruneRecord,
    /// By the clock of the store.
    age: SignedDuration,
}

/// Whether something may be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    /// What has to happen before.
    Later(String),
}

impl Records {
    pub(super) async fn read(
        repository: &Repository,
        grace: Duration,
        cx: &Context,
    ) -> Result<Self> {
        let clock = StoreClock::read(repository, cx).await?;
        let mut records = Vec::new();
        for (meta, record) in prune_records::read_all(repository).await? {
            let record = record.map_err(|error| {
                error
                    .context(&meta.key)
                    .with_hint("delete this object; its packs then wait for another grace period")
            })?;
            let age = clock.age(meta.last_modified, record.written);
            records.push(Noted { key: meta.key, record, age });
        }
        Ok(Self {
            records,
            sessions: Sessions::look(repository, &clock).await?,
            locks: foreign_locks(repository, &clock).await?,
            grace: SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX),
            clock,
        })
    }

    /// Objects that repairs have replaced: those whose grace period is over, and the number of the
    /// others.
    ///
    /// # Errors
    /// Errors of the sink.
    pub(super) async fn quarantined(&self, repository: &Repository) -> Result<(Vec<Key>, u64)> {
        let listed = repository.sink().list_all(&layout::all_quarantined()).await?;
        let is_due = |meta: &ObjectMeta| self.clock.age_in_store(meta.last_modified) >= self.grace;
        let (due, waiting): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_due);
        Ok((due.into_iter().map(|meta| meta.key).collect(), waiting.len() as u64))
    }

    /// The time before which no running session began an upload in parts: a day and the grace period
    /// ago, and before all live sessions. `None` if the age of a session is unknown. `now` is the
    /// time for stores without a clock.
    pub(super) fn uploads_abandoned_before(&self, now: Timestamp) -> Option<Timestamp> {
        let now = self.clock.both().map_or(now, |(store, _)| store);
        let mut before = now.checked_sub(self.grace.max(ABANDONED_AFTER)).ok()?;
        for session in &self.sessions.live {
            before = before.min(session.since?);
        }
        Some(before)
    }

    pub(super) fn mark_is_due(&self, mark: Mark) -> Due {
        self.is_due(|record| record.marks.contains(&mark.time))
    }

    pub(super) fn orphan_is_due(&self, pack: &PackId) -> Due {
        self.is_due(|record| record.orphans.contains(pack))
    }

    fn is_due(&self, covers: impl Fn(&PruneRecord) -> bool) -> Due {
        let mut covered = false;
        for noted in self.records.iter().filter(|noted| covers(&noted.record)) {
            covered = true;
            let left = self.grace.saturating_sub(noted.age);
            if left.is_positive() {
                let hours = (left.as_secs() + 3599) / 3600;
                return Due::Later(format!("The grace period ends in {hours} h."));
            }
            if let Some(session) = self
                .sessions
                .live
                .iter()
                .find(|session| noted.record.sessions.contains(&session.id))
            {
                return Due::Later(format!(
                    "A session that began before the grace period is still running: {}.",
                    session.purpose
                ));
            }
            if let Some(lock) = self.locks.intersection(&noted.record.locks).next() {
                return Due::Later(format!(
                    "Another tool that began before the grace period is still running: {lock}."
                ));
            }
        }
        if covered { Due::Now } else { Due::Later("The grace period begins now.".to_owned()) }
    }

    /// Notes who is at work, for marks and orphans that no record covers yet, and drops records
    /// that cover nothing more.
    pub(super) async fn write(
        &self,
        repository: &Repository,
        marks: &BTreeSet<Option<Timestamp>>,
        orphans: &BTreeSet<PackId>,
        cx: &Context,
    ) -> Result<()> {
        let covered = |fits: &dyn Fn(&PruneRecord) -> bool| {
            self.records.iter().any(|noted| fits(&noted.record))
        };
        let new_marks: BTreeSet<_> = marks
            .iter()
            .filter(|mark| !covered(&|record| record.marks.contains(*mark)))
            .copied()
            .collect();
        let new_orphans: BTreeSet<_> = orphans
            .iter()
            .filter(|pack| !covered(&|record| record.orphans.contains(*pack)))
            .copied()
            .collect();
        if !new_marks.is_empty() || !new_orphans.is_empty() {
            let clock = StoreClock::read(repository, cx).await?;
            let record = PruneRecord {
                written: cx.clock.now(),
                marks: new_marks,
                orphans: new_orphans,
                sessions: Sessions::look(repository, &clock).await?.ids(),
                locks: foreign_locks(repository, &clock).await?,
            };
            let name = layout::prune_record(&hex::encode(rand::random::<[u8; 16]>()));
            repository.sink().put_bytes(&name, seal_json(repository.key(), &record)?).await?;
        }
        for Noted { key, record, .. } in &self.records {
            if record.marks.is_disjoint(marks) && record.orphans.is_disjoint(orphans) {
                repository.sink().delete_one(key).await?;
            }
        }
        Ok(())
    }
}

/// Tools that hold restic's locks, by host and process: the names of their locks change whenever
/// they are renewed.
pub(in crate::maintenance) async fn foreign_locks(
    repository: &Repository,
    clock: &StoreClock,
) -> Result<BTreeSet<String>> {
    let guard = guard::key(repository)?;
    let mut holders = BTreeSet::new();
    for meta in repository.sink().list_all(&layout::locks()).await? {
        if meta.key == guard {
            continue;
        }
        let lock: Lock = match repository.sink().get_bytes(&meta.key).await {
            Ok(sealed) => match open_json(repository.key(), &sealed) {
                Ok(lock) => lock,
                Err(_) => continue,
            },
            Err(error) if error.kind() == SinkErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        if clock.age(meta.last_modified, lock.time) > STALE_LOCK {
            continue;
        }
        let holder = format!("process {} on {}", lock.pid, lock.hostname);
        if lock.exclusive {
            return Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "{holder} holds an exclusive lock on \
                     the repository"
                ),
            )
            .with_hint(
                "wait until that process has finished; if it has died, remove its lock with \
                 `restic unlock`",
            ));
        }
        holders.insert(holder);
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::Passphrase;
    use crate::repository::InitOptions;
    use crate::repository::session::LiveSession;
    use crate::testing::MemorySink;

    #[tokio::test]
    async fn uploads_of_live_sessions_are_not_abandoned() {
        let (passphrase, cx) = (Passphrase::new("correct horse"), Context::silent());
        let sink = Arc::new(MemorySink::new());
        let repository =
            Repository::init(sink, &passphrase, &InitOptions::default(), &cx).await.unwrap();
        let hours = |hours: i64| cx.clock.now() - SignedDuration::from_hours(hours);
        let records = async |grace: u64, live: &[Option<i64>]| {
            let session = |since: &Option<i64>| LiveSession {
                id: String::new(),
                purpose: String::new(),
                since: since.map(hours),
            };
            let grace = Duration::from_secs(grace * 60 * 60);
            let mut records = Records::read(&repository, grace, &cx).await.unwrap();
            records.sessions.live = live.iter().map(session).collect();
            let before = records.uploads_abandoned_before(cx.clock.now())?;
            Some((before.duration_until(hours(0)).as_secs() + 60) / 3600)
        };
        assert_eq!(records(0, &[]).await, Some(24));
        assert_eq!(records(48, &[]).await, Some(48));
        assert_eq!(records(0, &[Some(3), Some(70), Some(30)]).await, Some(70));
        assert_eq!(records(0, &[Some(3), None]).await, None);
    }
}
