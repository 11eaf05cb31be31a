//! In place of `files.rs` where PostgreSQL is left out of the build.

use std::path::Path;

use backup_core::context::Context;
use backup_core::log::Stream;
use backup_core::repository::{IndexedRepository, Repository};

use crate::error::{Error, Result};

/// There is none.
#[derive(Debug)]
pub enum WalFile {}

impl std::fmt::Display for WalFile {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

fn left_out() -> Error {
    Error::invalid("this program was built without PostgreSQL")
        .with_hint("build it with the feature `postgres`")
}

/// Refuses.
///
/// # Errors
/// Always.
pub fn of_data_directory(_directory: &Path) -> Result<(Stream, u64)> {
    Err(left_out())
}

/// Refuses.
///
/// # Errors
/// Always.
pub fn read(_path: &Path) -> Result<Option<WalFile>> {
    Err(left_out())
}

/// Of nothing.
#[must_use]
pub fn stream_of(file: &WalFile) -> Stream {
    match *file {}
}

/// Refuses.
///
/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "the other one stores")]
pub async fn push(
    _repository: &Repository,
    file: &WalFile,
    _holder: &str,
    _cx: &Context,
) -> Result<bool> {
    match *file {}
}

/// Refuses.
///
/// # Errors
/// Always.
#[expect(clippy::unused_async, reason = "the other one reads")]
pub async fn fetch(
    _indexed: &IndexedRepository,
    _log: (&Stream, u64),
    _data_directory: &Path,
    _name: &str,
    _to: &Path,
    _cx: &Context,
) -> Result<bool> {
    Err(left_out())
}
