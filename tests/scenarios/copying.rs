//! Copies between repositories: the same snapshots, the least work, and nothing lost when it is
//! interrupted.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::copy::{CopyOptions, CopyReport, copy};
use backup_core::crypto::Passphrase;
use backup_core::error::{ErrorKind, Result};
use backup_core::id::SnapshotId;
use backup_core::repository::{InitOptions, Likeness, Repository, SnapshotInfo};
use backup_core::sink::{Operation, Prefix, SinkErrorKind, SinkOps};
use backup_core::testing::{Fault, FaultySink, MemorySink, RecordingSink};

use crate::support::repo::{Repo, options};
use crate::support::samples::{script, small_script};
use crate::support::script::assert_holds;

/// A new repository in `sink` that is like `other`.
async fn relative(sink: MemorySink, other: &Repo, share_key: bool) -> Repo {
    let passphrase = Passphrase::generate();
    let like = Likeness { repository: other.repository.clone(), share_key };
    let init = InitOptions { recovery: None, like: Some(like) };
    let made = Repository::init(Arc::new(sink), &passphrase, &init, &Context::silent()).await;
    Repo { repository: made.unwrap(), passphrase }
}

async fn try_copy(
    from: &Repo,
    snapshots: &[SnapshotInfo],
    to: &Repo,
    options: &CopyOptions,
) -> Result<CopyReport> {
    let cx = Context::silent();
    copy(&from.repository.load_index(&cx).await?, snapshots, &to.repository, options, &cx).await
}

async fn copy_all(from: &Repo, to: &Repo) -> CopyReport {
    let report = try_copy(from, &from.snapshots().await, to, &CopyOptions::default()).await;
    report.unwrap_or_else(|error| panic!("{}", error.chain()))
}

fn trees(snapshots: &[SnapshotInfo]) -> Vec<backup_core::id::BlobId> {
    snapshots.iter().map(|info| info.snapshot.tree).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_everything_into_a_repository_with_another_key() {
    let from = Repo::in_memory().await;
    let (a, b) = (script("a"), script("b"));
    let first = from.backup(&a, &options()).await.snapshot.unwrap();
    let second = from.backup(&b, &options()).await.snapshot.unwrap();
    from.backup(&a, &options()).await;

    let to = relative(MemorySink::new(), &from, false).await;
    let report = copy_all(&from, &to).await;
    assert_eq!((report.copied.len(), report.present.len(), report.problems.len()), (3, 0, 0));
    assert!(report.blobs > 20 && report.stored.data_blobs == report.blobs, "{report:?}");

    let (here, there) = (from.snapshots().await, to.snapshots().await);
    assert_eq!(trees(&here), trees(&there));
    for (copied, original) in there.iter().zip(&here) {
        assert_eq!(copied.snapshot.original, Some(original.id));
        assert_ne!(copied.id, original.id, "sealed under another key");
        let received = |repo: &Repo, id| {
            let repository = repo.repository.clone();
            async move { repository.receipt(&id).await.unwrap() }
        };
        assert_eq!(
            received(&from, original.id).await,
            received(&to, copied.id).await,
            "carried along"
        );
    }
    let name =
        |id: SnapshotId| report.copied.iter().find(|copied| copied.from == id).unwrap().to.unwrap();
    assert_eq!(
        there[2].snapshot.parent,
        Some(name(first)),
        "the parent is called by its name there"
    );
    assert_holds(&to, name(first), &a).await;
    assert_holds(&to, name(second), &b).await;
    to.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_same_key_is_verbatim() {
    let sink = MemorySink::new();
    let from = Repo::init(Arc::new(sink.clone())).await;
    let source = script("a");
    let id = from.backup(&source, &options()).await.snapshot.unwrap();
    let copied = MemorySink::new();
    let to = relative(copied.clone(), &from, true).await;
    assert_ne!(from.repository.config().id, to.repository.config().id);

    let report = copy_all(&from, &to).await;
    assert_eq!(report.copied[0].to, Some(id));
    let snapshots = Prefix::new("snapshots").unwrap();
    for meta in sink.list_all(&snapshots).await.unwrap() {
        let (here, there) =
            (sink.get_bytes(&meta.key).await.unwrap(), copied.get_bytes(&meta.key).await.unwrap());
        assert_eq!(here, there);
    }
    assert_eq!(
        report.stored.packed_bytes,
        from_bytes(&from).await,
        "sealed blobs are as long as they were"
    );
    assert_holds(&to, id, &source).await;
    to.assert_sound().await;
}

/// Bytes of all sealed blobs of a repository.
async fn from_bytes(repo: &Repo) -> u64 {
    let indexed = repo.repository.load_index(&Context::silent()).await.unwrap();
    let mut sum = 0;
    indexed.index().for_each_blob(&mut |at| sum += u64::from(at.blob.len));
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn again_copies_nothing_and_a_changed_source_little() {
    let (read, written) = (MemorySink::new(), MemorySink::new());
    let reads = RecordingSink::new(Arc::new(read));
    let from = Repo::init(Arc::new(reads.clone())).await;
    from.backup(&script("a"), &options()).await;
    let puts = RecordingSink::new(Arc::new(written));
    let passphrase = Passphrase::generate();
    let like = Likeness { repository: from.repository.clone(), share_key: false };
    let init = InitOptions { recovery: None, like: Some(like) };
    let made =
        Repository::init(Arc::new(puts.clone()), &passphrase, &init, &Context::silent()).await;
    let to = Repo { repository: made.unwrap(), passphrase };
    copy_all(&from, &to).await;

    puts.reset();
    reads.reset();
    let report = copy_all(&from, &to).await;
    assert_eq!((report.copied.len(), report.present.len(), report.bytes), (0, 1, 0));
    // The sign that somebody is at work, and nothing else.
    let beacons = puts.count(Operation::Put, "x-sessions");
    assert_eq!((puts.counts().total(Operation::Put), beacons), (1, 1), "{:?}", puts.counts());
    assert_eq!(reads.count(Operation::Get, "data"), 0, "{:?}", reads.counts());

    let changed = script("a").file("/a/new", "a new file");
    from.backup(&changed, &options()).await;
    reads.reset();
    let report = copy_all(&from, &to).await;
    assert_eq!((report.copied.len(), report.present.len()), (1, 1));
    assert_eq!(report.blobs, 2, "the new file and the manifest");
    assert_eq!(report.stored.tree_blobs, 3, "root, /a and .backup");
    assert_holds(&to, report.copied[0].to.unwrap(), &changed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deduplicates_with_what_is_backed_up_directly() {
    let from = Repo::in_memory().await;
    from.backup(&script("a"), &options()).await;
    let to = relative(MemorySink::new(), &from, false).await;
    copy_all(&from, &to).await;
    let report = to.backup(&script("a"), &options()).await;
    assert_eq!(report.stored.data_blobs, 1, "the manifest alone: the chunks are the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn round_and_home_again_finds_everything_there() {
    let home = Repo::in_memory().await;
    home.backup(&script("a"), &options()).await;
    let second = relative(MemorySink::new(), &home, false).await;
    let third = relative(MemorySink::new(), &second, false).await;
    copy_all(&home, &second).await;
    copy_all(&second, &third).await;
    let report = copy_all(&third, &home).await;
    assert_eq!((report.copied.len(), report.present.len(), report.bytes), (0, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn into_itself_is_refused_and_a_dry_run_stores_nothing() {
    let from = Repo::in_memory().await;
    from.backup(&script("a"), &options()).await;
    let snapshots = from.snapshots().await;
    let error = try_copy(&from, &snapshots, &from, &CopyOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);

    let sink = MemorySink::new();
    let to = relative(sink.clone(), &from, false).await;
    let before = sink.objects();
    let dry = CopyOptions { dry_run: true, ..CopyOptions::default() };
    let planned = try_copy(&from, &snapshots, &to, &dry).await.unwrap();
    assert_eq!(sink.objects(), before);
    let real = copy_all(&from, &to).await;
    assert_eq!((planned.blobs, planned.bytes, planned.copied.len()), (real.blobs, real.bytes, 1));
    assert!(planned.bytes > 500_000 && planned.copied[0].to.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_out_what_is_damaged_and_nothing_else() {
    let sink = MemorySink::new();
    let from = Repo::init(Arc::new(sink.clone())).await;
    let data = Prefix::new("data").unwrap();
    let (hit, spared) = (script("hit"), script("spared"));
    let hit_id = from.backup(&hit, &options()).await.snapshot.unwrap();
    let packs = sink.list_all(&data).await.unwrap();
    let spared_id = from.backup(&spared, &options()).await.snapshot.unwrap();
    let largest = packs.iter().max_by_key(|meta| meta.size).unwrap();
    sink.corrupt(&largest.key, |bytes| bytes[1000] ^= 1);

    let to = relative(MemorySink::new(), &from, false).await;
    let report = copy_all(&from, &to).await;
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(report.problems[0].affects, [format!("snapshot {}", hit_id.short())]);
    assert_eq!(report.copied.len(), 1);
    assert_eq!(report.copied[0].from, spared_id);
    assert_holds(&to, report.copied[0].to.unwrap(), &spared).await;
    to.assert_sound().await;

    // As soon as the source is whole again, so is the copy.
    sink.corrupt(&largest.key, |bytes| bytes[1000] ^= 1);
    let report = copy_all(&from, &to).await;
    assert_eq!((report.copied.len(), report.problems.len()), (1, 0));
    assert_holds(&to, report.copied[0].to.unwrap(), &hit).await;
    to.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mends_a_copy_that_has_lost_a_pack() {
    let from = Repo::in_memory().await;
    from.backup(&script("a"), &options()).await;
    let sink = MemorySink::new();
    let to = relative(sink.clone(), &from, false).await;
    copy_all(&from, &to).await;
    for meta in sink.list_all(&Prefix::new("data").unwrap()).await.unwrap() {
        sink.remove(&meta.key);
    }
    let changed = script("a").file("/a/new", "a new file");
    from.backup(&changed, &options()).await;
    let report = copy_all(&from, &to).await;
    assert_holds(&to, report.copied[0].to.unwrap(), &changed).await;
    for info in to.snapshots().await {
        assert!(to.verify(info.id).await.problems.is_empty(), "all snapshots are whole again");
    }
}

/// Every operation on either repository fails once; a second copy converges.
#[tokio::test(flavor = "multi_thread")]
async fn every_operation_fails_once() {
    let home = MemorySink::new();
    let from = Repo::init(Arc::new(home.clone())).await;
    let source = small_script();
    from.backup(&source, &options()).await;
    let empty = MemorySink::new();
    let to = relative(empty.clone(), &from, false).await;
    let lost = SinkErrorKind::Unavailable;
    for (at_source, fault) in [
        (false, Fault::Before(lost)),
        (false, Fault::After(lost)),
        (true, Fault::Before(lost)),
        (true, Fault::Midway(lost)),
    ] {
        for n in 0.. {
            let (source_sink, target_sink) =
                (FaultySink::new(Arc::new(home.copy())), FaultySink::new(Arc::new(empty.copy())));
            let from =
                Repo::open(Arc::new(source_sink.clone()), from.passphrase.reveal()).await.unwrap();
            let to =
                Repo::open(Arc::new(target_sink.clone()), to.passphrase.reveal()).await.unwrap();
            let snapshots = from.snapshots().await;
            let faulty = if at_source { &source_sink } else { &target_sink };
            faulty.fail_nth(n, fault);
            let result = try_copy(&from, &snapshots, &to, &CopyOptions::default()).await;
            if faulty.fired() == 0 {
                assert!(n > 3, "{fault:?} met {n} operations");
                break;
            }
            // What was published is whole, also if the copy was told to have failed.
            for info in to.snapshots().await {
                assert_holds(&to, info.id, &source).await;
            }
            if let Ok(report) = result {
                assert_eq!(report.copied.len(), 1, "{fault:?} at {n}");
            }
            let again = copy_all(&from, &to).await;
            assert_eq!(again.copied.len() + again.present.len(), 1);
            assert_eq!(to.snapshots().await.len(), 1, "{fault:?} at {n}: never twice");
            assert_holds(&to, to.snapshots().await[0].id, &source).await;
        }
    }
}
