//! Documents that are merged into others.

use backup_core::source::{IfExists, RestoreRequest, Selection};
use bson::{Document, doc};

use super::{restored, snapshot_of, source, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

/// A server before 5.0 refuses such documents as writes, and takes them as operations of the oplog.
pub(super) async fn fields_with_a_dollar_reach_an_older_server(version: Version) {
    let (origin, target) = (Mongod::start(Version::V5_0).await, Mongod::start(version).await);
    let documents: Vec<Document> = (0..6)
        .map(|id| match id % 2 {
            0 => doc! { "_id": id, "a": "plain" },
            _ => doc! { "_id": id, "a": "kept", "$set": { "a": "operator" } },
        })
        .collect();
    origin.run("shop", doc! { "create": "log", "capped": true, "size": 1 << 20 }).await;
    for name in ["odd", "log"] {
        origin.run("shop", doc! { "insert": name, "documents": documents.clone() }).await;
    }
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let to = source(&target).await;
    restored(&snapshot, &to, verified()).await;
    let expected = state(&origin.client).await;
    same(&expected, &state(&target.client).await);
    let only = vec!["shop.odd".to_owned()];
    let merge = RestoreRequest {
        selection: Selection::new(only, Vec::new()).unwrap(),
        if_exists: IfExists::Merge,
        ..verified()
    };
    let all = doc! { "q": {}, "u": { "$set": { "changed": true } }, "multi": true };
    target.run("shop", doc! { "update": "odd", "updates": [all] }).await;
    restored(&snapshot, &to, merge).await;
    same(&expected, &state(&target.client).await);
}

/// Servers from 5.0 on store top-level fields with a leading `$`, which an update command would take
/// for operators. Each of them is merged, and others stay.
pub(super) async fn fields_with_a_dollar_are_merged(version: Version) {
    let server = Mongod::start(version).await;
    let documents = vec![
        doc! { "$first": 1, "_id": 1, "a": "kept" },
        doc! { "_id": 2, "a": "kept", "$set": { "a": "operator" } },
        doc! { "_id": 3, "$unset": { "a": 1 }, "a.b": 1, "x": { "$y": 1 } },
        doc! { "_id": { "$ref": "x", "$id": 1 }, "a": "kept", "$inc": 5 },
        doc! { "_id": { "plain": 1 }, "a": "kept" },
        doc! { "_id": 5, "a": "plain" },
    ];
    server.run("shop", doc! { "insert": "odd", "documents": documents.clone() }).await;
    let to = source(&server).await;
    let snapshot = snapshot_of(&to, Selection::all()).await;
    let mut expected = state(&server.client).await;
    // Each of them is another document of the same `_id` at the target.
    server.run("shop", doc! { "delete": "odd", "deletes": [{ "q": {}, "limit": 0 }] }).await;
    let id = |document: &Document| doc! { "_id": document["_id"].clone(), "changed": true };
    let changed: Vec<Document> = documents.iter().map(id).collect();
    server.run("shop", doc! { "insert": "odd", "documents": changed }).await;
    server.run("shop", doc! { "insert": "odd", "documents": [{ "_id": "own" }] }).await;
    let merge = RestoreRequest { if_exists: IfExists::Merge, ..verified() };
    let report = restored(&snapshot, &to, merge).await;
    assert_eq!(report.contents.unwrap().documents, Some(6));
    let mut found = state(&server.client).await;
    let own = |(_, bytes): (&Vec<u8>, &mut Vec<u8>)| {
        !Document::from_reader(&mut &bytes[..]).unwrap().get_str("_id").is_ok_and(|id| id == "own")
    };
    let odd = found.get_mut("shop.odd").unwrap();
    assert_eq!(odd.documents.len(), 7);
    odd.documents.retain(|id, bytes| own((id, bytes)));
    odd.order.clear();
    expected.get_mut("shop.odd").unwrap().order.clear();
    same(&expected, &found);
}
