//! Backup and restore of everything that can be in a database.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::source::{
    Delete, EntryPath, IfExists, RestoreRequest, Selection, Source as _, SourceErrorKind,
};
use backup_core::testing::{SourceDifferences, SourceTarget, source_conformance};
use backup_sources::mongodb::{ExportRequest, MongoOptions, MongoSource, Renames, export};
use bson::doc;
use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

use super::{by_the_oplog, odd, options, restored, snapshot_of, source, try_restore, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

pub(super) async fn everything_comes_back(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    odd::fill(&origin, version).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let expected = state(&origin.client).await;
    // What is written after the backup is not in it.
    origin.run("odd", doc! { "insert": "many", "documents": [{ "_id": "late" }] }).await;
    let report = restored(&snapshot, &source(&target).await, verified()).await;
    same(&expected, &state(&target.client).await);
    assert_eq!((report.warnings, report.removed), (0, 0));
    assert!(report.verified_bytes > 16 << 20, "{report:?}");
    let late = doc! { "q": { "_id": "late" }, "limit": 1 };
    let majority = doc! { "w": "majority" };
    origin.run("odd", doc! { "delete": "many", "deletes": [late], "writeConcern": majority }).await;
    let (before, after) = (digest(&origin).await, digest(&target).await);
    assert_eq!(before, after);
    assert!(before.objects.len() > 20 && before.objects["odd.many"].count == 3000);
}

async fn digest(server: &Mongod) -> backup_core::source::Digest {
    source(server).await.digest(&Context::silent(), &Selection::all()).await.unwrap()
}

pub(super) async fn everything_comes_back_by_the_oplog(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    odd::fill(&origin, version).await;
    let snapshot = snapshot_of(&by_the_oplog(&origin).await, Selection::all()).await;
    restored(&snapshot, &source(&target).await, verified()).await;
    same(&state(&origin.client).await, &state(&target.client).await);
}

async fn conforms(origin: &Mongod, target: Arc<Mongod>, version: Version) {
    odd::fill(origin, version).await;
    // Large documents make the suite's thirty readings long.
    origin.run("odd", doc! { "drop": "large" }).await;
    // Nothing can be merged into a collection that has buckets of its name beside it.
    if version.has_time_series() {
        origin.run("odd", doc! { "drop": "twin" }).await;
        origin.run("odd", doc! { "drop": "system.buckets.twin" }).await;
    }
    let restored: Arc<MongoSource> = Arc::new(source(&target).await);
    let fresh = async || {
        target.clear().await;
        SourceTarget::with_source(target.uri(), Arc::clone(&restored) as _)
    };
    let mut differences = SourceDifferences::default();
    differences.selects_by_path = false;
    source_conformance(Arc::new(source(origin).await), fresh, differences).await;
}

pub(super) async fn conformance(version: Version) {
    conforms(&Mongod::start(version).await, Arc::new(Mongod::start(version).await), version).await;
}

pub(super) async fn conformance_of_a_standalone_server(version: Version) {
    conforms(
        &Mongod::standalone(version).await,
        Arc::new(Mongod::standalone(version).await),
        version,
    )
    .await;
}

pub(super) async fn other_names_and_parts(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    odd::fill(&origin, version).await;
    let only = Selection::new(
        vec!["odd.*".to_owned()],
        vec!["odd.large".to_owned(), "odd.a+b".to_owned()],
    )
    .unwrap();
    let snapshot = snapshot_of(&source(&origin).await, only).await;
    let renames = Renames::new(["odd.many=other.copy", "odd.*=odd_test.x_*"]).unwrap();
    let renaming =
        MongoSource::connect(MongoOptions { renames, ..options(&target) }).await.unwrap();
    let part = Selection::new(
        vec!["odd.many".to_owned(), "odd.weather".to_owned(), "odd.capped".to_owned()],
        vec![],
    )
    .unwrap();
    restored(&snapshot, &renaming, RestoreRequest { selection: part, ..verified() }).await;
    let (all, found) = (state(&origin.client).await, state(&target.client).await);
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    let expected = [
        "odd_test.system.buckets.x_weather",
        "odd_test.x_capped",
        "odd_test.x_weather",
        "other.copy",
    ];
    assert_eq!(names, expected);
    assert_eq!(all["odd.many"], found["other.copy"]);
    assert_eq!(all["odd.capped"], found["odd_test.x_capped"]);
    assert_eq!(all["odd.system.buckets.weather"], found["odd_test.system.buckets.x_weather"]);
    target.clear().await;
    restored(&snapshot, &source(&target).await, verified()).await;
    let found = state(&target.client).await;
    assert!(
        !found.contains_key("odd.large")
            && !found.contains_key("odd.a+b")
            && !found.contains_key("Ödd-db.c")
    );
    assert_eq!(found.len(), all.len() - 3);
}

pub(super) async fn what_is_there_already(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for (name, ids) in [("a", 0..2500), ("b", 0..10)] {
        let documents: Vec<_> = ids.map(|id| doc! { "_id": id, "v": id }).collect();
        origin.run("shop", doc! { "insert": name, "documents": documents }).await;
    }
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let there = vec![doc! { "_id": 3, "v": "other" }, doc! { "_id": "mine" }];
    target.run("shop", doc! { "insert": "a", "documents": there }).await;
    target.run("shop", doc! { "insert": "own", "documents": [{ "_id": 1 }] }).await;
    let before = state(&target.client).await;
    let to = source(&target).await;
    let error = try_restore(&snapshot, &to, verified()).await.unwrap_err();
    assert!(error.chain().contains("shop.a already"), "{}", error.chain());
    same(&before, &state(&target.client).await);

    let merge = RestoreRequest { if_exists: IfExists::Merge, ..verified() };
    let report = restored(&snapshot, &to, merge).await;
    assert!(report.verified_bytes > 0);
    let merged = state(&target.client).await;
    assert_eq!(merged["shop.a"].documents.len(), 2501);
    assert_eq!(merged["shop.own"].documents.len(), 1);
    let expected = state(&origin.client).await;
    assert!(
        expected["shop.a"]
            .documents
            .iter()
            .all(|(id, document)| merged["shop.a"].documents[id] == *document)
    );

    let replace = || RestoreRequest { if_exists: IfExists::Replace, ..verified() };
    assert_eq!(restored(&snapshot, &to, replace()).await.removed, 0);
    let mut with_others = expected.clone();
    with_others.insert("shop.own".to_owned(), merged["shop.own"].clone());
    same(&with_others, &state(&target.client).await);
    let delete = RestoreRequest { delete: Delete::ABSENT, ..replace() };
    assert_eq!(restored(&snapshot, &to, delete).await.removed, 1);
    same(&expected, &state(&target.client).await);
}

/// Merging drops nothing: a view does not take the place of a collection.
pub(super) async fn merging_spares_what_is_in_the_place_of_a_view(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    origin.run("shop", doc! { "insert": "a", "documents": [{ "_id": 1 }] }).await;
    origin.run("shop", doc! { "create": "v", "viewOn": "a", "pipeline": [] }).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    target.run("shop", doc! { "insert": "v", "documents": [{ "_id": "mine" }] }).await;
    let (before, to) = (state(&target.client).await, source(&target).await);
    let merge = || RestoreRequest { if_exists: IfExists::Merge, ..verified() };
    let error = try_restore(&snapshot, &to, merge()).await.unwrap_err();
    assert!(
        error.chain().contains("shop.v is a collection at the target and a view"),
        "{}",
        error.chain()
    );
    same(&before, &state(&target.client).await);
    target.run("shop", doc! { "drop": "v" }).await;
    target.run("shop", doc! { "create": "v", "viewOn": "other", "pipeline": [] }).await;
    restored(&snapshot, &to, merge()).await;
    same(&state(&origin.client).await, &state(&target.client).await);
}

/// Of what was left out of a backup its snapshot says nothing: removing spares it.
pub(super) async fn replacing_spares_what_was_left_out(version: Version) {
    let server = Mongod::start(version).await;
    let insert = async |db: &str, name: &str| {
        server.run(db, doc! { "insert": name, "documents": [{ "_id": 1 }] }).await;
    };
    for (db, name) in [("shop", "orders"), ("shop", "cache"), ("crm", "people")] {
        insert(db, name).await;
    }
    let selection =
        Selection::new(vec!["shop.*".to_owned()], vec!["shop.cache".to_owned()]).unwrap();
    let snapshot = snapshot_of(&source(&server).await, selection).await;
    let expected = state(&server.client).await;
    insert("shop", "later").await;
    let delete = Delete::ABSENT;
    let replace = RestoreRequest { if_exists: IfExists::Replace, delete, ..verified() };
    let report = restored(&snapshot, &source(&server).await, replace).await;
    assert_eq!(report.removed, 1);
    same(&expected, &state(&server.client).await);
}

/// The files of the dump are called and made as mongodump does it.
pub(super) async fn the_tree_is_mongodumps(version: Version) {
    let origin = Mongod::start(version).await;
    odd::fill(&origin, version).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let content = async |path: &str| {
        let path = EntryPath::new(path).unwrap();
        let node =
            snapshot.find(&path).await.unwrap().unwrap_or_else(|| panic!("{path} is missing"));
        let pieces: Vec<_> = snapshot.content(&node).try_collect().await.unwrap();
        pieces.concat()
    };
    let dump = "/mongodb/rs/dump/odd";
    let capped = content(&format!("{dump}/capped.bson")).await;
    let expected = &state(&origin.client).await["odd.capped"];
    let in_order: Vec<u8> =
        expected.order.iter().flat_map(|id| expected.documents[id].clone()).collect();
    assert_eq!(capped, in_order);
    assert!(content(&format!("{dump}/empty.bson")).await.is_empty());
    content(&format!("{dump}/slash%2Fback%5C.bson")).await;
    content(&format!("{dump}/with+space.bson")).await;
    content(&format!("{dump}/system.buckets.weather.bson")).await;
    let text =
        String::from_utf8(content(&format!("{dump}/view+of+view.metadata.json")).await).unwrap();
    assert_eq!(
        text,
        "{\"options\":{\"viewOn\":\"z view\",\"pipeline\":[{\"$match\":{\"group\":{\"$numberInt\":\"1\"}}}]},\
         \"indexes\":[],\"collectionName\":\"view of view\",\"type\":\"view\"}"
    );
    let text = String::from_utf8(content(&format!("{dump}/many.metadata.json")).await).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["indexes"].as_array().unwrap().len(), 13);
    assert_eq!(json["type"], "collection");
}

pub(super) async fn ttl_may_be_deferred(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    odd::fill(&origin, version).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let options = MongoOptions { defer_ttl: true, ..options(&target) };
    restored(&snapshot, &MongoSource::connect(options).await.unwrap(), verified()).await;
    let found = state(&target.client).await;
    let ttl: Vec<_> = found["odd.many"]
        .indexes
        .iter()
        .flatten()
        .filter(|(key, _)| key == "expireAfterSeconds")
        .collect();
    assert!(
        ttl.len() == 2 && ttl.iter().all(|(_, value)| *value == bson::Bson::Int32(1_500_000_000)),
        "{ttl:?}"
    );
    let options = |name: &str| {
        found[name].options.iter().any(|(_, value)| *value == bson::Bson::Int64(1_500_000_000))
    };
    assert!(options("odd.clustered") && options("odd.system.buckets.weather"));
}

/// Nothing changed while the backup was made: then an export is what lies in the snapshot, file by
/// file.
pub(super) async fn an_export_is_the_dump(version: Version) {
    let origin = Mongod::start(version).await;
    odd::fill(&origin, version).await;
    let snapshot = snapshot_of(&by_the_oplog(&origin).await, Selection::all()).await;
    let room = tempfile::tempdir().unwrap();
    let (cx, all) = (Context::silent(), ExportRequest::default());
    let report = export(&cx, &snapshot, &all, &room.path().join("dump")).await.unwrap();
    let dump = EntryPath::new("/mongodb/rs/dump").unwrap();
    let tree = snapshot.find(&dump).await.unwrap().unwrap().subtree.unwrap();
    let mut walk = snapshot.walk_below(EntryPath::root(), tree);
    let (mut files, mut bytes) = (0, 0);
    while let Some((path, node)) = walk.next().await.unwrap() {
        if !node.is_file() || path.name() == b"oplog.bson" {
            continue;
        }
        let pieces: Vec<_> = snapshot.content(&node).try_collect().await.unwrap();
        let exported =
            std::fs::read(room.path().join("dump").join(path.display().trim_start_matches('/')));
        let exported = exported.unwrap_or_else(|error| panic!("{path}: {error}"));
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(900)]).into_owned();
        assert!(
            exported == pieces.concat(),
            "{path}: {} is {}",
            text(&pieces.concat()),
            text(&exported)
        );
        files += 1;
        bytes += if path.name().ends_with(b".bson") { exported.len() as u64 } else { 0 };
    }
    assert!(files > 50 && report.bytes == bytes, "{files} files, {report:?}");
    let error = export(&cx, &snapshot, &all, &room.path().join("dump")).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::TargetExists);
    let until = Some("1:1".parse().unwrap());
    let error = export(&cx, &snapshot, &ExportRequest { until, ..all }, &room.path().join("new"))
        .await
        .unwrap_err();
    assert!(error.chain().contains("is earlier"), "{}", error.chain());

    let part = Selection::new(vec!["odd.weather".to_owned()], vec![]).unwrap();
    let renames = Renames::new(["odd.*=new.*"]).unwrap();
    let request = ExportRequest { is_gzip: false, selection: part, renames, until: None };
    export(&cx, &snapshot, &request, &room.path().join("part")).await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(room.path().join("part/new"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["system.buckets.weather.bson", "weather.metadata.json"]);
}

/// What MongoDB's mongodump writes of it: every file with the SHA-256 of its content, without what
/// differs from run to run.
const EXPORTED: &str = include_str!("exported.txt");

/// The same files and contents as ever: those of mongodump (`own.rs` compares them), and buckets
/// that have no view of their own.
pub(super) async fn an_export_has_the_expected_files(version: Version) {
    let origin = Mongod::start(version).await;
    odd::fill(&origin, version).await;
    let snapshot = snapshot_of(&by_the_oplog(&origin).await, Selection::all()).await;
    let room = tempfile::tempdir().unwrap();
    export(&Context::silent(), &snapshot, &ExportRequest::default(), room.path()).await.unwrap();
    let mut list = String::new();
    for (path, bytes) in super::own::files(room.path()) {
        let content = match path.extension().map(|end| end.to_str().unwrap()) {
            Some("json") => {
                let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                json.as_object_mut().unwrap().remove("uuid");
                json.to_string().into_bytes()
            }
            // The server makes their `_id`s, and what it says of itself.
            _ if path.ends_with("system.buckets.weather.bson") || path.starts_with("admin") => {
                Vec::new()
            }
            _ => bytes,
        };
        list.push_str(&format!("{}  {}\n", hex::encode(Sha256::digest(&content)), path.display()));
    }
    assert!(list == EXPORTED, "an export is now:\n{list}");
}
