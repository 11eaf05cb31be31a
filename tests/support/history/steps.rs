//! What can happen.

use backup_core::copy::{CopyOptions, copy};
use backup_core::error::{ErrorKind, Result};
use backup_core::id::SnapshotId;
use backup_core::maintenance::{PruneOptions, prune};
use backup_core::pipeline::backup;
use backup_core::retention::Hold;
use jiff::SignedDuration;
use rand::RngExt;

use super::world::{GRACE, World};

impl World {
    /// One thing happens.
    pub(super) async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..20 => self.back_up().await,
            20..28 => self.start_writer().await,
            28..36 => self.finish_writer().await,
            36..39 => self.start_reader().await,
            39..41 => self.finish_reader().await,
            41..51 => self.forget().await,
            51..55 => self.undo().await,
            55..58 => self.hold_or_release().await,
            58..64 => self.prune().await,
            64..67 => Box::pin(self.prune_beside_a_backup()).await,
            67..73 => self.slow_prune().await,
            73..76 => self.copy_there_or_back().await,
            76..84 => self.crash().await,
            _ => self.let_time_pass(),
        }
    }

    fn let_time_pass(&mut self) {
        let minutes = match self.rng.random_range(0..10) {
            0..5 => self.rng.random_range(1..30),
            5..9 => self.rng.random_range(30..90),
            _ => self.rng.random_range(90..1000),
        };
        self.clock.advance(SignedDuration::from_mins(minutes));
        self.count("time passed");
    }

    pub(super) async fn back_up(&mut self) {
        let content = self.change();
        let done =
            backup(&self.repo.repository, &content.source(), &content.options(), &self.cx()).await;
        let report = done.unwrap_or_else(|error| panic!("{}: {}", self.at, error.chain()));
        self.live.insert(report.snapshot.unwrap(), content);
        self.count("backup");
    }

    pub(super) async fn forget(&mut self) {
        // More when there are many: their number shall not grow with the length of the history.
        let count = self.rng.random_range(1..4) + self.live.len() / 20;
        let ids = self.some_live(count);
        let result = self.repo.repository.forget(&ids, &self.cx()).await;
        if ids.iter().any(|id| self.held.contains(id)) {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid, "{}: held", self.at);
            self.count("forgetting refused");
            return;
        }
        result.unwrap_or_else(|error| panic!("{}: {}", self.at, error.chain()));
        for id in ids {
            self.was_forgotten(id);
        }
        self.count("forgotten");
    }

    async fn undo(&mut self) {
        let Some(id) = self.any_forgotten() else {
            return;
        };
        let (content, when) = self.forgotten[&id].clone();
        // Before it waits for anybody's lease.
        let still_safe = self.since(when) < GRACE - SignedDuration::from_mins(10);
        let (cx, ids) = (self.cx(), [id]);
        match self
            .patiently(async || self.repo.repository.undo_forget(&ids, "test", &cx).await)
            .await
        {
            Ok(()) => {
                self.forgotten.remove(&id);
                self.live.insert(id, content);
                self.count("brought back");
            }
            Err(error)
                if !still_safe && (error.is_damage() || error.kind() == ErrorKind::NotFound) =>
            {
                self.forgotten.remove(&id);
                self.count("too late to bring back");
            }
            Err(error) => panic!("{}: {} cannot come back: {}", self.at, id.short(), error.chain()),
        }
    }

    async fn hold_or_release(&mut self) {
        let Some(id) = self.any_live() else { return };
        // A few at a time: else nothing can be forgotten any more.
        if self.held.contains(&id) || self.held.len() >= 4 {
            let id = self.held.pop_first().expect("there is one");
            assert!(
                self.repo.repository.release(&id).await.unwrap(),
                "{}: there is no hold of {}",
                self.at,
                id.short()
            );
            self.count("released");
        } else {
            let hold =
                Hold { until: None, reason: "test".to_owned(), since: self.cx().clock.now() };
            self.repo.repository.hold(&id, &hold).await.unwrap();
            self.held.insert(id);
            self.count("held");
        }
    }

    async fn prune(&mut self) {
        let options = self.prune_options();
        self.prune_with(&options).await;
        self.assert_listed().await;
    }

    /// Prunes, when whoever was killed while pruning has lost its lease.
    pub(super) async fn prune_with(&mut self, options: &PruneOptions) {
        let cx = self.cx();
        let result =
            self.patiently(async || prune(&self.repo.repository, options, &cx).await).await;
        let report = result.unwrap_or_else(|error| panic!("{}: {}", self.at, error.chain()));
        self.settle();
        for (what, count) in [
            ("packs marked", report.marked_packs),
            ("packs deleted", report.deleted_packs),
            ("packs moved", report.repacked_packs),
            ("packs recovered", report.recovered_packs),
            ("packs waited", report.waiting_packs),
        ] {
            *self.counts.entry(what).or_default() += count;
        }
        self.count("prune");
    }

    /// A prune has mended what was left behind.
    pub(super) fn settle(&mut self) {
        (self.unsettled, self.late) = (false, false);
    }

    async fn prune_beside_a_backup(&mut self) {
        let (options, content) = (self.prune_options(), self.change());
        let source = content.source();
        // A lease of somebody who was killed runs out first.
        self.clock.advance(SignedDuration::from_mins(5));
        let cx = self.cx();
        let backup_options = content.options();
        let (pruned, backed_up) = tokio::join!(
            prune(&self.repo.repository, &options, &cx),
            backup(&self.repo.repository, &source, &backup_options, &cx)
        );
        pruned.unwrap_or_else(|error| {
            panic!("{}: prune beside a backup: {}", self.at, error.chain())
        });
        let report = backed_up.unwrap_or_else(|error| {
            panic!("{}: backup beside a prune: {}", self.at, error.chain())
        });
        self.live.insert(report.snapshot.unwrap(), content);
        self.settle();
        self.assert_listed().await;
        self.count("prune beside a backup");
    }

    async fn copy_there_or_back(&mut self) {
        let back = self.rng.random_bool(0.5);
        let (from, to) = if back { (&self.other, &self.repo) } else { (&self.repo, &self.other) };
        let mut all = from.snapshots().await;
        let known = if back { &self.copied } else { &self.live };
        // Others may be there of backups that have not ended yet.
        all.retain(|info| self.rng.random_bool(0.2) && known.contains_key(&info.id));
        let indexed = from.repository.load_index(&self.cx()).await.unwrap();
        let report =
            copy(&indexed, &all, &to.repository, &CopyOptions::default(), &self.cx()).await;
        let report = report.unwrap_or_else(|error| panic!("{}: {}", self.at, error.chain()));
        assert!(report.problems.is_empty(), "{}: {:?}", self.at, report.problems);
        for copied in &report.copied {
            let id = copied.to.unwrap();
            let content = known_content(if back { &self.copied } else { &self.live }, &copied.from);
            let there = if back { &mut self.live } else { &mut self.copied };
            there.insert(id, content);
            // One that was forgotten may come back this way as well.
            if back {
                self.forgotten.remove(&id);
            }
        }
        self.count(if back { "copied back" } else { "copied" });
    }

    /// Until the lease of somebody who was killed has run out.
    async fn patiently<T>(&self, attempt: impl AsyncFn() -> Result<T>) -> Result<T> {
        for _ in 0..3 {
            match attempt().await {
                Err(error) if error.kind() == ErrorKind::Busy => {
                    self.clock.advance(SignedDuration::from_mins(3));
                }
                other => return other,
            }
        }
        attempt().await
    }
}

fn known_content<T: Clone>(
    known: &std::collections::BTreeMap<SnapshotId, T>,
    id: &SnapshotId,
) -> T {
    known[id].clone()
}
