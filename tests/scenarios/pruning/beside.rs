//! Prune after prune beside five writers that back up and forget, and a reader that restores:
//! nothing is lost, nobody waits.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::noise::noise;
use crate::support::repo::{Repo, local, options};
use crate::support::script::{assert_holds, digest, restore_script};

use super::thorough;

const WRITERS: usize = 5;
/// So short that what is given up goes while the test runs, long enough for a small restore.
const GRACE: Duration = Duration::from_secs(3);
const ALONE: Duration = Duration::from_secs(3);
const TOGETHER: Duration = Duration::from_secs(12);

mod needs_restic {
    use backup_core::id::SnapshotId;
    use backup_core::source::Selection;
    use backup_core::testing::ScriptedSource;

    use super::*;
    use crate::support::restic::{RESTICS, Restic};

    /// In round `round`: something of its own, something that comes back every few rounds,
    /// something that all share. Lengths change as well: the times of these files do not.
    fn source(name: &str, round: u64) -> ScriptedSource {
        ScriptedSource::named(name)
            .dir(&format!("/{name}"))
            .file(&format!("/{name}/own"), noise(round * 7 + 1, 60_000 + length(round)))
            .file(&format!("/{name}/again"), noise(1000 + round % 3, 40_000 + length(round % 3)))
            .file(&format!("/{name}/shared"), noise(2000 + round / 2, 80_000 + length(round / 2)))
    }

    fn length(number: u64) -> usize {
        usize::try_from(number).unwrap() % 10_000
    }

    /// Backs up, and forgets the backup before, until it is time. Returns how long each backup
    /// took, and the last of them.
    async fn write(repo: Repo, name: String, until: Instant) -> (Vec<Duration>, SnapshotId) {
        let mut took = Vec::new();
        let mut last: Option<SnapshotId> = None;
        for round in 0.. {
            let (source, began) = (source(&name, round), Instant::now());
            let report = repo.try_backup(&source, &options()).await;
            let report =
                report.unwrap_or_else(|error| panic!("{name}, round {round}: {}", error.chain()));
            took.push(began.elapsed());
            let id = report.snapshot.unwrap();
            assert_holds(&repo, id, &source).await;
            if let Some(last) = last.replace(id) {
                repo.forget(last).await;
            }
            if Instant::now() > until {
                break;
            }
        }
        (took, last.expect("there was a round"))
    }

    async fn writers(
        dir: &Path,
        password: &str,
        prefix: &str,
        time: Duration,
    ) -> (Vec<Duration>, Vec<SnapshotId>) {
        let mut tasks = Vec::new();
        for at in 0..WRITERS {
            let repo = Repo::open(local(dir), password).await.unwrap();
            tasks.push(tokio::spawn(write(repo, format!("{prefix}-{at}"), Instant::now() + time)));
        }
        let (mut took, mut last) = (Vec::new(), Vec::new());
        for task in tasks {
            let (durations, id) = task.await.unwrap();
            took.extend(durations);
            last.push(id);
        }
        took.sort();
        (took, last)
    }

    /// Prunes until it is told to stop. Returns how many packs were deleted and how often it ran.
    async fn prune_on(repo: Repo, stop: Arc<AtomicBool>) -> (u64, u64) {
        let (mut deleted, mut runs) = (0, 0);
        while !stop.load(Ordering::SeqCst) {
            deleted += repo.prune(&thorough(GRACE)).await.deleted_packs;
            runs += 1;
        }
        (deleted, runs)
    }

    /// Restores one snapshot over and over. Returns how often.
    async fn restore_on(
        repo: Repo,
        id: SnapshotId,
        source: ScriptedSource,
        stop: Arc<AtomicBool>,
    ) -> u64 {
        let (expected, mut restores) = (digest(&source).await, 0);
        while !stop.load(Ordering::SeqCst) {
            let began = Instant::now();
            match restore_script(&repo, id).await {
                Ok(restored) => {
                    assert_eq!(
                        restored.restored_digest(&Selection::all()),
                        expected,
                        "the restore is different"
                    );
                    restores += 1;
                }
                // What a restore found in the index stays for the grace period, no longer.
                Err(error) => {
                    assert!(began.elapsed() >= GRACE, "a restore failed: {}", error.chain());
                }
            }
        }
        restores
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn heavy_five_writers_and_a_restore() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::in_dir(dir.path()).await;
        let password = repo.passphrase.reveal().to_owned();
        let first = source("first", 0);
        let id = repo.backup(&first, &options()).await.snapshot.unwrap();
        let (alone, mut kept) = writers(dir.path(), &password, "alone", ALONE).await;

        let stop = Arc::new(AtomicBool::new(false));
        let pruner = Repo::open(local(dir.path()), &password).await.unwrap();
        let pruning = tokio::spawn(prune_on(pruner, Arc::clone(&stop)));
        let restoring =
            tokio::spawn(restore_on(repo.clone(), id, first.clone(), Arc::clone(&stop)));
        let (beside, others) = writers(dir.path(), &password, "beside", TOGETHER).await;
        stop.store(true, Ordering::SeqCst);
        let ((deleted, runs), restores) = (pruning.await.unwrap(), restoring.await.unwrap());
        kept.extend(others);

        assert!(
            runs >= 3 && deleted > 0 && restores > 0,
            "{runs} prunes, {deleted} packs deleted, {restores} restores"
        );
        // They share two cores with prunes and restores; but they do not wait for the end of any of
        // them.
        let (slowest, usual) = (beside[beside.len() * 9 / 10], alone[alone.len() / 2]);
        assert!(
            slowest < usual * 8 + Duration::from_secs(1),
            "{slowest:?} beside prunes, {usual:?} alone"
        );

        kept.push(id);
        kept.sort();
        let mut listed: Vec<_> = repo.snapshots().await.into_iter().map(|info| info.id).collect();
        listed.sort();
        assert_eq!(listed, kept, "what nobody has forgotten is listed, and nothing else");
        repo.prune(&thorough(GRACE)).await;
        for id in listed {
            assert_eq!(repo.verify(id).await.problems, []);
        }
        assert_holds(&repo, id, &first).await;
        repo.assert_sound().await;
        for version in RESTICS {
            Restic::new(version, dir.path(), &password).check();
        }
    }
}
