//! What the benches share.
//!
//! | file | what is in it |
//! |---|---|
//! | `process.rs` | what the system says of processes: CPU seconds, memory |
//! | `data.rs` | data that is the same on every machine |
//! | `synthetic.rs` | a repository of very many blobs: its index objects, and nothing else |

pub mod data;
mod process;
pub mod synthetic;

pub use process::{cpu_of, cpu_of_children, kilobytes, peak};

/// What fails here is told and ends the bench.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
