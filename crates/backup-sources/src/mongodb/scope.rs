//! What entries of the oplog are about: noted when they are captured, so that a restore of a part
//! need not read the rest.
//!
//! Objects are collections by UUID, which stays the same whatever they are called. Everybody needs
//! what is done to collections as a whole, views (documents that say by their content what they are
//! about), and transactions of several entries, which take effect only if all of them are there.

use std::collections::HashSet;

use backup_core::log::Scope;
use backup_core::source::SourceResult;
use bson::{RawBsonRef, RawDocument};
use bytes::Bytes;

use super::catalog::CollectionUuid;
use super::error::malformed;
use super::fold::{held, is_of_several};
use super::namespace::{Filter, Namespace};
use super::raw::{self, first_of};
use super::state::State;

/// Limit of nested `applyOps`.
const DEEPEST: u32 = 100;

/// What these entries are about; `None` if that cannot be told.
pub(super) fn scope_of(mut entries: Bytes) -> SourceResult<Option<Scope>> {
    let mut scope = Scope::default();
    while let Some(entry) = first_of(&mut entries)? {
        note(&mut scope, raw::document(&entry)?, 0);
    }
    Ok(scope.noted())
}

fn note(scope: &mut Scope, entry: &RawDocument, depth: u32) {
    let text = |key: &str| entry.get_str(key).unwrap_or_default();
    let (op, ns) = (text("op"), text("ns"));
    match op {
        "n" => {}
        "i" | "u" | "d" if !ns.ends_with(".system.views") => match uuid_in(entry) {
            Some(uuid) => _ = scope.objects.insert(hex::encode(uuid)),
            None => scope.always = true,
        },
        "c" if depth < DEEPEST && !is_of_several(entry) => {
            match entry.get_document("o").and_then(|o| o.get_array("applyOps")) {
                Ok(operations) => {
                    for operation in operations {
                        match operation {
                            Ok(RawBsonRef::Document(operation)) => {
                                note(scope, operation, depth + 1);
                            }
                            _ => scope.always = true,
                        }
                    }
                }
                Err(_) => scope.always = true,
            }
        }
        _ => scope.always = true,
    }
}

fn uuid_in(entry: &RawDocument) -> Option<CollectionUuid> {
    CollectionUuid::try_from(entry.get_binary("ui").ok()?.bytes).ok()
}

/// The collections that may be wanted: those that had, at any time, a name which is.
pub(super) struct Chosen {
    filters: [Filter; 2],
    uuids: HashSet<CollectionUuid>,
}

impl Chosen {
    /// Of a dump, what it was asked for and `filter` covers; `None` if that is everything.
    pub(super) fn of(state: &State, filter: &Filter) -> SourceResult<Option<Self>> {
        let filters = [state.filter()?, filter.clone()];
        if filters.iter().all(Filter::covers_everything) {
            return Ok(None);
        }
        let mut chosen = Self { filters, uuids: HashSet::new() };
        for saved in &state.collections {
            chosen.add(saved.collection.uuid, &saved.collection.namespace);
        }
        Ok(Some(chosen))
    }

    fn add(&mut self, uuid: Option<CollectionUuid>, namespace: &Namespace) {
        if let Some(uuid) = uuid
            && self.filters.iter().all(|filter| filter.covers(namespace))
        {
            self.uuids.insert(uuid);
        }
    }

    /// Takes an entry that may create or rename.
    pub(super) fn note(&mut self, entry: &RawDocument) -> SourceResult<()> {
        if entry.get_str("op").ok() != Some("c") {
            return Ok(());
        }
        let mut operations = held(entry)?;
        while let Some(operation) = operations.next()? {
            if operation.get_str("op").ok() == Some("c") {
                let broken = || malformed("command in the oplog");
                let (ns, object) = (operation.get_str("ns"), operation.get_document("o"));
                let (ns, object) = (ns.map_err(|_| broken())?, object.map_err(|_| broken())?);
                let namespace = match (object.get_str("create"), object.get_str("to")) {
                    (Ok(name), _) => {
                        Namespace::parse(ns).map(|command| Namespace::new(command.db, name))
                    }
                    (_, Ok(to)) => Namespace::parse(to),
                    _ => None,
                };
                if let Some(namespace) = namespace {
                    self.add(uuid_in(&operation), &namespace);
                }
            }
        }
        Ok(())
    }

    /// The collections.
    pub(super) fn uuids(self) -> HashSet<CollectionUuid> {
        self.uuids
    }
}

/// Whether entries are about one of these collections, or everybody's.
pub(super) fn about(
    uuids: &HashSet<CollectionUuid>,
) -> impl Fn(&Scope) -> bool + Send + Sync + use<> {
    let uuids: HashSet<String> = uuids.iter().map(hex::encode).collect();
    move |scope| scope.always || scope.objects.iter().any(|object| uuids.contains(object))
}

#[cfg(test)]
mod tests {
    use backup_core::source::Selection;
    use bson::spec::BinarySubtype;
    use bson::{Binary, RawDocumentBuf, doc, rawdoc};

    use super::*;

    fn uuid(byte: u8) -> Binary {
        Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] }
    }

    fn scope(entries: &[RawDocumentBuf]) -> Scope {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.as_bytes().to_vec()).collect();
        scope_of(bytes.into()).unwrap().unwrap()
    }

    fn about_one(byte: u8) -> Scope {
        Scope { always: false, objects: [hex::encode([byte; 16])].into() }
    }

    /// A transaction's entry.
    fn applied(operation: RawDocumentBuf, more: &RawDocument, previous: u32) -> RawDocumentBuf {
        let mut object = rawdoc! { "applyOps": [operation] };
        for field in more {
            let (name, value) = field.unwrap();
            object.append(name, value);
        }
        rawdoc! {
            "op": "c", "ns": "admin.$cmd", "o": object, "lsid": { "id": 1 }, "txnNumber": 1_i64,
            "prevOpTime": { "ts": bson::Timestamp { time: previous, increment: previous } },
        }
    }

    #[test]
    fn documents_are_about_their_collection() {
        let insert = rawdoc! { "op": "i", "ns": "shop.orders", "ui": uuid(1), "o": { "_id": 1 } };
        assert_eq!(
            scope(&[insert.clone(), rawdoc! { "op": "n", "ns": "", "o": {} }]),
            about_one(1)
        );
        assert_eq!(scope(&[applied(insert.clone(), &rawdoc! {}, 0)]), about_one(1));
        let mut vectored = applied(insert, &rawdoc! {}, 5);
        vectored.append(bson::cstr!("multiOpType"), 1);
        assert_eq!(scope(&[vectored]), about_one(1));
        assert_eq!(scope_of(Bytes::new()).unwrap(), Some(Scope::default()));
    }

    #[test]
    fn what_is_more_than_documents_is_everybodys() {
        let create =
            rawdoc! { "op": "c", "ns": "shop.$cmd", "ui": uuid(1), "o": { "create": "x" } };
        let insert = rawdoc! { "op": "i", "ns": "shop.orders", "ui": uuid(1), "o": { "_id": 1 } };
        let entries = [
            create.clone(),
            applied(create, &rawdoc! {}, 0),
            rawdoc! { "op": "i", "ns": "shop.system.views", "ui": uuid(1), "o": { "_id": "shop.v" } },
            rawdoc! { "op": "i", "ns": "shop.orders", "o": { "_id": 1 } },
            rawdoc! { "op": "new", "ns": "shop.orders", "ui": uuid(1), "o": {} },
            applied(insert.clone(), &rawdoc! { "partialTxn": true }, 0),
            applied(insert.clone(), &rawdoc! { "prepare": true }, 0),
            applied(insert, &rawdoc! { "count": 2_i64 }, 5),
            rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "commitTransaction": 1 }, "lsid": {}, "txnNumber": 1_i64 },
        ];
        for entry in entries {
            assert!(scope(std::slice::from_ref(&entry)).always, "{entry:?}");
        }
    }

    #[test]
    fn what_is_created_or_renamed_into_a_selection_is_chosen() {
        let (include, exclude) = (Vec::new(), Vec::new());
        let mut state = State {
            version: [6, 0, 0],
            needs_oplog: false,
            include,
            exclude,
            since: None,
            collections: Vec::new(),
        };
        let everything = Filter::new(&Selection::all()).unwrap();
        assert!(Chosen::of(&state, &everything).unwrap().is_none());
        state.exclude.push("shop.sessions".to_owned());
        let filter =
            Filter::new(&Selection::new(vec!["shop.*".to_owned()], Vec::new()).unwrap()).unwrap();
        let mut chosen = Chosen::of(&state, &filter).unwrap().unwrap();
        let command =
            |ns: &str, byte, object| rawdoc! { "op": "c", "ns": ns, "ui": uuid(byte), "o": object };
        let rename = |to: &str| {
            RawDocumentBuf::try_from(&doc! { "renameCollection": "a.b", "to": to }).unwrap()
        };
        for entry in [
            command("shop.$cmd", 1, rawdoc! { "create": "orders" }),
            command("crm.$cmd", 2, rawdoc! { "create": "orders" }),
            command("shop.$cmd", 3, rawdoc! { "create": "sessions" }),
            command("a.$cmd", 4, rename("shop.x")),
            applied(command("a.$cmd", 5, rename("shop.y")), &rawdoc! { "partialTxn": true }, 0),
            command("shop.$cmd", 6, rename("crm.x")),
        ] {
            chosen.note(&entry).unwrap();
        }
        let uuids = chosen.uuids();
        assert_eq!(uuids, [1, 4, 5].map(|byte| [byte; 16]).into());
        let is_wanted = about(&uuids);
        assert!(is_wanted(&about_one(4)) && !is_wanted(&about_one(6)));
        assert!(
            is_wanted(&Scope { always: true, ..Scope::default() }) && !is_wanted(&Scope::default())
        );
    }
}
