//! Large backups into an object store, also through faults. Whatever happens on the way: what says
//! that it succeeded is whole at the store itself, for stock restic.

use std::path::Path;

use tempfile::TempDir;

use crate::support::long::long;
use crate::support::noise::{noise, text};
use crate::support::tree::write;

/// Noise and text, large and small; two gigabytes if there is time.
fn source(megabytes: u64) -> TempDir {
    let source = tempfile::tempdir().unwrap();
    let top = source.path();
    for at in 0..megabytes / 20 {
        write(top.join(format!("large/{at}")), noise(at, 15_000_000));
        write(top.join(format!("text/{at}")), text(at, 4_000_000));
        for small in 0..25 {
            write(top.join(format!("small/{at}/{small}")), noise(at * 1000 + small, 40_000));
        }
    }
    source
}

fn megabytes(short: u64) -> u64 {
    if long() { 2000 } else { short }
}

mod needs_weed {
    mod needs_restic {
        use super::super::*;
        use crate::support::compare::assert_same;
        use crate::support::fault_proxy::FaultProxy;
        use crate::support::fault_proxy::answers::Answer;
        use crate::support::fault_proxy::rules::{Fault, When};
        use crate::support::repo::{Repo, files, options, restored};
        use crate::support::restic::RESTICS;
        use crate::support::servers::s3::S3;
        use crate::support::store::{Stage, restic};

        fn restic_restores(s3: &S3, prefix: &str, repo: &Repo, snapshot: &str, source: &Path) {
            for version in RESTICS {
                let restic = restic(version, s3, prefix, repo.passphrase.reveal());
                restic.check();
                let target = tempfile::tempdir().unwrap();
                restic.restore(snapshot, target.path());
                assert_same(source, &restored(target.path(), source));
            }
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn heavy_is_what_restic_reads() {
            let (stage, source) = (Stage::new(), source(megabytes(200)));
            let repo = Repo::init(stage.truth("large").sink().await).await;
            let report = repo.backup(&files(&[source.path()]), &options()).await;
            assert_eq!(report.warnings, 0, "{report:?}");
            restic_restores(
                &stage.weed.s3,
                "large",
                &repo,
                &report.snapshot.unwrap().to_hex(),
                source.path(),
            );
            let target = tempfile::tempdir().unwrap();
            repo.restore(report.snapshot.unwrap(), target.path()).await;
            assert_same(source.path(), &restored(target.path(), source.path()));
        }

        /// Every kind of fault, at random, the same for the same order of requests.
        fn misbehave(proxy: &FaultProxy, round: u64) {
            let seed = round * 100;
            let objects = || When::any().without("list-type");
            for (at, fault) in (1..).zip([
                Fault::Answer(Answer::slow_down()),
                Fault::Answer(Answer::internal_error()),
                Fault::AnswerAfter(Answer::internal_error()),
                Fault::ResetBefore,
                Fault::ResetAfter,
            ]) {
                proxy.inject(objects().share(0.03, seed + at), fault);
            }
            let reads = || When::method("GET").without("list-type");
            proxy.inject(reads().share(0.1, seed + 10), Fault::Truncate(1000));
            proxy.inject(reads().share(0.05, seed + 11), Fault::Truncate(0));
            proxy.inject(When::put().share(0.05, seed + 12), Fault::FlipRequest(50));
            proxy.inject(When::put().share(0.05, seed + 13), Fault::Slow(10_000_000));
            proxy.inject(When::create().share(0.2, seed + 14), Fault::Answer(Answer::conflict()));
            let empty = Answer::new(200, "application/xml", "");
            proxy.inject(When::listing().share(0.2, seed + 15), Fault::Answer(empty));
            proxy.inject(When::listing().share(0.2, seed + 16), Fault::Answer(Answer::empty_xml()));
            proxy.inject(When::listing().share(0.1, seed + 17), Fault::Truncate(100));
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn heavy_through_faults_is_whole_or_says_so() {
            let (stage, source) = (Stage::new(), source(megabytes(40)));
            misbehave(&stage.proxy, 1);
            let repo = Repo::init(stage.store("faults").sink().await).await;
            let mut snapshots = Vec::new();
            for round in 2..5 {
                write(source.path().join("changing"), noise(round, 3_000_000));
                // It may fail, and then there is no snapshot; it may not say that there is one.
                if let Ok(report) = repo.try_backup(&files(&[source.path()]), &options()).await {
                    assert_eq!(report.warnings, 0, "{report:?}");
                    snapshots.push(report.snapshot.unwrap());
                }
                stage.proxy.heal();
                misbehave(&stage.proxy, round);
            }
            assert!(!snapshots.is_empty(), "no run succeeded");
            let hit = stage.proxy.requests().iter().filter(|request| request.hit).count();
            assert!(hit > 10, "only {hit} requests met a fault");
            let target = tempfile::tempdir().unwrap();
            let last = *snapshots.last().unwrap();
            let through_faults = repo.restore(last, target.path()).await;
            assert_eq!(through_faults.warnings, 0);

            let truth = Repo::open(stage.truth("faults").sink().await, repo.passphrase.reveal())
                .await
                .unwrap();
            truth.assert_sound().await;
            let listed: Vec<_> = truth.snapshots().await.iter().map(|info| info.id).collect();
            assert!(snapshots.iter().all(|id| listed.contains(id)), "{snapshots:?} of {listed:?}");
            for id in listed {
                assert!(
                    truth.verify(id).await.problems.is_empty(),
                    "every snapshot that is listed is whole"
                );
            }
            let (s3, newest) = (&stage.weed.s3, last.to_hex());
            // What the last round changed is not in an earlier snapshot.
            if snapshots.len() == 3 {
                assert_same(source.path(), &restored(target.path(), source.path()));
                restic_restores(s3, "faults", &repo, &newest, source.path());
            } else {
                for version in RESTICS {
                    restic(version, s3, "faults", repo.passphrase.reveal()).check();
                }
            }
        }
    }
}
