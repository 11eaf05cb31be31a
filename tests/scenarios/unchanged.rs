//! A second backup of what has not changed stores its own description and nothing else, and reads
//! no content.

use std::sync::Arc;

use backup_core::sink::Operation;
use backup_core::testing::{Counts, MemorySink, RecordingSink, ScriptedSource};

use crate::support::counting::Counting;
use crate::support::repo::{Repo, files, options};
use crate::support::samples::script;
use crate::support::tree::everything;

/// Checks the cost of a run that has to read `snapshots` snapshots and `indexes` index objects.
fn assert_cheap(counts: &Counts, snapshots: u64, indexes: u64) {
    let put = |top| counts.count(Operation::Put, top);
    assert!(put("data") <= 2, "one pack of data, one of trees: {counts:?}");
    assert_eq!((put("index"), put("snapshots"), put("x-receipts")), (1, 1, 1), "{counts:?}");
    // Index, snapshot, its receipt, and the sign that somebody is at work.
    assert_eq!(counts.total(Operation::Put), put("data") + 4, "nothing else is put: {counts:?}");
    let beacons = counts.count(Operation::Delete, "x-sessions");
    assert_eq!(
        (counts.total(Operation::Delete), beacons, counts.total(Operation::Upload)),
        (1, 1, 0),
        "{counts:?}"
    );
    assert!(counts.bytes_written("data") < 10_000, "{counts:?}");

    let get = |top| counts.count(Operation::Get, top);
    assert_eq!(
        get("index"),
        indexes + 1,
        "each index once, and what was written read back: {counts:?}"
    );
    assert_eq!(get("snapshots"), snapshots + 1, "{counts:?}");
    assert_eq!((get("config"), get("keys"), get("locks")), (0, 0, 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_script() {
    let sink = RecordingSink::new(Arc::new(MemorySink::new()));
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let source = script("s");
    repo.backup(&source, &options()).await;
    let streams = 1;
    for run in 1..4 {
        sink.reset();
        source.reset_calls();
        let report = repo.backup(&source, &options()).await;
        assert_cheap(&sink.counts(), run, run);
        assert_eq!(
            source.calls().contents,
            streams,
            "a stream has no times to compare: it is read"
        );
        let files = report.totals.files;
        assert_eq!((report.files.unmodified, report.files.new), (files - streams, 0));
        assert_eq!(
            (report.stored.data_blobs, report.stored.tree_blobs),
            (1, 2),
            "manifest; .backup and root"
        );
    }
    repo.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_files() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let top = dir.path().join("top");
    everything(&top);
    let sink = RecordingSink::new(crate::support::repo::local(place.path()));
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let source = Counting::new(files(&[&top]));
    let first = repo.backup(&source, &options()).await;
    assert!(source.opened_and_late().0 > 0, "the counter counts");
    let before = source.opened_and_late().0;
    for run in 1..4 {
        sink.reset();
        let report = repo.backup(&source, &options()).await;
        // The store dates its objects: those that this process has read are not read again.
        assert_cheap(&sink.counts(), 1, run);
        assert_eq!(source.opened_and_late().0, before, "contents were opened");
        assert_eq!(report.files.unmodified, first.totals.files);
        assert_eq!(
            (report.stored.data_blobs, report.stored.tree_blobs),
            (1, 2),
            "manifest; .backup and root"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_directories_that_no_entry_describes() {
    let repo = Repo::in_memory().await;
    let source = ScriptedSource::new().file("/a/b/c/file", "content");
    repo.backup(&source, &options()).await;
    let second = repo.backup(&source, &options()).await;
    assert_eq!(
        (second.stored.data_blobs, second.stored.tree_blobs),
        (1, 2),
        "manifest; .backup and root"
    );
}
