//! Tests of the files source through its public interface.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

mod absent;
mod common;
mod conflicts;
mod content;
mod damage;
mod failures;
mod links_above;
mod restore;
mod walk;
