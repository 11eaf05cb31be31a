//! What is asked of a repair, and what it did.

use serde::Serialize;

use crate::check::Problem;
use crate::id::PackId;
use crate::repository::{Repository, WriteSettings};

/// How to repair.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// Copies of the repository, or of parts of it, to take from what is lost here. Their keys may
    /// differ.
    pub from: Vec<Repository>,
    /// Packs to give up in any case, once their readable blobs are in other packs.
    pub packs: Vec<PackId>,
    /// Read all data to find damage that sizes do not show.
    pub read_data: bool,
    /// How blobs are stored.
    pub write: WriteSettings,
    /// Who repairs, for people.
    pub holder: String,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Something that was mended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Repair {
    /// What was damaged, for instance `pack 1234abcd`.
    pub object: String,
    /// What became of it.
    pub what: String,
}

/// What a repair did, or would do in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RepairReport {
    /// What was mended.
    pub repaired: Vec<Repair>,
    /// What is lost for good, and which snapshots and paths that affects.
    pub lost: Vec<Problem>,
    /// Whether nothing was changed.
    pub dry_run: bool,
}
