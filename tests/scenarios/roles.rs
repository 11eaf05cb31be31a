//! Credentials that may do only what their role needs.

use std::sync::Arc;

use backup_core::sink::{Operation, SinkErrorKind};
use backup_core::testing::{Fault, FaultRule, FaultySink, MemorySink};

use crate::support::repo::{Repo, options};
use crate::support::samples::script;
use crate::support::script::assert_holds;

const DENIED: Fault = Fault::Before(SinkErrorKind::PermissionDenied);

fn denied(operation: Operation, prefix: &str) -> FaultRule {
    FaultRule::new(DENIED).on(operation).under(prefix).forever()
}

/// A stolen writer's key neither shows nor destroys what was backed up.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_needs_neither_to_read_packs_nor_to_delete_anything() {
    let sink = MemorySink::new();
    let owner = Repo::init(Arc::new(sink.clone())).await;
    let restricted = FaultySink::new(Arc::new(sink));
    for rule in [denied(Operation::Get, "data"), denied(Operation::Head, "data")] {
        restricted.add(rule);
    }
    restricted.add(FaultRule::new(DENIED).on(Operation::Delete).forever());
    let writer = Repo::open(Arc::new(restricted.clone()), owner.passphrase.reveal()).await.unwrap();
    let mut thorough = options();
    thorough.write.verify_sample = 1.0;

    let source = script("a");
    let first = writer.backup(&source, &thorough).await;
    assert_eq!(first.stored.sampled_packs, 0, "they cannot be read back; their size was checked");
    let changed = script("a").file("/a/new", "a new file");
    let second = writer.backup(&changed, &thorough).await;
    assert_eq!(
        second.stored.data_blobs, 2,
        "nothing is stored twice: the new file and the manifest"
    );
    assert!(restricted.fired() > 0, "the rules were met");

    assert_holds(&owner, first.snapshot.unwrap(), &source).await;
    assert_holds(&owner, second.snapshot.unwrap(), &changed).await;
    owner.assert_sound().await;
}
