//! Snapshots that a repository should have and cannot read: damaged objects, and objects that
//! disappeared although nobody forgot them.
//!
//! A name such as `latest` must not silently mean an older snapshot because a newer one is among
//! these.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::{Repository, SnapshotInfo, SnapshotList, layout};
use crate::context::Context;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::sink::SinkOps;

/// Longest time that is assumed between the moment of a snapshot and the storing of its object.
const MAX_PUBLISH_TIME: SignedDuration = SignedDuration::from_hours(1);

/// A snapshot that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnavailableSnapshot {
    /// Its name.
    pub id: SnapshotId,
    /// Reason, as a lower-case fragment.
    pub reason: String,
    /// True if the object is gone; false if it is there and damaged.
    pub is_missing: bool,
    /// Time in its inventory entry, if that can be read.
    received: Option<Timestamp>,
    /// Time at which the store last wrote the object, if it is there and the store reports it.
    stored: Option<Timestamp>,
}

impl UnavailableSnapshot {
    /// Time at which the repository received the snapshot, if known.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.received.or(self.stored)
    }
}

impl Repository {
    /// The snapshots that `list`, a listing of this repository, should have and cannot read.
    ///
    /// # Errors
    /// Those of the sink; cancellation.
    pub async fn unavailable_snapshots(
        &self,
        list: &SnapshotList,
        cx: &Context,
    ) -> Result<Vec<UnavailableSnapshot>> {
        let mut unavailable = Vec::new();
        for (id, error) in &list.damaged {
            cx.check_cancelled()?;
            unavailable.push(UnavailableSnapshot {
                id: *id,
                reason: error.chain(),
                is_missing: false,
                received: self.received(id).await?,
                stored: list.evidence.stored.get(id).copied(),
            });
        }
        let listed: HashSet<SnapshotId> = list.ids().collect();
        let mut missing = self.snapshot_receipts().await?;
        missing.retain(|id| !listed.contains(id));
        missing.sort();
        for id in missing {
            cx.check_cancelled()?;
            // Stored, or forgotten, since the listing was made.
            if self.sink().exists(&layout::snapshot(&id)).await? || !self.was_lost(&id).await? {
                continue;
            }
            unavailable.push(UnavailableSnapshot {
                id,
                reason: "the object is missing".to_owned(),
                is_missing: true,
                received: self.received(&id).await?,
                stored: None,
            });
        }
        Ok(unavailable)
    }

    /// Those of `unavailable` that may be newer than `candidate`, up to the moment `until`.
    ///
    /// Compares inventory entries if both snapshots have one, else the times of the store. A time
    /// that is unknown counts as newer.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn newer_than<'a>(
        &self,
        unavailable: &'a [UnavailableSnapshot],
        candidate: Option<&SnapshotInfo>,
        until: Option<Timestamp>,
        list: &SnapshotList,
    ) -> Result<Vec<&'a UnavailableSnapshot>> {
        if unavailable.is_empty() {
            return Ok(Vec::new());
        }
        let limit = until.and_then(|until| until.checked_add(MAX_PUBLISH_TIME).ok());
        let is_within = |one: &UnavailableSnapshot| match (one.time(), limit) {
            (Some(time), Some(limit)) => time <= limit,
            _ => true,
        };
        let within = unavailable.iter().filter(|one| is_within(one));
        let Some(candidate) = candidate else {
            return Ok(within.collect());
        };
        let received = self.received(&candidate.id).await?;
        let stored = list.evidence.stored.get(&candidate.id).copied();
        let is_newer = |one: &&UnavailableSnapshot| match (one.received, received) {
            (Some(one), Some(candidate)) => one >= candidate,
            _ => match (one.stored, stored) {
                (Some(one), Some(candidate)) => one >= candidate,
                _ => one.time().is_none_or(|time| time >= candidate.time()),
            },
        };
        Ok(within.filter(is_newer).collect())
    }
}
