//! Whoever gives up leaves nothing running: when a failed or cancelled operation has returned,
//! nothing of it reads the source or writes the target any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backup_core::check::{CheckOptions, ReadData, check};
use backup_core::context::Context;
use backup_core::pipeline::{VerifyLevel, backup, restore, verify};
use backup_core::sink::SinkErrorKind;
use backup_core::source::{RestoreRequest, SourceError, SourceErrorKind};
use backup_core::testing::{Fault, FaultRule, FaultySink, MemorySink, ScriptedSource};

use crate::support::compare::differences;
use crate::support::counting::Counting;
use crate::support::noise::noise;
use crate::support::repo::{Repo, files, options};
use crate::support::tree::write;

/// Long enough for whatever still runs to show.
const A_WHILE: Duration = Duration::from_millis(300);

fn large_files() -> ScriptedSource {
    (0..6).fold(ScriptedSource::new(), |source, at| {
        source.file(&format!("/large {at}"), noise(at, 3_000_000))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_backup_whose_source_fails() {
    let repo = Repo::in_memory().await;
    let source = large_files().failing_at_item(6, SourceErrorKind::Unavailable);
    let source = Counting::slow(source, Duration::from_millis(20));
    repo.try_backup(&source, &options()).await.unwrap_err();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(source.opened_and_late().1, 0, "contents were read after `abort`");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_backup_whose_storage_fails() {
    let sink = FaultySink::new(Arc::new(MemorySink::new()));
    let repo = Repo::init(Arc::new(sink.clone())).await;
    sink.add(FaultRule::new(Fault::Before(SinkErrorKind::StorageFull)).under("data").forever());
    let source = Counting::slow(large_files(), Duration::from_millis(20));
    let mut options = options();
    options.write.pack_size = 1_000_000;
    repo.try_backup(&source, &options).await.unwrap_err();
    let operations = sink.operations();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(source.opened_and_late().1, 0, "contents were read after `abort`");
    assert_eq!(sink.operations(), operations, "the storage was used after the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cancelled_backup() {
    let repo = Repo::in_memory().await;
    let source = Counting::slow(large_files(), Duration::from_millis(20));
    let cx = Context::silent();
    let options = options();
    let cancel = async {
        while source.opened_and_late().0 < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cx.cancel.cancel();
    };
    let (result, ()) = tokio::join!(backup(&repo.repository, &source, &options, &cx), cancel);
    assert!(result.unwrap_err().is_cancelled());
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(source.opened_and_late().1, 0, "contents were read after `abort`");
}

/// Blobs are handed over on several threads: one fails at once while others are still at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_failed_fetch() {
    let repo = Repo::in_memory().await;
    let mut options = options();
    options.write.pack_size = 1_000_000;
    let id = repo.backup(&large_files(), &options).await.snapshot.unwrap();
    let reader = repo.reader(id).await;
    let mut blobs = Vec::new();
    let mut walk = reader.walk();
    while let Some((_, node)) = walk.next().await.unwrap() {
        blobs.extend(node.content);
    }
    let (calls, returned, late) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let (count, ended, missed) = (Arc::clone(&calls), Arc::clone(&returned), Arc::clone(&late));
    let cx = Context::silent();
    let fetched = reader.fetch(&cx, &blobs, move |_, _| {
        if count.fetch_add(1, Ordering::SeqCst) == 1 {
            return Err(SourceError::new(SourceErrorKind::Target, "the disk is full"));
        }
        std::thread::sleep(Duration::from_millis(100));
        missed.fetch_add(u64::from(ended.load(Ordering::SeqCst)), Ordering::SeqCst);
        Ok(())
    });
    fetched.await.unwrap_err();
    returned.store(true, Ordering::SeqCst);
    tokio::time::sleep(A_WHILE).await;
    assert!(calls.load(Ordering::SeqCst) > 1, "one call at a time shows nothing");
    assert_eq!(late.load(Ordering::SeqCst), 0, "contents were handed over after the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cancelled_restore() {
    let (from, room) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for at in 0..40 {
        write(from.path().join(format!("file {at}")), noise(at, 500_000));
    }
    let repo = Repo::in_memory().await;
    let id = repo.backup(&files(&[from.path()]), &options()).await.snapshot.unwrap();
    for delay in [0, 1, 3, 10, 30] {
        let target = room.path().join(format!("target {delay}"));
        let request = RestoreRequest {
            target: Some(target.to_str().unwrap().to_owned()),
            ..RestoreRequest::default()
        };
        let cx = Context::silent();
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            cx.cancel.cancel();
        };
        let (reader, any) = (repo.reader(id).await, files(&[&target]));
        let (result, ()) = tokio::join!(restore(&reader, &any, &request, &cx), cancel);
        assert!(
            result.is_ok() || result.is_err_and(|error| error.is_cancelled()),
            "after {delay} ms"
        );
        if target.exists() {
            let copy = room.path().join(format!("copy {delay}"));
            crate::support::repo::keep(&target, &copy);
            tokio::time::sleep(A_WHILE).await;
            assert_eq!(
                differences(&copy, &target),
                [""; 0],
                "after {delay} ms: the target changed after the end"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cancelled_check_or_verification() {
    let repo = Repo::in_memory().await;
    let id = repo.backup(&large_files(), &options()).await.snapshot.unwrap();
    let reader = repo.reader(id).await;
    let cx = Context::silent();
    cx.cancel.cancel();
    assert!(verify(&reader, VerifyLevel::Checksum, &cx).await.unwrap_err().is_cancelled());
    let read_all = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let checked = check(&repo.repository, &read_all, &cx).await;
    assert!(checked.unwrap_err().is_cancelled());
}
