//! The newest evidence about each snapshot: proofs that it was verified, and marks that it was found
//! damaged. A mark outweighs a proof; a later verification without problems removes it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;
use crate::format::{open_json, seal_json};
use crate::id::SnapshotId;
use crate::pipeline::VerifyLevel;
use crate::repository::{Repository, layout};
use crate::sink::{Prefix, SinkErrorKind, SinkOps};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Proof {
    verified: Timestamp,
    level: VerifyLevel,
}

/// The finding that a snapshot is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageMark {
    /// Time of the finding.
    pub found: Timestamp,
    /// Verb that found it: `verify` or `check`.
    pub by: String,
    /// True if the content of packs was read: only reading it again can disprove the finding.
    pub by_content: bool,
    /// Number of problems, if they were counted for this snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problems: Option<u64>,
}

impl Repository {
    /// Records that a snapshot was verified without problems: retention never drops the newest such
    /// snapshot of a job.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn record_verified(
        &self,
        id: &SnapshotId,
        level: VerifyLevel,
        cx: &Context,
    ) -> Result<()> {
        let proof = Proof { verified: cx.clock.now(), level };
        self.sink().put_bytes(&layout::proof(id), seal_json(self.key(), &proof)?).await?;
        self.clear_damage(id).await
    }

    /// Records that a snapshot was found damaged.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn record_damage(&self, id: &SnapshotId, mark: &DamageMark) -> Result<()> {
        self.sink().put_bytes(&layout::damage(id), seal_json(self.key(), mark)?).await?;
        Ok(())
    }

    /// Removes the mark of a snapshot that was found intact, if it has one.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn clear_damage(&self, id: &SnapshotId) -> Result<()> {
        let key = layout::damage(id);
        if self.sink().exists(&key).await? {
            self.sink().delete_one(&key).await?;
        }
        Ok(())
    }

    /// The marks of snapshots whose newest evidence is a finding of damage: reads each.
    ///
    /// # Errors
    /// Errors of the sink.
    pub async fn damage_marks(&self) -> Result<BTreeMap<SnapshotId, DamageMark>> {
        let mut marks = BTreeMap::new();
        for id in self.damaged().await? {
            if let Some(mark) = self.damage_mark(&id).await? {
                marks.insert(id, mark);
            }
        }
        Ok(marks)
    }

    /// The snapshots whose newest evidence is a finding of damage: one listing.
    ///
    /// # Errors
    /// Errors of the sink.
    pub async fn damaged(&self) -> Result<BTreeSet<SnapshotId>> {
        self.named(&layout::all_damage()).await
    }

    /// The mark of a snapshot, if it has one. A mark that cannot be read counts as one of `check`,
    /// found at the beginning of time.
    ///
    /// # Errors
    /// Errors of the sink.
    pub async fn damage_mark(&self, id: &SnapshotId) -> Result<Option<DamageMark>> {
        let sealed = match self.sink().get_bytes(&layout::damage(id)).await {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == SinkErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let unreadable = |_| DamageMark {
            found: Timestamp::UNIX_EPOCH,
            by: "check".to_owned(),
            by_content: true,
            problems: None,
        };
        Ok(Some(open_json(self.key(), &sealed).unwrap_or_else(unreadable)))
    }

    /// The snapshots whose newest evidence is a verification without problems.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn verified(&self) -> Result<BTreeSet<SnapshotId>> {
        let damaged = self.damaged().await?;
        let mut verified = self.named(&layout::proofs()).await?;
        verified.retain(|id| !damaged.contains(id));
        Ok(verified)
    }

    /// Removes the proofs, marks and adoptions of snapshots that are gone for good: neither listed
    /// nor lost, and not to be brought back by undoing a forget. Returns the number of removed objects.
    ///
    /// # Errors
    /// Errors of the sink.
    pub async fn thin_out_evidence(&self) -> Result<usize> {
        // Listed first: each snapshot with evidence existed before.
        let mut evidence = Vec::new();
        for prefix in [layout::proofs(), layout::all_damage(), layout::adoptions()] {
            evidence.extend(self.sink().list_all(&prefix).await?);
        }
        if evidence.is_empty() {
            return Ok(0);
        }
        let mut alive = BTreeSet::new();
        for prefix in [layout::snapshots(), layout::snapshot_receipts(), layout::all_forgotten()] {
            alive.extend(self.named(&prefix).await?);
        }
        let mut removed = 0;
        for meta in evidence {
            let id = meta.key.file_name().parse::<SnapshotId>();
            if id.is_ok_and(|id| !alive.contains(&id)) {
                self.sink().delete_one(&meta.key).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The snapshots that objects below a prefix are named after.
    async fn named(&self, prefix: &Prefix) -> Result<BTreeSet<SnapshotId>> {
        let named = self.sink().list_all(prefix).await?;
        Ok(named.iter().filter_map(|meta| meta.key.file_name().parse().ok()).collect())
    }
}
