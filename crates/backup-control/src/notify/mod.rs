//! Telling people and programs what happened.
//!
//! ```text
//!  Message ─▶ Channels::route ─▶ Outbox::put, a file per message and channel ─▶ Outbox::deliver ─▶ Channels::send ─▶ kinds/
//!                                    │ known already: nothing                       │ ok: remembered, gone
//!                                    ▼                                              │ not now: later, with growing pauses
//!                               <state>/outbox/                                     ▼ never: <state>/outbox/failed/
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `message.rs` | [`Message`]: what people are told, and its words |
//! | `template.rs` | bodies with placeholders |
//! | `check.rs` | what makes no sense in the configuration of a channel |
//! | `channels.rs` | [`Channels`]: from a message to those who want it; sending one |
//! | `secret.rs` | secrets of channels, which are fetched when they are needed, and never shown |
//! | `kinds/` | one file per kind of channel |
//! | `outbox/` | [`Outbox`]: nothing is lost, and nothing goes out twice |
//!
//! To add a kind of channel: its keys in `config/notify.rs` and `check.rs`, a file in `kinds/`, a
//! line in `channels.rs`, its row in `docs/notify.md`, a test that looks at every byte that it
//! sends.

mod channels;
mod check;
mod kinds;
mod message;
mod outbox;
mod secret;
mod template;

pub use channels::{Channels, NotSent};
pub use message::{Kind, Message, Severity};
pub use outbox::{Delivered, Entry, GivenUp, Outbox, Put, Sent, StillWaiting};

pub(crate) use check::{mistake, patterns};
