//! Cutting streams into chunks.
//!
//! | file | what is in it |
//! |---|---|
//! | `gear.rs` | [`Gear`]: the hash table and cut search of FastCDC |
//! | `stream.rs` | [`StreamChunker`]: feeds bytes in, takes chunks out with the memory that they were collected in |
//!
//! Readers never look at how a stream was cut. The gear table comes from a random seed of the
//! repository, so that the sizes of stored chunks tell nobody which public files are in it.

mod gear;
mod stream;

pub use gear::Gear;
pub use stream::{Chunk, StreamChunker};

/// Smallest chunk except at the end of a stream, bytes.
pub const MIN_CHUNK: usize = 512 << 10;
/// Size that content-defined chunks aim at, bytes.
pub const TARGET_CHUNK: usize = 1 << 20;
/// Largest content-defined chunk, bytes.
pub const MAX_CHUNK: usize = 4 << 20;
/// Largest chunk of any kind, bytes: restic reads blobs up to this size without complaint.
pub const MAX_FIXED_CHUNK: u32 = 8 << 20;
