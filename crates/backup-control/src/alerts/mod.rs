//! Alerts: rules of the configuration are evaluated against facts about jobs and repositories. Each
//! alert notifies when it begins, repeats while it lasts, and notifies once more when it ends.
//!
//! ```text
//!  catalog, audit log, repositories ─▶ Facts ─▶ rules ─▶ Observation ─▶ Ledger (alerts, silences) ─▶ Message ─▶ notify
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `condition.rs` | [`Condition`]: the condition of a rule, as text |
//! | `scope.rs` | [`Scope`]: jobs and repositories of a configuration; [`Affected`]: those that a command changed |
//! | `facts.rs` | [`Facts`]: the values that rules compare |
//! | `sizes.rs` | [`SizeFacts`]: usual sizes of backups |
//! | `rules.rs` | [`observe`]: evaluates a rule |
//! | `of_job.rs`, `of_repository.rs` | rules about jobs, about repositories |
//! | `configuration.rs` | the rule about the configuration of the daemon |
//! | `slots.rs` | [`SlotFacts`]: replication slots, and the rule about them |
//! | `events.rs` | rules about events: restores, backups that succeed |
//! | `alert.rs` | [`Alert`]: a pending or firing alert, and its messages |
//! | `silence.rs` | [`Silence`] |
//! | `suppressed.rs` | the rule about silences and pauses that last |
//! | `ledger.rs` | [`Ledger`]: all alerts, silences, earlier evaluations |
//! | `store.rs`, `legacy.rs` | the file of the ledger; its earlier forms |
//! | `watch.rs` | [`look`]: one evaluation of all rules |
//! | `tests/` | each rule, from its beginning to its end |
//!
//! An unknown value neither begins nor ends an alert.

mod alert;
mod condition;
mod configuration;
mod events;
mod facts;
mod ledger;
mod legacy;
mod of_job;
mod of_repository;
mod rules;
mod scope;
mod silence;
mod sizes;
mod slots;
mod store;
mod suppressed;
#[cfg(test)]
mod tests;
mod watch;

pub use alert::{Alert, Phase};
pub use condition::{About, Condition, SlotLimit};
pub use configuration::CONFIGURATION;
pub use events::tell;
pub use facts::{Done, Facts, JobFacts, LogFacts, RepositoryFacts, StorageFacts};
pub use ledger::Ledger;
pub use rules::{DAEMON, Observation, observe};
pub use scope::{Affected, Scope};
pub use silence::{MAX_SILENCE_DAYS, Silence};
pub use sizes::SizeFacts;
pub use slots::{SlotFacts, SlotState, jobs_with_slots, slot_of};
pub use store::Error;
pub use suppressed::Suppression;
pub use watch::{Looked, look};
