//! Stock restic after our prune, ours in a repository that stock restic made, and ours after
//! rustic's prune.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backup_core::context::Context;
use backup_core::id::SnapshotId;
use tempfile::TempDir;

use super::thorough;
use crate::support::compare::assert_same;
use crate::support::noise::{noise, text as words};
use crate::support::repo::{Repo, files, local, options, restored};
use crate::support::restic::Restic;
use crate::support::tree::{settle, write};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A source that changes, and a repository beside it.
struct Place {
    _source: TempDir,
    top: PathBuf,
    room: TempDir,
}

impl Place {
    fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        let top = source.path().join("top");
        let place = Self { _source: source, top, room: tempfile::tempdir().unwrap() };
        place.change(0);
        place
    }

    /// Half of what is there becomes something else, in every directory.
    fn change(&self, round: u64) {
        for at in 0..10 {
            if round == 0 || at % 2 == round % 2 {
                write(self.top.join(format!("noise {at}")), noise(100 * round + at, 90_000));
                write(self.top.join(format!("below/{at}/text")), words(100 * round + at, 20_000));
            }
        }
        settle();
    }

    fn repository(&self) -> PathBuf {
        self.room.path().join("repository")
    }

    /// Backs up with ours.
    async fn backup(&self, repo: &Repo) -> SnapshotId {
        repo.backup(&files(&[&self.top]), &options()).await.snapshot.unwrap()
    }

    /// Fails unless this restic finds nothing to complain, and restores the newest snapshot to what
    /// the source is.
    fn assert_suits(&self, restic: &Restic, when: &str) {
        restic.check();
        let target = self.room.path().join(when);
        restic.restore("latest", &target);
        assert_same(&self.top, &restored(&target, &self.top));
        fs::remove_dir_all(target).unwrap();
    }
}

/// Objects below a folder of a repository in a directory.
fn objects(repository: &Path, folder: &str) -> usize {
    let entries = fs::read_dir(repository.join(folder)).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { objects(&entry.path(), "") } else { 1 }).sum()
}

mod needs_restic {
    use super::*;
    use crate::support::restic::RESTICS;

    #[tokio::test(flavor = "multi_thread")]
    async fn stock_restic_suits_every_stage_of_a_prune() {
        for version in RESTICS {
            let place = Place::new();
            let repo = Repo::in_dir(&place.repository()).await;
            let restic = Restic::new(version, &place.repository(), repo.passphrase.reveal());
            let first = place.backup(&repo).await;
            place.change(1);
            let second = place.backup(&repo).await;
            repo.forget(first).await;
            let marked = repo.prune(&thorough(DAY)).await;
            assert!(
                marked.marked_packs > 0 && marked.repacked_packs > 0 && marked.deleted_packs == 0,
                "{marked:?}"
            );
            place.assert_suits(&restic, "marked");
            let swept = repo.prune(&thorough(Duration::ZERO)).await;
            assert_eq!(swept.deleted_packs, marked.marked_packs, "{version}: {swept:?}");
            place.assert_suits(&restic, "swept");
            repo.assert_sound().await;

            // Stock restic goes on where we were, and we prune what it has added.
            place.change(2);
            restic.backup(&[&place.top]);
            repo.forget(second).await;
            for stage in ["moved", "gone"] {
                repo.prune(&thorough(Duration::ZERO)).await;
                place.assert_suits(&restic, stage);
            }
            let left = repo.prune(&thorough(Duration::ZERO)).await;
            assert_eq!(
                (left.unused_bytes, left.waiting_packs, left.marked_packs),
                (0, 0, 0),
                "{version}: {left:?}"
            );
            assert_eq!(
                objects(&place.repository(), "data") as u64,
                left.packs,
                "{version}: {left:?}"
            );
            repo.assert_sound().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_stock_restic_made_is_adopted_and_pruned() {
        for version in RESTICS {
            let place = Place::new();
            let restic = Restic::new(version, &place.repository(), "secret");
            restic.init("2");
            restic.backup(&[&place.top]);
            place.change(1);
            restic.backup(&[&place.top]);
            let repo = Repo::open(local(&place.repository()), "secret").await.unwrap();
            let first = repo.snapshots().await[0].id;
            // Nobody has noted anything about it yet.
            assert_eq!(
                (objects(&place.repository(), "locks"), objects(&place.repository(), "x-receipts")),
                (0, 0)
            );
            repo.forget(first).await;
            let marked = repo.prune(&thorough(Duration::ZERO)).await;
            assert!(marked.marked_packs > 0 && marked.deleted_packs == 0, "{version}: {marked:?}");
            assert_eq!(
                objects(&place.repository(), "locks"),
                1,
                "the guard keeps stock prunes away"
            );
            place.assert_suits(&restic, "marked");
            // It can come back as long as nothing is deleted.
            repo.repository.undo_forget(&[first], "test", &Context::silent()).await.unwrap();
            restic.check();
            repo.assert_sound().await;
            repo.forget(first).await;
            let deleted = repo.prune(&thorough(Duration::ZERO)).await.deleted_packs
                + repo.prune(&thorough(Duration::ZERO)).await.deleted_packs;
            assert!(deleted > 0, "{version}: nothing was deleted");
            place.assert_suits(&restic, "swept");
            restic.backup(&[&place.top]);
            place.assert_suits(&restic, "continued");
            repo.assert_sound().await;
        }
    }
}

mod needs_rustic_and_restic {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;
    use crate::support::restic::{RESTICS, Rustic};

    /// rustic moves all needed blobs to new packs and marks the others.
    fn mark(rustic: &Rustic) {
        let unneeded = ["--max-unused", "0", "--max-repack", "unlimited"];
        let at_once = ["prune", "--keep-pack", "0s", "--keep-delete", "23h"];
        rustic.run(&[&at_once[..], &unneeded].concat()).succeeded();
    }

    /// Number of blobs of at least `size` bytes that no unmarked pack has, as restic reads the index.
    fn only_in_marked_packs(restic: &Restic, size: u64) -> u64 {
        let (mut marked, mut lasting) = (HashSet::new(), HashSet::new());
        for id in restic.run(&["list", "index"]).succeeded().text().lines() {
            let object: Value =
                serde_json::from_str(&restic.run(&["cat", "index", id]).succeeded().text())
                    .unwrap();
            for (key, blobs) in [("packs_to_delete", &mut marked), ("packs", &mut lasting)] {
                let packs = object[key].as_array().into_iter().flatten();
                let all = packs.flat_map(|pack| pack["blobs"].as_array().unwrap());
                let large = all.filter(|blob| blob["length"].as_u64().unwrap() >= size);
                blobs.extend(large.map(|blob| blob["id"].as_str().unwrap().to_owned()));
            }
        }
        marked.difference(&lasting).count() as u64
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn marks_of_rustic_are_understood() {
        let place = Place::new();
        let repo = Repo::in_dir(&place.repository()).await;
        let rustic = Rustic::new(&place.repository(), repo.passphrase.reveal());
        let restic = Restic::new(RESTICS[1], &place.repository(), repo.passphrase.reveal());
        let first = place.backup(&repo).await;
        let object = place.repository().join("snapshots").join(first.to_hex());
        let kept = fs::read(&object).unwrap();
        place.change(1);
        let second = place.backup(&repo).await;
        repo.forget(first).await;
        mark(&rustic);
        let before = repo.prune(&thorough_but_dry(DAY)).await;
        assert!(
            before.waiting_packs > 0 && before.deleted_packs == 0,
            "marks are not understood: {before:?}"
        );
        repo.assert_sound().await;

        // A backup of the forgotten content stores it again: only marked packs have it.
        let expected = 90_000 * only_in_marked_packs(&restic, 90_000);
        assert!(expected > 0, "rustic has marked no pack with content of the forgotten snapshot");
        let again = tempfile::tempdir().unwrap();
        for at in (1..10).step_by(2) {
            write(again.path().join(format!("noise {at}")), noise(at, 90_000));
        }
        let report = repo.backup(&files(&[again.path()]), &options()).await;
        assert!(
            (expected..expected + 90_000).contains(&report.stored.added_bytes),
            "a new backup stores {:?} of {expected} bytes that only marked packs have",
            report.stored
        );

        // Somebody who knew nothing of the marks brings the snapshot back: its packs are recovered.
        fs::write(&object, kept).unwrap();
        let recovered = repo.prune(&thorough(Duration::ZERO)).await;
        assert!(recovered.recovered_packs > 0, "{recovered:?}");
        assert_eq!(repo.verify(first).await.problems, []);
        rustic.run(&["check", "--read-data"]).succeeded();

        // And what is due goes, once a record says who was at work.
        repo.forget(first).await;
        mark(&rustic);
        let deleted = repo.prune(&thorough(Duration::ZERO)).await.deleted_packs
            + repo.prune(&thorough(Duration::ZERO)).await.deleted_packs;
        assert!(deleted > 0, "nothing was deleted");
        let target = place.room.path().join("restored");
        repo.restore(second, &target).await;
        assert_same(&place.top, &restored(&target, &place.top));
        rustic.run(&["check", "--read-data"]).succeeded();
        repo.assert_sound().await;
    }

    fn thorough_but_dry(grace: Duration) -> backup_core::maintenance::PruneOptions {
        backup_core::maintenance::PruneOptions { dry_run: true, ..thorough(grace) }
    }
}
