//! Snapshots of databases as files that their own tools take.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::log::LogReplay;
use backup_core::pipeline;
use backup_core::repository::SnapshotReader;
use backup_core::source::{RestoreRequest, Selection};
use serde::Serialize;

use super::{mongodb, redis};
use crate::config::SourceKind;
use crate::error::{Error, Result};
use crate::patterns;
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
    /// Compress with gzip.
    pub is_gzip: bool,
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
            let exported = mongodb::export(cx, snapshot, flags, now, directory).await?;
            something(exported, flags)
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

/// Writes a snapshot of MongoDB as one archive for stock tools to `writer`, which comes back when
/// all was written.
///
/// # Errors
/// As [`export`]; a writer that does not come back holds no archive.
pub async fn export_archive<W: Write + Send + 'static>(
    kind: Option<&str>,
    snapshot: &SnapshotReader,
    flags: &ExportFlags,
    writer: W,
    now: &Now<'_>,
    cx: &Context,
) -> Result<(Exported, W)> {
    if kind != Some("mongodb") {
        let text = "only snapshots of MongoDB can be exported as an archive of mongodump";
        return Err(Error::invalid(text)
            .with_hint("export to a directory (--to), or as a tar archive with -o FILE"));
    }
    let (exported, writer) = mongodb::export_archive(cx, snapshot, flags, now, writer).await?;
    Ok((something(exported, flags)?, writer))
}

/// Refuses a selection that matches nothing.
fn something(exported: Exported, flags: &ExportFlags) -> Result<Exported> {
    let is_nothing = matches!(exported, Exported::Collections { collections: 0, .. });
    if is_nothing && !flags.selection.is_all() {
        return Err(nothing_selected(&flags.selection));
    }
    Ok(exported)
}

/// A dump; with commands behind it, an append-only file.
async fn redis_files(
    snapshot: &SnapshotReader,
    log: Option<Arc<LogReplay>>,
    flags: &ExportFlags,
    directory: &Path,
    cx: &Context,
) -> Result<Exported> {
    if flags.is_gzip {
        return Err(Error::invalid("files for a server are not compressed")
            .with_hint("leave out --gzip, and compress the dump afterwards"));
    }
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
fn nothing_selected(selection: &Selection) -> Error {
    const HINT: &str =
        "list the contents with `backup ls … -R`; patterns are globs over database.collection";
    let bare = patterns::hint(SourceKind::Mongodb, selection.include());
    CoreError::new(ErrorKind::NotFound, "the selection matches nothing in the snapshot")
        .with_hint(bare.unwrap_or_else(|| HINT.to_owned()))
        .into()
}
