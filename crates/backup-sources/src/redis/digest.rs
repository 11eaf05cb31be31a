//! Digests of databases, to compare copies: of the dump that the server sends, so that they are of
//! one moment. Where it sends none they are of what is read key by key.
//!
//! What expires meanwhile is a difference like any other: compare where nothing does, or when it
//! has been told so.

use std::collections::BTreeMap;

use backup_core::source::{Digest, EntryPath, Selection, SourceResult};
use tokio::sync::mpsc::channel;

use super::backup::{self, Channel, Reading, objects};
use super::error::malformed;
use super::options::RedisOptions;
use super::rdb::{DatabaseSurvey, Key, RdbError, survey};

/// Where a key stands for selections: `/<database>/<key>`.
pub(super) fn path_of(key: &Key) -> EntryPath {
    EntryPath::root().join(key.database.to_string().as_bytes()).join(&key.name)
}

/// Digests of everything that the selection covers, by database.
pub(super) async fn digest(options: &RedisOptions, selection: &Selection) -> SourceResult<Digest> {
    let (_, dump) = backup::read(options).await?;
    let found = look_through(dump, selection).await?;
    Ok(Digest { objects: objects(&found) })
}

/// What a dump holds of what the selection covers.
pub(super) async fn look_through(
    mut dump: Reading,
    selection: &Selection,
) -> SourceResult<BTreeMap<u32, DatabaseSurvey>> {
    let (sender, pieces) = channel(64);
    let selection = selection.clone();
    let surveying = tokio::task::spawn_blocking(move || {
        survey(Channel(pieces), |key| selection.is_all() || selection.covers(&path_of(key)))
    });
    while let Some(piece) =
        dump.next().await.map_err(|error| error.into_source("cannot read the dump"))?
    {
        if sender.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    drop(sender);
    let found = surveying
        .await
        .map_err(|_| malformed("dump: its reader ended unexpectedly"))?
        .map_err(RdbError::into_source)?;
    match found.unknown {
        Some(what) => Err(RdbError::Unknown(what).into_source()),
        None => Ok(found.databases),
    }
}
