//! What keeps a repository healthy for years.
//!
//! | file | what is in it |
//! |---|---|
//! | `holds.rs` | what nobody may forget |
//! | `proofs.rs` | notes that a snapshot was verified |
//! | `cleanup.rs` | [`plan_cleanup`]: a retention policy applied to a repository |
//! | `forget.rs` | forgetting snapshots, and bringing them back |
//! | `keys.rs` | pass phrases and key files |
//! | `prune/` | [`prune`]: giving back the space of what nothing needs |
//! | `repair/` | [`repair`]: mending what can be mended |
//! | `storage.rs` | [`storage`]: how much is stored, of what, and how it grows |

mod cleanup;
mod forget;
mod holds;
mod keys;
mod proofs;
mod prune;
mod repair;
mod storage;

pub use cleanup::{CleanupPlan, PlannedSnapshot, plan_cleanup};
pub use forget::Forgotten;
pub use keys::KeyRotation;
pub use prune::{MaxUnused, PruneOptions, PruneReport, prune};
pub use repair::{Repair, RepairOptions, RepairReport, repair};
pub use storage::{ObjectTotals, StorageReport, Usage, storage};

/// The lease that whoever deletes packs, or brings back what may be deleted, has to hold.
const PRUNE_LEASE: &str = "prune";
