//! Clusters: all masters together, wherever one node of them is named.
//!
//! ```text
//!  a node ─▶ CLUSTER NODES ─▶ each master: what it says of itself ─▶ PSYNC to all ─▶ nothing was moved? ─▶ dumps, one for each
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a map |
//! | `slots.rs` | which slot a key belongs to; sets of slots |
//! | `topology.rs` | what a node says of the cluster |
//! | `discover.rs` | [`Cluster`]: who has what, as all masters agree; refusals |
//! | `backup.rs` | snapshots and digests |
//!
//! There is no moment of a whole cluster: each node's dump is of a moment of its own, within seconds of the others. A key must not be
//! on its way from one node to another meanwhile: it may then be in both dumps or in none, so that this is refused.

mod backup;
mod discover;
mod slots;
mod topology;

#[cfg(test)]
mod tests;

pub(super) use backup::{digest, full};
pub(super) use discover::Cluster;
pub(super) use slots::{Slots, slot_of};
