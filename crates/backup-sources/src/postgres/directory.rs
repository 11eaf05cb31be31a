//! Restoring without a server that could be asked.

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::log::Position;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    BackupReader, BackupRequest, Digest, LogReader, Probe, RestoreReport, RestoreRequest,
    Selection, Source, SourceCapabilities, SourceError, SourceErrorKind, SourceIdentity,
    SourceResult,
};

use super::options::PostgresOptions;
use super::restore;

/// Where data directories are restored to: a source of which nothing can be read.
#[derive(Debug, Clone)]
pub struct PostgresDirectory {
    options: PostgresOptions,
}

impl PostgresDirectory {
    /// What `options` say of restoring counts, hosts and users do not.
    #[must_use]
    pub fn new(options: PostgresOptions) -> Self {
        Self { options }
    }
}

impl std::fmt::Display for PostgresDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a PostgreSQL data directory")
    }
}

fn nothing() -> SourceError {
    SourceError::new(
        SourceErrorKind::Unsupported,
        "the target of a restored data directory cannot be read as a source",
    )
}

#[async_trait]
impl Source for PostgresDirectory {
    fn kind(&self) -> &'static str {
        "postgres"
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
        restore::restore(cx, &self.options, request, snapshot).await
    }

    async fn digest(&self, _cx: &Context, _selection: &Selection) -> SourceResult<Digest> {
        Err(nothing())
    }
}
