//! The oplog since an earlier snapshot: what of it is needed, and whether that is enough.

use std::collections::HashSet;
use std::sync::Arc;

use backup_core::source::{NeedsFull, SourceError, SourceErrorKind, SourceResult};
use bson::{RawDocument, Timestamp, doc};
use futures::StreamExt as _;
use futures::stream;

use super::oplog::{Reading, is_of, whole_transaction};
use super::{Pieces, Scan};
use crate::mongodb::error::{Explain as _, malformed};
use crate::mongodb::fold::understand;
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::position::Position;
use crate::mongodb::raw::{Fields, Value};
use crate::mongodb::server::Server;
use crate::mongodb::tail::{Keep, OplogTail};

/// What was created or renamed between two moments and makes that a dump of the selection cannot be
/// brought from one to the other: its documents were neither in the dump nor in the oplog since.
pub(super) async fn renamed_into(
    server: &Server,
    filter: &Filter,
    (from, to): (Position, Position),
) -> SourceResult<Option<Namespace>> {
    let find = doc! {
        "find": "oplog.rs", "projection": { "ns": 1, "ui": 1, "o.create": 1, "o.renameCollection": 1, "o.to": 1 },
        "filter": {
            "ts": { "$gt": Timestamp::from(from), "$lte": Timestamp::from(to) }, "op": "c",
            "$or": [{ "o.create": { "$exists": true } }, { "o.renameCollection": { "$exists": true } }],
        },
    };
    let found = server
        .list_raw("local", find)
        .await
        .reading("cannot search the oplog for renamed collections")?;
    let entries = found.iter().map(|entry| Fields::parse(entry.as_bytes()));
    Ok(first_renamed_into(filter, &entries.collect::<SourceResult<Vec<_>>>()?))
}

fn first_renamed_into(filter: &Filter, entries: &[Fields]) -> Option<Namespace> {
    // What the oplog has all documents of.
    let mut created = HashSet::new();
    for entry in entries {
        let Some(uuid) = entry.get("ui").and_then(Value::uuid) else { continue };
        let Some(command) = entry.document("o") else { continue };
        let name = |key: &str| command.text(key);
        let db = entry.text("ns").unwrap_or_default().split('.').next().unwrap_or_default();
        match (
            name("create"),
            name("renameCollection").and_then(Namespace::parse),
            name("to").and_then(Namespace::parse),
        ) {
            (Some(name), ..) if filter.may_come_to_cover(&Namespace::new(db, name)) => {
                _ = created.insert(uuid);
            }
            (_, Some(old), Some(new))
                if filter.covers(&new) && !filter.covers(&old) && !created.contains(&uuid) =>
            {
                return Some(new);
            }
            // What is written to it from now on is not kept.
            (_, _, Some(new)) if !filter.may_come_to_cover(&new) => _ = created.remove(&uuid),
            _ => {}
        }
    }
    None
}

/// A piece of the oplog that is added to what an earlier snapshot holds.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) filter: Filter,
    /// It begins behind this entry
    pub(super) from: Position,
    /// and ends with this one.
    pub(super) to: Position,
    /// All that is held begins behind here.
    pub(super) held: Position,
    /// What took effect up to here is in the documents.
    pub(super) dumped: Position,
}

impl Slice {
    /// An entry that cannot be folded is an error: a full snapshot is better than a broken one.
    fn keeps(&self, entry: &RawDocument) -> SourceResult<bool> {
        let wanted = |namespace: &Namespace| self.filter.may_come_to_cover(namespace);
        let ts = entry.get_timestamp("ts").map_err(|_| malformed("oplog entry: no timestamp"))?;
        if Position::from(ts) <= self.from || !is_of(entry, wanted) {
            return Ok(false);
        }
        if Position::from(ts) > self.dumped {
            whole_transaction(entry, self.held, Some(self.held))
                .map_err(|error| error.with_source(NeedsFull))?;
        }
        understand(entry, wanted).map_err(|error| error.with_source(NeedsFull))?;
        Ok(true)
    }
}

/// The entries that a dump of a selection needs to get from one moment to another.
pub(super) fn slice(scan: &Arc<Scan>, slice: Slice) -> Pieces {
    let (from, to) = (slice.from, slice.to);
    let keep: Keep = Box::new(move |entry| slice.keeps(entry));
    let tail = Box::new(OplogTail::between(&scan.server, from, to, keep));
    let state = Reading::Begun { scan: Arc::clone(scan), tail, explain: of_the_slice };
    stream::try_unfold(state, |state| async { state.next().await }).boxed()
}

/// What a gap means where an earlier snapshot is built on.
fn of_the_slice(error: SourceError) -> SourceError {
    if error.kind() != SourceErrorKind::LogGap {
        return error;
    }
    error.context("cannot read the whole oplog since the earlier snapshot").with_hint(
        "run the backup again, which makes it a full one; enlarge the oplog (replSetResizeOplog) \
         to prevent this",
    )
}

#[cfg(test)]
mod tests {
    use backup_core::source::Selection;
    use bson::{Document, rawdoc};

    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Filter::new(&Selection::new(owned(include), owned(exclude)).unwrap()).unwrap()
    }

    #[test]
    fn a_slice_holds_only_what_can_be_folded() {
        let at = |seconds| Position { seconds, increment: 1 };
        let filter = filter(&["*orders"], &["*.system.*"]);
        let slice = Slice { filter, from: at(10), to: at(99), held: at(5), dumped: at(12) };
        let entry = |seconds, op: &str, ns: &str, object: bson::RawDocumentBuf| {
            rawdoc! { "ts": Timestamp::from(at(seconds)), "op": op, "ns": ns, "o": object, "o2": { "_id": 1 } }
        };
        let keeps = |entry: &RawDocument| slice.keeps(entry);
        assert!(keeps(&entry(11, "i", "shop.orders", rawdoc! { "_id": 1 })).unwrap());
        assert!(
            keeps(&entry(11, "i", "shop.system.views", rawdoc! { "_id": "shop.orders" })).unwrap()
        );
        assert!(!keeps(&entry(10, "i", "shop.orders", rawdoc! { "_id": 1 })).unwrap());
        assert!(keeps(&entry(11, "u", "shop.orders", rawdoc! { "$v": 3 })).is_err());
        assert!(
            keeps(&entry(11, "c", "shop.$cmd", rawdoc! { "convertToCapped": "orders" })).is_err()
        );

        let commit = |seconds, previous| {
            let mut commit = entry(seconds, "c", "admin.$cmd", rawdoc! { "commitTransaction": 1 });
            commit.append(bson::cstr!("txnNumber"), 1_i64);
            commit
                .append(bson::cstr!("prevOpTime"), rawdoc! { "ts": Timestamp::from(at(previous)) });
            keeps(&commit).is_ok()
        };
        // The entry at the moment itself is not held; what took effect before the dump does not
        // matter.
        assert!(commit(20, 6) && !commit(20, 5) && !commit(20, 4) && commit(12, 4));
    }

    #[test]
    fn what_was_renamed_out_and_in_again_is_noticed() {
        let filter = filter(&["shop.*"], &["shop.tmp*"]);
        let uuid = crate::mongodb::catalog::uuid_bson(&[1; 16]);
        let create =
            |name: &str| doc! { "ns": "shop.$cmd", "ui": uuid.clone(), "o": { "create": name } };
        let rename = |old: &str, new: &str| {
            let command =
                doc! { "renameCollection": format!("shop.{old}"), "to": format!("shop.{new}") };
            doc! { "ns": "shop.$cmd", "ui": uuid.clone(), "o": command }
        };
        let found = |entries: &[Document]| {
            let entries: Vec<Fields> = entries.iter().cloned().map(Fields::from).collect();
            first_renamed_into(&filter, &entries).is_some()
        };
        assert!(!found(&[create("a"), rename("a", "b"), rename("b", "c")]));
        assert!(!found(&[create("a"), rename("a", "tmp")]));
        assert!(found(&[create("a"), rename("a", "tmp"), rename("tmp", "b")]));
        assert!(found(&[create("tmp"), rename("tmp", "b")]) && found(&[rename("tmp", "b")]));
    }
}
