//! Talking to a server: connections for replication of our own, because no client library has them,
//! and for SQL.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a map |
//! | `socket.rs` | [`Socket`]: TCP or Unix, plain or TLS; which host answers |
//! | `watch.rs` | limits on the silence of the server, by the state of the protocol |
//! | `tls.rs` | what `sslmode` asks for, channel binding |
//! | `frame.rs` | from bytes to messages, every length checked |
//! | `limits.rs` | limits on the messages of a server |
//! | `login.rs` | the methods and the cost of a login |
//! | `startup.rs` | saying who we are: SCRAM-SHA-256(-PLUS), and what is weaker by policy |
//! | `connection.rs` | [`Connection`]: commands of the replication protocol and their results |
//! | `replication.rs` | slots, identity, histories of timelines |
//! | `base_backup.rs` | BASE_BACKUP in both dialects |
//! | `wal_stream.rs` | START_REPLICATION |
//! | `sql.rs` | the same sockets for SQL |
//!
//! The protocol is described in PostgreSQL's documentation, chapter “Frontend/Backend Protocol”.

mod base_backup;
mod connection;
mod frame;
mod limits;
mod login;
mod replication;
mod socket;
mod sql;
mod startup;
mod tls;
mod wal_stream;
mod watch;

pub(super) use base_backup::{BackupEvent, BackupStream, BaseBackup, Tablespace};
pub(super) use connection::{Connection, Tries, timely};
pub(super) use login::MethodRefused;
pub(super) use replication::{Slot, System};
pub(super) use sql::Sql;
pub(super) use wal_stream::{WalEvent, WalStream};
