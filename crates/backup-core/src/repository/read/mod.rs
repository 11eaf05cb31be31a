//! Reading blobs and snapshots. Everything read is verified by its hash.
//!
//! | file | what is in it |
//! |---|---|
//! | `blob.rs` | [`BlobReader`]: one blob at a time, trees through a small cache of pack windows |
//! | `decode.rs` | opening sealed blobs: each is checked against its name |
//! | `fetch.rs` | many blobs at once, in the order in which they are stored |
//! | `settled.rs` | blobs of which index objects state several lengths |
//! | `skipped.rs` | the list of the entries that a backup left out |
//! | `snapshot.rs` | [`SnapshotReader`]: trees, paths, file contents of one snapshot |
//! | `walk.rs` | [`TreeWalk`]: all nodes of a snapshot in order |

mod blob;
mod decode;
mod fetch;
mod settled;
mod skipped;
mod snapshot;
mod walk;

pub(crate) use blob::BlobReader;
pub(crate) use decode::{Decoded, decode_with, verify_blob};
pub(crate) use settled::Settled;
pub use snapshot::SnapshotReader;
pub use walk::TreeWalk;
