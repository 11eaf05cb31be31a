//! Everything that can be in a database.

use bson::{Bson, Document, doc};

use crate::support::mongod::{Mongod, Version};

/// A name whose file is longer than mongodump's names may be: 240 bytes escaped.
pub(super) fn long_name() -> String {
    format!("{}ü ", "long".repeat(40)).repeat(1) + &"/ü".repeat(10)
}

/// Documents of all kinds, indexes of all kinds, collections of all kinds, names of all kinds.
pub(super) async fn fill(server: &Mongod, version: Version) {
    documents(server).await;
    collections(server).await;
    indexes(server).await;
    views(server).await;
    if version.has_time_series() {
        time_series(server).await;
        orphans(server).await;
    }
    if version >= Version::V6_0 {
        clustered(server).await;
    }
}

async fn insert(server: &Mongod, db: &str, name: &str, documents: Vec<Document>) {
    server.run(db, doc! { "insert": name, "documents": documents }).await;
}

async fn documents(server: &Mongod) {
    let mixed: Vec<Bson> = vec![
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Null,
        f64::NAN.into(),
        f64::NEG_INFINITY.into(),
        5_i32.into(),
        6_i64.into(),
        "text".into(),
        doc! { "b": 1, "a": 2 }.into(),
        true.into(),
        bson::DateTime::from_millis(-1).into(),
        bson::Binary { subtype: bson::spec::BinarySubtype::UserDefined(0x80), bytes: vec![0, 255] }
            .into(),
        bson::oid::ObjectId::from_bytes([7; 12]).into(),
        bson::Timestamp { time: 0, increment: 0 }.into(),
        "1.50".parse::<bson::Decimal128>().unwrap().into(),
        (-0.0).into(),
    ];
    let documents = mixed.into_iter().map(|id| doc! { "_id": id, "v": 1 }).collect();
    insert(server, "odd", "mixed ids", documents).await;
    let many = (0..3000)
        .map(|n| doc! { "_id": n, "group": n % 7, "text": format!("word{} other", n % 13), "at": [n % 90, n % 45] });
    insert(server, "odd", "many", many.collect()).await;
    let large = "x".repeat(16 * 1024 * 1024 - 30);
    insert(server, "odd", "large", vec![doc! { "_id": 1, "p": large }]).await;
    insert(server, "odd", "empty timestamps", vec![doc! { "_id": 0 }]).await;
    empty_timestamp(server, "empty timestamps", 1).await;
    for name in [
        "with space",
        "per%cent",
        "slash/back\\",
        "ünï.cødé.",
        "-dash",
        "UPPER",
        "upper",
        "a+b",
        &long_name(),
    ] {
        insert(server, "odd", name, vec![doc! { "_id": name }]).await;
    }
    insert(
        server,
        "odd",
        "system.js",
        vec![doc! { "_id": "f", "value": bson::Bson::JavaScriptCode("1".to_owned()) }],
    )
    .await;
    insert(server, "Ödd-db", "c", vec![doc! { "_id": 1 }]).await;
}

/// Of what is inserted, the server replaces it.
async fn empty_timestamp(server: &Mongod, name: &str, id: i32) {
    let empty = doc! { "_id": id, "t": bson::Timestamp { time: 0, increment: 0 }, "x": 1 };
    let update = doc! { "q": { "_id": id }, "u": [{ "$replaceWith": { "$literal": empty } }], "upsert": true };
    server.run("odd", doc! { "update": name, "updates": [update] }).await;
}

async fn collections(server: &Mongod) {
    server.run("odd", doc! { "create": "empty" }).await;
    server.run("odd", doc! { "create": "capped", "capped": true, "size": 8192, "max": 20 }).await;
    for n in 0..50 {
        insert(server, "odd", "capped", vec![doc! { "_id": (n * 37) % 50, "n": n }]).await;
    }
    server.run("odd", doc! { "create": "capped empty", "capped": true, "size": 8192 }).await;
    insert(server, "odd", "capped empty", vec![doc! { "_id": 1 }]).await;
    empty_timestamp(server, "capped empty", 2).await;
    insert(server, "odd", "capped empty", vec![doc! { "_id": 3 }]).await;
    let validator = doc! { "$jsonSchema": { "required": ["must"], "properties": { "must": { "bsonType": "int" } } } };
    insert(server, "odd", "validated", vec![doc! { "_id": 1, "breaks": "the rule" }]).await;
    let change = doc! { "collMod": "validated", "validator": validator, "validationLevel": "moderate", "validationAction": "warn" };
    server.run("odd", change).await;
    let collation = doc! { "locale": "de", "strength": 1, "numericOrdering": true };
    server.run("odd", doc! { "create": "collated", "collation": collation }).await;
    insert(server, "odd", "collated", vec![doc! { "_id": "ä" }, doc! { "_id": "b", "s": "10" }])
        .await;
    let plain = doc! { "key": { "s": 1 }, "name": "plain", "collation": { "locale": "simple" } };
    let own = doc! { "key": { "s": 1 }, "name": "own", "collation": { "locale": "fr" } };
    let same = doc! { "key": { "s": -1 }, "name": "inherited" };
    server.run("odd", doc! { "createIndexes": "collated", "indexes": [plain, own, same] }).await;
    let engine = doc! { "wiredTiger": { "configString": "block_compressor=zlib" } };
    server.run("odd", doc! { "create": "engine", "storageEngine": engine }).await;
}

async fn indexes(server: &Mongod) {
    let indexes = vec![
        doc! { "key": { "b": 1, "a": -1 }, "name": "b_1_a_-1" },
        doc! { "key": { "group": 1.0 }, "name": "a number of another kind" },
        doc! { "key": { "group": "hashed" }, "name": "hashed" },
        doc! { "key": { "text": "text", "other": "text" }, "name": "text", "weights": { "text": 3 }, "default_language": "german" },
        doc! { "key": { "at": "2d" }, "name": "2d", "bits": 20 },
        doc! { "key": { "place": "2dsphere" }, "name": "2dsphere" },
        doc! { "key": { "$**": 1 }, "name": "all", "wildcardProjection": { "text": 1 } },
        doc! { "key": { "u": 1 }, "name": "unique", "unique": true, "sparse": true },
        doc! { "key": { "p": 1 }, "name": "partial", "partialFilterExpression": { "p": { "$gt": 5 } } },
        doc! { "key": { "h": 1 }, "name": "hidden", "hidden": true },
        doc! { "key": { "when": 1 }, "name": "ttl", "expireAfterSeconds": 3600 },
        doc! { "key": { "fraction": 1 }, "name": "ttl too", "expireAfterSeconds": 7.0 },
    ];
    server.run("odd", doc! { "createIndexes": "many", "indexes": indexes }).await;
}

async fn views(server: &Mongod) {
    let pipeline = vec![doc! { "$match": { "group": 1 } }];
    let collation = doc! { "locale": "fr" };
    let view =
        |name: &str, on: &str| doc! { "create": name, "viewOn": on, "pipeline": pipeline.clone() };
    // On a view that comes later in order of names, which stands on a collection.
    server.run("odd", view("view of view", "z view")).await;
    server.run("odd", view("z view", "many")).await;
    let mut collated = view("collated view", "many");
    collated.insert("collation", collation);
    server.run("odd", collated).await;
}

async fn time_series(server: &Mongod) {
    let options = doc! { "timeField": "t", "metaField": "m", "granularity": "minutes" };
    server.run("odd", doc! { "create": "weather", "timeseries": options, "expireAfterSeconds": 86_400 * 10_000 }).await;
    let at = |n: i64| bson::DateTime::from_millis(1_700_000_000_000 + n * 60_000);
    let documents = (0..200).map(|n| doc! { "t": at(n), "m": n % 3, "v": n }).collect();
    insert(server, "odd", "weather", documents).await;
    server
        .run("odd", doc! { "createIndexes": "weather", "indexes": [{ "key": { "m": 1, "t": -1 }, "name": "own" }] })
        .await;
}

/// Buckets without their view, alone and beside a plain collection of their name: the server allows
/// it when creating one races with writing the other.
async fn orphans(server: &Mongod) {
    insert(
        server,
        "odd",
        "twin",
        vec![doc! { "_id": 1, "plain": true }, doc! { "_id": 2, "t": 1 }],
    )
    .await;
    server
        .run(
            "odd",
            doc! { "createIndexes": "twin", "indexes": [{ "key": { "plain": 1 }, "name": "of the plain one" }] },
        )
        .await;
    for name in ["system.buckets.twin", "system.buckets.orphan"] {
        let series =
            doc! { "timeField": "t", "granularity": "seconds", "bucketMaxSpanSeconds": 3600 };
        server
            .run("odd", doc! { "create": name, "clusteredIndex": true, "timeseries": series })
            .await;
        let at = bson::DateTime::from_millis(1_700_000_000_000);
        let bucket = doc! {
            "_id": bson::oid::ObjectId::from_bytes([9; 12]),
            "control": { "version": 1, "min": { "_id": 1, "t": at }, "max": { "_id": 1, "t": at } },
            "data": { "t": { "0": at }, "_id": { "0": 1 } },
        };
        insert(server, "odd", name, vec![bucket]).await;
    }
}

async fn clustered(server: &Mongod) {
    let clustered = doc! { "key": { "_id": 1 }, "unique": true, "name": "the cluster" };
    server
        .run(
            "odd",
            doc! { "create": "clustered", "clusteredIndex": clustered, "expireAfterSeconds": 1_000_000_000_i64 },
        )
        .await;
    insert(server, "odd", "clustered", (0..100).map(|n| doc! { "_id": n, "v": n }).collect()).await;
    let images = doc! { "enabled": true };
    server.run("odd", doc! { "create": "images", "changeStreamPreAndPostImages": images }).await;
}
