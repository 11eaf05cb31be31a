//! For tests: sinks that forget, count or fail, a source that follows a script, and the suites by which every sink and
//! every source proves itself. Not covered by semantic versioning.
//!
//! | file | what is in it |
//! |---|---|
//! | `memory_sink.rs` | [`MemorySink`]: objects in memory, as strict as the contract allows |

#![expect(
    clippy::panic,
    reason = "a check that fails ends the test with a message; there is no caller to return an error to"
)]

mod memory_sink;

pub use memory_sink::MemorySink;
