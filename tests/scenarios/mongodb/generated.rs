//! Generated documents and changes, through every kind of backup, restore and export: the documents of
//! the server come back byte for byte.

use std::collections::BTreeMap;
use std::path::Path;

use ::mongodb::error::ErrorKind;
use backup_core::context::Context;
use backup_core::log::Target;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, Selection};
use backup_sources::mongodb::{ExportRequest, MongoSource, export, synthetic_full};
use bson::{RawArrayBuf, RawDocumentBuf, doc, rawdoc};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::built_on::{made, reader};
use super::logs::{Logged, position};
use super::{by_the_oplog, restored, say, source, talking, verified};
use crate::support::long::long;
use crate::support::mongod::{Mongod, Version};
use crate::support::odd_bson::{ONCE, document, element, raw, value, whole};

/// Collections of one round, each of a seed of its own.
const ROUND: u64 = 20;
const ROUNDS: u64 = 25;
const DOCUMENTS: i32 = 8;
const LARGEST: usize = 16 << 20;

/// The bytes of all documents of each collection, in no order.
type Documents = BTreeMap<String, Vec<Vec<u8>>>;

fn id(number: i32) -> Vec<u8> {
    element(16, b"_id", &number.to_le_bytes())
}

fn list(documents: Vec<Vec<u8>>) -> RawArrayBuf {
    documents.into_iter().map(raw).collect()
}

/// Runs a command; returns how many documents were written.
async fn run(server: &Mongod, command: RawDocumentBuf) -> i32 {
    let shown = command.as_bytes()[..command.as_bytes().len().min(4000)].escape_ascii().to_string();
    match server.client.database("odd").run_raw_command(command).await {
        Ok(reply) => reply.get_i32("n").unwrap(),
        // A refusal whose text is not UTF-8.
        Err(error)
            if matches!(*error.kind, ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_)) =>
        {
            0
        }
        Err(error) => panic!("{error}: {shown}"),
    }
}

async fn insert(server: &Mongod, random: &mut StdRng, collection: &str) {
    let mut documents: Vec<Vec<u8>> = (0..DOCUMENTS).map(|n| whole(random, &id(n))).collect();
    // `_id` may be nearly anything; a server refuses some kinds.
    for _ in 0..2 {
        let (kind, value) = value(random, 2);
        documents.push(whole(random, &element(kind, b"_id", &value)));
    }
    let command = rawdoc! { "insert": collection, "documents": list(documents), "ordered": false };
    assert!(run(server, command).await >= DOCUMENTS);
}

/// One document that is nearly as large as can be.
async fn insert_large(server: &Mongod, random: &mut StdRng) {
    let small = whole(random, &id(0));
    let length = LARGEST - small.len() - 200;
    let filler =
        [&u32::try_from(length).unwrap().to_le_bytes()[..], &[0], &vec![7; length]].concat();
    let fields = small[4..small.len() - 1].to_vec();
    let large = document(&[fields, element(5, b"large", &filler), element(16, b"k", &[0; 4])]);
    let command = rawdoc! { "insert": "large", "documents": list(vec![large]) };
    assert_eq!(run(server, command).await, 1);
}

/// A dotted path; the server may find it impossible.
fn path(random: &mut StdRng) -> Vec<u8> {
    let [one, two, three] = ONCE;
    let names = [one, two, three, one, two, "0", "1", "3"];
    let parts = (0..random.random_range(1..4)).map(|_| names[random.random_range(0..names.len())]);
    parts.collect::<Vec<_>>().join(".").into_bytes()
}

/// An update, or a replacement, of one document.
fn update(random: &mut StdRng) -> Vec<u8> {
    let (path, (kind, new)) = (path(random), value(random, 2));
    let set = |operator: &[u8], kind: u8, value: &[u8]| {
        document(&[element(3, operator, &document(&[element(kind, &path, value)]))])
    };
    let literal = |kind: u8, value: &[u8]| document(&[element(kind, b"$literal", value)]);
    let change = match random.random_range(0..8) {
        0 | 1 => (3, set(b"$set", kind, &new)),
        2 => (3, set(b"$unset", 8, &[1])),
        3 => (3, set(b"$push", kind, &new)),
        4 => (3, document(&[element(3, b"$inc", &document(&[element(16, b"k", &[1, 0, 0, 0])]))])),
        // Servers crash on pipelines with values of other kinds, or with odd names in them.
        5 if matches!(kind, 1 | 7 | 8 | 9 | 10 | 16 | 18) => {
            (4, document(&[element(3, b"0", &set(b"$set", 3, &literal(kind, &new)))]))
        }
        6 => {
            let number = element(16, b"n", &random.random::<[u8; 4]>());
            let inside =
                document(&[element(18, b"a", &random.random::<[u8; 8]>()), number.clone()]);
            let whole = document(&[element(3, b"b", &inside), number]);
            let stage = document(&[element(3, b"$replaceWith", &literal(3, &whole))]);
            (4, document(&[element(3, b"0", &stage)]))
        }
        _ => (3, whole(random, &[])),
    };
    let query = document(&[id(random.random_range(0..DOCUMENTS))]);
    document(&[element(3, b"q", &query), element(change.0, b"u", &change.1)])
}

/// Changes documents in every way, and puts others in the place of some; returns how many the server
/// has changed.
async fn change(server: &Mongod, random: &mut StdRng, collection: &str) -> i32 {
    let mut changed = 0;
    for _ in 0..12 {
        let updates = list(vec![update(random)]);
        changed += run(server, rawdoc! { "update": collection, "updates": updates }).await;
    }
    let gone = random.random_range(0..DOCUMENTS);
    let delete = rawdoc! { "q": { "_id": gone }, "limit": 1 };
    let deletes: RawArrayBuf = [delete].into_iter().collect();
    run(server, rawdoc! { "delete": collection, "deletes": deletes }).await;
    let again = list(vec![whole(random, &id(gone))]);
    run(server, rawdoc! { "insert": collection, "documents": again }).await;
    changed
}

/// Changes everything there is.
async fn change_all(server: &Mongod, randoms: &mut [StdRng]) {
    let mut changed = 0;
    for (number, random) in randoms.iter_mut().enumerate() {
        changed += change(server, random, &format!("c{number}")).await;
    }
    let increase = rawdoc! { "q": {}, "u": { "$inc": { "k": 1 } } };
    let updates: RawArrayBuf = [increase].into_iter().collect();
    // All of it is in the majority's oplog then.
    let concern = rawdoc! { "w": "majority" };
    run(server, rawdoc! { "update": "large", "updates": updates, "writeConcern": concern }).await;
    assert!(changed > 2 * i32::try_from(randoms.len()).unwrap(), "the server refuses nearly all");
}

async fn documents(server: &Mongod) -> Documents {
    let database = server.client.database("odd");
    let mut found = Documents::new();
    for name in database.list_collection_names().await.unwrap() {
        let command = RawDocumentBuf::try_from(&doc! { "find": &name }).unwrap();
        let mut cursor = database.run_raw_cursor_command(command).await.unwrap();
        let all = found.entry(name).or_default();
        while cursor.advance().await.unwrap() {
            all.push(cursor.current().as_bytes().to_vec());
        }
        all.sort();
    }
    found
}

/// The documents in the files of an export.
fn exported(directory: &Path) -> Documents {
    let mut found = Documents::new();
    for file in std::fs::read_dir(directory.join("odd")).unwrap() {
        let path = file.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".bson") else {
            continue;
        };
        let (bytes, mut at) = (std::fs::read(&path).unwrap(), 0);
        let all = found.entry(name.to_owned()).or_default();
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let end = at + usize::try_from(length).unwrap();
            all.push(bytes[at..end].to_vec());
            at = end;
        }
        all.sort();
    }
    found
}

#[track_caller]
fn same(expected: &Documents, found: &Documents, what: &str, first: u64) {
    assert!(expected.keys().eq(found.keys()), "{what}, seeds from {first}");
    for (name, documents) in expected {
        for (expected, found) in documents.iter().zip(&found[name]) {
            let at = expected.iter().zip(found).take_while(|(one, other)| one == other).count();
            let shown = |bytes: &[u8]| {
                bytes[at.min(bytes.len())..].iter().take(500).copied().collect::<Vec<u8>>()
            };
            let [one, other] = [expected, found].map(|bytes| shown(bytes));
            assert!(
                expected == found,
                "{what}, {name} of seeds from {first}, byte {at}:\n{}\n{}",
                one.escape_ascii(),
                other.escape_ascii()
            );
        }
        assert_eq!(documents.len(), found[name].len(), "{what}, {name} of seeds from {first}");
    }
}

/// Everything through a full backup, an incremental one, the captured log, a full one made of both,
/// an export, and restores of all of them.
async fn round(server: &Mongod, target: &Mongod, first: u64) {
    let mut randoms: Vec<StdRng> = (first..first + ROUND).map(StdRng::seed_from_u64).collect();
    server.client.database("odd").drop().await.unwrap();
    for (number, random) in randoms.iter_mut().enumerate() {
        insert(server, random, &format!("c{number}")).await;
    }
    insert_large(server, &mut randoms[0]).await;
    let (to, cx) = (source(target).await, talking());
    let logged = Logged::new(by_the_oplog(server).await).await;
    let (repository, from) = (&logged.repository, &logged.source);
    let comes_back = async |expected: &Documents, what: &str| {
        same(expected, &documents(target).await, what, first);
        target.clear().await;
    };

    let (_, full) = made(repository, from, BackupKind::Full, Selection::all(), &cx).await;
    restored(&full, &to, verified()).await;
    comes_back(&documents(server).await, "full").await;

    change_all(server, &mut randoms).await;
    let expected = documents(server).await;
    let kind = BackupKind::Incremental;
    let (report, since) = made(repository, from, kind, Selection::all(), &cx).await;
    assert_eq!((report.kind, report.warnings), (kind, 0));
    restored(&since, &to, verified()).await;
    comes_back(&expected, "incremental").await;
    let made = synthetic_full(repository, &since, None, &BackupOptions::default(), &cx).await;
    let made = reader(repository, &made.unwrap_or_else(|error| panic!("{}", error.chain()))).await;
    restored(&made, &to, verified()).await;
    comes_back(&expected, "compaction").await;
    let room = tempfile::tempdir().unwrap();
    export(&Context::silent(), &since, &ExportRequest::default(), room.path()).await.unwrap();
    same(&expected, &exported(room.path()), "export", first);

    let capturing = logged.begin();
    change_all(server, &mut randoms).await;
    let at = newest(from).await;
    logged.reached(&at).await;
    capturing.stop().await;
    logged.restore(&Target::Position(at), &to, verified()).await;
    comes_back(&documents(server).await, "log").await;
}

async fn newest(from: &MongoSource) -> backup_core::log::Position {
    position(from, from.newest_entry(&Context::silent()).await.unwrap().at)
}

/// Twenty seeds; with `--long`, five hundred.
pub(super) async fn generated_documents_come_back(version: Version) {
    let (server, target) = (Mongod::start(version).await, Mongod::start(version).await);
    let rounds = if long() { ROUNDS } else { 1 };
    for first in (0..rounds).map(|round| 1 + round * ROUND) {
        say(&format!("seeds {first} to {}", first + ROUND - 1));
        round(&server, &target, first).await;
    }
}
