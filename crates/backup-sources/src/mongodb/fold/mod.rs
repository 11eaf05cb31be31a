//! The fold: brings dumped collections to one exact moment by their oplog, without a server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Fold`]: takes entries of the oplog, then documents of the dump, and gives the documents of the moment |
//! | `transactions.rs` | from entries to operations: transactions take effect where they commit |
//! | `check.rs` | whether an entry can be folded, before it is stored |
//! | `ddl.rs` | the collections of the moment, with their names, options and indexes |
//! | `modify.rs` | options and indexes that `collMod` changes |
//! | `update.rs` | updates as the oplog records them |
//! | `tree.rs` | a document that is being changed |
//! | `users.rs` | operations on users and roles, kept in memory |
//! | `spill.rs` | operations and documents on disk, in partitions that fit into memory |
//! | `folded.rs` | [`Folded`]: the collections of the moment, and their documents |
//! | `fault.rs` | folds that are broken on purpose |
//!
//! Two passes, addressed by UUID (mongo.md section 4): the oplog first, which decides about
//! collections and sorts operations into partitions by collection and `_id`; then the documents of
//! the collections that are left. A document that no operation touches passes through at once. The
//! others wait in the partition of their `_id`, which is settled in memory when everything has been
//! read. No operation on a collection as a whole is ever replayed, so renames, drops and `$out`
//! cannot break anything. A collection that something unknown is done to is left out, with the
//! reason; what is not known to be about one collection stops the fold. Nothing is skipped.
//!
//! Memory: 8 MiB for the filter of touched documents, 13 MiB for the buffers of the partitions, and
//! the documents of one partition at a time: 48 MiB at most, because one with more is split.

mod check;
mod ddl;
#[cfg(feature = "testing")]
mod fault;
mod folded;
mod modify;
mod spill;
mod transactions;
mod tree;
mod update;
mod users;

use std::collections::{BTreeMap, HashSet};

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::RawDocument;
use bytes::Bytes;

use super::catalog::{Collection, CollectionUuid, Kind};
use super::error::malformed;
use super::namespace::{BUCKETS, Namespace};
use super::position::Position;
use super::raw::{Fields, Value, get, id_of, kind, refuse_deep};
use super::state::State;
pub(super) use check::understand;
use ddl::Catalog;
pub(super) use ddl::Spoiled;
#[cfg(feature = "testing")]
pub use fault::FoldFault;
pub(super) use folded::{Folded, Live};
pub(super) use spill::Settled;
use spill::{Operation, Spill};
use transactions::Transactions;
pub(super) use transactions::{Ready, held, is_of_several, restructures};
use users::Users;

/// An operation that the fold does not know. Names what it is about, and nothing of its content.
fn unknown(what: impl std::fmt::Display, entry: &RawDocument) -> SourceError {
    let text = |field| entry.get_str(field).unwrap_or("?");
    let id = ["o2", "o"].into_iter().find_map(|object| {
        get(entry.get_document(object).ok()?.as_bytes(), "_id").ok()?.map(|id| id.kind)
    });
    let id = id.map(|kind| format!(", _id of type {}", kind::name(kind))).unwrap_or_default();
    SourceError::new(
        SourceErrorKind::Unsupported,
        format!(
            "the oplog holds {what} ({}, operation {}{id}), which this version cannot apply",
            text("ns"),
            text("op"),
        ),
    )
    .with_hint("use a newer version of this program, or restore to a moment before that operation")
}

/// First pass: the oplog.
#[derive(Debug)]
pub(super) struct Fold {
    flat: Flat,
    catalog: Catalog,
    /// Views by database and `_id` (which is `database.view`), as `system.views` holds them.
    views: BTreeMap<(String, String), Bytes>,
    spill: Spill,
    users: Users,
    /// Views that cannot be brought to the moment.
    spoiled: Vec<Spoiled>,
    /// Documents are brought to the moment elsewhere, but for those of capped collections, and
    /// users and roles.
    only_capped: bool,
    /// Documents of other collections do not matter.
    only: Option<HashSet<CollectionUuid>>,
    #[cfg(feature = "testing")]
    fault: Option<FoldFault>,
}

/// Operations in the order in which they take effect, without folding them.
#[derive(Debug)]
pub(super) struct Flat {
    until: Option<Position>,
    /// What took effect up to here is in the documents already.
    behind: Option<Position>,
    transactions: Transactions,
}

impl Flat {
    /// Up to a moment, inclusive, or all of them.
    pub(super) fn until(until: Option<Position>) -> Self {
        Self { until, behind: None, transactions: Transactions::default() }
    }

    /// Only what takes effect behind a moment.
    pub(super) fn behind(self, behind: Option<Position>) -> Self {
        Self { behind, ..self }
    }

    /// What takes effect with the next entry.
    pub(super) fn take(&mut self, entry: &RawDocument) -> SourceResult<Ready> {
        let ts = entry.get_timestamp("ts").map_err(|_| malformed("oplog entry: no timestamp"))?;
        if self.until.is_some_and(|until| Position::from(ts) > until) {
            return Ok(Ready::nothing());
        }
        if self.behind.is_some_and(|behind| Position::from(ts) <= behind) {
            self.transactions.pass_over(entry)?;
            return Ok(Ready::nothing());
        }
        self.transactions.take(entry)
    }
}

impl Fold {
    /// A fold of a dump by an oplog of about `oplog_bytes`.
    pub(super) fn new(state: &State, flat: Flat, oplog_bytes: u64) -> SourceResult<Self> {
        let mut views = BTreeMap::new();
        for saved in &state.collections {
            let Collection { namespace, kind, options, .. } = &saved.collection;
            if *kind != Kind::Collection {
                let id = namespace.to_string();
                let mut view = Fields::default().with("_id", &id);
                match kind {
                    // Its pipeline is made anew by the server.
                    Kind::TimeSeries => {
                        view.set("viewOn", &format!("{BUCKETS}{}", namespace.name));
                    }
                    _ => view.extend(options),
                }
                views.insert((namespace.db.clone(), id), view.encode().into());
            }
        }
        let (catalog, spill) = (Catalog::new(state)?, Spill::new(oplog_bytes));
        let users = Users::default();
        Ok(Self {
            flat,
            catalog,
            views,
            spill,
            users,
            spoiled: Vec::new(),
            only_capped: false,
            only: None,
            #[cfg(feature = "testing")]
            fault: None,
        })
    }

    /// Breaks it.
    #[cfg(feature = "testing")]
    pub(super) fn with_fault(self, fault: Option<FoldFault>) -> Self {
        Self { fault, ..self }
    }

    /// From here on, documents of other collections do not matter: not all operations on them may
    /// come.
    pub(super) fn only(&mut self, collections: HashSet<CollectionUuid>) {
        self.only = Some(collections);
    }

    /// Somebody else brings documents to the moment, but for those of capped collections, and users
    /// and roles.
    pub(super) fn only_capped(self) -> Self {
        Self { only_capped: true, ..self }
    }

    /// Takes the next entry of the oplog.
    pub(super) fn entry(&mut self, entry: &RawDocument) -> SourceResult<()> {
        #[cfg(feature = "testing")]
        if self.fault.is_some_and(|fault| fault.hits(entry)) {
            return Ok(());
        }
        let mut ready = self.flat.take(entry)?;
        while let Some(operation) = ready.next()? {
            self.operation(&operation)?;
        }
        Ok(())
    }

    fn operation(&mut self, entry: &RawDocument) -> SourceResult<()> {
        #[cfg(feature = "testing")]
        if self.fault.is_some_and(|fault| fault.hits(entry)) {
            return Ok(());
        }
        let Some((op, namespace)) = meant(entry)? else { return Ok(()) };
        if op == "c" {
            return self.command(&namespace.db, entry);
        }
        if namespace.name == "system.views" {
            return self.view(&namespace.db, op, entry);
        }
        if namespace.is_internal() || namespace.is_restored_by_the_server() {
            return Ok(());
        }
        let uuid = uuid_in(entry)?.ok_or_else(|| malformed("oplog entry: no collection UUID"))?;
        if self.only.as_ref().is_some_and(|only| !only.contains(&uuid)) {
            return Ok(());
        }
        // Unknown ones were dropped before the dump was made, or are not part of it.
        let Some(number) = self.catalog.number_of(&uuid) else { return Ok(()) };
        if self.only_capped && !self.catalog.is_capped(number) && !namespace.is_authorization() {
            return Ok(());
        }
        let known = operation_of(op, entry);
        #[cfg(feature = "testing")]
        let known = match (op, self.fault) {
            ("d", Some(FoldFault::Unknown)) => Err(unknown("a deletion", entry)),
            _ => known,
        };
        let (id, operation) = match known {
            Ok(known) => known,
            Err(reason) => {
                self.catalog.spoil(number, reason);
                return Ok(());
            }
        };
        self.spill.operation(number, &id, &operation)?;
        if namespace.is_authorization() {
            self.users.operation(number, id, operation);
        }
        Ok(())
    }

    fn command(&mut self, db: &str, entry: &RawDocument) -> SourceResult<()> {
        match self.catalog.command(db, entry) {
            Ok(None) => Ok(()),
            Ok(Some(db)) => {
                self.views.retain(|(of, _), _| *of != db);
                self.spoiled.retain(|spoiled| spoiled.namespace.db != db);
                Ok(())
            }
            // A change of one collection. The effect of an unknown command without one is unknown.
            Err(reason) => match uuid_in(entry)?.and_then(|uuid| self.catalog.number_of(&uuid)) {
                Some(number) => {
                    self.catalog.spoil(number, reason);
                    Ok(())
                }
                None => Err(reason),
            },
        }
    }

    /// Views are documents.
    fn view(&mut self, db: &str, op: &str, entry: &RawDocument) -> SourceResult<()> {
        let object = if op == "u" { "o2" } else { "o" };
        let broken = || malformed("oplog entry for a view");
        let named = get(entry.as_bytes(), object)?.and_then(Value::document).ok_or_else(broken)?;
        let id = get(named, "_id")?.and_then(Value::string).ok_or_else(broken)?;
        // A name that is not UTF-8: it was left out of the backup.
        let Ok(id) = std::str::from_utf8(id).map(str::to_owned) else { return Ok(()) };
        // What was captured holds more than the backup was asked for.
        if !Namespace::parse(&id).is_some_and(|view| self.catalog.covers(&view)) {
            return Ok(());
        }
        let namespace = Namespace::parse(&id);
        let key = (db.to_owned(), id);
        let view = self.views.remove(&key);
        match (operation_of(op, entry).and_then(|(_, operation)| operation.apply(view)), namespace)
        {
            // A change of one that is spoiled leaves it so.
            (Ok(None), _) if op == "u" => {}
            (Ok(view), namespace) => {
                self.spoiled.retain(|spoiled| Some(&spoiled.namespace) != namespace.as_ref());
                view.map(|view| self.views.insert(key, view));
            }
            (Err(reason), Some(namespace)) => self.spoiled.push(Spoiled { namespace, reason }),
            (Err(reason), None) => return Err(reason),
        }
        Ok(())
    }

    /// The oplog has ended: what there is at the moment.
    pub(super) fn finish(self) -> SourceResult<Folded> {
        let has_view = |namespace: &Namespace| {
            self.views.contains_key(&(namespace.db.clone(), namespace.visible().to_string()))
        };
        let (live, mut spoiled) = self.catalog.live(has_view)?;
        spoiled.extend(self.spoiled);
        let views = self
            .views
            .into_iter()
            .filter_map(|((db, id), view)| view_of(&db, &id, &view).transpose());
        let views = views.collect::<SourceResult<Vec<_>>>()?;
        Ok(Folded {
            live,
            views,
            spoiled,
            unfinished: self.flat.transactions.are_open(),
            spill: self.spill,
            users: self.users,
        })
    }
}

/// The kind of an operation and what it is about; `None` if it changes nothing that a dump holds.
fn meant(entry: &RawDocument) -> SourceResult<Option<(&str, Namespace)>> {
    let field = |key: &str| match get(entry.as_bytes(), key)?.and_then(Value::string) {
        Some(text) => Ok(text),
        None => Err(malformed(format!("oplog entry: no {key}"))),
    };
    let (op, ns) = (field("op")?, field("ns")?);
    let op = std::str::from_utf8(op).map_err(|_| malformed("oplog entry: op"))?;
    // A name that is not UTF-8: it was left out of the backup.
    let Ok(ns) = std::str::from_utf8(ns) else { return Ok(None) };
    // No-ops, and kinds of later servers.
    if matches!(op, "n" | "km" | "ci" | "cu" | "cd") {
        return Ok(None);
    }
    let namespace =
        Namespace::parse(ns).ok_or_else(|| malformed(format!("oplog entry: namespace {ns:?}")))?;
    Ok((!matches!(&*namespace.db, "config" | "local")).then_some((op, namespace)))
}

/// The collection that an entry is about.
fn uuid_in(entry: &RawDocument) -> SourceResult<Option<CollectionUuid>> {
    Ok(get(entry.as_bytes(), "ui")?.and_then(Value::uuid))
}

/// A view; `None` for the view half of a time-series collection, which its buckets bring along.
fn view_of(db: &str, id: &str, view: &[u8]) -> SourceResult<Option<Collection>> {
    let broken = || malformed(format!("view {id}"));
    refuse_deep(view, format_args!("view {id}"))?;
    let mut options = Fields::parse(view)?;
    options.remove("_id");
    if options.text("viewOn").ok_or_else(broken)?.starts_with(BUCKETS) {
        return Ok(None);
    }
    let name = id.strip_prefix(db).and_then(|rest| rest.strip_prefix('.')).ok_or_else(broken)?;
    let namespace = Namespace::new(db, name);
    Ok(Some(Collection { namespace, kind: Kind::View, uuid: None, options, indexes: Vec::new() }))
}

fn operation_of(op: &str, entry: &RawDocument) -> SourceResult<(Vec<u8>, Operation)> {
    let object = |key: &str| match get(entry.as_bytes(), key)?.and_then(Value::document) {
        Some(object) => Ok(object),
        None => Err(malformed("oplog entry")),
    };
    match op {
        "i" => Ok((id_of(object("o")?)?, Operation::Insert(Bytes::copy_from_slice(object("o")?)))),
        "d" => Ok((id_of(object("o")?)?, Operation::Delete)),
        "u" => Ok((id_of(object("o2")?)?, update::read(entry, object("o")?)?)),
        _ => Err(unknown("an entry of an unknown type", entry)),
    }
}

#[cfg(test)]
mod tests;
