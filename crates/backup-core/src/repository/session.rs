//! Sessions: who reads or writes at the moment, so that nothing they rely upon is deleted.
//!
//! A session shows that it lives by beacons `x-sessions/ID-NUMBER`, each created once: a writer
//! needs no right to replace or delete. The first is durable before the session reads the index. It
//! ends by deleting its beacons or, where that is not allowed, by an object `x-sessions/ID-end`.
//!
//! # Time
//! A session counts as alive until its newest beacon is [`DEAD_AFTER`] old by the clock of the
//! store. By its own clocks (the monotonic one and the one on the wall, because the first stands
//! still while a machine sleeps) it regards itself as lost earlier, once two of its beacons lay
//! [`VALID_FOR`] apart: what it relied upon may have been deleted in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::store_clock::StoreClock;
use super::{Repository, layout};
use crate::clock::SharedClock;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{open_json, seal_json};
use crate::sink::{ObjectMeta, SinkErrorKind, SinkOps};

/// Time between two beacons.
const RENEW_EVERY: Duration = Duration::from_secs(5 * 60);
/// A session that was silent for longer at any time is not relied upon any more, by itself.
const VALID_FOR: Duration = Duration::from_secs(90 * 60);
/// How long others respect it.
const DEAD_AFTER: SignedDuration = SignedDuration::from_secs(2 * 60 * 60);

/// What a beacon says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Beacon {
    /// What is done, for people.
    purpose: String,
    written: Timestamp,
}

/// A session of this process. Dropped without [`Self::end`] it counts as alive until it has grown
/// old.
#[derive(Debug)]
pub(crate) struct Session {
    beacons: Arc<Beacons>,
    stop: DropGuard,
}

#[derive(Debug)]
struct Beacons {
    repository: Repository,
    id: String,
    purpose: String,
    clock: SharedClock,
    count: AtomicU64,
    silence: Mutex<Silence>,
}

#[derive(Debug)]
struct Silence {
    /// When the last beacon was begun.
    last: (Instant, Timestamp),
    /// The longest time so far between the beginning of a beacon and the end of the next.
    longest: Duration,
}

impl Session {
    /// Begins a session: when this returns, nothing is deleted that the index lists from now on.
    pub(crate) async fn begin(
        repository: &Repository,
        purpose: impl Into<String>,
        cx: &Context,
    ) -> Result<Self> {
        let beacons = Arc::new(Beacons {
            repository: repository.clone(),
            id: hex::encode(rand::random::<[u8; 16]>()),
            purpose: purpose.into(),
            clock: Arc::clone(&cx.clock),
            count: AtomicU64::new(0),
            silence: Mutex::new(Silence {
                last: (Instant::now(), cx.clock.now()),
                longest: Duration::ZERO,
            }),
        });
        beacons.light().await?;
        let stop = CancellationToken::new();
        let (renewing, stopped) = (Arc::clone(&beacons), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = renewing.renew() => {}
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self { beacons, stop: stop.drop_guard() })
    }

    /// Begins the session of somebody who only reads; `None` if these credentials may not write
    /// even a beacon.
    pub(crate) async fn begin_reading(
        repository: &Repository,
        purpose: &str,
        cx: &Context,
    ) -> Option<Self> {
        match Self::begin(repository, purpose, cx).await {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::debug!("reading without a session: {}", error.chain());
                None
            }
        }
    }

    /// Whether others have respected this session all the time, for certain. If not (the machine
    /// slept, or the store was out of reach for long), what was relied upon may be gone.
    pub(crate) fn is_protected(&self) -> bool {
        self.beacons.longest_silence() < VALID_FOR
    }

    /// Fails if what was relied upon may be gone.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`].
    pub(crate) fn require_protection(&self) -> Result<()> {
        if self.is_protected() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Busy, "this process did not renew its session for too long")
            .with_hint("run the command again; it reuses the data already stored"))
    }

    /// What looks like damage to somebody who was out of touch for too long may have been deleted
    /// rightly.
    pub(crate) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(error) if error.is_damage() => {
                self.require_protection().map_err(|late| late.with_source(error.chain()))?;
                Err(error)
            }
            other => other,
        }
    }

    /// Ends the session. That this fails does no harm but that a prune waits until the session has
    /// grown old.
    pub(crate) async fn end(self) {
        drop(self.stop);
        if self.beacons.put_out().await.is_err() {
            let end = layout::session_end(&self.beacons.id);
            if let Err(error) = self.beacons.repository.sink().put_bytes(&end, Vec::new()).await {
                tracing::debug!("cannot end session {}: {error}", self.beacons.id);
            }
        }
    }
}

impl Beacons {
    async fn light(&self) -> Result<()> {
        let began = (Instant::now(), self.clock.now());
        let beacon = Beacon { purpose: self.purpose.clone(), written: began.1 };
        let sealed = seal_json(self.repository.key(), &beacon)?;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.repository.sink().put_bytes(&layout::beacon(&self.id, number), sealed).await?;
        let longest = self.longest_silence();
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) =
            Silence { last: began, longest };
        Ok(())
    }

    /// The one that lasts included.
    fn longest_silence(&self) -> Duration {
        let silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        let (monotonic, wall) = silence.last;
        let by_the_wall =
            Duration::try_from(wall.duration_until(self.clock.now())).unwrap_or_default();
        monotonic.elapsed().max(by_the_wall).max(silence.longest)
    }

    async fn renew(&self) {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            if let Err(error) = self.light().await {
                tracing::debug!("cannot write a beacon of session {}: {error}", self.id);
            }
        }
    }

    async fn put_out(&self) -> Result<()> {
        // The last first: the session ends at once, not bit by bit.
        for number in (0..self.count.load(Ordering::Relaxed)).rev() {
            self.repository.sink().delete_one(&layout::beacon(&self.id, number)).await?;
        }
        Ok(())
    }
}

/// A session that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveSession {
    pub(crate) id: String,
    /// What it does, for people.
    pub(crate) purpose: String,
    /// When its first beacon was written, by the clock of the store.
    pub(crate) since: Option<Timestamp>,
}

/// The sessions that live, and the objects of those that do not.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) live: Vec<LiveSession>,
    pub(crate) dead: Vec<ObjectMeta>,
}

impl Sessions {
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.live.iter().map(|session| session.id.clone()).collect()
    }

    /// Looks who is at work.
    pub(crate) async fn look(repository: &Repository, clock: &StoreClock) -> Result<Self> {
        let mut by_id: BTreeMap<String, Vec<ObjectMeta>> = BTreeMap::new();
        for meta in repository.list(&layout::sessions()).await? {
            if let Some((id, _)) = meta.key.file_name().split_once('-') {
                by_id.entry(id.to_owned()).or_default().push(meta);
            }
        }
        let mut sessions = Self::default();
        for (id, mut objects) in by_id {
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            let ended = objects.iter().any(is_end);
            match newest(repository, &objects).await? {
                Some((beacon, written))
                    if !ended && clock.age(written, beacon.written) < DEAD_AFTER =>
                {
                    let since = objects.first().and_then(|meta| meta.last_modified);
                    sessions.live.push(LiveSession { id, purpose: beacon.purpose, since });
                }
                // Ended between being listed and being read.
                None if !ended => {}
                _ => sessions.dead.extend(objects),
            }
        }
        Ok(sessions)
    }
}

fn is_end(meta: &ObjectMeta) -> bool {
    meta.key.file_name().ends_with("-end")
}

/// The newest beacon that can be read, and when the store wrote it. One that is damaged counts by
/// its age alone.
async fn newest(
    repository: &Repository,
    objects: &[ObjectMeta],
) -> Result<Option<(Beacon, Option<Timestamp>)>> {
    for meta in objects.iter().rev().filter(|meta| !is_end(meta)) {
        match repository.sink().get_bytes(&meta.key).await {
            Ok(sealed) => {
                let unknown = || Beacon {
                    purpose: "somebody".to_owned(),
                    written: meta.last_modified.unwrap_or_default(),
                };
                return Ok(Some((
                    open_json(repository.key(), &sealed).unwrap_or_else(|_| unknown()),
                    meta.last_modified,
                )));
            }
            Err(error) if error.kind() == SinkErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
