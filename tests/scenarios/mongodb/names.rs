//! Names and definitions that are not valid UTF-8.

use backup_core::context::Context;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::source::{BackupKind, Selection, Source as _};
use backup_sources::mongodb::{MongoOptions, MongoSource, SnapshotReads};
use bson::{Document, RawDocumentBuf, doc};

use super::built_on::reader;
use super::{options, repository, restored, snapshot_of, source, talking, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_raw::{definitions, same_definitions};
use crate::support::mongod_state::{same, state};

/// The place of bytes that are not UTF-8 in a command.
const MARK: &[u8] = b"QXQ";
const INVALID: &[u8] = b"\xff\xfex";

/// Runs a command with such bytes.
async fn run(server: &Mongod, command: Document) {
    let mut bytes = RawDocumentBuf::try_from(&command).unwrap().into_bytes();
    let marks: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(MARK)).collect();
    assert!(!marks.is_empty(), "{command}");
    for at in marks {
        bytes[at..at + MARK.len()].copy_from_slice(INVALID);
    }
    let raw = RawDocumentBuf::from_bytes(bytes).unwrap();
    let done = server.client.database("shop").run_raw_command(raw).await;
    done.unwrap_or_else(|error| panic!("{command}: {error}"));
}

async fn reading(server: &Mongod, snapshot_reads: SnapshotReads) -> MongoSource {
    MongoSource::connect(MongoOptions { snapshot_reads, ..options(server) }).await.unwrap()
}

/// Validators, views and filters of indexes are restored byte by byte.
pub(super) async fn invalid_text_in_definitions_is_restored(version: Version) {
    let (origin, target) = (Mongod::start(version).await, Mongod::start(version).await);
    let validator = doc! { "name": { "$ne": "QXQ" } };
    run(&origin, doc! { "create": "checked", "validator": validator }).await;
    let pipeline = vec![doc! { "$match": { "name": "QXQ" } }];
    run(&origin, doc! { "create": "few", "viewOn": "checked", "pipeline": pipeline }).await;
    let filter = doc! { "name": { "$gt": "QXQ" } };
    let index = doc! { "key": { "n": 1 }, "name": "n_1", "partialFilterExpression": filter };
    run(&origin, doc! { "createIndexes": "checked", "indexes": [index] }).await;
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
        run(&origin, doc! { "insert": "oddQXQ", "documents": [{ "_id": 1 }] }).await;
        run(&origin, doc! { "create": "viewQXQ", "viewOn": "orders", "pipeline": [] }).await;
        let from = reading(&origin, snapshot_reads).await;
        let probe = from.probe(&Context::silent()).await.unwrap();
        assert_eq!(probe.problems, []);
        let repository = repository().await;
        for kind in [BackupKind::Full, BackupKind::Incremental] {
            let made = BackupOptions { kind: Some(kind), ..BackupOptions::default() };
            let report = backup(&repository, &from, &made, &talking()).await;
            let report = report.unwrap_or_else(|error| panic!("{kind:?}: {}", error.chain()));
            assert_eq!(report.kind, kind);
            if kind == BackupKind::Full {
                assert_eq!(report.warnings, 2);
                run(&origin, doc! { "insert": "oddQXQ", "documents": [{ "_id": 2 }] }).await;
                run(&origin, doc! { "create": "moreQXQ" }).await;
                let index = doc! { "key": { "n": 1 }, "name": "n_1" };
                run(&origin, doc! { "createIndexes": "oddQXQ", "indexes": [index] }).await;
                origin
                    .run("shop", doc! { "insert": "orders", "documents": [{ "_id": 100 }] })
                    .await;
                continue;
            }
            let snapshot = reader(&repository, &report).await;
            restored(&snapshot, &source(&target).await, verified()).await;
        }
        for name in ["oddQXQ", "viewQXQ", "moreQXQ"] {
            run(&origin, doc! { "drop": name }).await;
        }
        same(&state(&origin.client).await, &state(&target.client).await);
    }
}
