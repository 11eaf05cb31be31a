//! Snapshots of databases as files that their own tools take.

use std::path::Path;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::log::LogReplay;
use backup_core::pipeline;
use backup_core::repository::SnapshotReader;
use backup_core::source::{RestoreRequest, Selection};
use serde::Serialize;

use super::{RestoreFlags, mongodb, redis};
use crate::error::{Error, Result};
use crate::snapshots::Now;

/// What an export is told.
#[derive(Debug, Clone, Default)]
pub struct ExportFlags {
    /// Which collections.
    pub selection: Selection,
    /// Rules for other names, `from=to`.
    pub renames: Vec<String>,
    /// The moment; the end of the snapshot if none is given.
    pub until: Option<String>,
}

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Exported {
    /// Of MongoDB.
    Collections {
        /// Collections, views and time-series collections.
        collections: u64,
        /// Documents.
        documents: u64,
        /// Bytes of documents.
        bytes: u64,
    },
    /// Of Redis.
    Files {
        /// Files for a server that is started on them.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
}

/// Writes a snapshot of `kind` (the tag `source=…`), with `log` applied, to `directory`, which must
/// be empty or not there.
///
/// # Errors
/// [`Error::Invalid`] for a kind that has no such form; those of reading and writing.
pub async fn export(
    kind: Option<&str>,
    snapshot: &SnapshotReader,
    log: Option<Arc<LogReplay>>,
    flags: &ExportFlags,
    directory: &Path,
    now: &Now<'_>,
    cx: &Context,
) -> Result<Exported> {
    match kind {
        Some("mongodb") => {
            let (renames, until) = (flags.renames.clone(), flags.until.clone());
            let restoring = RestoreFlags { renames, until, ..RestoreFlags::default() };
            let exported =
                mongodb::export(cx, snapshot, flags.selection.clone(), &restoring, now, directory)
                    .await?;
            if matches!(exported, Exported::Collections { collections: 0, .. })
                && !flags.selection.is_all()
            {
                return Err(nothing_selected());
            }
            Ok(exported)
        }
        Some("redis") => redis_files(snapshot, log, flags, directory, cx).await,
        None | Some("files") => Err(Error::invalid(
            "snapshots of files cannot be exported to a directory",
        )
        .with_hint("use `backup restore … --target DIR`, or export an archive with -o FILE")),
        Some("postgres") => {
            Err(Error::invalid("a data directory cannot be exported to files of other tools")
                .with_hint(
                    "use `backup restore … --target DIR`, or export an archive with -o FILE",
                ))
        }
        Some(other) => Err(super::restore::unknown(other)),
    }
}

/// A dump; with commands behind it, an append-only file.
async fn redis_files(
    snapshot: &SnapshotReader,
    log: Option<Arc<LogReplay>>,
    flags: &ExportFlags,
    directory: &Path,
    cx: &Context,
) -> Result<Exported> {
    if !flags.renames.is_empty() || !flags.selection.is_all() {
        return Err(Error::invalid(
            "files for a server contain everything, under the original names",
        )
        .with_hint("leave --only, --exclude and --rename out, or restore to a server"));
    }
    let target = directory
        .to_str()
        .ok_or_else(|| Error::invalid("the name of the directory is not UTF-8"))?;
    let request =
        RestoreRequest { target: Some(target.to_owned()), log, ..RestoreRequest::default() };
    let report = pipeline::restore(snapshot, &*redis::directory()?, &request, cx).await?;
    Ok(Exported::Files { files: report.files_written, bytes: report.written_bytes })
}

/// A misspelt pattern must not look like an export.
fn nothing_selected() -> Error {
    CoreError::new(ErrorKind::NotFound, "the selection matches nothing in the snapshot")
        .with_hint(
            "list the contents with `backup ls … -R`; patterns are globs over database.collection",
        )
        .into()
}
