//! What a repository has lost, or may have lost, is not built on.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::maintenance::{RepairOptions, repair};
use backup_core::repository::{InitOptions, Repository};
use backup_core::sink::Prefix;
use backup_core::source::{BackupKind, IfExists, RestoreRequest, Selection};
use backup_core::testing::MemorySink;
use bson::doc;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::built_on::{becomes_full, made};
use super::{restored, source, talking, try_restore, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};

/// Removes every pack that holds documents, behind the repository's back.
fn lose_documents(sink: &MemorySink) {
    let prefix = Prefix::new("data").unwrap();
    let packs: Vec<_> =
        sink.objects().into_iter().filter(|(key, _)| prefix.contains(key)).collect();
    let large: Vec<_> = packs.iter().filter(|(_, bytes)| bytes.len() > 500_000).collect();
    assert!(
        !large.is_empty() && large.len() < packs.len(),
        "{} of {} packs",
        large.len(),
        packs.len()
    );
    large.iter().for_each(|(key, _)| sink.remove(key));
}

/// Documents that hardly compress.
async fn fill(server: &Mongod) {
    let mut random = StdRng::seed_from_u64(3);
    let mut noise = || hex::encode((0..1000).map(|_| random.random()).collect::<Vec<u8>>());
    let documents: Vec<_> = (0..1500).map(|id| doc! { "_id": id, "p": noise() }).collect();
    server.run("db", doc! { "insert": "c", "documents": documents }).await;
}

pub(super) async fn what_lost_something_is_not_built_on(version: Version) {
    let (server, target) = (Mongod::start(version).await, Mongod::start(version).await);
    fill(&server).await;
    let (sink, cx) = (MemorySink::new(), Context::silent());
    let options = InitOptions::default();
    let repository =
        Repository::init(Arc::new(sink.clone()), &Passphrase::generate(), &options, &cx)
            .await
            .unwrap();
    let from = source(&server).await;
    let comes_back = async |kind| {
        server.run("db", doc! { "insert": "log", "documents": [{ "n": 1 }] }).await;
        let (report, snapshot) = made(&repository, &from, kind, Selection::all(), &talking()).await;
        assert_eq!(report.kind, kind);
        target.clear().await;
        restored(&snapshot, &source(&target).await, verified()).await;
        same(&state(&server.client).await, &state(&target.client).await);
    };
    comes_back(BackupKind::Full).await;
    comes_back(BackupKind::Incremental).await;
    lose_documents(&sink);
    becomes_full(&repository, &from, Selection::all(), "has lost data of the earlier snapshot")
        .await;
    comes_back(BackupKind::Incremental).await;

    // Mended as far as that goes: without the documents.
    lose_documents(&sink);
    let report = repair(&repository, &RepairOptions::default(), &cx).await.unwrap();
    assert!(!report.repaired.is_empty(), "{report:?}");
    becomes_full(&repository, &from, Selection::all(), "was repaired and may have lost something")
        .await;
    comes_back(BackupKind::Incremental).await;
}

/// What cannot be restored does not cost what is at the target: neither by a snapshot that knows
/// nothing of its loss, nor by the one that a repair has made of it.
pub(super) async fn what_is_lost_costs_nothing_at_the_target(version: Version) {
    let server = Mongod::start(version).await;
    fill(&server).await;
    let (sink, cx) = (MemorySink::new(), Context::silent());
    let options = InitOptions::default();
    let repository =
        Repository::init(Arc::new(sink.clone()), &Passphrase::generate(), &options, &cx)
            .await
            .unwrap();
    let to = source(&server).await;
    made(&repository, &to, BackupKind::Full, Selection::all(), &talking()).await;
    let before = state(&server.client).await;
    let mut snapshots = repository.snapshots(&cx).await.unwrap().snapshots;
    lose_documents(&sink);
    let report = repair(&repository, &RepairOptions::default(), &cx).await.unwrap();
    assert!(!report.repaired.is_empty(), "{report:?}");
    snapshots.extend(repository.snapshots(&cx).await.unwrap().snapshots);
    let indexed = repository.load_index(&cx).await.unwrap();
    assert!(snapshots.len() > 1);
    for info in &snapshots {
        for dry_run in [true, false] {
            let request = RestoreRequest {
                if_exists: IfExists::Replace,
                dry_run,
                ..RestoreRequest::default()
            };
            let error = try_restore(&indexed.snapshot(info), &to, request).await.unwrap_err();
            assert!(!error.chain().contains("at the target"), "{}", error.chain());
            same(&before, &state(&server.client).await);
        }
    }
}
