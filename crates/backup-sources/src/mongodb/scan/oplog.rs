//! The oplog of the scan's time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::mongodb::raw_batch_cursor::RawBatchCursor;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{Document, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, doc};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream;

use super::{Pieces, Scan};
use crate::mongodb::error::{Explain as _, is_denied, malformed};
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::position::Position;
use crate::mongodb::server::{Server, unless_cancelled};

/// How often the majority's moment is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Longest that the majority may take to have what was read.
const MAJORITY: Duration = Duration::from_secs(60);
/// How far back the oplog is taken if it cannot be told which transactions are under way: the server's default limit of
/// a transaction's life and a good measure more, in seconds.
const TRANSACTION: u32 = 120;

/// A moment from which on the oplog holds every transaction that ends later as a whole.
pub(super) async fn beginning(server: &Server) -> SourceResult<Position> {
    // Looked at on either side: a transaction may begin or end in between.
    let before = oldest_transaction(server).await?;
    let now = server.majority_time().await?;
    let after = oldest_transaction(server).await?;
    match (before, after) {
        (Oldest::Unknown, _) | (_, Oldest::Unknown) => {
            let back = Position { seconds: now.seconds.saturating_sub(TRANSACTION), increment: 0 };
            Ok(first_entry(server, back).await?.unwrap_or(now))
        }
        (Oldest::At(a), Oldest::At(b)) => Ok(now.min(a).min(b)),
        (Oldest::At(a), Oldest::None) | (Oldest::None, Oldest::At(a)) => Ok(now.min(a)),
        (Oldest::None, Oldest::None) => Ok(now),
    }
}

enum Oldest {
    None,
    At(Position),
    /// The rights do not tell.
    Unknown,
}

async fn oldest_transaction(server: &Server) -> SourceResult<Oldest> {
    let find = doc! {
        "find": "transactions", "limit": 1, "singleBatch": true, "sort": { "startOpTime": 1 },
        "filter": { "state": { "$in": ["prepared", "inProgress"] } },
    };
    let found = match server.list("config", find).await {
        Ok(found) => found,
        Err(error) if is_denied(&error) => return Ok(Oldest::Unknown),
        Err(error) => return Err(error).reading("looking for transactions under way"),
    };
    let start = found.first().and_then(|found| found.get_document("startOpTime").ok()?.get_timestamp("ts").ok());
    Ok(start.map_or(Oldest::None, |ts| Oldest::At(ts.into())))
}

/// The first entry from `from` on.
async fn first_entry(server: &Server, from: Position) -> SourceResult<Option<Position>> {
    entry(server, doc! { "ts": { "$gte": Timestamp::from(from) } }, 1).await
}

/// The oldest entry that the server still has.
pub(in crate::mongodb) async fn oldest_entry(server: &Server) -> SourceResult<Option<Position>> {
    entry(server, doc! {}, 1).await
}

async fn entry(server: &Server, filter: Document, order: i32) -> SourceResult<Option<Position>> {
    let find = doc! {
        "find": "oplog.rs", "filter": filter, "limit": 1, "singleBatch": true, "sort": { "$natural": order },
        "projection": { "ts": 1 },
    };
    let found = server.list("local", find).await.reading("reading the oplog")?;
    Ok(found.first().and_then(|found| found.get_timestamp("ts").ok()).map(Position::from))
}

/// The moment that the majority has reached, once it has everything that this member has shown so far.
pub(super) async fn end(scan: &Scan) -> SourceResult<Position> {
    let server = &scan.server;
    let hello = server.run("admin", doc! { "isMaster": 1 }).await.reading("asking for the last write")?;
    let last = hello.get_document("lastWrite").and_then(|last| last.get_document("opTime"));
    let last: Position =
        last.and_then(|optime| optime.get_timestamp("ts")).map_err(|_| malformed("the last write"))?.into();
    let reached = async {
        loop {
            let majority = server.majority_time().await?;
            if majority >= last {
                return Ok(majority);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = unless_cancelled(&scan.cx, async { Ok(tokio::time::timeout(MAJORITY, reached).await) }).await?;
    waited.unwrap_or_else(|_| {
        Err(SourceError::new(
            SourceErrorKind::Unavailable,
            "the replica set has no majority: its last writes may be lost",
        )
        .with_hint("run the backup again when a majority of the members is up"))
    })
}

/// Whether something was created, dropped, renamed or indexed after `from`.
pub(super) async fn has_ddl(server: &Server, from: Position) -> SourceResult<bool> {
    let pattern = |text: &bson::raw::CStr| bson::Regex { pattern: text.into(), options: bson::cstr!("").into() };
    let after = doc! { "$gt": Timestamp::from(from) };
    let commands = doc! {
        "ts": after.clone(), "op": "c", "ns": { "$not": pattern(bson::cstr!("^(config|local)\\.")) },
        "o.applyOps": { "$exists": false }, "o.commitTransaction": { "$exists": false },
        "o.abortTransaction": { "$exists": false },
    };
    let views = doc! { "ts": after, "ns": pattern(bson::cstr!("\\.system\\.views$")) };
    for filter in [commands, views] {
        let find = doc! {
            "find": "oplog.rs", "limit": 1, "singleBatch": true, "projection": { "ts": 1 }, "filter": filter,
        };
        if !server.list("local", find).await.reading("reading the oplog")?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is kept of the oplog.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) filter: Filter,
    /// Databases that collections of the backup lie in: temporary ones are renamed into it.
    pub(super) databases: Vec<String>,
}

impl Kept {
    /// No-ops carry nothing; what the server writes for itself belongs to nobody.
    fn keeps(&self, entry: &RawDocument) -> bool {
        let text = |key: &str| entry.get_str(key).unwrap_or_default();
        let Some(namespace) = Namespace::parse(text("ns")) else { return text("op") != "n" };
        if matches!(&*namespace.db, "config" | "local") || text("op") == "n" {
            return false;
        }
        text("op") == "c" || self.databases.contains(&namespace.db) || self.filter.covers(&namespace)
    }
}

/// The entries from `from` on, up to the moment when everything else has been read: empty if nothing needs them.
pub(super) fn content(scan: &Arc<Scan>, from: Position, kept: Kept, ended: Arc<Mutex<Option<Position>>>) -> Pieces {
    let reading = Reading { scan: Arc::clone(scan), from, kept, ended, cursor: None };
    stream::try_unfold(reading, |mut reading| async { Ok(reading.next().await?.map(|bytes| (bytes, reading))) }).boxed()
}

struct Reading {
    scan: Arc<Scan>,
    from: Position,
    kept: Kept,
    ended: Arc<Mutex<Option<Position>>>,
    cursor: Option<RawBatchCursor>,
}

impl Reading {
    async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        let first = self.cursor.is_none();
        if first {
            self.scan.all_read().await?;
            if !self.scan.needs_oplog() {
                return Ok(None);
            }
            self.open().await?;
        }
        let cx = self.scan.cx.clone();
        let mut check_beginning = first;
        while let Some(cursor) = &mut self.cursor {
            let batch = unless_cancelled(&cx, async { cursor.next().await.transpose().reading("reading the oplog") });
            let Some(batch) = batch.await? else {
                return if check_beginning { Err(gap(self.from)) } else { Ok(None) };
            };
            let array = batch.doc_slices().map_err(|error| malformed("a batch of the oplog").with_source(error))?;
            let mut out = BytesMut::new();
            for entry in array {
                let Ok(RawBsonRef::Document(entry)) = entry else { return Err(malformed("an entry of the oplog")) };
                if std::mem::take(&mut check_beginning) && time_of(entry)? != self.from {
                    return Err(gap(self.from));
                }
                if self.kept.keeps(entry) {
                    self.whole_transaction(entry)?;
                    out.extend_from_slice(entry.as_bytes());
                }
            }
            if !out.is_empty() {
                return Ok(Some(out.freeze()));
            }
        }
        Ok(None)
    }

    async fn open(&mut self) -> SourceResult<()> {
        let to = end(&self.scan).await?;
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        let range = doc! { "$gte": Timestamp::from(self.from), "$lte": Timestamp::from(to) };
        let find = doc! {
            "find": "oplog.rs", "filter": { "ts": range }, "hint": { "$natural": 1 },
            "readConcern": { "level": "majority" },
        };
        let command = RawDocumentBuf::try_from(&find).map_err(|error| malformed("a command").with_source(error))?;
        let cursor = self.scan.server.batches("local", command).await;
        self.cursor = Some(cursor.reading("reading the oplog")?);
        Ok(())
    }

    /// A transaction that begins before the slice could never be applied: better no snapshot than one of that kind.
    fn whole_transaction(&self, entry: &RawDocument) -> SourceResult<()> {
        if entry.get_str("op").ok() != Some("c") || entry.get("txnNumber").ok().flatten().is_none() {
            return Ok(());
        }
        let previous = entry.get_document("prevOpTime").and_then(|previous| previous.get_timestamp("ts"));
        let previous = previous.map(Position::from).unwrap_or_default();
        let aborted = entry.get_document("o").is_ok_and(|o| matches!(o.get("abortTransaction"), Ok(Some(_))));
        if previous == Position::default() || previous >= self.from || aborted {
            return Ok(());
        }
        Err(SourceError::new(
            SourceErrorKind::Unavailable,
            format!("a transaction that ended during the scan began at {previous}, before it ({})", self.from),
        )
        .with_hint("run the backup again; with the built-in role `backup` such transactions are known beforehand"))
    }
}

fn time_of(entry: &RawDocument) -> SourceResult<Position> {
    entry.get_timestamp("ts").map(Position::from).map_err(|_| malformed("an entry of the oplog: it has no time"))
}

fn gap(from: Position) -> SourceError {
    SourceError::new(
        SourceErrorKind::LogGap,
        format!("the oplog no longer reaches back to {from}, when the scan began: the snapshot could not be brought to one moment"),
    )
    .with_hint("make the oplog larger (replSetResizeOplog) or the scan shorter (fewer collections per job)")
}

#[cfg(test)]
mod tests {
    use backup_core::source::Selection;
    use bson::rawdoc;

    use super::*;

    #[test]
    fn what_the_server_writes_for_itself_is_not_kept() {
        let selection = Selection::new(vec!["shop.*".to_owned()], vec![]).unwrap();
        let kept = Kept { filter: Filter::new(&selection).unwrap(), databases: vec!["shop".to_owned()] };
        let keeps = |op: &str, ns: &str| kept.keeps(&rawdoc! { "op": op, "ns": ns });
        assert!(keeps("i", "shop.orders") && keeps("c", "admin.$cmd") && keeps("c", "other.$cmd"));
        assert!(!keeps("n", "") && !keeps("u", "config.transactions") && !keeps("i", "other.x"));
        assert!(!keeps("c", "config.$cmd"));
    }
}
