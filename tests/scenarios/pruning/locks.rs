//! Locks of stock restic: whoever holds one that lives may rely upon what is there.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use backup_core::clock::{Clock, SystemClock};
use backup_core::context::Context;
use backup_core::crypto::{MasterKey, Passphrase};
use backup_core::error::ErrorKind;
use backup_core::format::{KeyFile, Lock, seal_json};
use backup_core::maintenance::prune;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::thorough;
use crate::support::noise::noise;
use crate::support::repo::{Repo, files, options};
use crate::support::tree::{settle, write};

/// A repository in which nothing is needed of a pack or two.
async fn with_something_unneeded() -> (TempDir, Repo) {
    let (dir, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let repo = Repo::in_dir(dir.path()).await;
    write(source.path().join("file"), noise(1, 200_000));
    settle();
    let first = repo.backup(&files(&[source.path()]), &options()).await.snapshot.unwrap();
    write(source.path().join("file"), noise(2, 210_000));
    settle();
    repo.backup(&files(&[source.path()]), &options()).await;
    repo.forget(first).await;
    (dir, repo)
}

/// The key that everything in a repository is sealed with.
fn master_key(repository: &Path, passphrase: &Passphrase) -> MasterKey {
    let file = fs::read_dir(repository.join("keys")).unwrap().next().unwrap().unwrap().path();
    let key = KeyFile::from_json(&fs::read(file).unwrap()).unwrap();
    key.unwrap_with(passphrase).unwrap().expect("it is the pass phrase")
}

/// Takes a lock of restic's kind, so long ago.
fn lock(dir: &Path, repo: &Repo, exclusive: bool, ago: Duration) -> std::path::PathBuf {
    let taken = SystemTime::from(SystemClock.now()) - ago;
    let lock = Lock {
        time: taken.try_into().unwrap(),
        exclusive,
        hostname: "elsewhere".to_owned(),
        username: "somebody".to_owned(),
        pid: 4711,
        uid: 0,
        gid: 0,
    };
    let sealed = seal_json(&master_key(dir, &repo.passphrase), &lock).unwrap();
    let path = dir.join("locks").join(hex::encode(Sha256::digest(&sealed)));
    fs::write(&path, sealed).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(taken).unwrap();
    path
}

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(31 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_lock_is_respected_until_it_is_stale() {
    let (dir, repo) = with_something_unneeded().await;
    let taken = lock(dir.path(), &repo, true, NOW);
    let refused = prune(&repo.repository, &thorough(NOW), &Context::silent()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy, "{}", refused.chain());
    assert!(
        refused.chain().contains("4711") && refused.hint().is_some(),
        "who, and what to do: {}",
        refused.chain()
    );
    fs::remove_file(taken).unwrap();
    lock(dir.path(), &repo, true, LONG);
    assert!(repo.prune(&thorough(NOW)).await.marked_packs > 0);
    assert!(repo.prune(&thorough(NOW)).await.deleted_packs > 0, "a stale lock delays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_delays_deletion_until_it_is_gone_or_stale() {
    for stale in [false, true] {
        let (dir, repo) = with_something_unneeded().await;
        let taken = lock(dir.path(), &repo, false, NOW);
        assert!(repo.prune(&thorough(NOW)).await.marked_packs > 0);
        // Who comes later knows of the marks.
        let waits = repo.prune(&thorough(NOW)).await;
        assert!(waits.deleted_packs == 0 && waits.waiting_packs > 0, "{waits:?}");
        assert!(waits.waits_for.iter().any(|why| why.contains("4711")), "{:?}", waits.waits_for);
        if stale {
            let old = SystemTime::from(SystemClock.now()) - LONG;
            File::options().write(true).open(&taken).unwrap().set_modified(old).unwrap();
        } else {
            fs::remove_file(taken).unwrap();
        }
        lock(dir.path(), &Repo { ..repo.clone() }, false, Duration::from_secs(60 * 60));
        assert!(repo.prune(&thorough(NOW)).await.deleted_packs > 0, "stale: {stale}");
        repo.assert_sound().await;
    }
}

mod needs_restic {
    use std::io::Write;

    use super::*;
    use crate::support::restic::{RESTICS, Restic};

    /// restic backs up what it is told, and is not told the end of it.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_backup_of_stock_restic_delays_deletion() {
        for version in RESTICS {
            let (dir, repo) = with_something_unneeded().await;
            let restic = Restic::new(version, dir.path(), repo.passphrase.reveal());
            let mut running = restic.begin(&["backup", "--stdin", "--stdin-filename", "dump"]);
            let mut stdin = running.stdin.take().unwrap();
            // The very data that is about to be given up: restic deduplicates against what it finds
            // in the index.
            stdin.write_all(&noise(1, 200_000)).unwrap();
            let locks = || fs::read_dir(dir.path().join("locks")).unwrap().count();
            for _ in 0..600 {
                if locks() >= 2 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            assert!(locks() >= 2, "{version} takes no lock");
            assert!(repo.prune(&thorough(NOW)).await.marked_packs > 0);
            let waits = repo.prune(&thorough(NOW)).await;
            assert!(waits.deleted_packs == 0 && waits.waiting_packs > 0, "{version}: {waits:?}");
            drop(stdin);
            assert!(running.wait().unwrap().success(), "{version}: its backup fails");
            repo.prune(&thorough(NOW)).await;
            assert!(
                repo.prune(&thorough(NOW)).await.waiting_packs == 0,
                "{version}: it is over, but prune waits"
            );
            restic.check();
            repo.assert_sound().await;
            let dumped = restic.run(&["dump", "--no-lock", "latest", "/dump"]).succeeded();
            assert!(dumped.stdout == noise(1, 200_000), "{version}: what it stored is lost");
        }
    }
}
