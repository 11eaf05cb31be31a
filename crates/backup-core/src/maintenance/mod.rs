//! What keeps a repository healthy for years.
//!
//! | file | what is in it |
//! |---|---|
//! | `anchors.rs` | [`Anchor`]: how far chains of audit records had got |
//! | `holds.rs` | what nobody may forget |
//! | `proofs.rs` | the newest evidence about snapshots: verified, or found damaged |
//! | `cleanup.rs` | [`plan_cleanup`]: a retention policy applied to a repository |
//! | `forget.rs` | forgetting snapshots, and bringing them back |
//! | `keys.rs` | pass phrases and key files |
//! | `migrate.rs` | [`migrate`]: format 1 becomes format 2 |
//! | `prune/` | [`prune`]: giving back the space of what nothing needs |
//! | `repair/` | [`repair`]: mending what can be mended |
//! | `runs.rs` | notes of runs, for other machines |
//! | `storage.rs` | [`storage`]: how much is stored, of what, and how it grows |

mod anchors;
mod cleanup;
mod forget;
mod holds;
mod keys;
mod migrate;
mod proofs;
mod prune;
mod repair;
mod runs;
mod storage;

pub use anchors::Anchor;
pub use cleanup::{CleanupEvidence, CleanupPlan, PlannedSnapshot, plan_cleanup, require_available};
pub use forget::Forgotten;
pub use keys::KeyRotation;
pub use migrate::{Migration, migrate};
pub use proofs::DamageMark;
pub use prune::{MaxUnused, PruneOptions, PruneReport, prune};
pub use repair::{Repair, RepairOptions, RepairReport, accept_loss, find_packs, repair};
pub use runs::RunNotes;
pub use storage::{ObjectTotals, RESERVE, StorageReport, Usage, storage, storage_of};

use crate::context::Context;
use crate::error::Result;
use crate::repository::{KeptLease, Lease, LeaseOptions, Repository};

/// The lease that whoever deletes packs, or brings back what may be deleted, has to hold. `holder`
/// is who that is, for people.
async fn prune_lease(repository: &Repository, holder: &str, cx: &Context) -> Result<KeptLease> {
    let options = LeaseOptions { holder: holder.to_owned(), ..LeaseOptions::default() };
    Ok(Lease::acquire(repository, "prune", &options, cx).await?.keep())
}
