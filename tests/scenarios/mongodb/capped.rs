//! The order of capped collections.
//!
//! An insertion gets its place in the oplog before it gets the lock that puts insertions into a
//! capped collection one after another. So two at the same time may be in one order in the oplog
//! and in the other on the primary (seen on 4.4, 5.0 and 6.0). All other members, and whatever
//! comes of the oplog, have the oplog's order.

use std::sync::Arc;

use bson::doc;
use futures::TryStreamExt as _;

use crate::support::mongod::{Members, Version, connect};

const WRITERS: i32 = 8;
const ROUNDS: usize = 40;

async fn natural(client: &mongodb::Client) -> Vec<i32> {
    let collection = client.database("db").collection::<bson::Document>("cap");
    let mut found = Vec::new();
    let mut cursor = collection.find(doc! {}).sort(doc! { "$natural": 1 }).await.unwrap();
    while let Some(document) = cursor.try_next().await.unwrap() {
        found.push(document.get_i32("_id").unwrap());
    }
    found
}

async fn by_the_oplog(client: &mongodb::Client) -> Vec<i32> {
    let oplog = client.database("local").collection::<bson::Document>("oplog.rs");
    let filter = doc! { "ns": "db.cap", "op": "i" };
    let entries: Vec<_> =
        oplog.find(filter).sort(doc! { "$natural": 1 }).await.unwrap().try_collect().await.unwrap();
    entries.iter().map(|entry| entry.get_document("o").unwrap().get_i32("_id").unwrap()).collect()
}

/// A secondary has the oplog's order; the primary sometimes another one.
pub(super) async fn a_secondary_has_the_order_of_the_oplog(version: Version) {
    let set = Members::pair(version).await;
    let (primary, secondary) = (connect(&set.direct(0)).await, connect(&set.direct(1)).await);
    let options = doc! { "create": "cap", "capped": true, "size": 64 << 20 };
    set.client.database("db").run_command(options).await.unwrap();
    let mut differed = false;
    for round in 0..ROUNDS {
        let barrier = Arc::new(tokio::sync::Barrier::new(usize::try_from(WRITERS).unwrap()));
        let writers = (0..WRITERS).map(|writer| {
            let (client, barrier) = (set.client.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                for n in 0..100 {
                    let id = i32::try_from(round).unwrap() * 100_000 + writer * 1000 + n;
                    let insert = doc! { "insert": "cap", "documents": [{ "_id": id }] };
                    client.database("db").run_command(insert).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        set.caught_up(&secondary).await;
        let oplog = by_the_oplog(&primary).await;
        assert_eq!(natural(&secondary).await, oplog, "a secondary goes by the oplog");
        differed |= natural(&primary).await != oplog;
        if differed {
            break;
        }
    }
    assert!(
        differed,
        "the primary had the order of its oplog in {ROUNDS} rounds: then it may be compared with a \
         restore"
    );
}
