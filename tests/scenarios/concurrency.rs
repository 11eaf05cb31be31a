//! Five writers at the same time into one repository, and a reader beside them: nobody waits,
//! nothing is lost, everything that is listed restores.

use std::path::Path;

use backup_core::check::ReadData;

use crate::support::noise::noise;
use crate::support::repo::{Repo, local, options};
use crate::support::samples::script;
use crate::support::script::assert_holds;

const WRITERS: usize = 5;
const ROUNDS: usize = 3;

/// Every writer opens the repository for itself and backs up what is its own and what all have.
async fn write(dir: &Path, password: &str, name: String) {
    let repo = Repo::open(local(dir), password).await.unwrap();
    let source = script(&name).file("/shared", noise(99, 2_000_000));
    for round in 0..ROUNDS {
        let source = source.clone().file(&format!("/{name}/round"), vec![b'x'; round]);
        let report = repo.backup(&source, &options()).await;
        assert_holds(&repo, report.snapshot.unwrap(), &source).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_writers_and_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::in_dir(dir.path()).await;
    let password = repo.passphrase.reveal().to_owned();
    let writers = (0..WRITERS).map(|at| write(dir.path(), &password, format!("writer-{at}")));
    let mut writers = futures::future::join_all(writers);
    let mut checks = 0;
    loop {
        tokio::select! {
            _ = &mut writers => break,
            report = repo.check(ReadData::All) => {
                let report = report.unwrap();
                assert!(report.problems.is_empty(), "while others write: {:?}", report.problems);
                checks += 1;
            }
        }
    }
    assert!(checks > 0, "the writers were faster than one check");
    assert_eq!(repo.snapshots().await.len(), WRITERS * ROUNDS);
    for info in repo.snapshots().await {
        assert_eq!(repo.verify(info.id).await.problems, []);
    }
    repo.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_writers_of_the_same_source() {
    let repo = Repo::in_memory().await;
    let source = script("same");
    let options = options();
    let runs = (0..WRITERS).map(|_| repo.backup(&source, &options));
    for report in futures::future::join_all(runs).await {
        assert_holds(&repo, report.snapshot.unwrap(), &source).await;
    }
    repo.assert_sound().await;
    let next = repo.backup(&source, &options).await;
    assert_eq!(next.stored.data_blobs, 1, "only the manifest: {:?}", next.stored);
}
