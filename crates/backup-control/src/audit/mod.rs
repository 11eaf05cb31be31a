//! The audit log: who did what, when, and what came of it. One line of JSON for each action, each
//! with a hash over itself and the line before: what was changed, removed or put elsewhere is
//! found. How far the chain has got is noted in the repositories
//! ([`Anchor`](backup_core::maintenance::Anchor)): so is found what was cut off its end.
//!
//! | file | what is in it |
//! |---|---|
//! | `record.rs` | [`Record`]: an action; [`Class`], [`Status`] |
//! | `line.rs` | a record as a line of the file, its hashes, and what is left of one whose time is over |
//! | `file.rs` | [`Audit`]: adding and reading records |
//! | `retain.rs` | removing what records whose time is over said, without breaking the chain |
//! | `syslog.rs` | each record as a line of the system log |
//! | `announce.rs` | positions of the newest anchor and of the newest announced record |
//! | `behalf.rs` | on whose behalf a process works that a daemon has started |
//! | `configuration.rs` | recording that a configuration file was changed |
//! | `standing.rs` | [`standing`]: what verifications of a repository have come to |
//! | `words.rs` | command lines without secrets |
//! | `verify.rs` | [`Verdict`]: whether the chain is whole |
//!
//! ```text
//!  sequence ┐
//!  time     ├─▶ hash ─▶ next line's `previous`
//!  class    │
//!  previous ┤            operation, user, host, status, details
//!  content  ┘◀─ hash ──────────────────────┘   (these go when their time is over; the hash of them stays)
//! ```

mod announce;
mod behalf;
mod configuration;
mod file;
mod line;
mod record;
mod retain;
mod standing;
mod syslog;
#[cfg(test)]
mod tests;
mod verify;
mod words;

pub use behalf::{USER_VARIABLE, is_name};
pub use file::{Appended, Audit, Error, Filter, Found, Head};
pub(crate) use line::hex;
pub use record::{Class, Record, Status};
pub use retain::Retained;
pub use standing::{DAMAGE, found_damage, standing};
pub use syslog::SYSLOG_VARIABLE;
pub use verify::{Against, Finding, Verdict};
pub use words::{without_passwords, without_secrets};
