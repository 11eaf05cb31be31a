//! Sinks: where repositories are kept.
//!
//! | file | what is in it |
//! |---|---|
//! | [`local`] | [`LocalSink`]: objects as files below a directory |
//! | [`object`] | [`ObjectSink`]: objects in S3, Google Cloud Storage, Azure Blob Storage |
//! | [`resolver`] | from an address to a sink: [`open`](resolver::open), [`create`](resolver::create) |
//! | `location.rs` | [`Location`]: the address |
//! | [`settings`] | [`StoreSettings`]: how a store is reached |
//! | [`retry`] | [`RetrySink`]: the one layer that tries again |
//! | [`limit`] | [`LimitSink`]: so many bytes per second |
//! | [`http`] | an HTTP client like that of the stores, for others |
//! | `credentials/` | credentials of S3, from wherever they are |
//! | `wire/` | every request and response of an object store: time-outs, signatures, checks |
//!
//! Every sink proves itself with `backup_core::testing::sink_conformance`.

mod credentials;
pub mod http;
pub mod limit;
pub mod local;
mod location;
pub mod object;
pub mod resolver;
pub mod retry;
pub mod settings;
mod wire;

pub use limit::LimitSink;
pub use local::LocalSink;
pub use location::Location;
pub use object::{ObjectSink, RefusedCredentials};
pub use retry::{RetryPolicy, RetrySink};
pub use settings::StoreSettings;
