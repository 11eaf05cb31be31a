//! Every operation on the storage fails once, in every way: what runs then fails loudly or succeeds
//! truly, and a second run converges.

use std::sync::Arc;
use std::time::Duration;

use backup_core::check::ReadData;
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::error::{Error, ErrorKind};
use backup_core::id::SnapshotId;
use backup_core::pipeline::{BackupOptions, VerifyLevel, verify};
use backup_core::repository::{InitOptions, Repository};
use backup_core::sink::{Operation, Prefix, SinkErrorKind};
use backup_core::source::{IfExists, RestoreRequest, Selection};
use backup_core::testing::{Fault, FaultRule, FaultySink, MemorySink, ScriptedSource};

use crate::support::compare::assert_same;
use crate::support::noise::noise;
use crate::support::repo::{Repo, files, options, restored};
use crate::support::samples::small_script;
use crate::support::script::{assert_holds, digest, restore_script};
use crate::support::tree::write;

const LOST: SinkErrorKind = SinkErrorKind::Unavailable;

/// What can befall whoever only reads.
const READING: [Fault; 4] =
    [Fault::Before(LOST), Fault::Midway(LOST), Fault::Truncated, Fault::Corrupted];

/// Longer than anything takes here: a run that waits for ever has failed too.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is read back is sampled in full: so that faults in reading back are met as well.
fn thorough() -> BackupOptions {
    let mut options = options();
    options.write.verify_sample = 1.0;
    options.write.open_packs = 1;
    options
}

/// A repository with one snapshot, to be copied for every fault.
struct Base {
    sink: MemorySink,
    passphrase: Passphrase,
    source: ScriptedSource,
    id: SnapshotId,
}

impl Base {
    async fn new() -> Self {
        let sink = MemorySink::new();
        let repo = Repo::init(Arc::new(sink.clone())).await;
        let source = small_script();
        let id = repo.backup(&source, &thorough()).await.snapshot.unwrap();
        Self { sink, passphrase: repo.passphrase, source, id }
    }

    /// A copy that nothing has happened to yet.
    async fn copy(&self) -> (FaultySink, Repo) {
        self.faulty(self.sink.copy()).await
    }

    async fn faulty(&self, sink: MemorySink) -> (FaultySink, Repo) {
        let sink = FaultySink::new(Arc::new(sink));
        let repo = Repo::open(Arc::new(sink.clone()), self.passphrase.reveal()).await.unwrap();
        (sink, repo)
    }
}

/// Runs `attempt` once for each operation that can fail with `fault`; `attempt` gets the sink, in
/// which it fails.
async fn sweep<F: Future<Output = bool>>(fault: Fault, attempt: impl Fn(u64) -> F) {
    for n in 0.. {
        let fired = tokio::time::timeout(PATIENCE, attempt(n)).await;
        let fired = fired.unwrap_or_else(|_| panic!("{fault:?} at operation {n}: it hangs"));
        if !fired {
            assert!(n > 0, "{fault:?} met no operation");
            return;
        }
    }
}

/// Every listed snapshot restores, a check finds nothing, and a backup succeeds.
async fn assert_converges(repo: &Repo, source: &ScriptedSource, case: &str) {
    let listed = repo.snapshots().await;
    for info in &listed {
        assert_eq!(repo.verify(info.id).await.problems, [], "{case}: listed, but broken");
    }
    let again = repo.try_backup(source, &options()).await;
    let again =
        again.unwrap_or_else(|error| panic!("{case}: the second run fails: {}", error.chain()));
    assert_holds(repo, again.snapshot.unwrap(), source).await;
    assert_eq!(repo.snapshots().await.len(), listed.len() + 1, "{case}");
    let report = repo.check(ReadData::All).await.unwrap();
    assert!(report.problems.is_empty(), "{case}: {:?}", report.problems);
}

async fn backups(fault: Fault) {
    let base = Base::new().await;
    let (base, changed) = (&base, &small_script().file("/d/new", "new").file("/d/text", "changed"));
    sweep(fault, |n| async move {
        let case = format!("{fault:?} at operation {n} of a backup");
        let (sink, repo) = base.copy().await;
        sink.fail_nth(n, fault);
        let result = repo.try_backup(changed, &thorough()).await;
        let fired = sink.fired() > 0;
        sink.heal();
        let new = repo.snapshots().await.into_iter().filter(|info| info.id != base.id).count();
        match result {
            Ok(report) => {
                assert_eq!(new, 1, "{case}");
                assert_holds(&repo, report.snapshot.unwrap(), changed).await;
            }
            Err(error) => {
                assert_told(&error, &case);
                // Listed all the same if the fault came after the snapshot was stored; then it must
                // be sound.
                assert!(new <= 1, "{case}");
            }
        }
        assert_converges(&repo, changed, &case).await;
        fired
    })
    .await;
}

/// An error says what was wrong with the storage, not what followed from it inside.
#[track_caller]
fn assert_told(error: &Error, case: &str) {
    let kinds = [ErrorKind::Unavailable, ErrorKind::Damaged];
    assert!(kinds.contains(&error.kind()), "{case}: {:?}: {}", error.kind(), error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_operations_not_done() {
    backups(Fault::Before(LOST)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_requests_lost() {
    backups(Fault::BeforeUnknown(LOST)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_answers_lost() {
    backups(Fault::After(LOST)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_answers_cut_off() {
    backups(Fault::Midway(LOST)).await;
    backups(Fault::Truncated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_answers_altered() {
    backups(Fault::Corrupted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_backup_and_its_repository() {
    for fault in [Fault::Before(LOST), Fault::After(LOST), Fault::Midway(LOST)] {
        sweep(fault, |n| async move {
            let case = format!("{fault:?} at operation {n} of init");
            let place = MemorySink::new();
            let sink = FaultySink::new(Arc::new(place.clone()));
            let passphrase = Passphrase::generate();
            let (passphrase, cx) = (&passphrase, &Context::silent());
            let with_recovery =
                &InitOptions { recovery: Some(Passphrase::generate()), ..InitOptions::default() };
            let init = || Repository::init(Arc::new(sink.clone()), passphrase, with_recovery, cx);
            sink.fail_nth(n, fault);
            let first = init().await.map(drop);
            let fired = sink.fired() > 0;
            sink.heal();
            // Again: there is a whole repository by now, or it can be made.
            match (&first, init().await.map(drop)) {
                (_, Ok(())) => assert!(first.is_err(), "{case}: it was made twice"),
                (_, Err(error)) => assert_eq!(
                    error.kind(),
                    ErrorKind::RepositoryExists,
                    "{case}: {}",
                    error.chain()
                ),
            }
            let repo = Repo::open(Arc::new(sink.clone()), passphrase.reveal()).await;
            let repo = repo.unwrap_or_else(|error| panic!("{case}: {}", error.chain()));
            // A key file of the first attempt would have another master key, and stock restic might
            // try it first.
            let keys =
                place.objects().into_keys().filter(|key| key.as_str().starts_with("keys/")).count();
            assert_eq!(keys, 2, "{case}: key files of two repositories");
            assert_converges(&repo, &small_script(), &case).await;
            fired
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opening() {
    let base = Base::new().await;
    let base = &base;
    for fault in READING {
        sweep(fault, |n| async move {
            let sink = FaultySink::new(Arc::new(base.sink.copy()));
            sink.fail_nth(n, fault);
            let opened =
                Repo::open(Arc::new(sink.clone()), base.passphrase.reveal()).await.map(drop);
            let fired = sink.fired() > 0;
            if let Err(error) = opened {
                assert_ne!(
                    error.kind(),
                    ErrorKind::NoRepository,
                    "{fault:?} at {n}: {}",
                    error.chain()
                );
            }
            fired
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying() {
    let base = Base::new().await;
    let base = &base;
    for fault in READING {
        sweep(fault, |n| async move {
            let (sink, repo) = base.copy().await;
            let reader = repo.reader(base.id).await;
            sink.fail_nth(n, fault);
            let verified = verify(&reader, VerifyLevel::Checksum, &Context::silent()).await;
            let fired = sink.fired() > 0;
            if let (Ok(report), Fault::Before(_) | Fault::Midway(_)) = (verified, fault) {
                assert!(
                    !fired || !report.problems.is_empty(),
                    "{fault:?} at {n}: what could not be read was passed over"
                );
            }
            sink.heal();
            assert_eq!(repo.verify(base.id).await.problems, [], "{fault:?} at {n}");
            fired
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring() {
    let base = Base::new().await;
    let (base, expected) = (&base, &digest(&base.source).await);
    for fault in READING {
        sweep(fault, |n| async move {
            let case = format!("{fault:?} at operation {n} of a restore");
            let (sink, repo) = base.copy().await;
            sink.fail_nth(n, fault);
            let restored = restore_script(&repo, base.id).await;
            let fired = sink.fired() > 0;
            match restored {
                Ok(restored) => {
                    assert_eq!(restored.restored_digest(&Selection::all()), *expected, "{case}");
                }
                Err(error) => assert_told(&error, &case),
            }
            sink.heal();
            assert_holds(&repo, base.id, &base.source).await;
            fired
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checking() {
    let base = Base::new().await;
    let base = &base;
    let before = &base.sink.objects();
    for fault in READING {
        sweep(fault, |n| async move {
            let copy = base.sink.copy();
            let (sink, repo) = base.faulty(copy.clone()).await;
            sink.fail_nth(n, fault);
            // Whatever is read wrongly is an error or a problem; what is right once it is read
            // again may be neither.
            let checked = repo.check(ReadData::All).await;
            let fired = sink.fired() > 0;
            // Its first request and its last ones say only that somebody is at work; a check does
            // without, where it must.
            let of_the_session = n == 0 || n + 2 >= sink.operations();
            sink.heal();
            if let (Ok(report), Fault::Before(_) | Fault::Midway(_)) = (checked, fault) {
                assert!(
                    !fired || of_the_session || !report.problems.is_empty(),
                    "{fault:?} at {n}: what could not be read was passed over"
                );
            }
            repo.assert_sound().await;
            let sessions = Prefix::new("x-sessions").unwrap();
            let mut after = copy.objects();
            after.retain(|key, _| !sessions.contains(key));
            assert_eq!(after, *before, "{fault:?} at {n}: a check changed something");
            fired
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_is_told_however_late_it_shows() {
    for (kind, expected) in [
        (SinkErrorKind::StorageFull, ErrorKind::StorageFull),
        (SinkErrorKind::PermissionDenied, ErrorKind::PermissionDenied),
        (SinkErrorKind::Unavailable, ErrorKind::Unavailable),
    ] {
        // Three packs or more, then the index.
        for after in 0..4 {
            let sink = FaultySink::new(Arc::new(MemorySink::new()));
            let repo = Repo::init(Arc::new(sink.clone())).await;
            sink.add(FaultRule::new(Fault::Before(kind)).on(Operation::Put).after(after).forever());
            let mut options = options();
            options.write.pack_size = 50_000;
            let error = tokio::time::timeout(PATIENCE, repo.try_backup(&small_script(), &options))
                .await
                .expect("it ends")
                .unwrap_err();
            assert_eq!(error.kind(), expected, "{}", error.chain());
            assert!(error.hint().is_some());
            assert!(repo.snapshots().await.is_empty());
            sink.heal();
            assert_converges(&repo, &small_script(), &format!("{kind:?} after {after}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring_files() {
    let (dir, room) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let top = dir.path().join("top");
    for (at, size) in [0, 10, 5000, 700_000].into_iter().enumerate() {
        write(top.join(format!("dir {at}/file")), noise(at as u64, size));
    }
    let base = MemorySink::new();
    let made = Repo::init(Arc::new(base.clone())).await;
    let id = made.backup(&files(&[&top]), &options()).await.snapshot.unwrap();
    let (base, passphrase, top, room) = (&base, &made.passphrase, &top, room.path());
    for fault in READING {
        sweep(fault, |n| async move {
            let case = format!("{fault:?} at operation {n} of a restore of files");
            let sink = FaultySink::new(Arc::new(base.copy()));
            let repo = Repo::open(Arc::new(sink.clone()), passphrase.reveal()).await.unwrap();
            let target = room.join(format!("{fault:?} {n}"));
            sink.fail_nth(n, fault);
            let first = repo.restore_with(id, &RestoreRequest::default(), &target).await;
            let fired = sink.fired() > 0;
            sink.heal();
            match first {
                Ok(report) => assert_eq!(report.warnings, 0, "{case}"),
                Err(error) => {
                    assert_told(&error, &case);
                    let merge =
                        RestoreRequest { if_exists: IfExists::Merge, ..RestoreRequest::default() };
                    repo.restore_with(id, &merge, &target).await.unwrap();
                }
            }
            assert_same(top, &restored(&target, top));
            fired
        })
        .await;
    }
}
