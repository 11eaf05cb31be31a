//! The model, and the repository beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup_core::check::ReadData;
use backup_core::clock::SharedClock;
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::id::SnapshotId;
use backup_core::maintenance::{MaxUnused, PruneOptions, prune};
use backup_core::pipeline::BackupOptions;
use backup_core::repository::{InitOptions, Likeness, Repository};
use backup_core::sink::{Prefix, Sink};
use backup_core::source::Selection;
use backup_core::testing::{Data, FakeClock, MemorySink, ScriptedSource};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};

use super::writers::Writer;
use crate::support::repo::{Repo, options};
use crate::support::script::{digest, restore_script};

/// For this long marked packs stay, and forgotten snapshots can come back.
pub(super) const GRACE: SignedDuration = SignedDuration::from_hours(24);

/// What a job has at a moment: length and seed of every file.
pub(super) type Content = BTreeMap<String, (u64, u64)>;

pub(super) struct World {
    pub(super) at: String,
    pub(super) rng: SmallRng,
    pub(super) clock: Arc<FakeClock>,
    pub(super) sink: MemorySink,
    pub(super) repo: Repo,
    /// A second repository with the same key, for copies.
    pub(super) other: Repo,
    pub(super) jobs: Vec<Content>,
    /// What is listed, and what it must restore to.
    pub(super) live: BTreeMap<SnapshotId, Content>,
    pub(super) forgotten: BTreeMap<SnapshotId, (Content, Timestamp)>,
    pub(super) copied: BTreeMap<SnapshotId, Content>,
    pub(super) held: BTreeSet<SnapshotId>,
    pub(super) writers: Vec<Writer>,
    /// How often what happened.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) async fn new(seed: u64) -> Self {
        let clock = Arc::new(FakeClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let sink = MemorySink::on_clock(Arc::clone(&clock) as SharedClock);
        let repo = Repo::init(Arc::new(sink.clone())).await;
        let like = Likeness { repository: repo.repository.clone(), share_key: true };
        let other_sink: Arc<dyn Sink> = Arc::new(MemorySink::on_clock(Arc::clone(&clock) as SharedClock));
        let passphrase = Passphrase::generate();
        let init = InitOptions { like: Some(like), ..InitOptions::default() };
        let other = Repository::init(other_sink, &passphrase, &init, &Context::silent()).await.unwrap();
        Self {
            at: String::new(),
            rng: SmallRng::seed_from_u64(seed),
            clock,
            sink,
            repo,
            other: Repo { repository: other, passphrase },
            jobs: vec![Content::new(); 3],
            live: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            copied: BTreeMap::new(),
            held: BTreeSet::new(),
            writers: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A context on the clock of this world.
    pub(super) fn cx(&self) -> Context {
        Context { clock: Arc::clone(&self.clock) as SharedClock, ..Context::silent() }
    }

    pub(super) fn password(&self) -> &str {
        self.repo.passphrase.reveal()
    }

    pub(super) fn options(job: usize) -> BackupOptions {
        BackupOptions { job: format!("job-{job}"), ..options() }
    }

    pub(super) fn prune_options(&mut self) -> PruneOptions {
        let unused =
            [MaxUnused::Percent(0.0), MaxUnused::Percent(20.0), MaxUnused::Unlimited, MaxUnused::Bytes(50_000)];
        PruneOptions {
            grace: Duration::try_from(GRACE).unwrap(),
            max_unused: unused[self.rng.random_range(0..unused.len())],
            max_repack: self.rng.random_bool(0.3).then(|| self.rng.random_range(0..1_000_000)),
            ..PruneOptions::default()
        }
    }

    /// A live snapshot.
    pub(super) fn any_live(&mut self) -> Option<SnapshotId> {
        self.live.keys().copied().choose(&mut self.rng)
    }

    /// Changes what a job has.
    pub(super) fn change(&mut self, job: usize) -> Content {
        for _ in 0..self.rng.random_range(1..4) {
            let name = format!("/job-{job}/{:02}", self.rng.random_range(0..12));
            // Few seeds: jobs have contents in common, and contents come back that were forgotten.
            let content = (self.rng.random_range(1..60_000), self.rng.random_range(0..40));
            let gone = self.rng.random_bool(0.2);
            let files = &mut self.jobs[job];
            if gone { files.remove(&name).map(drop).unwrap_or_default() } else { _ = files.insert(name, content) }
        }
        self.jobs[job].clone()
    }

    pub(super) fn source(job: usize, content: &Content) -> ScriptedSource {
        let empty = ScriptedSource::named(&format!("host-{job}")).dir(&format!("/job-{job}"));
        content.iter().fold(empty, |source, (path, (len, seed))| source.file(path, Data::generated(*len, *seed)))
    }

    /// Fails unless a snapshot restores to what the model says.
    pub(super) async fn assert_restores(&self, repo: &Repo, id: SnapshotId, content: &Content) {
        let restored = match restore_script(repo, id).await {
            Ok(restored) => restored.restored_digest(&Selection::all()),
            Err(error) => panic!("{}: snapshot {} is lost: {}", self.at, id.short(), error.chain()),
        };
        // Which job it was is in the paths; an empty one restores its directory only.
        let job = (0..self.jobs.len()).find(|job| content.keys().all(|path| path.starts_with(&format!("/job-{job}/"))));
        let candidates = if content.is_empty() { (0..self.jobs.len()).collect() } else { vec![job.unwrap()] };
        for job in &candidates {
            if restored == digest(&Self::source(*job, content)).await {
                return;
            }
        }
        panic!("{}: snapshot {} restores to something else", self.at, id.short());
    }

    pub(super) async fn restore_one(&mut self) {
        if let Some(id) = self.any_live() {
            let content = self.live[&id].clone();
            self.assert_restores(&self.repo, id, &content).await;
        }
    }

    pub(super) async fn look_at_everything(&self) {
        let listed: BTreeSet<SnapshotId> = self.repo.snapshots().await.into_iter().map(|info| info.id).collect();
        assert_eq!(listed, self.live.keys().copied().collect(), "{}", self.at);
        for (id, content) in &self.live {
            self.assert_restores(&self.repo, *id, content).await;
        }
        for (id, content) in &self.copied {
            self.assert_restores(&self.other, *id, content).await;
        }
        for repo in [&self.repo, &self.other] {
            let report = repo.check(ReadData::All).await.unwrap();
            assert!(report.problems.is_empty(), "{}: {:#?}", self.at, report.problems);
        }
    }

    /// Forgets all there is, holds or not.
    pub(super) async fn forget_everything(&mut self) {
        let cx = self.cx();
        for id in std::mem::take(&mut self.held) {
            self.repo.repository.release(&id).await.unwrap();
        }
        let all: Vec<SnapshotId> = std::mem::take(&mut self.live).into_keys().collect();
        self.repo.repository.forget(&all, &cx).await.unwrap();
    }

    /// Prunes where nothing disturbs it.
    pub(super) async fn prune_calmly(&mut self) {
        let options = PruneOptions { max_repack: None, ..self.prune_options() };
        let pruned = prune(&self.repo.repository, &options, &self.cx()).await;
        pruned.unwrap_or_else(|error| panic!("{}: {}", self.at, error.chain()));
    }

    pub(super) fn data_objects(&self) -> usize {
        let data = Prefix::new("data").unwrap();
        self.sink.objects().keys().filter(|key| data.contains(key)).count()
    }

    /// Writes the repository into a directory.
    pub(super) fn write_to(&self, dir: &Path) {
        for folder in ["data", "index", "keys", "locks", "snapshots"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for (key, bytes) in self.sink.objects() {
            let path = dir.join(key.as_str());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}
