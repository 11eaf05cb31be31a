//! Talking to a server. Client libraries have no PSYNC and never hand their connection back, so
//! this one is our own; it does everything else as well.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a map |
//! | `socket.rs` | TCP, plain or TLS; sockets of this machine |
//! | `resp.rs` | [`Reply`]: replies out of bytes, every length checked; commands to bytes |
//! | `connection.rs` | [`Connection`]: who we are; commands and their replies |
//! | `replication.rs` | being a replica: the handshake, a dump on its way, the stream of commands |
//!
//! The protocol is RESP 2, described in the documentation of Redis and of Valkey; that of replicas
//! in `replication.c`.

mod connection;
mod replication;
mod resp;
mod socket;

pub(super) use connection::{Connection, silent};
pub(super) use replication::{Dump, Replication, Sync};
pub(super) use resp::{Reply, command, parse_reply, push_command};
pub(super) use socket::{Duplex, acceptor};
