//! Many small collections of all kinds: restored equal byte by byte, and killed in the middle.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::event::{Event, Events, Progress, Reporter, Stage};
use backup_core::pipeline::restore;
use backup_core::source::{IfExists, RestoreRequest, Selection};
use backup_sources::mongodb::{MongoOptions, MongoSource};
use bson::{Document, doc};

use super::{odd, options, restored, say, snapshot_of, source, verified};
use crate::support::cli::Cli;
use crate::support::long::long;
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_raw::{definitions, same_definitions};
use crate::support::mongod_state::{State, same, state};

const DATABASES: usize = 4;
/// Collections of each kind in each database.
const EACH: usize = 3;

/// Options of `create` and indexes, by kind.
fn kinds() -> Vec<(&'static str, Document, Vec<Document>)> {
    let german = doc! { "locale": "de", "strength": 1 };
    let rule = doc! { "$jsonSchema": { "required": ["v"] } };
    vec![
        ("plain", doc! {}, vec![doc! { "key": { "v": 1 }, "name": "v", "unique": true }]),
        ("bare", doc! {}, vec![]),
        (
            "partial",
            doc! {},
            vec![
                doc! { "key": { "v": 1 }, "name": "p", "unique": true, "partialFilterExpression": { "v": { "$gt": 2 } } },
                doc! { "key": { "t": "text" }, "name": "t", "default_language": "german" },
            ],
        ),
        (
            "collated",
            doc! { "collation": german },
            vec![
                doc! { "key": { "t": 1 }, "name": "own", "unique": true },
                doc! { "key": { "t": 1 }, "name": "plain", "collation": { "locale": "simple" } },
            ],
        ),
        (
            "capped",
            doc! { "capped": true, "size": 65_536, "max": 40 },
            vec![
                doc! { "key": { "t": 1 }, "name": "t" },
                doc! { "key": { "v": 1 }, "name": "v", "unique": true },
            ],
        ),
        (
            "validated",
            doc! { "validator": rule, "validationAction": "warn" },
            vec![doc! { "key": { "$**": 1 }, "name": "all" }],
        ),
        (
            "expiring",
            doc! {},
            vec![
                doc! { "key": { "v": 1 }, "name": "v" },
                doc! { "key": { "at": 1 }, "name": "ttl", "expireAfterSeconds": 1_000_000_000 },
                doc! { "key": { "t": "hashed" }, "name": "hashed" },
            ],
        ),
    ]
}

/// Fills databases; the older form has fewer documents and no indexes.
async fn fill(server: &Mongod, databases: std::ops::Range<usize>, is_old: bool) {
    for db in databases {
        let db = format!("tenant{db}");
        for (kind, options, indexes) in kinds() {
            for n in 0..EACH {
                let name = format!("{kind}{n}");
                let mut create = doc! { "create": &name };
                create.extend(options.clone());
                server.run(&db, create).await;
                if !indexes.is_empty() && !is_old {
                    let command = doc! { "createIndexes": &name, "indexes": indexes.clone() };
                    server.run(&db, command).await;
                }
                let count = if is_old { 2 } else { 5 };
                let at = bson::DateTime::now();
                let documents: Vec<_> = (0..count)
                    .map(|id| doc! { "_id": id, "v": id, "t": format!("word{id}"), "at": at, "old": is_old })
                    .collect();
                server.run(&db, doc! { "insert": &name, "documents": documents }).await;
            }
        }
        server.run(&db, doc! { "create": "view", "viewOn": "plain0", "pipeline": [] }).await;
    }
    if is_old {
        return;
    }
    // Too large for indexes before the documents.
    let documents: Vec<_> =
        (0..18).map(|id| doc! { "_id": id, "v": id, "p": "x".repeat(1 << 20) }).collect();
    for documents in documents.chunks(9) {
        server.run("tenant0", doc! { "insert": "large", "documents": documents }).await;
    }
    let index = doc! { "key": { "v": 1 }, "name": "v", "unique": true };
    server.run("tenant0", doc! { "createIndexes": "large", "indexes": [index] }).await;
}

/// Collections under temporary names, and those that only the restore can have made, at a server.
async fn counts(server: &Mongod, old: &State) -> (usize, usize) {
    let (mut staged, mut named) = (0, 0);
    for db in (0..DATABASES).map(|db| format!("tenant{db}")) {
        for name in server.client.database(&db).list_collection_names().await.unwrap() {
            if name.starts_with("tmp.restore.") {
                staged += 1;
            } else if name != "system.views" && !old.contains_key(&format!("{db}.{name}")) {
                named += 1;
            }
        }
    }
    (staged, named)
}

/// Visible collections are the old ones of the target or the complete ones of the snapshot; returns
/// the numbers of both.
fn whole(found: &State, old: &State, new: &State) -> (usize, usize) {
    let (mut before, mut after) = (0, 0);
    for (name, facts) in old {
        // A view is dropped and created.
        assert!(facts.kind == "view" || found.contains_key(name), "{name} is gone");
    }
    for (name, facts) in found {
        if name.contains(".tmp.restore.") {
            continue;
        }
        if old.get(name) == Some(facts) {
            before += 1;
        } else {
            assert_eq!(Some(facts), new.get(name), "{name} is neither old nor new");
            after += 1;
        }
    }
    (before, after)
}

/// A restore that is killed while it makes, fills and renames collections, into an empty target and
/// over older collections.
pub(super) async fn killed_restore_shows_no_half_collection(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    fill(&origin, 0..DATABASES, false).await;
    let room = tempfile::tempdir().unwrap();
    let cli = Cli::new(&room.path().join("repository"), "key");
    cli.run(&["init"]).succeeded();
    cli.run(&["run", "--source", origin.uri()]).succeeded();
    let (new, expected) = (state(&origin.client).await, definitions(&origin.client).await);
    let all = new.len();
    // Collections under temporary names, then those that are complete, when the restore is killed.
    let moments = [(1, 0), (all / 3, 0), (all * 2 / 3, 0), (0, 1), (0, all / 4), (0, all * 3 / 4)];
    let restore =
        ["restore", "latest", "--target", target.uri(), "--if-exists", "replace", "--yes"];
    let rounds = if long() { 4 } else { 1 };
    let (mut killed, mut halfway) = (0, 0);
    for (n, (staged, named)) in moments.into_iter().cycle().take(6 * rounds).enumerate() {
        target.clear().await;
        if n % 2 == 1 {
            fill(&target, 0..DATABASES / 2, true).await;
        }
        let old = state(&target.client).await;
        let mut child =
            cli.command(&[], &restore).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (started, mut is_running) = (Instant::now(), true);
        while is_running && started.elapsed() < Duration::from_secs(120) {
            let (staged_now, named_now) = counts(&target, &old).await;
            if (named == 0 && staged_now >= staged) || (named > 0 && named_now >= named) {
                break;
            }
            is_running = child.try_wait().unwrap().is_none();
        }
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        let (before, after) = whole(&state(&target.client).await, &old, &new);
        say(&format!("killed with {before} old and {after} new of {all} collections"));
        halfway += usize::from(after > 0 && after < all);
        cli.run(&[&restore[..], &["--verify"]].concat()).succeeded();
        same(&new, &state(&target.client).await);
        same_definitions(&expected, &definitions(&target.client).await);
    }
    assert!(killed >= 4 * rounds, "only {killed} restores were killed before their end");
    assert!(halfway > 0, "no restore was killed between two renames");
}

/// Options, indexes and their order are those of the origin, byte for byte.
pub(super) async fn definitions_are_equal_byte_by_byte(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    fill(&origin, 0..DATABASES, false).await;
    odd::fill(&origin, version).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let one = MongoSource::connect(MongoOptions { parallel: 1, ..options(&target) }).await.unwrap();
    for target_source in [source(&target).await, one] {
        target.clear().await;
        restored(&snapshot, &target_source, verified()).await;
        same(&state(&origin.client).await, &state(&target.client).await);
        same_definitions(&definitions(&origin.client).await, &definitions(&target.client).await);
    }
}

/// Totals of each stage, when it began, and at its end.
#[derive(Default)]
struct Stages(Mutex<Vec<(Stage, bool, Progress)>>);

impl Reporter for Stages {
    fn report(&self, event: &Event) {
        let seen = match event {
            Event::Progress { stage, progress } => (*stage, false, *progress),
            Event::StageFinished { stage, progress } => (*stage, true, *progress),
            _ => return,
        };
        self.0.lock().unwrap().push(seen);
    }
}

/// Progress counts collections while they are filled, completed and read back.
pub(super) async fn progress_counts_collections(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    fill(&origin, 0..DATABASES, false).await;
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    let stages = Arc::new(Stages::default());
    let cx = Context::new(Events::to(stages.clone()));
    restore(&snapshot, &source(&target).await, &verified(), &cx).await.unwrap();
    let of = state(&origin.client).await;
    let views = of.values().filter(|facts| facts.kind == "view").count() as u64;
    let (all, documents) =
        (of.len() as u64, of.values().flat_map(|facts| facts.documents.values()));
    let bytes: u64 = documents.map(|document| document.len() as u64).sum();
    let seen = stages.0.lock().unwrap();
    for (stage, items, bytes) in [
        (Stage::Restore, all - views, Some(bytes)),
        (Stage::Commit, all, None),
        (Stage::Verify, all, Some(bytes)),
    ] {
        let of_it: Vec<_> = seen.iter().filter(|(seen, _, _)| *seen == stage).collect();
        let (_, is_end, end) = of_it.last().unwrap();
        assert!(is_end, "{stage:?} did not end: {of_it:?}");
        assert_eq!((end.done_items, end.total_items), (items, items), "{stage:?}");
        assert_eq!(end.done_bytes, bytes.unwrap_or(0), "{stage:?}");
        let middle = of_it.iter().any(|(_, _, at)| at.done_items > 0 && at.done_items < items);
        assert!(middle, "{stage:?} reported no progress in the middle: {of_it:?}");
    }
}

/// With `merge`, an object of another kind is refused before the first document is merged.
pub(super) async fn merge_refuses_other_kinds_before_writing(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    for name in ["a", "b", "z"] {
        origin.run("db", doc! { "insert": name, "documents": [{ "_id": 1, "new": true }] }).await;
    }
    let snapshot = snapshot_of(&source(&origin).await, Selection::all()).await;
    target.run("db", doc! { "insert": "a", "documents": [{ "_id": 1, "new": false }] }).await;
    target.run("db", doc! { "create": "z", "viewOn": "a", "pipeline": [] }).await;
    let before = state(&target.client).await;
    let merge = RestoreRequest { if_exists: IfExists::Merge, ..RestoreRequest::default() };
    let error = super::try_restore(&snapshot, &source(&target).await, merge).await.unwrap_err();
    assert!(error.chain().contains("db.z is a view at the target"), "{}", error.chain());
    same(&before, &state(&target.client).await);
}
