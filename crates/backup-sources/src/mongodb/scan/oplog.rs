//! The oplog of the scan's time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backup_core::source::{NeedsFull, SourceError, SourceErrorKind, SourceResult};
use bson::{Document, RawDocument, Timestamp, doc};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;

use super::{Pieces, Scan};
use crate::mongodb::error::{Explain as _, is_denied, malformed};
use crate::mongodb::fold::understand;
use crate::mongodb::history::entry_at;
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::position::Position;
use crate::mongodb::server::{Server, unless_cancelled};
use crate::mongodb::tail::{Keep, OplogTail};

/// The way on if even a second full backup finds something that cannot be applied.
const HINT: &str = "use a newer version of this program, or run the backup again when that \
                    operation is over";
/// How often the majority's moment is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked at for a moment between transactions.
const TRIES: u32 = 20;
/// Longest that the majority may take to have what was read.
const MAJORITY: Duration = Duration::from_secs(60);
/// How far back the oplog is taken if it cannot be told which transactions are under way: the
/// server's default limit of a transaction's life and a good measure more, in seconds.
const TRANSACTION: u32 = 120;

/// A moment from which on the oplog holds every transaction that ends later as a whole, and whether
/// that is so behind it already, without the entry at that moment itself.
pub(super) async fn beginning(server: &Server) -> SourceResult<(Position, bool)> {
    // Looked at on either side: a transaction may begin or end in between.
    let before = oldest_transaction(server).await?;
    let (now, is_partial) = between_transactions(server).await?;
    let after = oldest_transaction(server).await?;
    let under_way = matches!(before, Oldest::At(_)) || matches!(after, Oldest::At(_));
    Ok((earliest(server, before, now, after).await?, !under_way && !is_partial))
}

async fn earliest(
    server: &Server,
    before: Oldest,
    now: Position,
    after: Oldest,
) -> SourceResult<Position> {
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

/// The majority's moment, if it is not in the middle of the entries of one transaction (else true):
/// these come at once and are many only if it is large.
async fn between_transactions(server: &Server) -> SourceResult<(Position, bool)> {
    let mut tries = 0;
    loop {
        let now = server.majority_time().await?;
        let is_partial = entry_at(server, now).await?.is_some_and(|entry| entry.is_partial);
        tries += 1;
        // One that is prepared stays: then it is known as being under way.
        if !is_partial || tries == TRIES {
            return Ok((now, is_partial));
        }
        tokio::time::sleep(LOOK).await;
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
        Err(error) => return Err(error).reading("cannot list the open transactions"),
    };
    let start = found
        .first()
        .and_then(|found| found.get_document("startOpTime").ok()?.get_timestamp("ts").ok());
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
    let found = server.list("local", find).await.reading("cannot read the oplog")?;
    Ok(found.first().and_then(|found| found.get_timestamp("ts").ok()).map(Position::from))
}

/// The moment that the majority has reached, once it has everything that this member has shown so
/// far.
pub(super) async fn end(scan: &Scan) -> SourceResult<Position> {
    let server = &scan.server;
    let hello = server
        .run("admin", doc! { "isMaster": 1 })
        .await
        .reading("cannot read the position of the last write")?;
    let last = hello.get_document("lastWrite").and_then(|last| last.get_document("opTime"));
    let last: Position = last
        .and_then(|optime| optime.get_timestamp("ts"))
        .map_err(|_| malformed("position of the last write"))?
        .into();
    let reached = async {
        loop {
            let majority = server.majority_time().await?;
            if majority >= last {
                return Ok(majority);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited =
        unless_cancelled(&scan.cx, async { Ok(tokio::time::timeout(MAJORITY, reached).await) })
            .await?;
    waited.unwrap_or_else(|_| {
        Err(SourceError::new(
            SourceErrorKind::Unavailable,
            "the replica set has no majority: its last writes may be lost",
        )
        .with_hint("run the backup again when a majority of the members is up"))
    })
}

/// Whether something was created, dropped, renamed or indexed after `listed`, or by a transaction
/// that was under way after `from`: it may have been prepared before `listed` and committed behind
/// it.
pub(super) async fn has_ddl(
    server: &Server,
    from: Position,
    listed: Position,
) -> SourceResult<bool> {
    let pattern = |text: &bson::raw::CStr| bson::Regex {
        pattern: text.into(),
        options: bson::cstr!("").into(),
    };
    let after = doc! { "$gt": Timestamp::from(listed) };
    let commands = doc! {
        "ts": after.clone(), "op": "c", "ns": { "$not": pattern(bson::cstr!("^(config|local)\\.")) },
        "o.applyOps": { "$exists": false }, "o.commitTransaction": { "$exists": false },
        "o.abortTransaction": { "$exists": false }, "o.dbCheck": { "$exists": false },
    };
    let views = doc! { "ts": after, "ns": pattern(bson::cstr!("\\.system\\.views$")) };
    // Since 4.4 transactions create collections, also by their first insertion, and indexes on
    // them.
    let in_transactions =
        doc! { "ts": { "$gt": Timestamp::from(from) }, "op": "c", "o.applyOps.op": "c" };
    for filter in [commands, views, in_transactions] {
        let find = doc! {
            "find": "oplog.rs", "limit": 1, "singleBatch": true, "projection": { "ts": 1 }, "filter": filter,
        };
        if !server.list("local", find).await.reading("cannot read the oplog")?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an entry is a command, or is about a collection that is wanted. No-ops carry nothing;
/// what the server writes for itself belongs to nobody.
pub(super) fn is_of(entry: &RawDocument, wanted: impl Fn(&Namespace) -> bool) -> bool {
    let text = |key: &str| entry.get_str(key).unwrap_or_default();
    let Some(namespace) = Namespace::parse(text("ns")) else { return text("op") != "n" };
    if matches!(&*namespace.db, "config" | "local") || text("op") == "n" {
        return false;
    }
    text("op") == "c" || wanted(&namespace)
}

/// What is kept of the oplog.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) filter: Filter,
    /// Databases that collections of the backup lie in: temporary ones are renamed into it.
    pub(super) databases: Vec<String>,
    /// What happened at this moment has been read with the collections.
    pub(super) behind: Option<Position>,
}

impl Kept {
    fn keeps(&self, entry: &RawDocument) -> bool {
        if self.behind.is_some_and(|behind| {
            entry.get_timestamp("ts").is_ok_and(|ts| Position::from(ts) <= behind)
        }) {
            return false;
        }
        is_of(entry, |namespace| self.is_wanted(namespace))
    }

    fn is_wanted(&self, namespace: &Namespace) -> bool {
        self.databases.contains(&namespace.db) || self.filter.covers(namespace)
    }
}

/// The entries from `from` on, up to the moment when everything else has been read: empty if
/// nothing needs them.
pub(super) fn content(
    scan: &Arc<Scan>,
    from: Position,
    kept: Kept,
    ended: Arc<Mutex<Option<Position>>>,
) -> Pieces {
    let state = Reading::Waiting { scan: Arc::clone(scan), from, kept, ended };
    stream::try_unfold(state, |state| async { state.next().await }).boxed()
}

pub(super) enum Reading {
    Waiting {
        scan: Arc<Scan>,
        from: Position,
        kept: Kept,
        ended: Arc<Mutex<Option<Position>>>,
    },
    Begun {
        scan: Arc<Scan>,
        tail: Box<OplogTail>,
        /// What an error means here.
        explain: fn(SourceError) -> SourceError,
    },
}

impl Reading {
    pub(super) async fn next(self) -> SourceResult<Option<(Bytes, Self)>> {
        let (scan, mut tail, explain) = match self {
            Self::Begun { scan, tail, explain } => (scan, tail, explain),
            Self::Waiting { scan, from, kept, ended } => {
                scan.all_read().await?;
                if !scan.needs_oplog() {
                    return Ok(None);
                }
                let to = end(&scan).await?;
                *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
                let noting = Arc::clone(&scan);
                let keep: Keep = Box::new(move |entry| {
                    let keeps = kept.keeps(entry);
                    if keeps {
                        whole_transaction(entry, from, kept.behind)?;
                        noting.note_entry(entry)?;
                        understand(entry, |namespace| kept.is_wanted(namespace))
                            .map_err(|error| error.with_source(NeedsFull).with_hint(HINT))?;
                    }
                    Ok(keeps)
                });
                let tail = Box::new(OplogTail::between(&scan.server, from, to, keep));
                (scan, tail, of_the_scan as fn(SourceError) -> SourceError)
            }
        };
        let cx = scan.cx.clone();
        while let Some(batch) = tail.next(&cx).await.map_err(explain)? {
            if !batch.data.is_empty() {
                let pass = async {
                    scan.pace.pass(batch.data.len()).await;
                    Ok(())
                };
                unless_cancelled(&cx, pass).await?;
                return Ok(Some((batch.data, Self::Begun { scan, tail, explain })));
            }
        }
        Ok(None)
    }
}

/// What a gap means here.
fn of_the_scan(error: SourceError) -> SourceError {
    if error.kind() != SourceErrorKind::LogGap {
        return error;
    }
    error.context("the snapshot cannot be brought to one moment").with_hint(
        "enlarge the oplog (replSetResizeOplog) or shorten the scan (fewer collections per job), \
         and run the backup again",
    )
}

/// A transaction that begins before the slice could never be applied: better no snapshot than one
/// of that kind.
pub(super) fn whole_transaction(
    entry: &RawDocument,
    from: Position,
    behind: Option<Position>,
) -> SourceResult<()> {
    if entry.get_str("op").ok() != Some("c") || entry.get("txnNumber").ok().flatten().is_none() {
        return Ok(());
    }
    // Vectored writes look like one and are none.
    if entry.get_i32("multiOpType").ok() == Some(1) {
        return Ok(());
    }
    let previous =
        entry.get_document("prevOpTime").and_then(|previous| previous.get_timestamp("ts"));
    let previous = previous.map(Position::from).unwrap_or_default();
    let aborted =
        entry.get_document("o").is_ok_and(|o| matches!(o.get("abortTransaction"), Ok(Some(_))));
    if previous == Position::default() || (previous >= from && behind != Some(previous)) || aborted
    {
        return Ok(());
    }
    Err(SourceError::new(
        SourceErrorKind::Unavailable,
        format!(
            "a transaction in the oplog to store began at {previous}, before this part of the \
             oplog ({from})"
        ),
    )
    .with_hint(
        "run the backup again, and grant the built-in role `backup`, with which such transactions \
         are found beforehand",
    ))
}

#[cfg(test)]
mod tests {
    use backup_core::source::Selection;
    use bson::rawdoc;

    use super::*;

    #[test]
    fn what_the_server_writes_for_itself_is_not_kept() {
        let selection = Selection::new(vec!["shop.*".to_owned()], vec![]).unwrap();
        let kept = Kept {
            filter: Filter::new(&selection).unwrap(),
            databases: vec!["shop".to_owned()],
            behind: None,
        };
        let keeps = |op: &str, ns: &str| kept.keeps(&rawdoc! { "op": op, "ns": ns });
        assert!(keeps("i", "shop.orders") && keeps("c", "admin.$cmd") && keeps("c", "other.$cmd"));
        assert!(!keeps("n", "") && !keeps("u", "config.transactions") && !keeps("i", "other.x"));
        assert!(!keeps("c", "config.$cmd"));
    }
}
