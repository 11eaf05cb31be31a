//! In place of `mongodb.rs` where MongoDB is left out of the build.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::Events;
use backup_core::log::LogReplay;
use backup_core::pipeline::{BackupOptions, BackupReport};
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::source::{Source, SourceIdentity};

use super::{CompareFlags, Compared, ExportFlags, Exported, Import, ImportFlags, RestoreFlags};
use crate::address::ServerAddress;
use crate::config::SourceConfig;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::snapshots::Now;

/// There is none: a MongoDB server cannot be meant.
#[derive(Debug, Clone)]
pub enum MongoSpec {}

fn left_out() -> Error {
    Error::invalid("this program was built without MongoDB")
        .with_hint("build it with the feature `mongodb`")
}

impl MongoSpec {
    pub(super) fn new(_config: SourceConfig, _variable: &str, _env: &Environment) -> Result<Self> {
        Err(left_out())
    }

    pub(super) fn ad_hoc(self) -> Self {
        match self {}
    }

    pub(super) fn into_database(self) -> Self {
        match self {}
    }

    pub(super) fn restoring(self, _flags: &RestoreFlags, _now: &Now<'_>) -> Result<Self> {
        match self {}
    }

    pub(super) fn capturing(self, _interval: Duration) -> Self {
        match self {}
    }

    pub(super) fn address(&self) -> &ServerAddress {
        match *self {}
    }

    pub(super) fn secret_files(&self) -> Vec<&Path> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the other one waits for a server")]
    pub(super) async fn open(
        &self,
        _env: &Environment,
        _events: &Events,
    ) -> Result<Arc<dyn Source>> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the other one reads both")]
    pub(super) async fn compare(
        &self,
        _snapshot: &SnapshotReader,
        _log: Option<Arc<LogReplay>>,
        _flags: &CompareFlags,
        _surroundings: (&Now<'_>, &Environment),
        _cx: &Context,
    ) -> Result<Compared> {
        match *self {}
    }
}

impl fmt::Display for MongoSpec {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

#[expect(clippy::unused_async, reason = "the other one stores a snapshot")]
pub(super) async fn compact(
    _repository: &Repository,
    _snapshot: &SnapshotReader,
    _log: Option<Arc<LogReplay>>,
    _options: &BackupOptions,
    _cx: &Context,
) -> Result<BackupReport> {
    Err(left_out())
}

pub(super) fn identity_of(_name: &str) -> Result<SourceIdentity> {
    Err(left_out())
}

#[expect(clippy::unused_async, reason = "the other one reads a dump")]
pub(super) async fn import(
    _path: &Path,
    _flags: &ImportFlags,
    _identity: SourceIdentity,
    _include: &[String],
    _cx: &Context,
) -> Result<Import> {
    Err(left_out())
}

#[expect(clippy::unused_async, reason = "the other one writes files")]
pub(super) async fn export(
    _cx: &Context,
    _snapshot: &SnapshotReader,
    _flags: &ExportFlags,
    _now: &Now<'_>,
    _directory: &Path,
) -> Result<Exported> {
    Err(left_out())
}

#[expect(clippy::unused_async, reason = "the other one writes an archive")]
pub(super) async fn export_archive<W: Write + Send + 'static>(
    _cx: &Context,
    _snapshot: &SnapshotReader,
    _flags: &ExportFlags,
    _now: &Now<'_>,
    _writer: W,
) -> Result<(Exported, W)> {
    Err(left_out())
}
