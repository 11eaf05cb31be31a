//! What can happen.

use std::sync::Arc;

use backup_core::clock::Clock;
use backup_core::context::Context;
use backup_core::copy::{CopyOptions, copy};
use backup_core::error::{ErrorKind, Result};
use backup_core::id::SnapshotId;
use backup_core::maintenance::prune;
use backup_core::pipeline::backup;
use backup_core::repository::Repository;
use backup_core::retention::Hold;
use backup_core::sink::SinkErrorKind;
use backup_core::testing::{Fault, FaultRule, FaultySink};
use jiff::SignedDuration;
use rand::RngExt;
use rand::seq::IteratorRandom;

use super::world::{Content, GRACE, World};

impl World {
    /// One thing happens.
    pub(super) async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..26 => self.back_up().await,
            26..32 if self.writers.len() < 3 => self.start_writer().await,
            32..38 => self.finish_writer().await,
            38..48 => self.forget().await,
            48..53 => self.undo().await,
            53..56 => self.hold_or_release().await,
            56..66 => self.prune().await,
            66..72 => self.prune_beside_a_backup().await,
            72..76 => self.copy_there_or_back().await,
            76..86 => self.crash().await,
            _ => self.let_time_pass(),
        }
    }

    fn let_time_pass(&mut self) {
        let minutes = match self.rng.random_range(0..10) {
            0..5 => self.rng.random_range(1..30),
            5..9 => self.rng.random_range(30..600),
            _ => self.rng.random_range(600..4000),
        };
        self.clock.advance(SignedDuration::from_mins(minutes));
        self.count("time passed");
    }

    async fn back_up(&mut self) {
        let job = self.rng.random_range(0..self.jobs.len());
        let content = self.change(job);
        let done = backup(&self.repo.repository, &Self::source(job, &content), &Self::options(job), &self.cx()).await;
        let report = done.unwrap_or_else(|error| panic!("{}: {}", self.at, error.chain()));
        self.live.insert(report.snapshot.unwrap(), content);
        self.count("backup");
    }

    async fn forget(&mut self) {
        let count = self.rng.random_range(1..4);
        let ids: Vec<SnapshotId> = self.live.keys().copied().sample(&mut self.rng, count);
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

    fn was_forgotten(&mut self, id: SnapshotId) {
        let content = self.live.remove(&id).unwrap();
        self.held.remove(&id);
        self.forgotten.insert(id, (content, self.clock.now()));
    }

    async fn undo(&mut self) {
        let Some(id) = self.forgotten.keys().copied().choose(&mut self.rng) else {
            return;
        };
        let (content, when) = self.forgotten[&id].clone();
        let still_safe = when.duration_until(self.clock.now()) < GRACE;
        let ids = [id];
        let result = patiently(|| self.repo.repository.undo_forget(&ids, "test", self.cx_ref()), self).await;
        match result {
            Ok(()) => {
                self.forgotten.remove(&id);
                self.live.insert(id, content);
                self.count("brought back");
            }
            Err(error) if !still_safe && error.is_damage() => {
                self.forgotten.remove(&id);
                self.count("too late to bring back");
            }
            Err(error) => panic!("{}: {} cannot come back: {}", self.at, id.short(), error.chain()),
        }
    }

    async fn hold_or_release(&mut self) {
        let Some(id) = self.any_live() else { return };
        if self.held.remove(&id) {
            assert!(self.repo.repository.release(&id).await.unwrap());
            self.count("released");
        } else {
            let hold = Hold { until: None, reason: "test".to_owned(), since: self.clock.now() };
            self.repo.repository.hold(&id, &hold).await.unwrap();
            self.held.insert(id);
            self.count("held");
        }
    }

    async fn prune(&mut self) {
        let options = self.prune_options();
        let result = patiently(|| prune(&self.repo.repository, &options, self.cx_ref()), self).await;
        let report = result.unwrap_or_else(|error| panic!("{}: {}", self.at, error.chain()));
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

    async fn prune_beside_a_backup(&mut self) {
        let options = self.prune_options();
        let job = self.rng.random_range(0..self.jobs.len());
        let content = self.change(job);
        let source = Self::source(job, &content);
        // A lease of somebody who was killed runs out first.
        self.clock.advance(SignedDuration::from_mins(5));
        let cx = self.cx();
        let backup_options = Self::options(job);
        let (pruned, backed_up) = tokio::join!(
            prune(&self.repo.repository, &options, &cx),
            backup(&self.repo.repository, &source, &backup_options, &cx)
        );
        pruned.unwrap_or_else(|error| panic!("{}: prune beside a backup: {}", self.at, error.chain()));
        let report = backed_up.unwrap_or_else(|error| panic!("{}: backup beside a prune: {}", self.at, error.chain()));
        self.live.insert(report.snapshot.unwrap(), content);
        self.count("prune beside a backup");
    }

    async fn copy_there_or_back(&mut self) {
        let back = self.rng.random_bool(0.5);
        let (from, to) = if back { (&self.other, &self.repo) } else { (&self.repo, &self.other) };
        let mut all = from.snapshots().await;
        all.retain(|_| self.rng.random_bool(0.3));
        let indexed = from.repository.load_index(&self.cx()).await.unwrap();
        let report = copy(&indexed, &all, &to.repository, &CopyOptions::default(), &self.cx()).await;
        let report = report.unwrap_or_else(|error| panic!("{}: {}", self.at, error.chain()));
        assert!(report.problems.is_empty(), "{}: {:?}", self.at, report.problems);
        for copied in &report.copied {
            let id = copied.to.unwrap();
            let content = if back { self.copied[&copied.from].clone() } else { self.live[&copied.from].clone() };
            let there = if back { &mut self.live } else { &mut self.copied };
            there.insert(id, content);
            // One that was forgotten may come back this way as well.
            if back {
                self.forgotten.remove(&id);
            }
        }
        self.count(if back { "copied back" } else { "copied" });
    }

    /// Something is killed somewhere: from one request on, all fail, done or not.
    async fn crash(&mut self) {
        let sink = FaultySink::new(Arc::new(self.sink.clone()));
        let repository = Repository::open(Arc::new(sink.clone()), &self.repo.passphrase).await.unwrap();
        sink.heal();
        let kinds = [
            Fault::Before(SinkErrorKind::Unavailable),
            Fault::BeforeUnknown(SinkErrorKind::Unavailable),
            Fault::After(SinkErrorKind::Unavailable),
        ];
        let (fault, after) = (kinds[self.rng.random_range(0..3)], self.rng.random_range(0..120));
        sink.add(FaultRule::new(fault).after(after));
        sink.add(FaultRule::new(Fault::Before(SinkErrorKind::Unavailable)).after(after + 1).forever());
        let cx = self.cx();
        let before = self.live.clone();
        match self.rng.random_range(0..10) {
            0..4 => {
                let job = self.rng.random_range(0..self.jobs.len());
                let content = self.change(job);
                _ = backup(&repository, &Self::source(job, &content), &Self::options(job), &cx).await;
                self.learn_what_is_listed(Some(content)).await;
                self.count("crash of a backup");
            }
            4..8 => {
                let options = self.prune_options();
                _ = prune(&repository, &options, &cx).await;
                self.learn_what_is_listed(None).await;
                assert_eq!(before, self.live, "{}: a prune changed what is listed", self.at);
                self.count("crash of a prune");
            }
            8 => {
                let ids: Vec<SnapshotId> = self.live.keys().copied().sample(&mut self.rng, 2);
                _ = repository.forget(&ids, &cx).await;
                self.learn_what_is_listed(None).await;
                self.count("crash while forgetting");
            }
            _ => {
                let Some(id) = self.forgotten.keys().copied().choose(&mut self.rng) else { return };
                _ = repository.undo_forget(&[id], "test", &cx).await;
                self.learn_what_is_listed(None).await;
                self.count("crash while bringing back");
            }
        }
    }

    /// What was killed may have happened or not; both are right.
    async fn learn_what_is_listed(&mut self, new: Option<Content>) {
        let listed: Vec<SnapshotId> = self.repo.snapshots().await.into_iter().map(|info| info.id).collect();
        for id in self.live.keys().copied().collect::<Vec<_>>() {
            if !listed.contains(&id) {
                assert!(!self.held.contains(&id), "{}: a held snapshot was forgotten", self.at);
                self.was_forgotten(id);
            }
        }
        for id in listed {
            if self.live.contains_key(&id) {
                continue;
            }
            let content = self.forgotten.remove(&id).map(|(content, _)| content).or_else(|| new.clone());
            let content = content.unwrap_or_else(|| panic!("{}: nobody made snapshot {}", self.at, id.short()));
            self.live.insert(id, content);
        }
        let held = self.repo.repository.holds().await.unwrap();
        self.held.retain(|id| held.contains_key(id));
    }

    fn cx_ref(&self) -> &'static Context {
        // One context per call that outlives it; there are a few thousand in a whole test.
        Box::leak(Box::new(self.cx()))
    }
}

/// Until the lease of somebody who was killed has run out.
async fn patiently<T, F: Future<Output = Result<T>>>(attempt: impl Fn() -> F, world: &World) -> Result<T> {
    for _ in 0..3 {
        match attempt().await {
            Err(error) if error.kind() == ErrorKind::Busy => world.clock.advance(SignedDuration::from_mins(3)),
            other => return other,
        }
    }
    attempt().await
}
