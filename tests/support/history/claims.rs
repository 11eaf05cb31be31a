//! What must be true whatever has happened.

use std::collections::BTreeSet;

use backup_core::check::ReadData;
use backup_core::context::Context;
use backup_core::id::{BlobId, SnapshotId};
use backup_core::maintenance::{MaxUnused, PruneOptions, prune};
use backup_core::pipeline::restore;
use backup_core::repository::SnapshotReader;
use backup_core::source::{RestoreRequest, Selection};
use backup_core::testing::ScriptedSource;
use jiff::SignedDuration;

use super::world::{Content, World};
use crate::support::repo::Repo;
use crate::support::script::digest;

impl World {
    /// Fails unless a snapshot restores to what the model says.
    pub(super) async fn assert_restores(&self, reader: &SnapshotReader, content: &Content) {
        let (target, id) = (ScriptedSource::new(), reader.id().short());
        if let Err(error) =
            restore(reader, &target, &RestoreRequest::default(), &Context::silent()).await
        {
            panic!("{}: snapshot {id} is lost: {}", self.at, error.chain());
        }
        let (expected, found) =
            (digest(&content.source()).await, target.restored_digest(&Selection::all()));
        assert!(found == expected, "{}: snapshot {id} restores to something else", self.at);
    }

    /// Reads the index, and reads a snapshot that is listed.
    pub(super) async fn reader(&self, repo: &Repo, id: SnapshotId) -> SnapshotReader {
        let opened = repo.try_reader(id).await;
        opened.unwrap_or_else(|error| {
            panic!("{}: snapshot {} is lost: {}", self.at, id.short(), error.chain())
        })
    }

    pub(super) async fn restore_one(&mut self) {
        if let Some(id) = self.any_live() {
            self.assert_restores(&self.reader(&self.repo, id).await, &self.live[&id]).await;
        }
    }

    /// Fails unless everything that snapshots need is in packs that are there and listed as
    /// lasting: tools that know no marks find it only there.
    pub(super) async fn assert_listed(&mut self) {
        if self.unsettled {
            return;
        }
        let indexed = self.repo.repository.load_index(&Context::silent()).await.unwrap();
        let stored: BTreeSet<String> =
            self.sink.objects().into_keys().map(|key| key.file_name().to_owned()).collect();
        let mut lasting = BTreeSet::new();
        indexed.index().for_each_pack(&mut |pack| {
            if pack.listed && stored.contains(&pack.id.to_hex()) {
                lasting.insert(pack.id);
            }
        });
        let mut found = BTreeSet::new();
        indexed.index().for_each_blob(&mut |blob| {
            if lasting.contains(&blob.pack) {
                found.insert(blob.blob.id);
            }
        });
        self.needs.retain(|id, _| self.live.contains_key(id));
        let unknown: Vec<SnapshotId> =
            self.live.keys().filter(|id| !self.needs.contains_key(*id)).copied().collect();
        for id in unknown {
            let needs = needs(&self.reader(&self.repo, id).await).await;
            self.needs.insert(id, needs);
        }
        for (id, needs) in &self.needs {
            let lost: Vec<String> = needs.difference(&found).map(BlobId::short).collect();
            assert!(
                lost.is_empty(),
                "{}: in no lasting pack, but needed by {}: {lost:?}",
                self.at,
                id.short()
            );
        }
    }

    pub(super) async fn look_at_everything(&mut self) {
        let listed: BTreeSet<SnapshotId> =
            self.repo.snapshots().await.into_iter().map(|info| info.id).collect();
        assert_eq!(listed, self.live.keys().copied().collect(), "{}: snapshots", self.at);
        for (repo, snapshots) in [(&self.repo, &self.live), (&self.other, &self.copied)] {
            for (id, content) in snapshots {
                self.assert_restores(&self.reader(repo, *id).await, content).await;
            }
        }
        if self.late {
            self.prune_with(&PruneOptions::default()).await;
        }
        for repo in [&self.repo, &self.other] {
            let report = repo.check(ReadData::All).await.unwrap();
            assert!(report.problems.is_empty(), "{}: {:#?}", self.at, report.problems);
        }
        self.assert_pruning_ends().await;
        self.assert_listed().await;
        self.count("looked at everything");
    }

    /// Prunes that nothing disturbs come to an end: then there is nothing left to do but to wait
    /// and to delete. The first recovers what is needed again, the second moves what is needed of
    /// that, the third puts small packs together.
    async fn assert_pruning_ends(&mut self) {
        // What sessions that were killed may have written is left alone until they count as dead.
        self.clock.advance(SignedDuration::from_hours(3));
        let thorough = PruneOptions {
            max_unused: MaxUnused::Percent(0.0),
            max_repack: None,
            ..self.prune_options()
        };
        for _ in 0..3 {
            self.prune_with(&thorough).await;
        }
        let again = PruneOptions { dry_run: true, ..thorough };
        let report = prune(&self.repo.repository, &again, &self.cx()).await.unwrap();
        let left = (
            report.marked_packs,
            report.repacked_packs,
            report.recovered_packs,
            report.unused_bytes,
        );
        assert_eq!(
            left,
            (0, 0, 0, 0),
            "{}: to mark, move and recover, and unused, after a prune",
            self.at
        );
    }
}

/// Every blob below the root of a snapshot.
async fn needs(reader: &SnapshotReader) -> BTreeSet<BlobId> {
    let mut needs = BTreeSet::from([reader.root_id()]);
    let mut walk = reader.walk();
    while let Some((_, node)) = walk.next().await.unwrap() {
        needs.extend(node.content.iter().copied().chain(node.subtree));
    }
    needs
}
