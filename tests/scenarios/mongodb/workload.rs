//! Writers and schema changers that spare nothing, after the executable specification of the study.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::{Client, ClientSession};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::support::long::long;
use crate::support::mongod::{Version, connect};

const WRITERS: u64 = 3;
const CHANGERS: u64 = 2;
const DATABASES: [&str; 2] = ["one", "two"];
const NAMES: [&str; 4] = ["a", "b", "e", "u"];
/// Between two writes of a writer, but for long runs.
const PAUSE: Duration = Duration::from_millis(2);

/// What runs until it is stopped.
pub(super) struct Workload {
    state: Arc<State>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    paused: AtomicBool,
    stopped: AtomicBool,
    idle: AtomicUsize,
    written: AtomicUsize,
    changed: AtomicUsize,
}

impl State {
    /// Waits while others compare; false at the end.
    async fn goes_on(&self) -> bool {
        if self.paused.load(Ordering::SeqCst) {
            self.idle.fetch_add(1, Ordering::SeqCst);
            while self.paused.load(Ordering::SeqCst) && !self.stopped.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.idle.fetch_sub(1, Ordering::SeqCst);
        }
        !self.stopped.load(Ordering::SeqCst)
    }
}

impl Workload {
    /// Writes to the server behind `uri`, by itself or the primary of a set.
    pub(super) async fn start(uri: &str, version: Version, seed: u64) -> Self {
        let client = connect(uri).await;
        let run = async |db: &str, command: Document| {
            client.database(db).run_command(command).await.unwrap()
        };
        for db in DATABASES {
            for name in NAMES {
                let documents: Vec<_> =
                    (0..3000).map(|id| doc! { "_id": id, "n": f64::from(id) / 3000.0 }).collect();
                run(db, doc! { "insert": name, "documents": documents }).await;
            }
            run(db, doc! { "create": "cap", "capped": true, "size": 20_480, "max": 30 }).await;
            if version.has_time_series() {
                run(
                    db,
                    doc! { "create": "ts", "timeseries": { "timeField": "t", "metaField": "m" } },
                )
                .await;
            }
        }
        let state = Arc::new(State::default());
        let mut tasks = Vec::new();
        for n in 0..WRITERS {
            let (state, client) = (Arc::clone(&state), connect(uri).await);
            let random = StdRng::seed_from_u64(seed * 100 + n);
            tasks.push(tokio::spawn(write(state, client, random, version)));
        }
        for n in 0..CHANGERS {
            let (state, client) = (Arc::clone(&state), connect(uri).await);
            let random = StdRng::seed_from_u64(seed * 977 + n);
            tasks.push(tokio::spawn(change(state, client, random, version)));
        }
        Self { state, tasks }
    }

    /// Returns when nobody writes.
    pub(super) async fn pause(&self) {
        self.state.paused.store(true, Ordering::SeqCst);
        while self.state.idle.load(Ordering::SeqCst) < self.tasks.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn go_on(&self) {
        self.state.paused.store(false, Ordering::SeqCst);
    }

    /// How many writes and changes succeeded.
    pub(super) fn done(&self) -> (usize, usize) {
        (self.state.written.load(Ordering::SeqCst), self.state.changed.load(Ordering::SeqCst))
    }

    pub(super) async fn stop(self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

fn one<'a, T: ?Sized>(random: &mut StdRng, of: &[&'a T]) -> &'a T {
    of[random.random_range(0..of.len())]
}

async fn write(state: Arc<State>, client: Client, mut random: StdRng, version: Version) {
    while state.goes_on().await {
        // Conflicts with others and with changes of the schema are part of it.
        if write_once(&client, &mut random, version).await.is_ok() {
            state.written.fetch_add(1, Ordering::SeqCst);
        }
        if !long() {
            // Everything that is written is replayed once for each moment that is restored.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn write_once(
    client: &Client,
    random: &mut StdRng,
    version: Version,
) -> mongodb::error::Result<()> {
    let db = client.database(one(random, &DATABASES));
    let (name, id) = (one(random, &NAMES), random.random_range(0..3000));
    let update = |update: Bson, upsert: bool| {
        doc! { "update": name, "updates": [{ "q": { "_id": id }, "u": update, "upsert": upsert }] }
    };
    let field = format!("f{}", random.random_range(0..5));
    let command = match random.random_range(0..1000) {
        0..350 => {
            let value: Bson = one(random, &[&Bson::from(1), &Bson::from("s"), &doc! { "z": 1 }.into()]).clone();
            let push = doc! { "$each": [random.random_range(0..9)], "$slice": -6 };
            let set = doc! { "n": random.random::<f64>(), format!("{field}.g"): value };
            update(doc! { "$set": set, "$push": { "arr": push } }.into(), true)
        }
        350..500 => {
            let padding = "x".repeat(random.random_range(0..400));
            update(doc! { "n": random.random::<f64>(), "p": padding }.into(), true)
        }
        500..600 => update(
            match random.random_range(0..5) {
                0 => doc! { "$unset": { "n": 1, field: 1 } }.into(),
                1 => doc! { "$set": { field: [Bson::from(1), Bson::from(2), Bson::from(doc! { "q": 3 })] } }.into(),
                2 => doc! { "$pop": { "arr": -1 } }.into(),
                3 => doc! { "$set": { "arr.1": 7, format!("{field}.2.q"): 4, "arr.9": { "deep": [1] } } }.into(),
                _ => Bson::Array(vec![
                    doc! { "$set": { "m": { "$concat": ["x", "y"] }, "k": { "$size": { "$ifNull": ["$arr", []] } } } }
                        .into(),
                ]),
            },
            false,
        ),
        600..720 => doc! { "delete": name, "deletes": [{ "q": { "_id": id }, "limit": 1 }] },
        720..800 => return transaction(client, random, 1 + id % 5).await,
        800..802 => return large_transaction(client, random).await,
        802..870 => doc! { "insert": "cap", "documents": [{ "v": random.random::<f64>() }] },
        870..950 if version.has_time_series() => {
            let at = bson::DateTime::from_millis(1_704_067_200_000 + 1000 * random.random_range(0..20_000));
            doc! { "insert": "ts", "documents": [{ "t": at, "m": random.random_range(0..4), "v": random.random::<f64>() }] }
        }
        _ => {
            let documents: Vec<_> = (0..5).map(|_| doc! { "x": random.random::<f64>() }).collect();
            doc! { "insert": name, "documents": documents }
        }
    };
    db.run_command(command).await.map(drop)
}

async fn transaction(
    client: &Client,
    random: &mut StdRng,
    operations: i32,
) -> mongodb::error::Result<()> {
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    for _ in 0..operations {
        let collection = client
            .database(one(random, &DATABASES))
            .collection::<Document>(one(random, &["a", "b", "u"]));
        let change = doc! { "$inc": { "t": 1 } };
        let id = doc! { "_id": random.random_range(0..3000) };
        collection.update_one(id, change).upsert(true).session(&mut session).await?;
    }
    if random.random_bool(0.2) {
        session.abort_transaction().await
    } else {
        session.commit_transaction().await
    }
}

/// 21 MB: several entries of the oplog.
async fn large_transaction(client: &Client, random: &mut StdRng) -> mongodb::error::Result<()> {
    let mut session: ClientSession = client.start_session().await?;
    session.start_transaction().await?;
    let collection = client.database(one(random, &DATABASES)).collection::<Document>("bigtx");
    for id in 0..3 {
        let bytes = vec![random.random::<u8>(); 7_000_000];
        let document =
            doc! { "p": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes } };
        collection
            .replace_one(doc! { "_id": id }, document)
            .upsert(true)
            .session(&mut session)
            .await?;
    }
    session.commit_transaction().await
}

async fn change(state: Arc<State>, client: Client, mut random: StdRng, version: Version) {
    while state.goes_on().await {
        if change_once(&client, &mut random, version).await.is_ok() {
            state.changed.fetch_add(1, Ordering::SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..120))).await;
    }
}

async fn change_once(
    client: &Client,
    random: &mut StdRng,
    version: Version,
) -> mongodb::error::Result<()> {
    let name = one(random, &DATABASES);
    let db = client.database(name);
    let (from, to) = (one(random, &NAMES), one(random, &["a", "b", "e", "u", "z"]));
    let full = |collection: &str| format!("{name}.{collection}");
    let rename =
        |drop: bool| doc! { "renameCollection": full(from), "to": full(to), "dropTarget": drop };
    let aggregate =
        |stages: Vec<Document>| doc! { "aggregate": from, "pipeline": stages, "cursor": {} };
    let index = |spec: Document| doc! { "createIndexes": from, "indexes": [spec] };
    let sometimes =
        |random: &mut StdRng, command: Document| random.random_bool(0.4).then_some(command);
    let command = match random.random_range(0..15) {
        0 => return client.database("admin").run_command(rename(false)).await.map(drop),
        1 => return client.database("admin").run_command(rename(true)).await.map(drop),
        2 => sometimes(random, doc! { "drop": from }),
        3 => Some(aggregate(vec![doc! { "$match": { "n": { "$gt": 0.5 } } }, doc! { "$out": to }])),
        4 => Some(aggregate(vec![doc! { "$limit": 50 }, doc! { "$merge": { "into": to } }])),
        5 => {
            let field = one(random, &["n", "t", "m"]);
            let mut spec = doc! { "key": { field: 1 }, "name": format!("{field}_1") };
            spec.extend(
                one(
                    random,
                    &[
                        &doc! {},
                        &doc! { "sparse": true },
                        &doc! { "partialFilterExpression": { "n": { "$gt": 0 } } },
                        &doc! { "expireAfterSeconds": 9_999_999 },
                    ],
                )
                .clone(),
            );
            Some(index(spec))
        }
        6 => {
            let partial = doc! { "uq": { "$exists": true } };
            Some(index(
                doc! { "key": { "uq": 1 }, "name": "uq_1", "unique": true, "partialFilterExpression": partial },
            ))
        }
        7 => {
            Some(doc! { "dropIndexes": from, "index": one(random, &["n_1", "t_1", "m_1", "uq_1"]) })
        }
        8 => Some(
            doc! { "collMod": from, "index": { "name": "n_1", "hidden": random.random_bool(0.5) } },
        ),
        9 => {
            let validator =
                one(random, &[&doc! {}, &doc! { "n": { "$not": { "$type": "string" } } }]).clone();
            Some(doc! { "collMod": from, "validator": validator, "validationLevel": "moderate" })
        }
        10 => return capped(&db, random, from).await,
        11 if random.random_bool(0.5) => Some(doc! { "drop": "vw" }),
        11 => {
            let stage = doc! { "$match": { "n": { "$gt": random.random::<f64>() } } };
            Some(doc! { "create": "vw", "viewOn": one(random, &["a", "b"]), "pipeline": [stage] })
        }
        12 if random.random_bool(0.4) => Some(doc! { "drop": "ts" }),
        12 if version.has_time_series() => {
            Some(doc! { "create": "ts", "timeseries": { "timeField": "t", "metaField": "m" } })
        }
        13 => {
            let mut create = doc! { "create": from };
            create.extend(
                one(
                    random,
                    &[
                        &doc! {},
                        &doc! { "collation": { "locale": "en", "strength": 2 } },
                        &doc! { "validator": { "q": { "$exists": false } } },
                    ],
                )
                .clone(),
            );
            Some(create)
        }
        _ => random.random_bool(0.08).then(|| doc! { "dropDatabase": 1 }),
    };
    match command {
        Some(command) => db.run_command(command).await.map(drop),
        None => Ok(()),
    }
}

async fn capped(
    db: &mongodb::Database,
    random: &mut StdRng,
    from: &str,
) -> mongodb::error::Result<()> {
    if random.random_bool(0.5) {
        return db.run_command(doc! { "convertToCapped": from, "size": 300_000 }).await.map(drop);
    }
    db.run_command(doc! { "drop": "cap" }).await.ok();
    let max = *one(random, &[&20, &50]);
    db.run_command(doc! { "create": "cap", "capped": true, "size": 20_480, "max": max })
        .await
        .map(drop)
}
