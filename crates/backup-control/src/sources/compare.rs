//! Comparison of a snapshot with a server, without restoring it.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotReader;
use backup_core::source::{Digest, Selection};

use super::flags::LOGICAL;
use super::{ScratchFlags, SourceSpec, restore};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::snapshots::Now;

/// Settings of a comparison.
#[derive(Debug, Clone, Default)]
pub struct CompareFlags {
    /// The objects to compare.
    pub selection: Selection,
    /// The moment, if only the source knows whether the snapshot stands for it.
    pub until: Option<String>,
    /// Where and how a scratch server runs, for physical backups of PostgreSQL.
    pub scratch: ScratchFlags,
}

/// Digests of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// In the snapshot, at its moment.
    pub stored: Digest,
    /// On the server, now.
    pub found: Digest,
    /// Number of warnings about parts that could not be compared.
    pub warnings: u64,
}

/// Compares `snapshot`, with `log` applied, with the data of `server`.
///
/// # Errors
/// [`Error::Invalid`] if the server is of another kind, or snapshots of this kind cannot be
/// compared; those of reading either side.
pub async fn compare(
    snapshot: &SnapshotReader,
    log: Option<Arc<LogReplay>>,
    server: &SourceSpec,
    flags: &CompareFlags,
    (now, env): (&Now<'_>, &Environment),
    cx: &Context,
) -> Result<Compared> {
    const HINT: &str = "use `backup restore --verify` to compare restored data with the snapshot";
    let source = snapshot.snapshot().tag("source");
    if source != Some("postgres") && flags.scratch != ScratchFlags::default() {
        let text = "the flags of a scratch server apply to physical backups of PostgreSQL only";
        return Err(Error::invalid(text).with_hint("leave the flags of --scratch out"));
    }
    match (source, server) {
        (Some("mongodb"), SourceSpec::Mongodb(server)) => {
            Box::pin(server.compare(snapshot, log, flags, (now, env), cx)).await
        }
        (Some("mongodb"), other) => {
            Err(Error::invalid(format!("the snapshot is of MongoDB, {other} is not"))
                .with_hint("name a MongoDB server"))
        }
        (Some("postgres" | LOGICAL), SourceSpec::Postgres(server)) => {
            Box::pin(server.compare(snapshot, log, flags, env, cx)).await
        }
        (Some("postgres" | LOGICAL), other) => {
            Err(Error::invalid(format!("the snapshot is of PostgreSQL, {other} is not"))
                .with_hint("name a PostgreSQL server"))
        }
        (Some("redis"), SourceSpec::Redis(server)) => {
            Box::pin(server.compare(snapshot, log, &flags.selection, env, cx)).await
        }
        (Some("redis"), other) => {
            Err(Error::invalid(format!("the snapshot is of Redis, {other} is not"))
                .with_hint("name a Redis or Valkey server"))
        }
        (None | Some("files"), _) => Err(Error::invalid(
            "only snapshots of MongoDB, PostgreSQL and Redis can be compared with a server",
        )
        .with_hint(HINT)),
        (Some(other), _) => Err(restore::unknown(other)),
    }
}
