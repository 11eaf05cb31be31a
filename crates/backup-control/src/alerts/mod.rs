//! Alerts: rules of the configuration, held against what is known of jobs and repositories; who is
//! concerned is told once when something begins, again while it lasts, and when it is over.
//!
//! ```text
//!  catalog, audit log, repositories ─▶ Facts ─▶ rules ─▶ Observation ─▶ Ledger (who was told what) ─▶ Message ─▶ notify
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `condition.rs` | [`Condition`]: what a rule watches, as text |
//! | `facts.rs` | [`Facts`]: what is known, and finding it out |
//! | `rules.rs` | [`observe`]: what a rule sees in the facts |
//! | `configuration.rs` | what a rule sees of the configuration of the daemon |
//! | `slots.rs` | [`SlotFacts`]: replication slots, and what a rule sees in them |
//! | `events.rs` | what is told once: restores that begin, backups that succeed |
//! | `alert.rs` | [`Alert`]: what fires, since when, and what is told of it |
//! | `ledger.rs` | [`Ledger`]: all alerts, silences, when was looked |
//! | `watch.rs` | [`look`]: all of it once |
//! | `tests.rs` | each rule, from its beginning to its end |
//!
//! What is not known neither begins nor ends an alert.

mod alert;
mod condition;
mod configuration;
mod events;
mod facts;
mod ledger;
mod rules;
mod slots;
#[cfg(test)]
mod tests;
mod watch;

pub use alert::{Alert, Phase};
pub use condition::{About, Condition, SlotLimit};
pub use configuration::CONFIGURATION;
pub use events::tell;
pub use facts::{Done, Facts, JobFacts, LogFacts, RepositoryFacts, StorageFacts};
pub use ledger::{Error, Ledger, Silence};
pub use rules::{DAEMON, Observation, observe};
pub use slots::{SlotFacts, SlotState, jobs_with_slots, slot_of};
pub use watch::{Looked, look};
