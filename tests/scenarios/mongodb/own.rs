//! Programs of one's own: servers that this project cannot fetch, by `MONGOD`, and MongoDB's tools,
//! by `MONGODUMP` and `MONGORESTORE`. Each names a program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use backup_core::context::Context;
use backup_core::source::Selection;
use backup_sources::mongodb::{ExportRequest, export};

use super::{by_the_oplog, odd, restored, snapshot_of, source, verified};
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};
use crate::support::process::run;

/// A program that the environment names.
fn program(variable: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set"))
}

/// Every file below a directory.
pub(super) fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut rest = vec![directory.to_owned()];
    while let Some(next) = rest.pop() {
        for entry in std::fs::read_dir(&next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                rest.push(entry.path());
            } else {
                let bytes = std::fs::read(entry.path()).unwrap();
                found.insert(entry.path().strip_prefix(directory).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

/// `--uri` and others, with success.
pub(super) fn tool(variable: &str, server: &Mongod, more: &[&str]) {
    let uri = format!("--uri={}", server.uri());
    run(Command::new(program(variable)).arg(uri).args(more)).succeeded();
}

pub(super) async fn filled(version: Version) -> Mongod {
    let origin = Mongod::start(version).await;
    odd::fill(&origin, version).await;
    origin
}

/// A server at rest: what we export is what mongodump writes.
pub(super) async fn an_export_is_what_mongodump_writes(version: Version) {
    let origin = filled(version).await;
    // Time-series buckets beside a plain collection of their name: mongodump passes over them.
    if version.has_time_series() {
        for name in ["twin", "system.buckets.twin", "system.buckets.orphan"] {
            origin.run("odd", bson::doc! { "drop": name }).await;
        }
    }
    let snapshot = snapshot_of(&by_the_oplog(&origin).await, Selection::all()).await;
    let room = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| room.path().join(name));
    export(&Context::silent(), &snapshot, &ExportRequest::default(), &ours).await.unwrap();
    tool("MONGODUMP", &origin, &[&format!("--out={}", theirs.display())]);
    let (ours, mut theirs) = (files(&ours), files(&theirs));
    // It says which server and tool wrote it.
    theirs.retain(|path, _| path.file_name() != Some("prelude.json".as_ref()));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (path, theirs) in theirs {
        let (ours, shown) = (&ours[&path], path.display());
        if path.extension() == Some("json".as_ref()) {
            let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
            assert_eq!(json(ours), json(&theirs), "{shown}");
        } else {
            assert!(
                *ours == theirs,
                "{shown}: {} bytes, and {} of mongodump",
                ours.len(),
                theirs.len()
            );
        }
    }
}

/// Stock mongorestore takes what we export.
pub(super) async fn mongorestore_takes_an_export(version: Version) {
    let (origin, target) = (filled(version).await, Mongod::start(version).await);
    // It puts what has empty timestamps at the end, and takes buckets by their view only.
    for name in ["capped empty", "twin", "system.buckets.twin", "system.buckets.orphan"] {
        origin.client.database("odd").run_command(bson::doc! { "drop": name }).await.ok();
    }
    let snapshot = snapshot_of(&by_the_oplog(&origin).await, Selection::all()).await;
    let room = tempfile::tempdir().unwrap();
    let dump = room.path().join("dump");
    export(&Context::silent(), &snapshot, &ExportRequest::default(), &dump).await.unwrap();
    tool("MONGORESTORE", &target, &["--preserveUUID", "--drop", &dump.display().to_string()]);
    same(&state(&origin.client).await, &state(&target.client).await);
}

/// What the snapshot holds comes back from a server of one's own, with everything that can be in a
/// database.
pub(super) async fn everything_comes_back(version: Version) {
    let (origin, target) = (filled(version).await, Mongod::start(version).await);
    for snapshot in [
        snapshot_of(&source(&origin).await, Selection::all()).await,
        snapshot_of(&by_the_oplog(&origin).await, Selection::all()).await,
    ] {
        target.clear().await;
        restored(&snapshot, &source(&target).await, verified()).await;
        same(&state(&origin.client).await, &state(&target.client).await);
    }
}
