//! Tokens: who may use the API besides those who can open its Unix socket, as what, and for how
//! long.
//!
//! ```text
//!  backupd token create ─▶ the token, shown once        Authorization: Bearer ─▶ Checker ─▶ name and role
//!            └─▶ its SHA-256, name, role, expiry ─▶ tokens.json ──────────────────▲
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `role.rs` | [`Role`]: who may do what |
//! | `secret.rs` | [`Secret`]: a token; its hash |
//! | `store.rs` | [`Tokens`]: the file, and changing it |
//! | `checker.rs` | [`Checker`]: whose token it is, for a server |
//! | `command.rs` | `backupd token` |

mod checker;
mod command;
mod role;
mod secret;
mod store;

pub use checker::{Checker, Known};
pub use command::{Messages, Place, TokenArgs, run};
pub use role::Role;
pub use secret::Secret;
pub use store::{Entry, Error, FILE, Tokens};
