//! Names and definitions that are not valid UTF-8.

use std::sync::{Arc, Mutex};

use backup_core::context::Context;
use backup_core::event::{Event, Events, Reporter};
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{BackupKind, Selection, Source as _};
use backup_sources::mongodb::{MongoOptions, MongoSource, SnapshotReads};
use bson::{Document, RawDocumentBuf, doc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::built_on::reader;
use super::{options, repository, restored, snapshot_of, source, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_raw::{definitions, same_definitions};
use crate::support::mongod_state::{same, state};

/// The place of bytes that are not UTF-8 in a command.
const MARK: &[u8] = b"QXQ";
const INVALID: &[u8] = b"\xff\xfex";

/// Keeps the objects of warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    fn sorted(&self) -> Vec<String> {
        let mut paths = self.0.lock().unwrap().clone();
        paths.sort_unstable();
        paths
    }
}

impl Reporter for Warnings {
    fn report(&self, event: &Event) {
        if let Event::Warning(warning) = event {
            self.0.lock().unwrap().push(warning.path.clone());
        }
    }
}

/// Runs a command with such bytes, over a connection of its own: the driver refuses them.
pub(super) async fn run_with_odd_names(server: &Mongod, mut command: Document) {
    command.insert("$db", "shop");
    let mut bytes = RawDocumentBuf::try_from(&command).unwrap().into_bytes();
    let marks: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(MARK)).collect();
    assert!(!marks.is_empty(), "{command}");
    for at in marks {
        bytes[at..at + MARK.len()].copy_from_slice(INVALID);
    }
    let reply = sent(server.port(), &bytes).await;
    assert_eq!(reply.get_f64("ok").ok(), Some(1.0), "{command}: {reply:?}");
    assert!(reply.get_array("writeErrors").is_err(), "{command}: {reply:?}");
}

/// The reply to a command in an OP_MSG.
async fn sent(port: u16, command: &[u8]) -> RawDocumentBuf {
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let number = |number: usize| i32::try_from(number).unwrap().to_le_bytes();
    // Length, request, reply to, OP_MSG, flags and the kind of the section.
    let head = [number(21 + command.len()), number(1), number(0), number(2013), number(0)].concat();
    connection.write_all(&[&head, &[0][..], command].concat()).await.unwrap();
    let mut head = [0; 21];
    connection.read_exact(&mut head).await.unwrap();
    let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
    let mut reply = vec![0; length - head.len()];
    connection.read_exact(&mut reply).await.unwrap();
    RawDocumentBuf::from_bytes(reply).unwrap()
}

async fn reading(server: &Mongod, snapshot_reads: SnapshotReads) -> MongoSource {
    MongoSource::connect(MongoOptions { snapshot_reads, ..options(server) }).await.unwrap()
}

/// Validators, views and filters of indexes are restored byte by byte.
pub(super) async fn invalid_text_in_definitions_is_restored(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    let validator = doc! { "name": { "$ne": "QXQ" } };
    run_with_odd_names(&origin, doc! { "create": "checked", "validator": validator }).await;
    let pipeline = vec![doc! { "$match": { "name": "QXQ" } }];
    run_with_odd_names(
        &origin,
        doc! { "create": "few", "viewOn": "checked", "pipeline": pipeline },
    )
    .await;
    let filter = doc! { "name": { "$gt": "QXQ" } };
    let index = doc! { "key": { "n": 1 }, "name": "n_1", "partialFilterExpression": filter };
    run_with_odd_names(&origin, doc! { "createIndexes": "checked", "indexes": [index] }).await;
    origin
        .run("shop", doc! { "insert": "checked", "documents": [{ "_id": 1, "name": "a" }] })
        .await;
    let problems = source(&origin).await.probe(&Context::silent()).await.unwrap().problems;
    assert_eq!(problems, []);
    for snapshot_reads in [SnapshotReads::Auto, SnapshotReads::Never] {
        target.clear().await;
        let snapshot = snapshot_of(&reading(&origin, snapshot_reads).await, Selection::all()).await;
        restored(&snapshot, &source(&target).await, verified()).await;
        let expected = definitions(&origin.client).await;
        assert_eq!(expected.len(), 2);
        same_definitions(&expected, &definitions(&target.client).await);
    }
}

/// Collections and views with such names are left out with a warning, and everything else is
/// backed up, also by the oplog.
pub(super) async fn collection_with_an_invalid_name_is_left_out_alone(version: Version) {
    for snapshot_reads in [SnapshotReads::Auto, SnapshotReads::Never] {
        let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
        let documents: Vec<_> = (0..100).map(|n| doc! { "_id": n }).collect();
        origin.run("shop", doc! { "insert": "orders", "documents": documents }).await;
        run_with_odd_names(&origin, doc! { "insert": "oddQXQ", "documents": [{ "_id": 1 }] }).await;
        run_with_odd_names(
            &origin,
            doc! { "create": "viewQXQ", "viewOn": "orders", "pipeline": [] },
        )
        .await;
        let from = reading(&origin, snapshot_reads).await;
        let probe = from.probe(&Context::silent()).await.unwrap();
        assert_eq!(probe.problems, []);
        let repository = repository().await;
        for kind in [BackupKind::Full, BackupKind::Incremental] {
            let made = BackupOptions { kind: Some(kind), ..BackupOptions::default() };
            let warnings = Arc::new(Warnings::default());
            let cx = Context::new(Events::to(Arc::clone(&warnings) as _));
            let report = backup(&repository, &from, &made, &cx).await;
            let report = report.unwrap_or_else(|error| panic!("{kind:?}: {}", error.chain()));
            // A snapshot with warnings is not built on.
            assert_eq!(report.kind, BackupKind::Full);
            if kind == BackupKind::Full {
                let names = [r"shop.odd\xff\xfex", r"shop.view\xff\xfex"];
                assert_eq!(warnings.sorted(), names.map(str::to_owned));
                run_with_odd_names(
                    &origin,
                    doc! { "insert": "oddQXQ", "documents": [{ "_id": 2 }] },
                )
                .await;
                run_with_odd_names(&origin, doc! { "create": "moreQXQ" }).await;
                let index = doc! { "key": { "n": 1 }, "name": "n_1" };
                run_with_odd_names(&origin, doc! { "createIndexes": "oddQXQ", "indexes": [index] })
                    .await;
                origin
                    .run("shop", doc! { "insert": "orders", "documents": [{ "_id": 100 }] })
                    .await;
                continue;
            }
            let snapshot = reader(&repository, &report).await;
            restored(&snapshot, &source(&target).await, verified()).await;
        }
        for name in ["oddQXQ", "viewQXQ", "moreQXQ"] {
            run_with_odd_names(&origin, doc! { "drop": name }).await;
        }
        same(&state(&origin.client).await, &state(&target.client).await);
    }
}
