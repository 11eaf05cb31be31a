//! Sinks: where repositories are kept.
//!
//! | file | what is in it |
//! |---|---|
//! | [`local`] | [`LocalSink`]: objects as files below a directory |
//! | [`resolver`] | from an address to a sink: [`Location`], [`open`](resolver::open), [`create`](resolver::create) |
//! | [`retry`] | [`RetrySink`]: the one layer that tries again |
//!
//! Every sink proves itself with `backup_core::testing::sink_conformance`.

pub mod local;
pub mod resolver;
pub mod retry;

pub use local::LocalSink;
pub use resolver::Location;
pub use retry::{RetryPolicy, RetrySink};
