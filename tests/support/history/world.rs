//! The model, and the repository beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backup_core::clock::{Clock, SharedClock};
use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::id::{BlobId, SnapshotId};
use backup_core::maintenance::{MaxUnused, PruneOptions, prune};
use backup_core::pipeline::BackupOptions;
use backup_core::repository::{InitOptions, Likeness, Repository};
use backup_core::sink::{Prefix, Sink};
use backup_core::testing::{Data, FakeClock, FaultySink, MemorySink, ScriptedSource};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use super::beside::{Reader, Writer};
use crate::support::gate::Gate;
use crate::support::repo::{Repo, options};

/// For this long marked packs stay, and forgotten snapshots can come back. Shorter than a silent
/// session is respected: both what the grace period protects and what sessions protect is put to
/// the test.
pub(super) const GRACE: SignedDuration = SignedDuration::from_hours(1);
/// Backups at a time that take their time.
const WRITERS: usize = 3;

/// What a job has at a moment: length and seed of every file.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) job: usize,
    /// Counts the changes of all jobs.
    number: usize,
    files: BTreeMap<String, (u64, u64)>,
}

impl Content {
    pub(super) fn source(&self) -> ScriptedSource {
        let job = self.job;
        let empty = ScriptedSource::named(&format!("host-{job}")).dir(&format!("/job-{job}"));
        self.files.iter().fold(empty, |source, (path, (len, seed))| {
            source.file(path, Data::generated(*len, *seed))
        })
    }

    pub(super) fn options(&self) -> BackupOptions {
        BackupOptions { job: format!("job-{}", self.job), ..options() }
    }
}

/// A repository and its model.
pub(crate) struct World {
    /// Where in the history this is, for whoever has to repeat it.
    pub(crate) at: String,
    pub(super) rng: SmallRng,
    pub(super) clock: Arc<FakeClock>,
    pub(crate) sink: MemorySink,
    pub(crate) repo: Repo,
    /// A second repository with the same key, for copies.
    pub(super) other: Repo,
    /// The repository for whoever is to be killed.
    pub(super) faulty: (FaultySink, Repository),
    /// The repository for those who take their time, as far as nobody uses it.
    pub(super) gates: Vec<(Gate, Repository)>,
    jobs: Vec<Content>,
    changes: usize,
    /// What is listed, and what it must restore to.
    pub(super) live: BTreeMap<SnapshotId, Content>,
    pub(super) forgotten: BTreeMap<SnapshotId, (Content, Timestamp)>,
    pub(super) copied: BTreeMap<SnapshotId, Content>,
    pub(super) held: BTreeSet<SnapshotId>,
    pub(super) writers: Vec<Writer>,
    pub(super) readers: Vec<Reader>,
    /// Somebody was killed: until the next prune, a snapshot may need packs that no index lists as
    /// lasting.
    pub(super) unsettled: bool,
    /// A backup came too late: until the next prune, the index may list packs of it that are gone.
    pub(super) late: bool,
    /// What snapshots need, as far as that was asked for.
    pub(super) needs: BTreeMap<SnapshotId, BTreeSet<BlobId>>,
    /// How often what happened.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    _cache: Option<TempDir>,
}

impl World {
    pub(super) async fn new(seed: u64) -> Self {
        let clock = Arc::new(FakeClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let sink = MemorySink::on_clock(Arc::clone(&clock) as SharedClock);
        // In every other world all share a cache of the index.
        let cache = seed.is_multiple_of(2).then(|| tempfile::tempdir().unwrap());
        let with_cache = |repository: Repository| match &cache {
            Some(dir) => repository.with_cache(dir.path()),
            None => repository,
        };
        let mut repo = Repo::init(Arc::new(sink.clone())).await;
        repo.repository = with_cache(repo.repository);
        let like = Likeness { repository: repo.repository.clone(), share_key: true };
        let other_sink: Arc<dyn Sink> =
            Arc::new(MemorySink::on_clock(Arc::clone(&clock) as SharedClock));
        let passphrase = Passphrase::generate();
        let init = InitOptions { like: Some(like), ..InitOptions::default() };
        let other =
            Repository::init(other_sink, &passphrase, &init, &Context::silent()).await.unwrap();
        let again = |sink: Arc<dyn Sink>| async {
            with_cache(Repository::open(sink, &repo.passphrase).await.unwrap())
        };
        let faulty = FaultySink::new(Arc::new(sink.clone()));
        let faulty = (faulty.clone(), again(Arc::new(faulty)).await);
        let mut gates = Vec::new();
        for _ in 0..=WRITERS {
            let gate = Gate::new(Arc::new(sink.clone()));
            gates.push((gate.clone(), again(Arc::new(gate)).await));
        }
        Self {
            at: String::new(),
            rng: SmallRng::seed_from_u64(seed),
            clock,
            sink,
            repo,
            other: Repo { repository: other, passphrase },
            faulty,
            gates,
            jobs: (0..3).map(|job| Content { job, number: 0, files: BTreeMap::new() }).collect(),
            changes: 0,
            live: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            copied: BTreeMap::new(),
            held: BTreeSet::new(),
            writers: Vec::new(),
            readers: Vec::new(),
            unsettled: false,
            late: false,
            needs: BTreeMap::new(),
            counts: BTreeMap::new(),
            _cache: cache,
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A context on the clock of this world.
    pub(super) fn cx(&self) -> Context {
        Context { clock: Arc::clone(&self.clock) as SharedClock, ..Context::silent() }
    }

    pub(super) fn since(&self, then: Timestamp) -> SignedDuration {
        then.duration_until(self.clock.now())
    }

    pub(super) fn prune_options(&mut self) -> PruneOptions {
        let unused = [
            MaxUnused::Percent(0.0),
            MaxUnused::Percent(20.0),
            MaxUnused::Unlimited,
            MaxUnused::Bytes(50_000),
        ];
        PruneOptions {
            grace: Duration::try_from(GRACE).unwrap(),
            max_unused: unused[self.rng.random_range(0..unused.len())],
            max_repack: self.rng.random_bool(0.3).then(|| self.rng.random_range(0..1_000_000)),
            ..PruneOptions::default()
        }
    }

    /// A snapshot that is listed.
    pub(super) fn any_live(&mut self) -> Option<SnapshotId> {
        in_order(&self.live, |content| content).into_iter().choose(&mut self.rng)
    }

    /// A snapshot that was forgotten, rather lately.
    pub(super) fn any_forgotten(&mut self) -> Option<SnapshotId> {
        let mut ids = in_order(&self.forgotten, |(content, _)| content);
        ids.sort_by_key(|id| std::cmp::Reverse(self.forgotten[id].1));
        ids.truncate(if self.rng.random_bool(0.7) { 4 } else { usize::MAX });
        ids.into_iter().choose(&mut self.rng)
    }

    /// Some snapshots that are listed.
    pub(super) fn some_live(&mut self, count: usize) -> Vec<SnapshotId> {
        in_order(&self.live, |content| content).into_iter().sample(&mut self.rng, count)
    }

    /// Some job with something changed.
    pub(super) fn change(&mut self) -> Content {
        let job = self.rng.random_range(0..self.jobs.len());
        for _ in 0..self.rng.random_range(1..4) {
            let name = format!("/job-{job}/{:02}", self.rng.random_range(0..12));
            // Few different ones: jobs have contents in common, and contents come back that were
            // forgotten. Each has a length of its own: what changes without a change of length and
            // times goes unnoticed.
            let seed = self.rng.random_range(0..60);
            let content = (100 + seed * 977, seed);
            let files = &mut self.jobs[job].files;
            if self.rng.random_bool(0.2) {
                files.remove(&name);
            } else {
                files.insert(name, content);
            }
        }
        self.changes += 1;
        self.jobs[job].number = self.changes;
        self.jobs[job].clone()
    }

    pub(super) fn was_forgotten(&mut self, id: SnapshotId) {
        let content = self.live.remove(&id).unwrap();
        self.held.remove(&id);
        self.forgotten.insert(id, (content, self.clock.now()));
    }

    /// After the last snapshot is forgotten, holds or not, and the grace period is over, nothing is
    /// left of the data.
    pub(crate) async fn everything_can_go(&mut self) {
        let cx = self.cx();
        for id in std::mem::take(&mut self.held) {
            self.repo.repository.release(&id).await.unwrap();
        }
        let all: Vec<SnapshotId> = std::mem::take(&mut self.live).into_keys().collect();
        self.repo.repository.forget(&all, &cx).await.unwrap();
        for _ in 0..3 {
            self.clock.advance(SignedDuration::from_hours(30));
            let options = PruneOptions { max_repack: None, ..self.prune_options() };
            let pruned = prune(&self.repo.repository, &options, &cx).await;
            pruned.unwrap_or_else(|error| panic!("{}: {}", self.at, error.chain()));
        }
        let data = Prefix::new("data").unwrap();
        let left: Vec<_> =
            self.sink.objects().into_keys().filter(|key| data.contains(key)).collect();
        assert!(left.is_empty(), "{}: data is left behind: {left:?}", self.at);
    }
}

/// Snapshots in the order of what they hold: their names are different whenever a history is
/// repeated.
fn in_order<T>(
    snapshots: &BTreeMap<SnapshotId, T>,
    content: impl Fn(&T) -> &Content,
) -> Vec<SnapshotId> {
    let mut ids: Vec<SnapshotId> = snapshots.keys().copied().collect();
    ids.sort_by_key(|id| (content(&snapshots[id]).number, *id));
    ids
}
