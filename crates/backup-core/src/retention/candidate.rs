//! What counts about a snapshot.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::format::Snapshot;
use crate::id::SnapshotId;
use crate::repository::{EffectiveTime, SnapshotInfo, TimeBasis};

/// Somebody wants a snapshot to stay, whatever the policy says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Until when; for ever if nothing is said.
    pub until: Option<Timestamp>,
    /// Why, for people.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

impl Hold {
    /// Whether it has not ended.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A snapshot, as far as its retention goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub id: SnapshotId,
    /// The time that it counts for.
    pub time: EffectiveTime,
    /// Its index in the list of all snapshots. Of two with the same time, the one with the higher index
    /// is newer: it may be built on the other one.
    pub index: usize,
    /// When a store first received it; carried along by copies.
    pub received: Option<Timestamp>,
    /// Bytes of the files that it holds, if it states them.
    pub size: Option<u64>,
    /// Job and source: only snapshots of the same group are compared.
    pub group: String,
    /// Its tier.
    pub tier: Option<String>,
    /// Its type: `full`, `incremental`, `differential` or `log`.
    pub kind: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it was verified.
    pub verified: bool,
    /// Who holds it.
    pub hold: Option<Hold>,
    /// Snapshots without which it cannot be restored.
    pub needs: Vec<SnapshotId>,
}

impl Candidate {
    /// The group of a snapshot: job, source, host, paths and, for a part of a job, the selection.
    #[must_use]
    pub fn group_of(snapshot: &Snapshot) -> String {
        // Separated by what none of the parts can hold.
        let mut group = vec![
            snapshot.tag("job").unwrap_or_default(),
            snapshot.tag("source").unwrap_or_default(),
        ];
        group.push(&snapshot.hostname);
        group.extend(snapshot.paths.iter().map(String::as_str));
        // A part of a job never takes the place of a snapshot of the whole job, or of another part.
        let part = snapshot.x_part.as_ref().map(|part| format!("{part:?}"));
        group.extend(part.as_deref());
        group.join("\0")
    }

    /// The candidate for a stored snapshot at an index of the list. Facts that only the repository
    /// holds (received, verified, hold) are filled in by the caller.
    #[must_use]
    pub fn of(index: usize, info: &SnapshotInfo) -> Self {
        let snapshot = &info.snapshot;
        let tag = |name| snapshot.tag(name).map(str::to_owned);
        Self {
            id: info.id,
            time: info.effective,
            index,
            received: None,
            size: snapshot.summary.as_ref().map(|summary| summary.total_bytes_processed),
            group: Self::group_of(snapshot),
            tier: tag("tier"),
            kind: tag("type"),
            tags: snapshot.tags.clone(),
            verified: false,
            hold: None,
            needs: Vec::new(),
        }
    }

    /// The order of candidates, oldest first.
    pub(super) fn order(&self) -> (Timestamp, usize, SnapshotId) {
        (self.at(), self.index, self.id)
    }

    /// The time that counts.
    pub(super) fn at(&self) -> Timestamp {
        self.time.time()
    }

    /// The latest of the receipt, the time that counts and the own time up to the present: an earlier
    /// date does not make it older.
    pub(super) fn born(&self, now: Timestamp) -> Timestamp {
        let own = self.time.own().min(now);
        self.received.unwrap_or(own).max(own).max(self.at())
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.time.basis() == TimeBasis::Adopted
    }

    pub(super) fn is_log(&self) -> bool {
        self.kind.as_deref() == Some("log")
    }
}
