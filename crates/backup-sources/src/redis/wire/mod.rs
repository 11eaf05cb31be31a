//! Connections to a server: requests, bulk pipelines and replication.
//!
//! The `redis` crate encodes requests, reads their replies and matches them. It has no PSYNC and
//! never returns the stream that it was given, so connections of replicas and of pipelines are our
//! own. All connections share one dial, so TLS, time-outs and logins are the same for all.
//!
//! ```text
//!             ┌─▶ Client          the crate's connection over Guard: requests and replies
//!  Endpoint ──┼─▶ Replication     handshake, dump, stream of commands
//!   dial()    └─▶ RawConnection   many commands at once: RESTORE, DUMP, verification
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | a map |
//! | `endpoint.rs` | [`Endpoint`]: a server, and each kind of connection to it |
//! | `socket.rs` | TCP, plain or TLS; Unix sockets |
//! | `mismatch.rs` | plain ports named for TLS, TLS ports named without, client certificates |
//! | `login.rs` | AUTH, and errors without its passwords |
//! | `client.rs` | [`Client`]: requests and replies |
//! | `guard.rs` | limits on the replies that the crate reads |
//! | `raw.rs` | [`RawConnection`]: bytes, and single-line replies |
//! | `resp.rs` | [`Reply`]: the codec of pipelines and of the log |
//! | `replication.rs` | [`Replication`]: the handshake, a dump, the stream of commands |
//!
//! The protocol is RESP 2, described in the documentation of Redis and of Valkey; that of replicas
//! in `replication.c`.

mod client;
mod endpoint;
mod guard;
mod login;
mod mismatch;
mod raw;
mod replication;
mod resp;
mod socket;

pub(super) use client::Client;
pub(super) use endpoint::Endpoint;
pub(super) use raw::{RawConnection, silent};
pub(super) use replication::{Dump, Replication, Sync};
pub(super) use resp::{Reply, parse_reply, push_command};
pub(super) use socket::{Duplex, acceptor};
