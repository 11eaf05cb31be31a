//! What the benches share.
//!
//! | file | what is in it |
//! |---|---|
//! | `args.rs` | arguments |
//! | `tools.rs` | programs: ours and those of others |
//! | `process.rs` | what the system says of processes: CPU seconds, memory |
//! | `timed.rs` | what a command costs |
//! | `report.rs` | tables, ratios, and whether what was to be reached was |
//! | `data.rs` | data that is the same on every machine |
//! | `synthetic.rs` | a repository of very many blobs: its index objects, and nothing else |

mod args;
pub mod data;
mod process;
mod report;
pub mod synthetic;
mod timed;
pub mod tools;

pub use args::Args;
pub use process::{ALLOCATOR, cpu_of, cpu_of_children, kilobytes, peak, user_of};
pub use report::{Bar, Judged, Measure, Report, Row};
pub use timed::{Cost, numbers, timed, untimed};

/// What fails here is told and ends the bench.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
