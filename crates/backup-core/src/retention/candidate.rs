//! What counts about a snapshot.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::SnapshotId;
use crate::repository::SnapshotInfo;

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
    /// The moment it stands for.
    pub time: Timestamp,
    /// When a store first received it; carried along by copies.
    pub received: Option<Timestamp>,
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
    /// What a stored snapshot says of itself. What only the repository knows (received, verified,
    /// hold) is filled in by the caller.
    #[must_use]
    pub fn of(info: &SnapshotInfo) -> Self {
        let snapshot = &info.snapshot;
        let tag = |name| snapshot.tag(name).map(str::to_owned);
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
        Self {
            id: info.id,
            time: snapshot.time,
            received: None,
            group: group.join("\0"),
            tier: tag("tier"),
            kind: tag("type"),
            tags: snapshot.tags.clone(),
            verified: false,
            hold: None,
            needs: Vec::new(),
        }
    }

    pub(super) fn is_log(&self) -> bool {
        self.kind.as_deref() == Some("log")
    }
}
