//! Objects at the target of a restore that the snapshot lacks, and that are removed.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Removal of objects at the target that the snapshot lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Delete {
    /// Remove none of them.
    #[default]
    Nothing,
    /// Remove those that the backup saw to be absent, and the doubtful ones of these kinds.
    Absent(Doubtful),
    /// Remove those with these names: the objects of a database that a plan listed.
    Planned(BTreeSet<String>),
    /// Remove those of [`Self::Absent`] that a plan of files counted.
    PlannedFiles(Arc<PlannedPaths>, Doubtful),
}

impl Delete {
    /// Removal of the objects that the backup saw to be absent, and of no doubtful one.
    pub const ABSENT: Self = Self::Absent(Doubtful { excluded: false, unknown: false });

    /// The kinds of doubtful entries that are removed; `None` if nothing is.
    #[must_use]
    pub fn doubtful(&self) -> Option<Doubtful> {
        match self {
            Self::Nothing => None,
            Self::Absent(doubtful) | Self::PlannedFiles(_, doubtful) => Some(*doubtful),
            Self::Planned(_) => Some(Doubtful::default()),
        }
    }
}

/// Kinds of files that may have been there when the backup ran, and that are removed nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubtful {
    /// Entries that the backup left out by choice.
    pub excluded: bool,
    /// Entries that the backup could not read, and all entries if the snapshot has no record of
    /// skipped ones.
    pub unknown: bool,
}

/// The paths that a plan removes, as hashes of 16 bytes: there may be millions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlannedPaths(Vec<u128>);

impl PlannedPaths {
    /// The paths with these hashes.
    #[must_use]
    pub fn new(mut hashes: Vec<u128>) -> Self {
        hashes.sort_unstable();
        Self(hashes)
    }

    /// True if the path with this hash is one of them.
    #[must_use]
    pub fn contains(&self, hash: u128) -> bool {
        self.0.binary_search(&hash).is_ok()
    }
}
