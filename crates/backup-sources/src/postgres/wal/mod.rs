//! The log: capturing it, and finding moments in it.
//!
//! ```text
//!  START_REPLICATION ─▶ follower.rs (a task: hosts, timelines, slot) ─▶ capture.rs ─▶ log lane
//!                          └ records.rs: checksums, times of commits
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a map |
//! | `pages.rs` | from a stream of pages to the bytes of records |
//! | `records.rs` | [`Records`]: records with their checksums, and what they say of transactions; settings of the server |
//! | `changes.rs` | what a record changes of relations' files |
//! | `history.rs` | histories of timelines |
//! | `known.rs` | which histories a log must have |
//! | `capture.rs` | the log reader |
//! | `follower.rs` | the task behind it |
//! | `find.rs` | the server that it follows |
//! | `upstream.rs` | what a standby heard from the server that writes |
//! | `file.rs` | [`WalFile`]: segments that the server hands over as files |
//! | `fetch.rs` | [`fetch_wal`]: segments for a server that asks for them |
//! | `slot.rs` | the replication slot: making it, and how it is |

mod capture;
mod changes;
mod fetch;
mod file;
mod find;
mod follower;
mod history;
mod known;
mod pages;
mod records;
mod slot;
mod upstream;

pub(super) use capture::{open, require_lineage};
pub(super) use changes::{Change, KNOWN, MAIN, RelationFile, changes};
pub use fetch::fetch_wal;
pub use file::{WalFile, system_id_of};
pub(super) use history::History;
pub(super) use pages::PAGE as WAL_PAGE;
pub(super) use records::{Event, Moment, REPLAY_SETTINGS, Records, ServerLimits, is_shutdown};
pub(super) use slot::health;
pub use slot::{SlotHealth, SlotState};
