//! Definitions that the target refuses: named before anything is written, and left out or converted
//! on request.

use bson::{Document, doc};

use super::replaced::{Place, insert};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{Facts, same, state};

/// Index names of a collection.
fn indexes(facts: &Facts) -> Vec<String> {
    let name = |index: &Vec<(String, bson::Bson)>| {
        let field = index.iter().find(|(field, _)| field == "name");
        field.and_then(|(_, name)| name.as_str()).unwrap().to_owned()
    };
    let mut names: Vec<String> = facts.indexes.iter().map(name).collect();
    names.sort();
    names
}

/// A snapshot of 6.0 for an older target: all refusals come at once, also in a dry run, and nothing
/// is written before the flags leave them out.
pub(super) async fn definitions_of_a_newer_server_are_refused_at_once(version: Version) {
    let (origin, target) = (Mongod::start(Version::V6_0).await, Mongod::start(version).await);
    let place = Place::new();
    insert(&origin, "shop", "plain", 2).await;
    let clustered = doc! { "key": { "_id": 1 }, "unique": true };
    origin.run("shop", doc! { "create": "tree", "clusteredIndex": clustered }).await;
    insert(&origin, "shop", "tree", 2).await;
    let images = doc! { "enabled": true };
    let validator =
        doc! { "$expr": { "$eq": [{ "$dateTrunc": { "date": "$t", "unit": "day" } }, null] } };
    origin
        .run("shop", doc! { "create": "watched", "changeStreamPreAndPostImages": images, "validator": validator, "validationLevel": "off" })
        .await;
    insert(&origin, "shop", "watched", 2).await;
    let specs: Vec<Document> = vec![
        doc! { "key": { "a": 1 }, "name": "good" },
        doc! { "key": { "b": 1 }, "name": "either", "partialFilterExpression": { "$or": [{ "b": 1 }, { "b": 2 }] } },
        doc! { "key": { "c": 1 }, "name": "unique soon", "prepareUnique": true },
    ];
    origin.run("shop", doc! { "createIndexes": "plain", "indexes": specs }).await;
    let densify = doc! { "$densify": { "field": "a", "range": { "step": 1, "bounds": "full" } } };
    origin.run("shop", doc! { "create": "dense", "viewOn": "plain", "pipeline": [densify] }).await;
    place.ends(0, &["run", "--source", origin.uri(), "--job", "shop"]);

    insert(&target, "shop", "plain", 1).await;
    let before = state(&target.client).await;
    let restore =
        ["restore", "latest", "--target", target.uri(), "--if-exists", "replace", "--yes"];
    for more in [&["--dry-run"][..], &[]] {
        let text = place.ends(2, &[&restore[..], more].concat());
        for part in [
            "shop.tree: option clusteredIndex",
            "shop.watched: option changeStreamPreAndPostImages",
            "shop.plain: index either",
            "shop.plain: index unique soon",
            "shop.dense (a view: ",
            "--skip-index",
            "--no-options=",
            "--exclude",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("tmp.restore") && !text.contains("index good"), "{text}");
        same(&before, &state(&target.client).await);
    }
    // A name that matches nothing is a mistake, and changes nothing either.
    for wrong in [["--skip-index", "eithr"], ["--no-options=shop.none", "--verify"]] {
        let text = place.ends(1, &[&restore[..], &wrong].concat());
        assert!(text.contains("eithr") || text.contains("shop.none"), "{text}");
    }
    same(&before, &state(&target.client).await);

    let flags = [
        "--skip-index",
        "either",
        "--skip-index",
        "shop.plain.unique soon",
        "--no-options=shop.tree,shop.watched",
        "--exclude",
        "shop.dense",
        "--verify",
    ];
    let text = place.ends(0, &[&restore[..], &flags].concat());
    assert!(text.contains("shop.plain: the index either is left out"), "{text}");
    assert!(text.contains("shop.tree: these options are left out: clusteredIndex"), "{text}");
    let (expected, found) = (state(&origin.client).await, state(&target.client).await);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["shop.plain", "shop.tree", "shop.watched"]);
    for (name, facts) in &found {
        assert_eq!(facts.documents, expected[name].documents, "{name}");
    }
    assert_eq!(indexes(&found["shop.plain"]), ["_id_", "good"]);
    assert_eq!((&found["shop.tree"].options, &found["shop.watched"].options), (&vec![], &vec![]));
}

/// `geoHaystack` indexes of 4.4 end with 5.0; converted, they become `2d`.
pub(super) async fn haystack_indexes_are_converted(version: Version) {
    let (origin, target) = (Mongod::start(Version::V4_4).await, Mongod::start(version).await);
    let place = Place::new();
    let at = |id: i32| doc! { "_id": id, "p": [f64::from(id), 1.0], "t": "x" };
    origin.run("shop", doc! { "insert": "geo", "documents": [at(1), at(2)] }).await;
    let haystack =
        doc! { "key": { "p": "geoHaystack", "t": 1 }, "name": "near", "bucketSize": 1.0 };
    origin.run("shop", doc! { "createIndexes": "geo", "indexes": [haystack] }).await;
    place.ends(0, &["run", "--source", origin.uri(), "--job", "shop"]);
    let restore = ["restore", "latest", "--target", target.uri()];
    let text = place.ends(2, &restore);
    assert!(text.contains("shop.geo: index near (servers from 5.0 on have no"), "{text}");
    assert!(state(&target.client).await.is_empty());
    let text = place.ends(0, &[&restore[..], &["--convert-legacy-indexes", "--verify"]].concat());
    assert!(text.contains("shop.geo: the index near is converted"), "{text}");
    let found = &state(&target.client).await["shop.geo"];
    assert_eq!(indexes(found), ["_id_", "near"]);
    assert!(format!("{:?}", found.indexes).contains("\"2d\""), "{:?}", found.indexes);
    assert_eq!(found.documents, state(&origin.client).await["shop.geo"].documents);
}
