//! Reading blobs and snapshots. Everything read is verified by its hash.
//!
//! | file | what is in it |
//! |---|---|
//! | `blob.rs` | [`BlobReader`]: one blob at a time, trees through a small cache of pack windows |
//! | `fetch.rs` | many blobs at once, in the order in which they are stored |
//! | `snapshot.rs` | [`SnapshotReader`]: trees, paths, file contents of one snapshot |
//! | `walk.rs` | [`TreeWalk`]: all nodes of a snapshot in order |

mod blob;
mod fetch;
mod snapshot;
mod walk;

pub(crate) use blob::{BlobReader, Decoded, decode_with};
pub use snapshot::SnapshotReader;
pub use walk::TreeWalk;
