//! Restoring into a directory, without a server that could be asked.

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Digest, LogReader, Probe, RestoreReport, RestoreRequest,
    Selection, Source, SourceCapabilities, SourceError, SourceErrorKind, SourceIdentity,
    SourceResult,
};

use super::options::RedisOptions;
use super::restore;

/// Where files for a server are restored to: a source of which nothing can be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedisDirectory;

impl std::fmt::Display for RedisDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a directory for a Redis or Valkey server")
    }
}

fn nothing() -> SourceError {
    SourceError::new(
        SourceErrorKind::Unsupported,
        "the target of restored files cannot be read as a source",
    )
}

#[async_trait]
impl Source for RedisDirectory {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn identity(&self) -> SourceIdentity {
        let (id, host, paths) = (String::new(), String::new(), Vec::new());
        SourceIdentity { kind: self.kind().to_owned(), id, host, paths }
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: false, log_capture: false }
    }

    async fn probe(&self, _cx: &Context) -> SourceResult<Probe> {
        Err(nothing())
    }

    async fn open_backup(
        &self,
        _cx: &Context,
        _request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        Err(nothing())
    }

    async fn open_log(
        &self,
        _cx: &Context,
        _from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        Err(nothing())
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        if request.target.is_none() {
            return Err(SourceError::new(SourceErrorKind::Invalid, "no target directory is given"));
        }
        Box::pin(restore::restore(cx, &RedisOptions::default(), request, snapshot)).await
    }

    async fn digest(&self, _cx: &Context, _selection: &Selection) -> SourceResult<Digest> {
        Err(nothing())
    }
}
