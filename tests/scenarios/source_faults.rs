//! Everything that a source does fails once, and the caller cancels at every moment: no snapshot is
//! published that lacks something silently, every reader is concluded, and the next run succeeds.

use std::collections::BTreeSet;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::error::{Error, ErrorKind, Result};
use backup_core::event::WarningKind;
use backup_core::pipeline::{BackupReport, backup};
use backup_core::source::{EntryPath, SourceErrorKind};
use backup_core::testing::{ScriptedEntry, ScriptedSource, Trouble};

use crate::support::repo::{Repo, options};
use crate::support::samples::small_script;
use crate::support::script::{assert_holds, restore_script};

/// Longer than anything takes here: a run that waits for ever has failed too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every backup that was opened was finished or aborted, and none was forgotten.
#[track_caller]
fn assert_concluded(source: &ScriptedSource, case: &str) {
    let calls = source.calls();
    assert_eq!(
        (calls.finished + calls.aborted, calls.dropped),
        (calls.opened, 0),
        "{case}: {calls:?}"
    );
}

async fn paths_of(repo: &Repo, report: &BackupReport) -> BTreeSet<EntryPath> {
    let restored = restore_script(repo, report.snapshot.unwrap()).await.unwrap();
    restored.restored().into_keys().collect()
}

/// Backs up while the `n`-th step of the source fails, for every `n`; `assess` gets what came of
/// it.
async fn sweep(kind: SourceErrorKind, assess: impl AsyncFn(&Repo, Result<BackupReport>, &str)) {
    for n in 0.. {
        let case = format!("{kind:?} at step {n}");
        let repo = Repo::in_memory().await;
        let source = small_script();
        source.fail_nth(n, kind);
        let options = options();
        let run = repo.try_backup(&source, &options);
        let result = tokio::time::timeout(PATIENCE, run)
            .await
            .unwrap_or_else(|_| panic!("{case}: it hangs"));
        assert_concluded(&source, &case);
        if !source.fault_fired() {
            assert!(n > 20, "{case}: most steps were not met");
            break;
        }
        let listed = repo.snapshots().await.len();
        assert_eq!(
            listed,
            usize::from(result.is_ok()),
            "{case}: a failed run published a snapshot"
        );
        assess(&repo, result, &case).await;
        let again = repo.backup(&source, &options).await;
        assert_holds(&repo, again.snapshot.unwrap(), &source).await;
        repo.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_fails_the_run() {
    sweep(SourceErrorKind::Unavailable, async |repo, result, case| match result {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Source, "{case}: {}", error.chain()),
        // Blocking contents can only say that reading failed: then that file is missing, with a
        // warning.
        Ok(report) => assert_lacks_one(repo, &report, case).await,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_left_out_with_a_warning() {
    for kind in [SourceErrorKind::Io, SourceErrorKind::PermissionDenied, SourceErrorKind::NotFound]
    {
        sweep(kind, async |repo, result, case| {
            if let Ok(report) = result {
                assert_lacks_one(repo, &report, case).await;
            }
        })
        .await;
    }
}

/// One warning is counted, everywhere, and exactly one file is missing.
async fn assert_lacks_one(repo: &Repo, report: &BackupReport, case: &str) {
    assert_eq!(report.warnings, 1, "{case}");
    let whole = Repo::in_memory().await;
    let all = paths_of(&whole, &whole.backup(&small_script(), &options()).await).await;
    let found = paths_of(repo, report).await;
    assert_eq!(all.difference(&found).count(), 1, "{case}: {found:?}");
    let info = repo.snapshots().await.pop().unwrap();
    assert_eq!(info.snapshot.x_warnings, Some(1), "{case}");
    assert_eq!(repo.verify(info.id).await.problems, [], "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn troubles_of_single_contents() {
    let io = SourceErrorKind::Io;
    let troubles = [
        Trouble::Vanished,
        Trouble::FailsAt(0, io),
        Trouble::FailsAt(70_000, io),
        Trouble::FailsAt(2_000_000, io),
    ];
    for trouble in troubles {
        for streamed in [false, true] {
            let case = format!("{trouble:?}, streamed: {streamed}");
            let entry = ScriptedEntry::file("/d/bad", vec![7; 3_000_000]).with_trouble(trouble);
            let source = small_script().with(if streamed { entry.streamed() } else { entry });
            let source = source.warning(WarningKind::Unreadable, "/elsewhere", "cannot be listed");
            let repo = Repo::in_memory().await;
            let report = repo.backup(&source, &options()).await;
            assert_eq!(report.warnings, 2, "{case}");
            source.remove("/d/bad");
            assert_holds(&repo, report.snapshot.unwrap(), &source).await;
            repo.assert_sound().await;
        }
    }
}

/// Backs up and cancels as soon as `reached`.
async fn cancelled(
    repo: &Repo,
    source: &ScriptedSource,
    reached: impl Fn() -> bool,
) -> Option<Error> {
    let cx = Context::silent();
    let options = options();
    let run = backup(&repo.repository, source, &options, &cx);
    let cancel = async {
        while !reached() {
            tokio::task::yield_now().await;
        }
        cx.cancel.cancel();
        std::future::pending::<()>().await;
    };
    let result = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            result = run => result,
            () = cancel => unreachable!("it waits for ever"),
        }
    });
    result.await.expect("a cancelled run ends").err()
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_at_every_item() {
    let repo = Repo::in_memory().await;
    for n in 0..10 {
        let source = small_script();
        let before = repo.snapshots().await.len();
        let error = cancelled(&repo, &source, || source.calls().next >= n).await;
        assert_concluded(&source, &format!("cancelled at item {n}"));
        let listed = repo.snapshots().await.len() - before;
        match error {
            // The run was faster than its caller.
            None => assert_eq!(listed, 1),
            Some(error) => {
                assert!(error.is_cancelled() && listed == 0, "item {n}: {}", error.chain());
            }
        }
    }
    let source = small_script();
    let id = repo.backup(&source, &options()).await.snapshot.unwrap();
    assert_holds(&repo, id, &source).await;
    repo.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_what_has_stalled() {
    for streamed in [false, true] {
        let entry = ScriptedEntry::file("/d/stalls", vec![1; 2_000_000])
            .with_trouble(Trouble::StallsAt(1_500_000));
        let source = small_script().with(if streamed { entry.streamed() } else { entry });
        let repo = Repo::in_memory().await;
        let error = cancelled(&repo, &source, || source.calls().bytes >= 1_500_000).await;
        assert!(error.is_some_and(|error| error.is_cancelled()), "streamed: {streamed}");
        assert_concluded(&source, "stalled");
        assert!(repo.snapshots().await.is_empty());
    }
}
