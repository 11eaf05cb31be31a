//! Digests of databases, to compare copies: of the dump that the server sends, so that they are of
//! one moment. Where it sends none they are of what is read key by key.
//!
//! What expires meanwhile is a difference like any other: compare where nothing does, or when it
//! has been told so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backup_core::source::{Digest, EntryPath, Selection, SourceResult};
use tokio::sync::mpsc::channel;

use super::backup::{Channel, objects};
use super::error::malformed;
use super::options::RedisOptions;
use super::rdb::{DatabaseSurvey, Key, RdbError, is_module, survey};
use super::request::{Reading, read};

/// Where a key stands for selections: `/<database>/<key>`.
pub(super) fn path_of(key: &Key) -> EntryPath {
    EntryPath::root().join(key.database.to_string().as_bytes()).join(&key.name)
}

/// Digests of everything that the selection covers, by database.
pub(super) async fn digest(options: &RedisOptions, selection: &Selection) -> SourceResult<Digest> {
    let found = databases(options, &Part::of(selection)).await?;
    Ok(Digest { objects: objects(&found) })
}

/// The keys that digests cover.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    selection: Selection,
    /// Covers no keys that have expired by this time, nor values of modules.
    comparable_at: Option<u64>,
    /// Numbers of keys that are left out for these reasons.
    left_out: Arc<LeftOut>,
}

/// Keys of a part that cannot be compared.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    pub(super) expired: AtomicU64,
    pub(super) of_modules: AtomicU64,
    /// Values of which only the type is compared.
    pub(super) too_large: AtomicU64,
}

impl Part {
    pub(super) fn of(selection: &Selection) -> Self {
        Self { selection: selection.clone(), ..Self::default() }
    }

    /// The keys that two sides can have in common at `now`, in milliseconds since 1970. Each side
    /// has counters of its own.
    pub(super) fn comparable(selection: &Selection, now: u64) -> Self {
        Self { comparable_at: Some(now), ..Self::of(selection) }
    }

    pub(super) fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    pub(super) fn covers(&self, key: &Key) -> bool {
        if !self.selection.is_all() && !self.selection.covers(&path_of(key)) {
            return false;
        }
        let Some(now) = self.comparable_at else { return true };
        let reason = if key.expires.is_some_and(|at| at <= now) {
            &self.left_out.expired
        } else if is_module(key.kind) {
            &self.left_out.of_modules
        } else {
            return true;
        };
        reason.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// The databases of a server, as far as `part` covers them.
pub(super) async fn databases(
    options: &RedisOptions,
    part: &Part,
) -> SourceResult<BTreeMap<u32, DatabaseSurvey>> {
    let (_, dump) = read(options).await?;
    look_through(dump, part).await
}

/// The databases of a dump, as far as `part` covers them.
async fn look_through(
    mut dump: Reading,
    part: &Part,
) -> SourceResult<BTreeMap<u32, DatabaseSurvey>> {
    let (sender, pieces) = channel(64);
    let own = part.clone();
    let surveying =
        tokio::task::spawn_blocking(move || survey(Channel(pieces), |key| own.covers(key)));
    while let Some(piece) = dump.next().await? {
        if sender.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    drop(sender);
    let found = surveying
        .await
        .map_err(|_| malformed("dump: its reader ended unexpectedly"))?
        .map_err(RdbError::into_source)?;
    part.left_out.too_large.fetch_add(found.not_hashed, Ordering::Relaxed);
    match found.unknown {
        Some(what) => Err(RdbError::Unknown(what).into_source()),
        None => Ok(found.databases),
    }
}
