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
//! | `since.rs` | incremental and differential snapshots |
//! | `places.rs` | where every master is in its stream, as a place in the log of the cluster |
//! | `capture.rs` | following the streams of all masters for the log lane |
//! | `window.rs` | windows of received events, and segments |
//! | `stream.rs` | the stream of one of them |
//!
//! There is no moment of a whole cluster: each node's dump is of a moment of its own, within
//! seconds of the others. A key must not be on its way from one node to another meanwhile: it may
//! then be in both dumps or in none, so that this is refused.

mod backup;
mod capture;
mod discover;
mod places;
mod since;
mod slots;
mod stream;
mod topology;
mod window;

#[cfg(test)]
mod tests;

pub(super) use backup::{databases, full};
pub(super) use capture::open;
pub(super) use discover::Cluster;
pub(super) use places::{CLOCKS, Place, end_of};
pub(super) use since::since;
pub(super) use slots::{Slots, slot_of};
