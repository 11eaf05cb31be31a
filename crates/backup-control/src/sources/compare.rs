//! What a snapshot holds beside what a server holds, without restoring it.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotReader;
use backup_core::source::{Digest, Selection};

use super::{SourceSpec, restore};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::snapshots::Now;

/// What a comparison is told.
#[derive(Debug, Clone, Default)]
pub struct CompareFlags {
    /// Which objects.
    pub selection: Selection,
    /// The moment, if only the source knows whether the snapshot stands for it.
    pub until: Option<String>,
}

/// Digests of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// In the snapshot, at its moment.
    pub stored: Digest,
    /// On the server, now.
    pub found: Digest,
}

/// Compares `snapshot`, with `log` applied, with what `server` holds.
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
    match (snapshot.snapshot().tag("source"), server) {
        (Some("mongodb"), SourceSpec::Mongodb(server)) => {
            Box::pin(server.compare(snapshot, log, flags, (now, env), cx)).await
        }
        (Some("mongodb"), other) => {
            Err(Error::invalid(format!("the snapshot is of MongoDB, {other} is not"))
                .with_hint("name a MongoDB server"))
        }
        (None | Some("files" | "postgres" | "postgres-logical" | "redis"), _) => {
            Err(Error::invalid("only snapshots of MongoDB can be compared with a server")
                .with_hint(HINT))
        }
        (Some(other), _) => Err(restore::unknown(other)),
    }
}
