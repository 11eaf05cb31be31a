//! In place of `redis.rs` where Redis is left out of the build.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::event::Events;
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotReader;
use backup_core::source::{Selection, Source, SourceIdentity};

use super::{Compared, Import, ImportFlags, RestoreFlags, SnapshotKey};
use crate::address::ServerAddress;
use crate::config::SourceConfig;
use crate::environment::Environment;
use crate::error::{Error, Result};

/// There is none: a server of Redis cannot be meant.
#[derive(Debug, Clone)]
pub enum RedisSpec {}

fn left_out() -> Error {
    Error::invalid("this program was built without Redis")
        .with_hint("build it with the feature `redis`")
}

impl RedisSpec {
    pub(super) fn new(_config: SourceConfig, _variable: &str, _env: &Environment) -> Result<Self> {
        Err(left_out())
    }

    pub(super) fn restoring(self, _flags: &RestoreFlags) -> Result<Self> {
        match self {}
    }

    pub(super) fn address(&self) -> &ServerAddress {
        match *self {}
    }

    pub(super) fn secret_files(&self) -> Vec<&Path> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the other one waits for a server")]
    pub(super) async fn compare(
        &self,
        _snapshot: &SnapshotReader,
        _log: Option<Arc<LogReplay>>,
        _selection: &Selection,
        _env: &Environment,
        _cx: &Context,
    ) -> Result<Compared> {
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
}

impl fmt::Display for RedisSpec {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Nothing is found by a program that cannot read dumps.
#[expect(clippy::unused_async, reason = "the other one reads a dump")]
pub async fn find_keys<E: From<Error>>(
    _snapshot: &SnapshotReader,
    _selection: &Selection,
    _cx: &Context,
    _tell: impl FnMut(SnapshotKey) -> std::result::Result<(), E>,
) -> std::result::Result<bool, E> {
    Err(left_out().into())
}

pub(super) fn identity_of(_name: &str) -> Result<SourceIdentity> {
    Err(left_out())
}

#[expect(clippy::unused_async, reason = "the other one reads a file")]
pub(super) async fn import(
    _path: &Path,
    _flags: &ImportFlags,
    _identity: SourceIdentity,
) -> Result<Import> {
    Err(left_out())
}

pub(super) fn directory() -> Result<Arc<dyn Source>> {
    Err(left_out())
}
