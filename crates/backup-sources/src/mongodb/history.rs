//! What the oplog has: how far back it reaches, its newest entry, single ones.

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{Document, RawDocumentBuf, Timestamp, doc};

use super::catalog::number;
use super::error::{Explain as _, malformed};
use super::position::{LogPosition, Position};
use super::scan::oldest_entry;
use super::server::Server;
use super::tail::position_of;

/// How far back the oplog reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OplogWindow {
    /// The oldest entry that the server has.
    pub oldest: Position,
    /// The newest that a majority has.
    pub newest: Position,
}

impl OplogWindow {
    /// Seconds between the two.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        self.newest.seconds.saturating_sub(self.oldest.seconds)
    }

    /// Whether a reader that stands at `at` may soon find its entry gone: what is left behind it is
    /// less than three times what is before it.
    #[must_use]
    pub fn is_short_for(&self, at: Position) -> bool {
        let lag = self.newest.seconds.saturating_sub(at.seconds);
        at < self.oldest || self.seconds() < lag.saturating_mul(3)
    }

    pub(super) async fn of(server: &Server) -> SourceResult<Option<Self>> {
        let Some(oldest) = oldest_entry(server).await? else { return Ok(None) };
        Ok(Some(Self { oldest, newest: server.majority_time().await? }))
    }
}

/// Whether the oplog has reached its size: a short one is short because it is small, and not
/// because it is young. False also where nobody may ask.
pub(super) async fn is_full(server: &Server) -> bool {
    let stats =
        server.run("local", doc! { "collStats": "oplog.rs", "scale": 1 }).await.unwrap_or_default();
    let (size, most) = (number(stats.get("size")), number(stats.get("maxSize")));
    most > 0.0 && size > most * 0.9
}

/// The newest entry that a majority has.
pub(super) async fn newest(server: &Server) -> SourceResult<LogPosition> {
    let find = doc! { "sort": { "$natural": -1 } };
    let entry = first(server, find).await?.ok_or_else(|| malformed("oplog: it is empty"))?;
    Ok(entry.position)
}

/// One entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) position: LogPosition,
    /// When it was written, by the clock of the server that wrote it.
    pub(super) wall: Option<bson::DateTime>,
    /// It is a piece of a transaction that goes on with the next one.
    pub(super) is_partial: bool,
}

/// The entry at a moment, if there is one that a majority has.
pub(super) async fn entry_at(server: &Server, at: Position) -> SourceResult<Option<Entry>> {
    let from = doc! { "filter": { "ts": { "$gte": Timestamp::from(at) } } };
    Ok(first(server, from).await?.filter(|entry| entry.position.at == at))
}

async fn first(server: &Server, more: Document) -> SourceResult<Option<Entry>> {
    let mut find = doc! {
        "find": "oplog.rs", "limit": 1, "singleBatch": true, "readConcern": { "level": "majority" },
        "projection": { "ts": 1, "t": 1, "wall": 1, "o.partialTxn": 1, "o.prepare": 1 },
    };
    find.extend(more);
    let found = server.list("local", find).await.reading("cannot read the oplog")?;
    let Some(entry) = found.first() else { return Ok(None) };
    let raw = RawDocumentBuf::try_from(entry)
        .map_err(|error| malformed("oplog entry").with_source(error))?;
    let is_true =
        |key: &str| entry.get_document("o").is_ok_and(|o| o.get_bool(key).unwrap_or(false));
    Ok(Some(Entry {
        position: position_of(&raw)?,
        wall: entry.get_datetime("wall").ok().copied(),
        is_partial: is_true("partialTxn") || is_true("prepare"),
    }))
}

/// Why the entry that the reader stands on is not there.
pub(super) async fn gap(server: &Server, at: Position) -> SourceError {
    match oldest_entry(server).await {
        Ok(Some(oldest)) if oldest > at => SourceError::new(
            SourceErrorKind::LogGap,
            format!(
                "the oplog reaches back only to {oldest}: it no longer holds the start position \
                 {at}"
            ),
        )
        .with_hint(
            "run a full backup, and enlarge the oplog (replSetResizeOplog) or leave less time \
             between backups",
        ),
        _ => SourceError::new(
            SourceErrorKind::LogGap,
            format!(
                "the oplog does not hold the start position {at}: the entry was rolled back, or \
                 this is another replica set"
            ),
        )
        .with_hint("run a full backup: later moments can be restored from it on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_short_for_who_lags() {
        let at = |seconds| Position { seconds, increment: 1 };
        let window = OplogWindow { oldest: at(1000), newest: at(4000) };
        assert_eq!(window.seconds(), 3000);
        assert!(!window.is_short_for(at(3500)) && !window.is_short_for(at(4000)));
        assert!(window.is_short_for(at(2500)) && window.is_short_for(at(999)));
    }
}
