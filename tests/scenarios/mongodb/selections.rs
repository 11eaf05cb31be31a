//! Selections that match nothing in the server.

use backup_core::context::Context;
use backup_core::error::ErrorKind;
use backup_core::pipeline::{BackupOptions, BackupReport, backup};
use backup_core::source::{BackupKind, RestoreRequest, Selection};
use bson::doc;

use super::{repository, restored, source, talking, try_restore};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::state;

fn selection(include: &[&str]) -> Selection {
    Selection::new(include.iter().map(|&pattern| pattern.to_owned()).collect(), Vec::new()).unwrap()
}

/// A misspelt pattern is an error or a warning with its name, in a full and an incremental backup
/// and in a restore.
pub(super) async fn misspelt_selection_is_no_backup(version: Version) {
    let (server, target) = (Mongod::start(version).await, Mongod::start(version).await);
    server.run("shop", doc! { "insert": "orders", "documents": [{ "_id": 1 }] }).await;
    let (repository, origin) = (repository().await, source(&server).await);
    let run = async |kind: BackupKind, include: &[&str]| {
        let selection = selection(include);
        let options = BackupOptions { kind: Some(kind), selection, ..BackupOptions::default() };
        backup(&repository, &origin, &options, &talking()).await
    };
    let warnings = |report: BackupReport| report.warnings;
    for kind in [BackupKind::Full, BackupKind::Incremental] {
        let error = run(kind, &["shop.ordres", "shp"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
        assert!(error.chain().contains("\"shop.ordres\", \"shp\""), "{}", error.chain());
    }
    let list = async || repository.snapshots(&Context::silent()).await.unwrap().snapshots;
    assert_eq!(list().await.len(), 0, "nothing becomes the latest snapshot");
    assert_eq!(warnings(run(BackupKind::Full, &["shop.*", "shop.orders"]).await.unwrap()), 0);
    for kind in [BackupKind::Full, BackupKind::Incremental] {
        assert_eq!(warnings(run(kind, &["shop.orders", "shp"]).await.unwrap()), 1, "{kind:?}");
    }
    let info = list().await.pop().unwrap();
    let snapshot = repository.load_index(&Context::silent()).await.unwrap().snapshot(&info);
    let to = source(&target).await;
    let request = |include: &[&str]| RestoreRequest {
        selection: selection(include),
        ..RestoreRequest::default()
    };
    assert_eq!(try_restore(&snapshot, &to, request(&["shp"])).await.unwrap().entries, 0);
    assert!(state(&target.client).await.is_empty());
    assert_eq!(restored(&snapshot, &to, request(&["shop.orders", "shp"])).await.warnings, 1);
    assert!(state(&target.client).await.contains_key("shop.orders"));
}
