//! In place of `postgres.rs` where PostgreSQL is left out of the build.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::Events;
use backup_core::log::LogReplay;
use backup_core::pipeline::{BackupOptions, BackupReport};
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::source::Source;

use super::{CompareFlags, Compared, RestoreFlags};
use crate::address::ServerAddress;
use crate::alerts::SlotFacts;
use crate::config::SourceConfig;
use crate::environment::Environment;
use crate::error::{Error, Result};

/// There is none: a PostgreSQL cluster cannot be meant.
#[derive(Debug, Clone)]
pub enum PostgresSpec {}

fn left_out() -> Error {
    Error::invalid("this program was built without PostgreSQL")
        .with_hint("build it with the feature `postgres`")
}

impl PostgresSpec {
    pub(super) fn new(_config: SourceConfig, _variable: &str, _env: &Environment) -> Result<Self> {
        Err(left_out())
    }

    pub(super) fn names_cluster(&self) -> bool {
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

    #[expect(clippy::unused_async, reason = "the other one waits for a server")]
    pub(super) async fn slot(
        &self,
        _env: &Environment,
        _cx: &Context,
    ) -> Result<Option<SlotFacts>> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the other one waits for a server")]
    pub(super) async fn estimated_rows(
        &self,
        _env: &Environment,
        _cx: &Context,
        _names: &[String],
    ) -> Result<Option<HashMap<String, u64>>> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the other one waits for a server")]
    pub(super) async fn restorer(
        &self,
        _flags: &RestoreFlags,
        _env: &Environment,
        _events: &Events,
    ) -> Result<Arc<dyn Source>> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the other one waits for a server")]
    pub(super) async fn of_parts(
        &self,
        _flags: &RestoreFlags,
        _env: &Environment,
        _events: &Events,
    ) -> Result<Arc<dyn Source>> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the other one reads a server")]
    pub(super) async fn compare(
        &self,
        _snapshot: &SnapshotReader,
        _log: Option<Arc<LogReplay>>,
        _flags: &CompareFlags,
        _env: &Environment,
        _cx: &Context,
    ) -> Result<Compared> {
        match *self {}
    }

    pub(super) fn address(&self) -> &ServerAddress {
        match *self {}
    }
}

impl fmt::Display for PostgresSpec {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

#[expect(clippy::unused_async, reason = "the other one reads a repository")]
pub(super) async fn compact(
    _repository: &Repository,
    _snapshot: &SnapshotReader,
    _options: &BackupOptions,
    _cx: &Context,
) -> Result<BackupReport> {
    Err(left_out())
}

pub(super) fn directory(_flags: &RestoreFlags, _env: &Environment) -> Result<Arc<dyn Source>> {
    Err(left_out())
}

#[expect(clippy::unused_async, reason = "the other one starts a server")]
pub async fn promote(
    _cx: &Context,
    _directory: &Path,
    _programs: Option<PathBuf>,
    _limit: Option<Duration>,
    _env: &Environment,
) -> Result<String> {
    Err(left_out())
}

/// None: addresses are not read.
pub(crate) fn host_names(_address: &str) -> Vec<String> {
    Vec::new()
}

/// Nobody could look for it.
pub(super) fn recovery(_text: &str) -> Option<()> {
    None
}
