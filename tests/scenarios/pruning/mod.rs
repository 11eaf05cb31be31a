//! Pruning on real stores, beside others, and what other tools make of it.
//!
//! | file | what is in it |
//! |---|---|
//! | `beside.rs` | beside five writers and a restore |
//! | `interop.rs` | stock restic after our prune, and ours after rustic's |
//! | `late.rs` | a backup that was out of touch for hours lists what is deleted |
//! | `locks.rs` | locks of stock restic |
//! | `object_lock.rs` | objects that the store has locked |

mod beside;
mod interop;
mod late;
mod locks;
mod object_lock;

use std::time::Duration;

use backup_core::context::Context;
use backup_core::id::SnapshotId;
use backup_core::maintenance::{MaxUnused, PruneOptions, PruneReport, prune};

use crate::support::repo::Repo;

/// Nothing unneeded may stay.
fn thorough(grace: Duration) -> PruneOptions {
    PruneOptions { grace, max_unused: MaxUnused::Percent(0.0), ..PruneOptions::default() }
}

impl Repo {
    /// Prunes, with success.
    async fn prune(&self, options: &PruneOptions) -> PruneReport {
        let pruned = prune(&self.repository, options, &Context::silent()).await;
        pruned.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    async fn forget(&self, id: SnapshotId) {
        let forgotten = self.repository.forget(&[id], &Context::silent()).await;
        forgotten.unwrap_or_else(|error| panic!("{}", error.chain()));
    }
}
