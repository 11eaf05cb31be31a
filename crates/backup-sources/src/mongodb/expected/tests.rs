//! Entries of the oplog as servers write them, folded and read a second time: both must come to the
//! documents and definitions that are written here.

use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};

use super::*;
use crate::mongodb::catalog::{Collection, Kind, uuid_bson};
use crate::mongodb::fold::{Flat, Fold};
use crate::mongodb::raw::{Fields, document};
use crate::mongodb::state::{Saved, State};

const A: CollectionUuid = [0xa; 16];
const B: CollectionUuid = [0xb; 16];

fn state(version: [i32; 3]) -> State {
    let collection = Collection {
        namespace: Namespace::new("db", "c"),
        kind: Kind::Collection,
        uuid: Some(A),
        options: Fields::default(),
        indexes: vec![doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }.into()],
    };
    State {
        version,
        needs_oplog: true,
        include: Vec::new(),
        exclude: Vec::new(),
        since: None,
        collections: vec![Saved::of(&collection, Some("db/c.bson".to_owned()))],
    }
}

fn bytes(document: &Document) -> Vec<u8> {
    RawDocumentBuf::try_from(document).unwrap().into_bytes()
}

fn operation(op: &str, o: Document) -> Document {
    doc! { "op": op, "ns": "db.c", "ui": uuid_bson(&A), "o": o }
}

fn update(id: i32, o: Document) -> Document {
    doc! { "op": "u", "ns": "db.c", "ui": uuid_bson(&A), "o": o, "o2": { "_id": id } }
}

fn command(uuid: CollectionUuid, o: Document) -> Document {
    doc! { "op": "c", "ns": "db.$cmd", "ui": uuid_bson(&uuid), "o": o }
}

/// An entry of a transaction; `previous` is the number of the entry before it.
fn part(o: Document, number: i64, previous: u32) -> Document {
    let previous = Timestamp { time: previous, increment: u32::from(previous > 0) };
    doc! {
        "op": "c", "ns": "admin.$cmd", "o": o, "lsid": { "id": 1, "uid": 2 }, "txnNumber": number,
        "prevOpTime": { "ts": previous, "t": 1_i64 },
    }
}

/// Entries at the moments 1, 2, 3 …
fn timed(entries: Vec<Document>) -> Vec<RawDocumentBuf> {
    let timed = (1..).zip(entries).map(|(time, mut entry)| {
        entry.insert("ts", Timestamp { time, increment: 1 });
        RawDocumentBuf::try_from(&entry).unwrap()
    });
    timed.collect()
}

/// Folds `dumped` documents of `A` and reads them a second time; both must come to `expected`.
#[track_caller]
fn comes_to(version: [i32; 3], dumped: &[Document], entries: Vec<Document>, expected: &[Document]) {
    let (state, entries) = (state(version), timed(entries));
    let mut fold = Fold::new(&state, Flat::until(None), 0).unwrap();
    entries.iter().for_each(|entry| fold.entry(entry).unwrap());
    let mut folded = fold.finish().unwrap();
    assert!(folded.spoiled.is_empty(), "{:?}", folded.spoiled);

    let mut second = Second {
        log: Log::new(None, None),
        definitions: Definitions::of(&state).unwrap(),
        documents: Documents::new([(A, Wanted::default())], 0),
    };
    entries.iter().for_each(|entry| second.entry(entry.as_bytes()).unwrap());
    let mut found = Vec::new();
    if let Some(live) = folded.live.iter().find(|live| live.uuid == A).cloned() {
        for document in dumped.iter().map(bytes) {
            found.extend(folded.base(&live, document.into()).unwrap());
        }
        while let Some(settled) = folded.settle().unwrap() {
            let settled = settled.into_iter().filter(|one| one.number == live.number);
            found.extend(settled.map(|one| one.document));
        }
    }
    let mut found: Vec<Document> =
        found.iter().map(|bytes| document(bytes).unwrap().try_into().unwrap()).collect();
    found.sort_by_key(|document| document.get_i32("_id").unwrap());
    assert_eq!(found, expected);

    let mut sum = Sum::default();
    expected.iter().for_each(|document| sum.add(&bytes(document)));
    dumped.iter().for_each(|document| second.documents.dumped(&A, &bytes(document)).unwrap());
    let second = second.finish(&Context::silent()).unwrap();
    assert_eq!(second.sum(&A), sum);
    let all = Filter::everything();
    assert_eq!(second.differences([&all, &all], &folded).unwrap(), Vec::<String>::new());
}

fn two() -> [Document; 2] {
    [doc! { "_id": 1, "n": 1 }, doc! { "_id": 2, "n": 2 }]
}

#[test]
fn documents_and_definitions_of_old_servers() {
    let entries = vec![
        operation("i", doc! { "_id": 3 }),
        update(1, doc! { "$v": 1, "$set": { "a.b": 1 } }),
        operation("d", doc! { "_id": 2 }),
        update(3, doc! { "_id": 3, "whole": true }),
        command(
            B,
            doc! { "create": "tmp", "temp": true, "idIndex": { "v": 2, "key": { "_id": 1 }, "name": "_id_" } },
        ),
        command(B, doc! { "renameCollection": "db.tmp", "to": "db.other", "stayTemp": false }),
        command(A, doc! { "createIndexes": "c", "v": 2, "key": { "n": 1 }, "name": "n_1" }),
        command(A, doc! { "collMod": "c", "index": { "name": "n_1", "hidden": true } }),
        command(A, doc! { "collMod": "c", "validator": { "n": 1 }, "validationLevel": "moderate" }),
        command(A, doc! { "renameCollection": "db.c", "to": "db.d" }),
        doc! { "op": "i", "ns": "db.system.views", "ui": uuid_bson(&[9; 16]), "o": { "_id": "db.v", "viewOn": "d", "pipeline": [] } },
    ];
    let expected = [doc! { "_id": 1, "n": 1, "a": { "b": 1 } }, doc! { "_id": 3, "whole": true }];
    comes_to([4, 4, 2], &two(), entries, &expected);
}

#[test]
fn transactions_take_effect_at_their_end() {
    let apply = |operations: Vec<Document>, more: Document| {
        let mut object = doc! { "applyOps": operations };
        object.extend(more);
        object
    };
    let insert = |id: i32| vec![operation("i", doc! { "_id": id })];
    let entries = vec![
        part(apply(insert(10), doc! { "partialTxn": true }), 1, 0),
        part(apply(insert(20), doc! { "prepare": true }), 2, 0),
        part(apply(insert(30), doc! { "prepare": true }), 3, 0),
        part(apply(insert(11), doc! { "count": 2_i64 }), 1, 1),
        part(doc! { "abortTransaction": 1 }, 2, 2),
        part(doc! { "commitTransaction": 1 }, 3, 3),
        // Never ends.
        part(apply(insert(40), doc! { "prepare": true }), 4, 0),
        // Creates a collection.
        part(apply(vec![command(B, doc! { "create": "made" })], doc! { "prepare": true }), 5, 0),
        part(doc! { "commitTransaction": 1 }, 5, 8),
    ];
    let new = [10, 11, 30].map(|id| doc! { "_id": id });
    comes_to([6, 0, 5], &two(), entries, &[&two()[..], &new].concat());
}

/// From the sources of MongoDB 7.0 to 9.0 (`src/mongo/db/repl/oplog_entry.idl`,
/// `src/mongo/db/repl/oplog.cpp`, `src/mongo/db/coll_mod.idl`): entries that look like others, have
/// more fields, or change nothing that a dump holds.
#[test]
fn shapes_of_newer_servers() {
    let mut vectored = part(doc! { "applyOps": [operation("i", doc! { "_id": 3 })] }, 7, 5);
    vectored.insert("multiOpType", 1);
    vectored.insert("stmtId", vec![0, 1]);
    let mut create = command(
        B,
        doc! {
            "create": "new", "idIndex": { "v": 2, "key": { "_id": 1 }, "name": "_id_" },
            "recordIdsReplicated": true, "changeStreamPreAndPostImages": { "enabled": true },
        },
    );
    create.insert(
        "o2",
        doc! { "catalogId": 17_i64, "ident": "collection-1", "directoryPerDB": false },
    );
    create.insert("versionContext", doc! { "OFCV": "8.2" });
    let mut replicated = operation("i", doc! { "_id": 4 });
    replicated.insert("rid", 9_i64);
    let entries = vec![
        vectored,
        create,
        replicated,
        doc! { "op": "km", "ns": "db.c", "o": {} },
        doc! { "op": "ci", "ns": "db.c", "container": "x", "o": { "k": 1, "v": 2 } },
        doc! { "op": "cd", "ns": "db.c", "container": "x", "o": { "k": 1 } },
        doc! { "op": "n", "ns": "", "o": { "msg": "periodic noop" } },
        command(A, doc! { "setMultikeyMetadata": "c", "indexName": "n_1" }),
        command(
            A,
            doc! { "createIndexes": "c", "v": 2, "key": { "n": 1 }, "name": "n_1", "unique": true },
        ),
        command(A, doc! { "collMod": "c", "index": { "name": "n_1", "forceNonUnique": true } }),
        command(A, doc! { "collMod": "c", "isUnsplittable": true }),
        update(1, doc! { "$v": 2, "diff": { "sa": { "i": { "b": 1 } }, "u": { "n": 5 } } }),
    ];
    let dumped = [doc! { "_id": 1, "a": {}, "n": 1 }, doc! { "_id": 2 }];
    let expected = [
        doc! { "_id": 1, "a": { "b": 1 }, "n": 5 },
        doc! { "_id": 2 },
        doc! { "_id": 3 },
        doc! { "_id": 4 },
    ];
    comes_to([8, 0, 0], &dumped, entries, &expected);
}

/// Unknown operations are never skipped: one collection is left out, or the fold stops.
#[test]
fn unknown_operations_of_newer_servers_are_not_skipped() {
    let columns = Bson::Document(doc! { "o": 5, "d": "bytes" });
    let spoils = [
        update(1, doc! { "$v": 2, "diff": { "b": { "data": columns } } }),
        command(A, doc! { "collMod": "c", "unheardOf": true }),
        command(A, doc! { "upgradeDowngradeViewlessTimeseries": "c" }),
    ];
    for entry in spoils {
        let mut fold = Fold::new(&state([9, 0, 0]), Flat::until(None), 0).unwrap();
        timed(vec![entry.clone()]).iter().for_each(|entry| fold.entry(entry).unwrap());
        let folded = fold.finish().unwrap();
        assert!(folded.live.is_empty() && folded.spoiled.len() == 1, "{entry}");
        assert!(folded.spoiled[0].reason.to_string().contains("cannot apply"), "{entry}");
    }
    for entry in [
        command(B, doc! { "unheardOf": 1 }),
        doc! { "op": "c", "ns": "db.$cmd", "o": { "unheardOf": 1 } },
    ] {
        let mut fold = Fold::new(&state([9, 0, 0]), Flat::until(None), 0).unwrap();
        assert!(fold.entry(&timed(vec![entry.clone()])[0]).is_err(), "{entry}");
    }
}
