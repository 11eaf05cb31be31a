//! A prune reads and writes of the index what changes, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::maintenance::{MaxUnused, PruneOptions, prune};
use backup_core::sink::{Operation, Prefix, SinkOps};
use backup_core::testing::{MemorySink, RecordingSink, ScriptedSource};

use crate::support::repo::{Repo, options};

async fn indexes(repo: &Repo) -> BTreeSet<String> {
    let listed = repo.repository.sink().list_all(&Prefix::new("index").unwrap()).await.unwrap();
    listed.into_iter().map(|meta| meta.key.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn index_objects_that_stay_are_left_alone() {
    let cache = tempfile::tempdir().unwrap();
    for cached in [false, true] {
        let sink = RecordingSink::new(Arc::new(MemorySink::new()));
        let mut repo = Repo::init(Arc::new(sink.clone())).await;
        if cached {
            repo.repository = repo.repository.with_cache(cache.path());
        }
        let gone = repo
            .backup(&ScriptedSource::new().file("/gone", "what goes"), &options())
            .await
            .snapshot
            .unwrap();
        let before = indexes(&repo).await;
        repo.backup(&ScriptedSource::new().file("/stays", "what stays"), &options()).await;
        let kept: BTreeSet<String> = indexes(&repo).await.difference(&before).cloned().collect();
        assert_eq!((before.len(), kept.len()), (1, 1));

        repo.repository.forget(&[gone], &Context::silent()).await.unwrap();
        let options = PruneOptions {
            grace: Duration::ZERO,
            max_unused: MaxUnused::Percent(0.0),
            ..PruneOptions::default()
        };
        let run = async || {
            sink.reset();
            let report = prune(&repo.repository, &options, &Context::silent()).await.unwrap();
            let counts = sink.counts();
            let [get, put, delete] = [Operation::Get, Operation::Put, Operation::Delete]
                .map(|operation| counts.count(operation, "index"));
            (report, get, put, delete)
        };

        let (report, get, put, delete) = run().await;
        assert!(report.marked_packs > 0 && report.deleted_packs == 0, "{report:?}");
        assert_eq!(
            get, 5,
            "both, the one that is written anew again, and what is written is read back"
        );
        assert_eq!(
            (put, delete),
            (2, 1),
            "what was moved, because both snapshots need it, and what is marked"
        );
        let between = indexes(&repo).await;
        assert!(between.is_superset(&kept) && between.is_disjoint(&before));

        let (report, get, put, delete) = run().await;
        assert!(report.marked_packs == 0 && report.deleted_packs > 0, "{report:?}");
        assert_eq!(
            (get, put, delete),
            (3, 0, 1),
            "all are read once, and the one with marks goes as it is"
        );
        let after = indexes(&repo).await;
        assert!(after.is_superset(&kept) && after.is_subset(&between));
        repo.assert_sound().await;
    }
}
