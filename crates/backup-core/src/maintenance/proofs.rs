//! Notes that a snapshot was verified.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;
use crate::format::seal_json;
use crate::id::SnapshotId;
use crate::pipeline::VerifyLevel;
use crate::repository::{Repository, layout};
use crate::sink::SinkOps;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Proof {
    verified: Timestamp,
    level: VerifyLevel,
}

impl Repository {
    /// Notes that a snapshot was verified and found to be sound: retention never drops the newest
    /// such one of a job.
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
        Ok(())
    }

    /// The snapshots that were verified.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn verified(&self) -> Result<BTreeSet<SnapshotId>> {
        let named = self.sink().list_all(&layout::proofs()).await?;
        Ok(named.iter().filter_map(|meta| meta.key.file_name().parse().ok()).collect())
    }
}
