//! What is asked of a prune, and what it did.

use std::time::Duration;

use serde::Serialize;

use crate::repository::WriteSettings;

/// How much unneeded data may stay in packs that are needed otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// So many percent of what is needed.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// Any amount: only packs that nothing needs at all are given up.
    Unlimited,
}

impl MaxUnused {
    pub(super) fn of(self, used: u64) -> u64 {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss
            )]
            Self::Percent(percent) => (used as f64 * percent.max(0.0) / 100.0) as u64,
            Self::Bytes(bytes) => bytes,
            Self::Unlimited => u64::MAX,
        }
    }
}

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// How long marked packs stay before they are deleted.
    pub grace: Duration,
    /// How much unneeded data is not worth the work.
    pub max_unused: MaxUnused,
    /// Most bytes to move into new packs in one run.
    pub max_repack: Option<u64>,
    /// No more packs are moved after this time; what was moved by then counts.
    pub max_time: Option<Duration>,
    /// How new packs are stored.
    pub write: WriteSettings,
    /// Who prunes, for people.
    pub holder: String,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    /// A grace period of a day, and 5 % unneeded data.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(24 * 60 * 60),
            max_unused: MaxUnused::Percent(5.0),
            max_repack: None,
            max_time: None,
            write: WriteSettings::default(),
            holder: String::new(),
            dry_run: false,
        }
    }
}

/// What a prune found and did; in a dry run, what it would do. Bytes are stored bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PruneReport {
    /// Snapshots whose data is needed.
    pub snapshots: u64,
    /// Packs before the run, without those that were marked before.
    pub packs: u64,
    /// Their size.
    pub bytes: u64,
    /// Bytes in them that snapshots need.
    pub used_bytes: u64,
    /// Bytes in them that no snapshot needs.
    pub unused_bytes: u64,
    /// Packs that this run marked for deletion, those that were moved included.
    pub marked_packs: u64,
    /// Their size.
    pub marked_bytes: u64,
    /// Packs that were marked earlier and are not due yet.
    pub waiting_packs: u64,
    /// Their size.
    pub waiting_bytes: u64,
    /// What deleting waits for, in sentences.
    pub waits_for: Vec<String>,
    /// Packs that were marked earlier and are needed again.
    pub recovered_packs: u64,
    /// Packs whose needed part was moved into new packs.
    pub repacked_packs: u64,
    /// Bytes that were moved.
    pub repacked_bytes: u64,
    /// Packs that were deleted.
    pub deleted_packs: u64,
    /// Their size.
    pub deleted_bytes: u64,
    /// Packs that could be deleted but that the store has locked.
    pub locked_packs: u64,
    /// Objects in `x-quarantine/`, which repairs had replaced, that were deleted.
    pub quarantined_deleted: u64,
    /// Objects in `x-quarantine/` whose grace period is not over.
    pub quarantined_waiting: u64,
    /// Uploads in parts that killed sessions left in the store, and that were removed.
    pub cleared_uploads: u64,
    /// Index objects before the run.
    pub index_objects_before: u64,
    /// Index objects after it.
    pub index_objects_after: u64,
    /// Whether nothing was changed.
    pub dry_run: bool,
}
