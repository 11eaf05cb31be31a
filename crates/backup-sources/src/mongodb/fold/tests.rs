//! Folding scripts of oplog entries.

use std::collections::BTreeMap;

use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc, rawdoc};

use super::*;
use crate::mongodb::catalog::uuid_bson;
use crate::mongodb::state::Saved;

const A: CollectionUuid = [0xa; 16];
const B: CollectionUuid = [0xb; 16];

fn saved(name: &str, uuid: CollectionUuid, options: Document) -> Saved {
    let collection = Collection {
        namespace: Namespace::parse(name).unwrap(),
        kind: Kind::Collection,
        uuid: Some(uuid),
        options: options.into(),
        indexes: vec![
            doc! { "key": { "_id": 1 }, "name": "_id_" }.into(),
            doc! { "key": { "x": 1 }, "name": "x_1" }.into(),
        ],
    };
    Saved {
        collection,
        path: Some(name.to_owned()),
        digest: None,
        repeated: false,
        changes: Fields::default(),
    }
}

fn state(collections: Vec<Saved>) -> State {
    State {
        version: [6, 0, 5],
        needs_oplog: true,
        include: Vec::new(),
        exclude: Vec::new(),
        since: None,
        collections,
    }
}

/// A script of entries at moments 1, 2, 3 …
struct Script {
    fold: Fold,
    time: u32,
}

impl Script {
    fn new(state: &State) -> Self {
        Self { fold: Fold::new(state, Flat::until(None), 0).unwrap(), time: 0 }
    }

    fn try_entry(&mut self, mut entry: Document) -> SourceResult<()> {
        self.time += 1;
        entry.insert("ts", Timestamp { time: self.time, increment: 1 });
        self.fold.entry(&RawDocumentBuf::try_from(&entry).unwrap())
    }

    fn crud(&mut self, op: &str, uuid: CollectionUuid, o: Document, o2: Option<Document>) {
        let mut entry = doc! { "op": op, "ns": "db.c", "ui": uuid_bson(&uuid), "o": o };
        entry.extend(o2.map(|o2| ("o2".to_owned(), Bson::Document(o2))));
        self.try_entry(entry).unwrap();
    }

    fn command(&mut self, uuid: CollectionUuid, o: Document) {
        self.try_entry(doc! { "op": "c", "ns": "db.$cmd", "ui": uuid_bson(&uuid), "o": o })
            .unwrap();
    }

    /// Documents by collection after the fold of these, in natural order.
    fn documents(
        self,
        base: &[(CollectionUuid, Vec<Document>)],
    ) -> BTreeMap<String, Vec<Document>> {
        let mut folded = self.fold.finish().unwrap();
        let mut found: BTreeMap<String, Vec<(u64, Document)>> = BTreeMap::new();
        let read = |bytes: &Bytes| {
            Document::try_from(crate::mongodb::raw::document(bytes).unwrap()).unwrap()
        };
        let live = folded.live.clone();
        let name_of = |number: u32| {
            live.iter().find(|l| l.number == number).map(|l| l.collection.namespace.to_string())
        };
        for one in &live {
            let name = one.collection.namespace.to_string();
            let list = found.entry(name).or_default();
            let documents = base
                .iter()
                .filter(|(uuid, _)| *uuid == one.uuid)
                .flat_map(|(_, documents)| documents);
            for (place, document) in documents.enumerate() {
                if let Some(bytes) =
                    folded.base(one, Fields::from(document.clone()).encode().into()).unwrap()
                {
                    list.push((place as u64, read(&bytes)));
                }
            }
        }
        while let Some(settled) = folded.settle().unwrap() {
            for one in settled {
                if let Some(name) = name_of(one.number) {
                    found.get_mut(&name).unwrap().push((one.place, read(&one.document)));
                }
            }
        }
        let sorted = |mut list: Vec<(u64, Document)>| {
            list.sort_by_key(|(place, _)| *place);
            list.into_iter().map(|(_, document)| document).collect()
        };
        found.into_iter().map(|(name, list)| (name, sorted(list))).collect()
    }
}

fn ids(documents: &[Document]) -> Vec<i32> {
    documents.iter().map(|document| document.get_i32("_id").unwrap()).collect()
}

#[test]
fn documents_come_to_the_moment() {
    let mut script = Script::new(&state(vec![saved("db.c", A, doc! {})]));
    script.crud("i", A, doc! { "_id": 9, "new": 1 }, None);
    script.crud("u", A, doc! { "$v": 2, "diff": { "u": { "n": 5 } } }, Some(doc! { "_id": 2 }));
    script.crud("d", A, doc! { "_id": 1 }, None);
    // The scan saw this one after it was inserted.
    script.crud("i", A, doc! { "_id": 3, "n": 0 }, None);
    script.crud("u", A, doc! { "$v": 2, "diff": { "u": { "n": 1 } } }, Some(doc! { "_id": 3 }));
    // Deleted before the scan came by.
    script.crud("u", A, doc! { "$v": 2, "diff": { "u": { "n": 1 } } }, Some(doc! { "_id": 7 }));
    let base = [1, 2, 3, 4].map(|id| doc! { "_id": id, "n": id }).to_vec();
    let mut found = script.documents(&[(A, base)]).remove("db.c").unwrap();
    found.sort_by_key(|document| document.get_i32("_id").unwrap());
    let expected = [
        doc! { "_id": 2, "n": 5 },
        doc! { "_id": 3, "n": 1 },
        doc! { "_id": 4, "n": 4 },
        doc! { "_id": 9, "new": 1 },
    ];
    assert_eq!(found, expected);
}

#[test]
fn capped_collections_keep_their_order() {
    let mut script = Script::new(&state(vec![saved("db.c", A, doc! { "capped": true })]));
    script.crud("d", A, doc! { "_id": 1 }, None);
    script.crud("i", A, doc! { "_id": 5 }, None);
    script.crud("i", A, doc! { "_id": 1 }, None);
    // The scan saw 5 already.
    let found = script.documents(&[(A, [1, 2, 3, 5].map(|id| doc! { "_id": id }).to_vec())]);
    assert_eq!(ids(&found["db.c"]), [2, 3, 5, 1]);
}

#[test]
fn renames_drops_and_new_collections_go_by_uuid() {
    let mut script =
        Script::new(&state(vec![saved("db.a", A, doc! {}), saved("db.b", B, doc! {})]));
    let fresh = [0xc; 16];
    script
        .command(fresh, doc! { "create": "tmp", "idIndex": { "name": "_id_" }, "temp": true, "validator": { "x": 1 } });
    script.crud("i", fresh, doc! { "_id": 1 }, None);
    script.command(A, doc! { "renameCollection": "db.a", "to": "db.old", "stayTemp": false });
    script.command(
        fresh,
        doc! { "renameCollection": "db.tmp", "to": "db.b", "dropTarget": uuid_bson(&B) },
    );
    script.crud("i", A, doc! { "_id": 2 }, None);
    script.crud("i", B, doc! { "_id": 3 }, None);
    let live = Script { fold: Fold::new(&state(vec![]), Flat::until(None), 0).unwrap(), time: 0 };
    assert!(live.documents(&[]).is_empty());
    let found = script.documents(&[(A, vec![doc! { "_id": 1 }]), (B, vec![doc! { "_id": 9 }])]);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["db.b", "db.old"]);
    assert_eq!((ids(&found["db.b"]), ids(&found["db.old"])), (vec![1], vec![1, 2]));
}

#[test]
fn options_and_indexes_are_those_of_the_moment() {
    let mut script = Script::new(&state(vec![saved("db.c", A, doc! { "validator": { "a": 1 } })]));
    script.command(A, doc! { "collMod": "c", "validator": {}, "validationLevel": "moderate" });
    script.command(A, doc! { "collMod": "c", "index": { "name": "x_1", "hidden": true } });
    script.command(A, doc! { "startIndexBuild": "c", "indexes": [{ "name": "never" }] });
    script.command(
        A,
        doc! { "commitIndexBuild": "c", "indexes": [{ "v": 2, "key": { "y": 1 }, "name": "y_1" }] },
    );
    script.command(A, doc! { "createIndexes": "c", "v": 2, "key": { "z": 1 }, "name": "z_1" });
    script.command(A, doc! { "dropIndexes": "c", "index": "z_1" });
    let folded = script.fold.finish().unwrap();
    let Collection { options, indexes, .. } = &folded.live[0].collection;
    // A change is made again as a change.
    assert_eq!(*options, doc! { "validator": { "a": 1 } }.into());
    let changes = doc! { "validator": {}, "validationLevel": "moderate" };
    assert_eq!(folded.live[0].changes, changes.into());
    let changed = doc! { "validationLevel": "moderate" };
    assert_eq!(folded.live[0].changed().options, changed.into());
    let names: Vec<_> = indexes.iter().map(|index| index.text("name").unwrap()).collect();
    assert_eq!(names, ["_id_", "x_1", "y_1"]);
    assert!(indexes[1].is_true("hidden"));
}

#[test]
fn what_was_listed_as_temporary_may_get_a_name() {
    let listed = || state(vec![saved("db.tmp.agg_out.1", A, doc! { "temp": true })]);
    assert!(Script::new(&listed()).fold.finish().unwrap().live[0].temporary);
    let mut script = Script::new(&listed());
    script.command(
        A,
        doc! { "renameCollection": "db.tmp.agg_out.1", "to": "db.c", "stayTemp": false },
    );
    let folded = script.fold.finish().unwrap();
    assert!(!folded.live[0].temporary);
    assert_eq!(folded.live[0].collection.options, Fields::default());
}

#[test]
fn views_are_documents() {
    let view = Collection {
        namespace: Namespace::new("db", "v"),
        kind: Kind::View,
        uuid: None,
        options: doc! { "viewOn": "c", "pipeline": [] }.into(),
        indexes: Vec::new(),
    };
    let mut script = Script::new(&state(vec![Saved {
        collection: view,
        path: None,
        digest: None,
        repeated: false,
        changes: Fields::default(),
    }]));
    let entry = |op: &str, o: Document| doc! { "op": op, "ns": "db.system.views", "ui": uuid_bson(&B), "o": o };
    script
        .try_entry(entry(
            "i",
            doc! { "_id": "db.w", "viewOn": "v", "pipeline": [{ "$match": {} }] },
        ))
        .unwrap();
    script.try_entry(entry("d", doc! { "_id": "db.v" })).unwrap();
    let folded = script.fold.finish().unwrap();
    assert_eq!(folded.views.len(), 1);
    assert_eq!(folded.views[0].namespace.to_string(), "db.w");
    let view = doc! { "viewOn": "v", "pipeline": [{ "$match": {} }] };
    assert_eq!(folded.views[0].options, view.into());
}

#[test]
fn the_moment_is_inclusive() {
    let state = state(vec![saved("db.c", A, doc! {})]);
    let until = Position { seconds: 1, increment: 1 };
    let mut script =
        Script { fold: Fold::new(&state, Flat::until(Some(until)), 0).unwrap(), time: 0 };
    script.crud("i", A, doc! { "_id": 1 }, None);
    script.crud("i", A, doc! { "_id": 2 }, None);
    assert_eq!(ids(&script.documents(&[])["db.c"]), [1]);
}

#[test]
fn what_was_read_is_not_done_again_but_transactions_go_on() {
    let state = state(vec![saved("db.c", A, doc! {})]);
    let behind = Position { seconds: 4, increment: 1 };
    let flat = Flat::until(None).behind(Some(behind));
    let mut script = Script { fold: Fold::new(&state, flat, 0).unwrap(), time: 0 };
    let transaction = |number: i64, previous: u32, o: Document| {
        let previous = Timestamp { time: previous, increment: previous };
        let lsid = doc! { "id": 1 };
        doc! { "op": "c", "ns": "admin.$cmd", "lsid": lsid, "txnNumber": number, "prevOpTime": { "ts": previous }, "o": o }
    };
    let insert =
        |id: i32| doc! { "op": "i", "ns": "db.c", "ui": uuid_bson(&A), "o": { "_id": id } };
    script.crud("i", A, doc! { "_id": 1 }, None);
    script.command(A, doc! { "drop": "c" });
    // One of which the beginning is not there, and that has ended.
    script.try_entry(transaction(1, 1, doc! { "applyOps": [insert(2)], "count": 2 })).unwrap();
    script
        .try_entry(transaction(2, 0, doc! { "applyOps": [insert(3)], "partialTxn": true }))
        .unwrap();
    script.try_entry(transaction(2, 4, doc! { "applyOps": [insert(4)], "count": 2 })).unwrap();
    script.crud("i", A, doc! { "_id": 5 }, None);
    let error = script
        .try_entry(transaction(3, 1, doc! { "applyOps": [insert(6)], "count": 2 }))
        .unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::LogGap);
    let mut found = ids(&script.documents(&[])["db.c"]);
    found.sort_unstable();
    assert_eq!(found, [3, 4, 5]);
}

#[test]
fn an_unknown_operation_spoils_its_collection() {
    let state = state(vec![saved("db.c", A, doc! {}), saved("db.d", B, doc! {})]);
    let ui = uuid_bson(&A);
    for entry in [
        doc! { "op": "x", "ns": "db.c", "ui": ui.clone(), "o": { "_id": 1 } },
        doc! { "op": "c", "ns": "db.$cmd", "ui": ui.clone(), "o": { "reshapeCollection": "c" } },
        doc! { "op": "c", "ns": "db.$cmd", "ui": ui, "o": { "collMod": "c", "colour": "red" } },
    ] {
        let mut script = Script::new(&state);
        script.try_entry(entry.clone()).unwrap();
        let folded = script.fold.finish().unwrap();
        let [Spoiled { namespace, reason: error }] = &folded.spoiled[..] else { panic!("{entry}") };
        assert_eq!((&*namespace.name, folded.live.len()), ("c", 1));
        assert_eq!(error.kind(), SourceErrorKind::Unsupported, "{entry}");
        assert!(
            error.chain().contains("cannot apply") && error.hint().is_some(),
            "{}",
            error.chain()
        );
    }
}

#[test]
fn a_collection_that_was_not_asked_for_is_not_missed() {
    let mut limited = state(vec![saved("db.c", A, doc! {})]);
    limited.include = vec!["db.c".to_owned()];
    let mut script = Script::new(&limited);
    script.command(B, doc! { "renameCollection": "db.x", "to": "db.y" });
    assert_eq!(script.fold.finish().unwrap().live.len(), 1);
    let mut script = Script::new(&limited);
    script.command(A, doc! { "drop": "c" });
    script.command(B, doc! { "renameCollection": "db.x", "to": "db.c" });
    let folded = script.fold.finish().unwrap();
    let [Spoiled { reason, .. }] = &folded.spoiled[..] else { panic!("{:?}", folded.spoiled) };
    assert!(reason.chain().contains("not in this snapshot") && folded.live.is_empty());
}

#[test]
fn what_a_scan_met_twice_counts_once() {
    let mut twice = state(vec![saved("db.c", A, doc! {})]);
    twice.collections[0].repeated = true;
    let script = Script::new(&twice);
    let base =
        vec![doc! { "_id": 1, "n": 1 }, doc! { "_id": 2, "n": 1 }, doc! { "_id": 1, "n": 2 }];
    let found = script.documents(&[(A, base)]);
    assert_eq!(found["db.c"], [doc! { "_id": 1, "n": 2 }, doc! { "_id": 2, "n": 1 }]);
}

/// Random scripts against a model that applies everything to maps.
#[test]
fn many_documents_in_many_partitions() {
    let state = state(vec![saved("db.a", A, doc! {}), saved("db.b", B, doc! {})]);
    let mut fold = Fold::new(&state, Flat::until(None), 100 << 20).unwrap();
    let mut model: BTreeMap<(CollectionUuid, i32), i32> = BTreeMap::new();
    let base: Vec<Document> = (0..2000).map(|id| doc! { "_id": id, "n": -1 }).collect();
    for uuid in [A, B] {
        model.extend((0..2000).map(|id| ((uuid, id), -1)));
    }
    let mut random = 1_u64;
    for n in 0..5000 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uuid = if random >> 40 & 1 == 0 { A } else { B };
        let id = i32::try_from((random >> 33) % 3000).unwrap();
        let ui = uuid_bson(&uuid);
        let ts = Timestamp { time: 1, increment: n };
        let n = i32::try_from(n).unwrap();
        let entry = match random >> 60 {
            0..5 => {
                model.remove(&(uuid, id));
                doc! { "ts": ts, "op": "d", "ns": "db.x", "ui": ui, "o": { "_id": id } }
            }
            5..10 => {
                model.insert((uuid, id), n);
                doc! { "ts": ts, "op": "i", "ns": "db.x", "ui": ui, "o": { "_id": id, "n": n } }
            }
            _ => {
                model.entry((uuid, id)).and_modify(|value| *value = n);
                doc! { "ts": ts, "op": "u", "ns": "db.x", "ui": ui, "o": { "$v": 2, "diff": { "u": { "n": n } } }, "o2": { "_id": id } }
            }
        };
        fold.entry(&RawDocumentBuf::try_from(&entry).unwrap()).unwrap();
    }
    fold.entry(&rawdoc! { "ts": Timestamp { time: 2, increment: 1 }, "op": "n", "ns": "", "o": { "msg": "idle" } })
        .unwrap();
    let found = Script { fold, time: 0 }.documents(&[(A, base.clone()), (B, base)]);
    for (name, uuid) in [("db.a", A), ("db.b", B)] {
        let mut documents: Vec<_> = found[name]
            .iter()
            .map(|d| (d.get_i32("_id").unwrap(), d.get_i32("n").unwrap()))
            .collect();
        documents.sort_unstable();
        let expected: Vec<_> =
            model.iter().filter(|((of, _), _)| *of == uuid).map(|((_, id), n)| (*id, *n)).collect();
        assert_eq!(documents, expected);
    }
}
