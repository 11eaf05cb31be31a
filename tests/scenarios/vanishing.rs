//! Packs that vanish or change between their upload and the snapshot: the run fails, and nothing
//! is published that needs them.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::copy::{CopyOptions, copy};
use backup_core::error::{Error, ErrorKind};
use backup_core::sink::{Key, Operation};
use backup_core::testing::{MemorySink, ScriptedSource};

use crate::support::gate::{Gate, Stop};
use crate::support::noise::noise;
use crate::support::repo::{Repo, options};

/// After the packs and their index object, before the snapshot.
const INDEX_STORED: Stop = Stop { operation: Operation::Put, top: "index", skip: 0, done: true };

fn source() -> ScriptedSource {
    ScriptedSource::new().file("/data", noise(7, 3_000_000))
}

fn keys(memory: &MemorySink, top: &str) -> Vec<Key> {
    memory.objects().into_keys().filter(|key| key.as_str().starts_with(top)).collect()
}

/// Deletes, or truncates by one byte, the newest of the packs that were not there `before`.
fn damage(memory: &MemorySink, before: &[Key], truncate: bool) -> Key {
    let new = keys(memory, "data/").into_iter().find(|key| !before.contains(key)).unwrap();
    if truncate {
        memory.corrupt(&new, |bytes| _ = bytes.pop());
    } else {
        memory.remove(&new);
    }
    new
}

/// Runs `work`, and damages a pack after its index object is stored.
async fn damaged_meanwhile<T: std::fmt::Debug>(
    gate: &Gate,
    memory: &MemorySink,
    truncate: bool,
    work: impl Future<Output = Result<T, Error>>,
) -> (Error, Key) {
    let before = keys(memory, "data/");
    gate.close(INDEX_STORED);
    let meanwhile = async {
        gate.stopped().await;
        let key = damage(memory, &before, truncate);
        gate.open();
        key
    };
    let (result, key) = tokio::join!(work, meanwhile);
    (result.unwrap_err(), key)
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_fails_if_a_stored_pack_vanishes_or_shrinks() {
    for truncate in [false, true] {
        let memory = MemorySink::new();
        let gate = Gate::new(Arc::new(memory.clone()));
        let repo = Repo::init(Arc::new(gate.clone())).await;
        let (source, options) = (source(), options());
        let work = repo.try_backup(&source, &options);
        let (error, key) = damaged_meanwhile(&gate, &memory, truncate, work).await;
        assert_eq!(error.kind(), ErrorKind::Damaged, "{}", error.chain());
        assert!(error.chain().contains(key.as_str()), "{}", error.chain());
        assert_eq!(keys(&memory, "snapshots/"), [], "nothing is published");
        // The next run stores the lost data again.
        let report = repo.backup(&source, &options).await;
        assert_eq!(repo.verify(report.snapshot.unwrap()).await.problems, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_fails_if_a_stored_pack_vanishes() {
    let from = Repo::in_memory().await;
    from.backup(&source(), &options()).await;
    let memory = MemorySink::new();
    let gate = Gate::new(Arc::new(memory.clone()));
    let to = Repo::init(Arc::new(gate.clone())).await;
    let (cx, options) = (Context::silent(), CopyOptions::default());
    let (index, snapshots) =
        (from.repository.load_index(&cx).await.unwrap(), from.snapshots().await);
    let work = copy(&index, &snapshots, &to.repository, &options, &cx);
    let (error, _) = damaged_meanwhile(&gate, &memory, false, work).await;
    assert_eq!(error.kind(), ErrorKind::Damaged, "{}", error.chain());
    assert_eq!(keys(&memory, "snapshots/"), [], "nothing is published");
}
