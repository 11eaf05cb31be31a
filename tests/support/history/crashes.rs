//! What can happen and be killed while it happens.

use std::collections::BTreeSet;

use backup_core::id::SnapshotId;
use backup_core::maintenance::prune;
use backup_core::pipeline::backup;
use backup_core::sink::SinkErrorKind;
use backup_core::testing::{Fault, FaultRule};
use rand::RngExt;

use super::world::{Content, World};

impl World {
    /// Something is killed somewhere: from one request on, all fail, done or not.
    pub(super) async fn crash(&mut self) {
        let (sink, repository) = self.faulty.clone();
        let kinds = [
            Fault::Before(SinkErrorKind::Unavailable),
            Fault::BeforeUnknown(SinkErrorKind::Unavailable),
            Fault::After(SinkErrorKind::Unavailable),
        ];
        let (fault, after) = (kinds[self.rng.random_range(0..3)], self.rng.random_range(0..120));
        sink.add(FaultRule::new(fault).after(after));
        sink.add(
            FaultRule::new(Fault::Before(SinkErrorKind::Unavailable)).after(after + 1).forever(),
        );
        let cx = self.cx();
        let before = self.listed().await;
        match self.rng.random_range(0..10) {
            0..4 => {
                let content = self.change();
                _ = backup(&repository, &content.source(), &content.options(), &cx).await;
                self.learn_what_is_listed(&before, Some(content)).await;
                self.count("crash of a backup");
            }
            4..8 => {
                let options = self.prune_options();
                _ = prune(&repository, &options, &cx).await;
                assert_eq!(
                    before,
                    self.listed().await,
                    "{}: a prune changed what is listed",
                    self.at
                );
                self.count("crash of a prune");
            }
            8 => {
                let ids = self.some_live(2);
                _ = repository.forget(&ids, &cx).await;
                self.learn_what_is_listed(&before, None).await;
                self.count("crash while forgetting");
            }
            _ => {
                if let Some(id) = self.any_forgotten() {
                    _ = repository.undo_forget(&[id], "test", &cx).await;
                    self.learn_what_is_listed(&before, None).await;
                    self.count("crash while bringing back");
                }
            }
        }
        sink.heal();
        self.unsettled = true;
    }

    async fn listed(&self) -> BTreeSet<SnapshotId> {
        self.repo.snapshots().await.into_iter().map(|info| info.id).collect()
    }

    /// What was killed may have happened or not; both are right.
    async fn learn_what_is_listed(&mut self, before: &BTreeSet<SnapshotId>, new: Option<Content>) {
        let listed = self.listed().await;
        for id in self.live.keys().copied().filter(|id| !listed.contains(id)).collect::<Vec<_>>() {
            assert!(!self.held.contains(&id), "{}: a held snapshot was forgotten", self.at);
            self.was_forgotten(id);
        }
        for id in listed.difference(before) {
            let content =
                self.forgotten.remove(id).map(|(content, _)| content).or_else(|| new.clone());
            let content = content
                .unwrap_or_else(|| panic!("{}: nobody made snapshot {}", self.at, id.short()));
            self.live.insert(*id, content);
        }
        let held = self.repo.repository.holds().await.unwrap();
        self.held.retain(|id| held.contains_key(id));
    }
}
